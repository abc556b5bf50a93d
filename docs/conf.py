# SPDX-License-Identifier: Apache-2.0
"""The documentation site: ``make docs`` builds it, with every warning an error."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

# The API reference imports the package and, with it, Airflow, which makes itself a home when it finds none.
_home = tempfile.mkdtemp(prefix="airflow-provider-vapi-docs-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
os.environ["AIRFLOW_HOME"] = _home

from vapi_provider import __version__  # noqa: E402

project = "airflow-provider-vapi"
author = "The airflow-provider-vapi developers"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}
language = "en_GB"
nitpicky = True

# What is not ours has no page here, and nothing is looked up in the network.
nitpick_ignore_regex = [("py:.*", r"(?!vapi_provider\.).*")]

# Headings have the addresses that GitHub gives them, so that a link leads there in both places.
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autoclass_content = "class"
python_maximum_signature_line_length = 90

html_theme = "furo"
html_title = f"{project} {version}"
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
