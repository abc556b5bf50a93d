# SPDX-License-Identifier: Apache-2.0
"""One try at placing a call: it takes the steps that the decision table tells, and notes what it does."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from vapi_provider.exceptions import (
    VapiCallInDoubtError,
    VapiError,
    VapiPermanentError,
    VapiTransientError,
)
from vapi_provider.placing.decision import Found, Knowledge, Recorded, Step, decide
from vapi_provider.placing.search import SearchResult, did_ring_nobody, look_up
from vapi_provider.placing.state import PlacementState, PlacementStore
from vapi_provider.placing.tokens import fingerprint_person, make_token

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from vapi_provider.hooks.vapi import VapiHook
    from vapi_provider.models.call import Call
    from vapi_provider.placing.request import CallRequest

KILL_SECONDS = 5.0
"""How long a process goes on after Airflow has begun to stop it."""

LIST_LAG_SECONDS = 30.0
"""How long after it was placed a call may be missing in Vapi's list."""

CLOCK_DIFFERENCE = timedelta(hours=1)
"""By how much the clocks of Airflow and Vapi may differ."""

FRESH_SECONDS = 5.0
"""For how long it may be relied on that nobody else has placed the call."""

_FIRST_PAUSE_SECONDS = 5.0
_MAX_FRESHENINGS = 5


class _FoundMeanwhileError(Exception):
    """Somebody else has placed the call just before it was to be sent."""

    def __init__(self, look: SearchResult) -> None:
        super().__init__()
        self.look = look


