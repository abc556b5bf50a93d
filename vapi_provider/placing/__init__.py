# SPDX-License-Identifier: Apache-2.0
"""Placing a call once."""
