# SPDX-License-Identifier: Apache-2.0
"""Waiting in a worker, and handing the wait to the triggerer."""
