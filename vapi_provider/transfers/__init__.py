# SPDX-License-Identifier: Apache-2.0
"""Copying calls and recordings to object storage."""
