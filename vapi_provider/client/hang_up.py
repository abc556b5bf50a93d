# SPDX-License-Identifier: Apache-2.0
"""Ending a call that is no longer wanted, whatever it is at."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from vapi_provider.connection import RequestLimits
from vapi_provider.exceptions import VapiPermanentError, VapiTransientError

if TYPE_CHECKING:
    from vapi_provider.hooks.vapi import VapiHook

HANG_UP_LIMITS = RequestLimits(timeout=1.3, max_retries=0)
"""Limits of each request where ending a call, which takes two of them, should be done within 3 seconds."""

HANG_UP_SECONDS = 3.0
"""How long a task that is being killed may take to end its call."""

_TRIES = 2


def hang_up(hook: VapiHook, call_id: str) -> str:
    """
    End a call: hang up a live one, cancel a scheduled one, leave alone one that is over.

    A failure is tried again once, each time after a new look at the call: what the first try did is not done twice. It
    raises nothing, since whoever calls it has something more important to say.

    :param hook: the hook, with the limits that the caller can afford
    :param call_id: the call's id
    :return: what was done, in a sentence for the log
    """
    problem = ""
    for _ in range(_TRIES):
        try:
            return _end(hook, call_id)
        except VapiTransientError as error:
            problem = str(error)
        except VapiPermanentError as error:
            return f"{_NOT_ENDED.format(call_id)} {error}"
    return f"{_NOT_ENDED.format(call_id)} {problem}"


def hang_up_soon(hook: VapiHook, call_id: str) -> str:
    """
    End a call within 3 seconds, even from a signal handler that has interrupted the hook in a request.

    :param hook: a hook that has read its connection
    :param call_id: the call's id
    :return: what was done, in a sentence for the log
    """
    own = hook.with_limits(HANG_UP_LIMITS)
    done: list[str] = []
    # A thread that is left behind goes on for as long as the process does.
    thread = threading.Thread(target=lambda: done.append(hang_up(own, call_id)), daemon=True)
    thread.start()
    thread.join(HANG_UP_SECONDS)
    return (
        done[0]
        if done
        else f"{_NOT_ENDED.format(call_id)} It could not be ended within {HANG_UP_SECONDS:g} s."
    )


_NOT_ENDED = "Call {} was to be ended and may go on."


def _end(hook: VapiHook, call_id: str) -> str:
    call = hook.get_call(call_id)
    if call.is_terminal:
        return f"Call {call_id} was over already."
    if call.is_scheduled:
        hook.delete_call(call_id)
        return f"Call {call_id} was scheduled, and has been cancelled."
    hook.end_call(call)
    return f"Call {call_id} has been ended."