class CallPlacement:
    """
    Places a call, or finds the one that was placed before.

    :param context: the context of the running task
    :param request: the call
    :param hook: the hook
    :param log: the task's log
    :param is_stopped: says whether the task was told to stop
    :param tell_id: called with the call's id as soon as it is known
    """

    def __init__(
        self,
        context: Context,
        request: CallRequest,
        hook: VapiHook,
        log: Any,
        *,
        is_stopped: Callable[[], bool],
        tell_id: Callable[[str], None],
    ) -> None:
        self._request = request
        self._hook = hook
        self._log = log
        self._is_stopped = is_stopped
        self._tell_id = tell_id
        self._notes = PlacementStore(context)
        run = context.get("dag_run")
        self._run_after: datetime | None = getattr(run, "run_after", None)
        self._clear_number: int = getattr(run, "clear_number", None) or 0
        self._note = self._first_note(context)
        self._known = Knowledge(
            is_first_try=context["ti"].try_number == 1 and self._clear_number == 0,
            noted=self._note.state,
        )
        # Without a note, an earlier try may have sent its request up to now.
        self._last_sending = min(self._note.at, time.time())
        self._known_at = time.monotonic()
        self._newest: datetime | None = None
        self._pause = _FIRST_PAUSE_SECONDS
        self._call_id = self._note.call_id
        self._call: Call | None = None
        self._failure: VapiError | None = None
        self._has_noted_sending = False

    @property
    def token(self) -> str:
        """The token of the call."""
        return self._note.token

    def run(self) -> Call:
        """
        Take one step after another until there is a call.

        :raises VapiConcurrencyLimitError: when the organization has too many calls at once; nobody was called
        :raises VapiCallInDoubtError: when a call may have been placed and nobody can tell
        :raises VapiTransientError: when a later try may place it, or may find out whether it was placed
        :raises VapiPermanentError: when Vapi refuses; nobody was called
        :return: the call
        """
        steps = {
            Step.PLACE: self._place,
            Step.READ: self._read,
            Step.SEARCH: self._look,
            Step.WAIT: self._wait,
        }
        while True:
            rule = decide(self._known)
            if rule.step is Step.ADOPT:
                return self._adopt()
            if rule.step is Step.TRY_LATER:
                raise self._later()
            if rule.step is Step.GIVE_UP:
                raise self._undecided("the list of calls is longer than may be read")
            if rule.step is Step.SEARCH:
                self._log.info("%s Looking for a call with the token %s.", rule.because, self.token)
            steps[rule.step]()

    def _first_note(self, context: Context) -> PlacementState:
        """Return what an earlier try has noted about this call and still counts, or a blank note."""
        person = fingerprint_person(context, self._request)
        noted = self._notes.read()
        is_from_before_clear = noted is not None and noted.clear_number != self._clear_number
        # However the templates render in a retry, it is the same call. After a clear a task instance can be another
        # person's, when the list that it is mapped over has changed.
        if noted is None or (is_from_before_clear and noted.person != person):
            return PlacementState(
                token=make_token(context, self._request),
                at=time.time(),
                state=Recorded.NOTHING,
                person=person,
                clear_number=self._clear_number,
                assistant_id=self._request.assistant_id,
                phone_number_id=self._request.phone_number_id,
            )
        if is_from_before_clear and context["ti"].map_index not in (None, -1):
            # And when the list has changed back, another one may have called this person in between.
            state = noted.state if noted.state is Recorded.PLACED else Recorded.NOTHING
            return dataclasses.replace(noted, state=state, at=time.time())
        return dataclasses.replace(noted, clear_number=self._clear_number)

    def _place(self) -> None:
        try:
            call = self._hook.create_call(
                self._request.carrying(self.token), before_send=self._get_ready_to_send
            )
        except _FoundMeanwhileError as meanwhile:
            self._learn(meanwhile.look)
        except VapiCallInDoubtError as error:
            self._failure = error.failure or error
            self._log.warning("%s It is not known whether the call was placed.", self._failure)
            self._learn(SearchResult(Found.NOT_SEARCHED), has_sent=True)
        except VapiError:
            self._take_back()
            raise
        else:
            self._call = call
            self._learn(SearchResult(Found.CALL, call.id), has_sent=True)

    def _get_ready_to_send(self) -> None:
        """Note that the request is about to be sent, unless somebody else was faster or the task is to stop."""
        for _ in range(_MAX_FRESHENINGS):
            self._check_stop()
            self._note_sending()
            self._check_stop()
            if time.monotonic() - self._known_at <= FRESH_SECONDS:
                return
            look = self._look_up(is_again=True)
            if look.found is Found.CALL:
                raise _FoundMeanwhileError(look)
            if look.found is Found.TOO_MUCH:
                break
        raise VapiTransientError("It cannot be seen whether somebody else places the call. Nothing was sent.")

    def _note_sending(self) -> None:
        try:
            self._write(Recorded.SENDING, at=time.time())
        except Exception as error:
            # The note is a fence, too: Airflow takes none from a try that another has taken the place of.
            problem = type(error).__name__
        else:
            self._has_noted_sending = True
            return
        raise VapiTransientError(
            f"Airflow did not take the note that a call is about to be placed ({problem}), so nothing was sent."
        )

    def _take_back(self) -> None:
        """Note that the request had no effect; where that fails, the next try looks for the call."""
        if not self._has_noted_sending:
            return
        try:
            self._write(Recorded.NOT_SENT)
        except Exception as error:
            self._log.warning(
                "Airflow did not take the note that nothing was sent (%s).", type(error).__name__
            )

    def _read(self) -> None:
        call_id = str(self._call_id)
        self._tell_id(call_id)
        call = self._hook.get_call(call_id)
        if not did_ring_nobody(call):
            self._call = call
            self._learn(SearchResult(Found.CALL, call_id))
        elif self._note.clear_number == self._clear_number:
            self._learn(SearchResult(Found.NOBODY_RANG))
        else:
            # Another task instance may have called this person since.
            self._note = dataclasses.replace(self._note, state=Recorded.NOTHING)
            self._learn(SearchResult(Found.NOT_SEARCHED))

    def _look(self) -> None:
        began_at = time.time()
        try:
            look = self._look_up()
        except VapiTransientError as error:
            self._failure = error
            self._log.warning("%s", error)
            look = SearchResult(Found.UNREADABLE)
        except VapiPermanentError as error:
            raise self._undecided(str(error)) from None
        self._learn(look, is_settled=began_at >= self._settles_at)

    def _look_up(self, *, is_again: bool = False) -> SearchResult:
        began_at = time.monotonic()
        since = self._since()
        if is_again and self._newest is not None:
            # What has come since the last look, by Vapi's clock; a long list would take too long again.
            since = self._newest - timedelta(seconds=LIST_LAG_SECONDS)
        elif since is not None:
            since -= CLOCK_DIFFERENCE
        look = look_up(
            self._hook,
            self.token,
            since=since,
            assistant_id=self._note.assistant_id,
            phone_number_id=self._note.phone_number_id,
        )
        # Where it took longer than a request may, the process may have stood still, and the answer be old.
        ended_at = time.monotonic()
        is_old = ended_at - began_at > self._hook.request_timeout
        self._known_at = began_at if is_old else ended_at
        self._newest = look.newest or self._newest
        return look

    def _since(self) -> datetime | None:
        """Return when the call can have been placed at the earliest, by our clock."""
        if self._known.noted is Recorded.NOTHING:
            return self._run_after
        return datetime.fromtimestamp(self._last_sending, timezone.utc)

    @property
    def _settles_at(self) -> float:
        return self._last_sending + self._hook.request_timeout + KILL_SECONDS + LIST_LAG_SECONDS

    def _wait(self) -> None:
        left = max(0.0, self._settles_at - time.time())
        self._log.info(
            "No call with the token %s is listed; looking again, for %.0f s more.", self.token, left
        )
        time.sleep(min(self._pause, left))
        self._check_stop()
        self._pause *= 2
        self._learn(SearchResult(Found.NOT_SEARCHED))

    def _adopt(self) -> Call:
        call_id = str(self._call_id)
        self._tell_placed(call_id)
        if self._call is None:
            self._call = self._hook.get_call(call_id)
            self._log.info("Call %s has the token %s: it was placed before.", call_id, self.token)
        return self._call

    def _tell_placed(self, call_id: str) -> None:
        if self._note.state is not Recorded.PLACED or self._note.call_id != call_id:
            try:
                self._write(Recorded.PLACED, call_id=call_id)
            except Exception as error:
                # The call is there, and its token will be found again.
                self._log.warning(
                    "Airflow did not take the note of call %s (%s).", call_id, type(error).__name__
                )
        self._tell_id(call_id)

    def _learn(self, look: SearchResult, *, is_settled: bool = False, has_sent: bool = False) -> None:
        self._call_id = look.call_id or self._call_id
        self._known = dataclasses.replace(
            self._known,
            noted=self._note.state,
            found=look.found,
            is_settled=is_settled,
            has_sent=has_sent or self._known.has_sent,
        )

    def _write(self, state: Recorded, *, at: float | None = None, call_id: str | None = None) -> None:
        request = self._request
        note = dataclasses.replace(
            self._note,
            state=state,
            clear_number=self._clear_number,
            at=self._note.at if at is None else at,
            call_id=call_id,
            assistant_id=request.assistant_id,
            phone_number_id=request.phone_number_id,
        )
        self._notes.write(note)
        self._note = note
        if at is not None:
            self._last_sending = at

    def _check_stop(self) -> None:
        if self._is_stopped():
            sent = (
                f"A call with the token {self.token} may have been placed before."
                if self._is_in_doubt
                else ""
            )
            raise VapiTransientError(f"The task was told to stop, and sends nothing more. {sent}".rstrip())

    @property
    def _is_in_doubt(self) -> bool:
        return decide(dataclasses.replace(self._known, found=Found.NOT_SEARCHED)).step is Step.SEARCH

    def _later(self) -> VapiError:
        if self._known.found is Found.UNREADABLE:
            return VapiTransientError(
                f"A call may have been placed, and the list of calls cannot be read: {self._failure} Its token is "
                f"{self.token}; a retry looks for it again."
            )
        return VapiTransientError(
            f"{self._failure} No call with the token {self.token} was found afterwards, so nobody was called; a retry "
            "may place it."
        )

    def _undecided(self, problem: str) -> VapiCallInDoubtError:
        return VapiCallInDoubtError(
            f"A call may have been placed, and nobody can tell: {problem} Look for the token {self.token} in Vapi's "
            "dashboard, in the calls' names and variable values, before you clear this task."
        )
