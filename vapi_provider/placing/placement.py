# SPDX-License-Identifier: Apache-2.0
"""One try at placing a call: it takes the steps of the decision table, and records what it does."""

from __future__ import annotations

import dataclasses
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vapi_provider.client.transport import RepeatBudget
from vapi_provider.exceptions import (
    VapiCallInDoubtError,
    VapiError,
    VapiOutsideHoursError,
    VapiPermanentError,
    VapiTransientError,
)
from vapi_provider.placing.attempts import Attempts, PlacementState, PlacementStore
from vapi_provider.placing.decision import Found, Knowledge, Recorded, Step, decide
from vapi_provider.placing.doubt import how_found, how_to_find, try_later, undecided
from vapi_provider.placing.line import SHORT_SECONDS
from vapi_provider.placing.redial import Redial
from vapi_provider.placing.search import CallSearch, SearchResult, never_rang, read_placed

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from vapi_provider.client.client import VapiClient
    from vapi_provider.models.call import Call
    from vapi_provider.placing.request import CallRequest
    from vapi_provider.waiting.mixin import StopFlag
    from vapi_provider.waiting.wait import WaitState

FRESH_SECONDS = 5.0
"""How long a search stays valid."""

_FIRST_PAUSE_SECONDS = 5.0
_MAX_SEARCHES_BEFORE_SENDING = 5


