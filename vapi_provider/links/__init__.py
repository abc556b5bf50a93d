# SPDX-License-Identifier: Apache-2.0
"""The button on the page of a task."""
