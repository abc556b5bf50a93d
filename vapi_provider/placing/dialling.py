# SPDX-License-Identifier: Apache-2.0
"""
Whether Vapi dials a call that it has accepted.

For tasks that do not wait for the call's end, or have waited for a line.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from vapi_provider.exceptions import VapiError
from vapi_provider.waiting.policy import check_dialled

if TYPE_CHECKING:
    from vapi_provider.client.client import VapiClient
    from vapi_provider.models.call import Call

PAUSES = (2.0, 4.0, 8.0)
"""The seconds before each read of a call that is still queued."""


def watch_dialling(client: VapiClient, call: Call, log: Any) -> Call:
    """
    Read a queued call again until it is dialled, or some seconds are over.

    :raises VapiConcurrencyLimitError: if Vapi did not dial it
    """
    # Only the response to the placement has them.
    limits = call.limits
    check_dialled(call, limits)
    for pause in PAUSES:
        if not call.is_queued:
            break
        time.sleep(pause)
        try:
            call = client.get_call(call.id)
        except VapiError as error:
            # The call was placed, whatever keeps it from being read.
            log.warning("%s", error)
            break
        check_dialled(call, limits)
    return call
