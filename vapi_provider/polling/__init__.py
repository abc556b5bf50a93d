# SPDX-License-Identifier: Apache-2.0
"""Waiting in the triggerer: one poll for all triggers of a connection."""
