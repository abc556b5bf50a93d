# SPDX-License-Identifier: Apache-2.0
"""Vapi's JSON as Python objects, and what of it may leave a task."""
