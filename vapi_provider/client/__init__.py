# SPDX-License-Identifier: Apache-2.0
"""Requests to the Vapi API, and what comes back."""
