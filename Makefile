# SPDX-License-Identifier: Apache-2.0
#
#   make demo       run the main example in a real Airflow, against the simulator
#   make play       start a complete Airflow to try in the browser, against the simulator
#   make test       tests/unit and tests/dag
#   make test-deep  full searches: kills at every line, hundreds of schedules, a thousand calls (15 minutes)
#   make mutations  break the package in more than a hundred ways, and check that the tests catch each (15 minutes)
#   make lint       ruff and mypy
#   make docs       build the documentation in build/docs, and test its links and projects (Python 3.11 or newer)
#   make e2e        tests/e2e: the built wheel in a real Airflow with PostgreSQL and a real browser
#   make e2e-celery a campaign with the CeleryExecutor while its services are killed, from the wheel (10 minutes)
#   make test-lowest  tests/unit and tests/dag with the lowest versions that pyproject.toml allows (20 minutes)
#   make versions   tests/unit, tests/dag and the essentials of tests/e2e on every supported Airflow (one hour)
#   make wheel      build wheel and sdist, and check them in a clean environment
#   make compare    count the rings when something breaks: this package, HttpOperator, Vapi's SDK (5 minutes)
#   make bench      measure importing, parsing, waiting and exporting, compared with others (half an hour)
#
# Everything is installed into .venv, with the versions in $(CONSTRAINTS). After that, no network is needed.

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints/airflow-3.3.txt
PARALLEL ?= --numprocesses auto --maxprocesses 4 --dist worksteal
PYTEST_ARGS ?=
E2E_TESTS ?= tests/e2e/test_*.py
E2E_GROUP ?= e2e
E2E_EXTRA ?= airflow-provider-inbound-webhooks
E2E_WORKERS ?= 2
SCREENSHOTS ?=
SEED ?= 1

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --no-input
INSTALL := $(PIP) install --constraint $(CONSTRAINTS)

.DEFAULT_GOAL := help
.PHONY: help demo play test test-deep test-lowest mutations e2e e2e-celery versions lint wheel docs compare bench clean

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.installed
	@$(BIN)/python example_dags/demo.py

play: $(VENV)/.installed
	@exec $(BIN)/python example_dags/play.py

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

test-deep: $(VENV)/.installed-test
	TEST_DEEP=1 $(BIN)/python -m pytest $(PARALLEL) -m "deep or searches" $(PYTEST_ARGS)

# The direct dependencies at their lowest, and all others as in Airflow 3.0's file. Airflow and Pydantic pin their parts.
test-lowest: $(VENV)/.installed
	@$(INSTALL) uv
	@mkdir -p build
	@direct=$$(sed -n 's/^  "\([a-z0-9-]*\)>=.*",$$/\1/p' pyproject.toml | paste -sd '|') && \
	  grep -vE "^($$direct|apache-airflow-core|apache-airflow-task-sdk|pydantic-core)==" constraints/airflow-3.0.txt >build/lowest.txt
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-lowest
	@$(BIN)/uv pip install --quiet --python $(VENV)-lowest --resolution lowest-direct --constraint build/lowest.txt --group test --editable .
	TEST_LOWEST=1 $(VENV)-lowest/bin/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

mutations: $(VENV)/.installed-test
	$(BIN)/python -m tests.mutations

# Runs in a separate environment with the wheel instead of the checkout. Each worker starts its own Airflow, because
# the tests spend half of their time waiting.
e2e: $(VENV)/.installed
	@command -v setpriv >/dev/null || { echo "setpriv is missing: apt-get install util-linux"; exit 1; }
	@rm -rf $(VENV)-e2e build/wheel
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir build/wheel .
	@$(PYTHON) -m venv $(VENV)-e2e
	@echo "Installing the wheel into $(VENV)-e2e ..."
	@$(subst $(BIN),$(VENV)-e2e/bin,$(INSTALL)) pip
	@$(subst $(BIN),$(VENV)-e2e/bin,$(INSTALL)) --group $(E2E_GROUP) build/wheel/*.whl $(E2E_EXTRA)
	SCREENSHOTS=$(SCREENSHOTS) $(VENV)-e2e/bin/pytest $(E2E_TESTS) --numprocesses $(E2E_WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# SEED chooses when each service is killed.
e2e-celery:
	@command -v redis-server >/dev/null || { echo "redis-server is missing: apt-get install redis-server"; exit 1; }
	SEED=$(SEED) $(MAKE) e2e E2E_GROUP=e2e-celery E2E_TESTS=tests/e2e/celery E2E_WORKERS=0

versions: airflow-3.0 airflow-3.1 airflow-3.2 airflow-3.3 e2e-celery

# Airflow 3.0 shows providers' connection forms only with this provider installed.
airflow-3.0: E2E_EXTRA = apache-airflow-providers-fab
airflow-3.1 airflow-3.2: E2E_EXTRA =
airflow-%:
	$(MAKE) test VENV=$(VENV)-$* CONSTRAINTS=constraints/airflow-$*.txt
	$(MAKE) e2e VENV=$(VENV)-$* CONSTRAINTS=constraints/airflow-$*.txt E2E_TESTS=tests/e2e/test_essentials.py E2E_EXTRA=$(E2E_EXTRA) E2E_WORKERS=0

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel: $(VENV)/.installed-lint
	$(BIN)/python -m pytest tests/wheel

docs: $(VENV)/.installed-docs
	@rm -rf build/docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --fresh-env docs build/docs
	$(BIN)/python -m pytest tests/docs

# The packages for comparison are installed in a separate environment, because the tests must run without them.
compare:
	@$(MAKE) --no-print-directory VENV=$(VENV)-bench $(VENV)-bench/.installed-bench
	@PYTHONPATH=example_dags $(VENV)-bench/bin/python -m benchmarks.compare

bench:
	@$(MAKE) --no-print-directory VENV=$(VENV)-bench $(VENV)-bench/.installed-bench
	$(VENV)-bench/bin/python -m benchmarks.import_time
	$(VENV)-bench/bin/python -m benchmarks.parse_call
	$(VENV)-bench/bin/python -m benchmarks.waiting
	$(VENV)-bench/bin/python -m benchmarks.export

clean:
	rm -rf $(VENV) $(VENV)-* build dist

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found. Install Python 3.10 or newer, or choose one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is required; $(PYTHON) is $$($(PYTHON) -c 'import platform; print(platform.python_version())'). Install a newer one, or choose one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot create virtual environments. Install venv and pip for it (Debian and Ubuntu: apt-get install python3-venv)."; exit 1; }
	@echo "Installing into $(VENV); only needed once ..."
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) pip hatchling hatch-fancy-pypi-readme editables
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@$(INSTALL) --group test
	@touch $@

$(VENV)/.installed-lint: $(VENV)/.installed-test
	@$(INSTALL) --group lint
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed-test
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Building the documentation requires Python 3.11 or newer. Choose one, and a separate environment: make docs PYTHON=python3.12 VENV=.venv-docs"; exit 1; }
	@$(INSTALL) --group docs
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	@$(INSTALL) --group bench
	@touch $@