class CallPlacement:
    """Places a call, or finds the one that was placed before."""

    def __init__(
        self,
        context: Context,
        request: CallRequest,
        client: VapiClient,
        log: Any,
        stop: StopFlag,
        resumed: WaitState | None = None,
        redial: Redial | None = None,
    ) -> None:
        self.call_id: str | None = None
        """The id of the call, from the moment on at which it is known."""
        self.placed_at: float | None = None
        """When this try has placed or found the call, in seconds since 1970."""
        self.sent_plan: dict[str, str] | None = None
        """The schedule of the request that this try has sent, in this process."""
        self._request = request
        self._client = client
        self._log = log
        self._stop = stop
        self._store = PlacementStore(context)
        self.attempts: Attempts = Attempts(context, request, self._store, redial or Redial())
        self._clear_number = self.attempts.clear_number
        self._state: PlacementState | None = None
        self._resumed = resumed
        self._known = Knowledge(
            # It is 0 in ``airflow tasks test``.
            is_first_try=context["ti"].try_number <= 1 and self._clear_number == 0 and resumed is None,
            recorded=Recorded.NOTHING,
            has_sent=resumed is not None and resumed.has_sent,
        )
        self.sent_at: float = 0.0
        """The last instant at which a request may have been sent, in seconds since 1970."""
        run_after = getattr(context.get("dag_run"), "run_after", None)
        self._run_after: float | None = run_after and run_after.timestamp()
        # What a try knew before it was deferred is old.
        self._known_at = time.monotonic() - (max(0.0, time.time() - resumed.started_at) if resumed else 0.0)
        self._repeats: RepeatBudget | None = None
        self._pause = _FIRST_PAUSE_SECONDS
        self._has_logged_search = resumed is not None and resumed.sent_at is not None
        self._lost: VapiError | None = None
        self._unreadable: VapiError | None = None
        self._placed: Call | None = None

    @property
    def state(self) -> PlacementState:
        """What is recorded about the call; it is read when it is first needed."""
        if self._state is None:
            self._state = self.attempts.begin(self._resumed)
            self._known = dataclasses.replace(self._known, recorded=self._state.state)
            known = self._state.at or (self._resumed.sent_at if self._resumed else None)
            # Without a record, an earlier try may have sent its request up to now.
            self.sent_at = min(known or time.time(), time.time())
            if self._resumed is None or self._resumed.logged_token != self._state.token:
                # Before the request, so that the log of a killed worker has it.
                self._log.info("The call's token is %s.", self._state.token)
        return self._state

    @property
    def has_sent(self) -> bool:
        """Whether this try has sent a request."""
        return self._known.has_sent

    def run(self, *, may_defer: bool) -> float | None:
        """
        Take one step after another until :attr:`call_id` is known, so that it can be published before :meth:`read`.

        :param may_defer: whether to leave a longer wait to another process
        :return: when to go on in another process, in seconds since 1970; None when the id is known
        :raises VapiConcurrencyLimitError: if the organization is over its concurrency limit; no call was placed
        :raises VapiOutsideHoursError: if the callee must not be called now; no call was placed
        :raises VapiCallInDoubtError: if it is unknown whether a call was placed
        :raises VapiTransientError: if a later try may place the call, or find out whether it was placed
        :raises VapiPermanentError: if Vapi refuses; no call was placed
        """
        steps = {Step.PLACE: self._place, Step.SEARCH: self._find, Step.WAIT: self._wait}
        while True:
            recorded = self.state
            step = decide(self._known).step
            if step is Step.ADOPT:
                # From here a read may lag behind the list, whenever the request was sent.
                self.placed_at = self.placed_at or time.time()
                if self._known.is_settled or not self.attempts.may_go_on(recorded):
                    self._record_placed(recorded)
                return None
            if step is Step.READ:
                self.call_id = recorded.call_id
                return None
            if step is Step.TRY_LATER:
                raise try_later(self._known.found, self._lost, self._unreadable, self.advice)
            if step is Step.GIVE_UP:
                raise undecided("the list of calls is longer than the search may read.", self.advice)
            if step is Step.WAIT and may_defer and self._search.seconds_left(self.sent_at) > SHORT_SECONDS:
                self._check_stop()
                return self._search.settles_at(self.sent_at)
            steps[step]()

    def read(self) -> Call | None:
        """
        Return the call, which is read unless Vapi has just returned it.

        :raises VapiError: if it could not be read
        """
        if self._placed is not None:
            self._log.info("Placed call %s.", self.call_id)
            if self._placed.is_concurrency_blocked:
                self._log.warning(
                    "Vapi accepted call %s although it exceeds the concurrency limit.", self.call_id
                )
            return self._placed
        call = read_placed(self._client, str(self.call_id), self.placed_at or self.state.at)
        following = None if self.has_sent else self.attempts.after(self.state, call, self._known.is_settled)
        if following is not None:
            if following != self.state:
                self._log.info("Call %s did not reach the callee; next token: %s.", call.id, following.token)
            self.call_id, self._state = None, following
            self._learn(SearchResult(Found.NOTHING), is_settled=self._known.is_settled)
            return None
        if self._known.found is Found.CALL or not never_rang(call):
            self._record_placed(self.state)
            self._log.info("%s", how_found(call, has_sent=self.has_sent))
            return call
        self.call_id = None
        if self.state.clear_number == self._clear_number:
            self._learn(SearchResult(Found.NEVER_RANG), is_settled=True)
        else:
            # Another task instance may have called this person since.
            self._state = dataclasses.replace(self.state, state=Recorded.NOTHING)
            self._learn(SearchResult(Found.NOT_SEARCHED))
        return None

    def _place(self) -> None:
        self._repeats = repeats = self._repeats or RepeatBudget(self._client.settings)
        try:
            found = self._prepare_to_send()
            # Once more: writing may have taken until the calling hours were over.
            request = self._request if found else self._request.timed(time.time())
        except VapiError as error:
            # Where nothing is recorded yet, a record of closed hours spares the next try a search.
            if self.state.state is Recorded.SENDING or isinstance(error, VapiOutsideHoursError):
                self._record_unsent()
            raise
        if found is not None:
            self._learn(found)
            return
        self.sent_plan = request.body.get("schedulePlan")
        try:
            self._placed = self._client.create_call(request.carrying(self.state.token))
        except VapiCallInDoubtError as error:
            self._lost = error.failure or error
            self._log.warning("%s It is unknown whether the call was placed.", self._lost)
            self._learn(SearchResult(Found.NOT_SEARCHED), has_sent=True)
        except VapiError as error:
            self._record_unsent()
            self._pause_before_repeat(repeats, error)
        else:
            self.call_id, self.placed_at = self._placed.id, time.time()
            self._learn(SearchResult(Found.CALL, self.call_id), has_sent=True)

    def _prepare_to_send(self) -> SearchResult | None:
        """Record that the request is about to be sent; return the call that another try has placed meanwhile."""
        for _ in range(_MAX_SEARCHES_BEFORE_SENDING):
            self._check_stop()
            self._request.timed(time.time())
            self._record_sending()
            self._check_stop()
            if time.monotonic() - self._known_at <= FRESH_SECONDS:
                return None
            result = self._search_list(is_again=True)
            if result.found is Found.CALL:
                return result
            if result.found is Found.TOO_MUCH:
                break
        raise VapiTransientError("Could not verify that no other try is placing this call. Nothing was sent.")

    def _record_sending(self) -> None:
        try:
            self._write(Recorded.SENDING, at=time.time())
        except Exception as error:
            # This write is a fence, too: Airflow refuses it from a try that another one has superseded.
            raise VapiTransientError(
                f"Could not write the task's state ({type(error).__name__}), so this try placed no call."
            ) from None

    def _record_unsent(self) -> None:
        """Record that the request had no effect; where that fails, the next try searches for the call."""
        try:
            self._write(Recorded.NOT_SENT)
        except Exception as error:
            self._log.warning("Could not record that no call was placed (%s).", type(error).__name__)
            self._state = dataclasses.replace(self.state, state=Recorded.NOT_SENT)
        self._known = dataclasses.replace(self._known, recorded=Recorded.NOT_SENT)

    def _pause_before_repeat(self, repeats: RepeatBudget, error: VapiError) -> None:
        """Sit out the pause after a request without effect, or raise its error if it is not to be repeated here."""
        if (pause := repeats.pause_after(error)) is None:
            raise error
        self._log.warning("%s Retrying in %.1f s (attempt %d failed).", error, pause, repeats.failed)
        time.sleep(pause)

    def _find(self) -> None:
        if not self._has_logged_search:
            limit = f", for up to {left:.0f} s" if (left := self._search.seconds_left(self.sent_at)) else ""
            self._log.info("A request may have been sent; searching for its call%s.", limit)
        self._has_logged_search = True
        began_at = time.time()
        try:
            result = self._search_list()
        except VapiTransientError as error:
            self._unreadable = error
            self._log.warning("%s", error)
            result = SearchResult(Found.UNREADABLE)
        except VapiPermanentError as error:
            raise undecided(str(error), self.advice) from None
        self._learn(result, is_settled=began_at >= self._search.settles_at(self.sent_at))

    @cached_property
    def _search(self) -> CallSearch:
        return CallSearch(self._client)

    def _search_list(self, *, is_again: bool = False) -> SearchResult:
        # In a further search only what came since the last one matters, however long ago that was.
        since = time.time() - time.monotonic() + self._known_at if is_again else self._sent_since
        tokens = self.attempts.tokens(self.state)
        result = self._search.run(self.state, tokens, since=since, is_again=is_again)
        self._known_at = self._search.known_at
        self._state = self.attempts.found(self.state, result.token)
        return result

    @property
    def _sent_since(self) -> float | None:
        # Without a record, the call can be as old as the run.
        return self._run_after if self.state.at is None else self.sent_at

    def _wait(self) -> None:
        time.sleep(min(self._pause, self._search.seconds_left(self.sent_at)))
        self._check_stop()
        self._pause *= 2
        self._learn(SearchResult(Found.NOT_SEARCHED))

    def _record_placed(self, recorded: PlacementState) -> None:
        if recorded.state in (Recorded.PLACED, Recorded.OVER) and recorded.call_id == self.call_id:
            return
        state = self.attempts.record_of_placed(recorded, has_sent=self.has_sent)
        try:
            self._write(state, at=self.sent_at, call_id=self.call_id)
        except Exception as error:
            self._state = dataclasses.replace(recorded, state=state)
            # The call exists, and its token will be found again.
            self._log.warning("Could not record call %s (%s).", self.call_id, type(error).__name__)

    def _learn(self, result: SearchResult, *, is_settled: bool = False, has_sent: bool = False) -> None:
        self.call_id = result.call_id or self.call_id
        self._known = dataclasses.replace(
            self._known,
            recorded=self.state.state,
            found=result.found,
            is_settled=is_settled,
            has_sent=has_sent or self._known.has_sent,
        )

    def _write(self, state: Recorded, *, at: float | None = None, call_id: str | None = None) -> None:
        written = dataclasses.replace(
            self.state,
            state=state,
            clear_number=self._clear_number,
            at=self.state.at if at is None else at,
            call_id=call_id,
            assistant_id=self._request.assistant_id,
            phone_number_id=self._request.phone_number_id,
        )
        self._store.write(written)
        self._state = written
        if at is not None:
            self.sent_at = at

    def _check_stop(self) -> None:
        if self._stop.is_set:
            unsearched = dataclasses.replace(self._known, found=Found.NOT_SEARCHED)
            is_in_doubt = decide(unsearched).step is Step.SEARCH
            doubt = f" A call may have been placed before. {self.advice}" * is_in_doubt
            raise VapiTransientError(f"The task was stopped, so it sends nothing more.{doubt}")

    @property
    def advice(self) -> str:
        """How to find the call, as a sentence."""
        return how_to_find(self.state.token, self._client.settings.conn_id, self._sent_since)
