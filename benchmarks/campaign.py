# SPDX-License-Identifier: Apache-2.0
"""
The calls that ``benchmarks.waiting`` waits for: the simulator in a separate process.

The measuring process sends commands to its stdin and reads the results from its stdout, one line of JSON each, so that
they do not use the measured sockets. The process ends when its stdin closes.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Iterator
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from benchmarks.payload import as_sent, documented_call
from vapi_provider.simulator import VapiSimulator
from vapi_provider.simulator.local_server import HOST, LocalServer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LIVE_SHARE = 10
"""One in ten calls is live; the others are scheduled or queued."""
CHANGE_SECONDS = 5.0
"""How often each live call's ``updatedAt`` changes."""
PLACED_WITHIN = timedelta(minutes=30)
"""The period in which the calls were placed, up to now."""

_TICK_SECONDS = 0.02
_SAMPLE = 20
_UNTIL_ENDED = "/until-ended/"
_SPOKEN = "What was said in this turn of an invented conversation, about as long as a spoken sentence is. "


class Campaign:
    """
    N calls, of which a tenth are live: they change, end at set times, and are replaced by quiet ones.

    :param simulator: the simulated Vapi
    :param size: the number of calls
    :param body_bytes: the size of a call's JSON
    """

    def __init__(self, simulator: VapiSimulator, size: int, body_bytes: int) -> None:
        self.calls: list[tuple[str, str]] = []
        """Each call's id and its first ``updatedAt``."""
        self.ended: dict[str, float] = {}
        """When each call ended, in seconds since the epoch."""
        self._simulator = simulator
        self._live: deque[str] = deque()
        self._quiet: deque[str] = deque()
        self._to_end: deque[float] = deque()
        self._next_change = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="campaign")
        for body in _bodies(size, body_bytes):
            call_id = simulator.add_call(status=body["status"], body=body)
            self.calls.append((call_id, body["updatedAt"]))
            (self._live if body["status"] == "in-progress" else self._quiet).append(call_id)

    def start(self) -> None:
        self._next_change = time.time()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def end_calls(self, begin: float, seconds: float, number: int) -> None:
        """Schedule the ends of calls, evenly spread over this period."""
        self._to_end.extend(begin + seconds * position / number for position in range(number))

    def _run(self) -> None:
        while not self._stopping.wait(_TICK_SECONDS):
            now = time.time()
            while self._live and self._next_change <= now:
                self._change_one()
            while self._live and self._to_end and self._to_end[0] <= now:
                self._to_end.popleft()
                self._end_one()

    def _change_one(self) -> None:
        self._simulator.set_status(self._live[0], "in-progress")
        self._live.rotate(-1)
        self._next_change += CHANGE_SECONDS / len(self._live)

    def _end_one(self) -> None:
        call_id = self._live.popleft()
        # Recorded before the end is visible, so that latencies are overstated rather than understated.
        self.ended[call_id] = time.time()
        self._simulator.end_call(call_id)
        if self._quiet:
            self._live.append(self._quiet.popleft())
            self._simulator.set_status(self._live[-1], "in-progress")


class Front:
    """
    Wraps the simulator: adds a URL that returns 404 until a call has ended, and records response times.

    The HTTP provider's sensor ignores a status in the body and waits until the 404s stop. Otherwise, the response is
    that of ``GET /call/{id}``, at the same cost.

    :param app: the simulator's application
    :param ended: the ids of the calls that have ended
    """

    def __init__(self, app: ASGIApp, ended: Container[str]) -> None:
        self.first_answers: dict[str, float] = {}
        """When each path got its first response."""
        self.last_answer = 0.0
        self._app = app
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call_id = scope["path"].removeprefix(_UNTIL_ENDED)
        if call_id == scope["path"]:
            await self._app(scope, receive, send)
        else:
            await self._app({**scope, "path": f"/call/{call_id}"}, receive, self._until_ended(call_id, send))
        self.last_answer = time.time()
        self.first_answers.setdefault(scope["path"], self.last_answer)

    def _until_ended(self, call_id: str, send: Send) -> Send:
        async def send_as_404(message: Message) -> None:
            if message["type"] == "http.response.start" and call_id not in self._ended:
                message["status"] = 404
            await send(message)

        return send_as_404


class Server:
    """
    Serves the campaign; its public methods are the measuring process's commands, selected by ``do``.

    :param calls: the number of calls
    :param body_bytes: the size of a call's JSON
    """

    def __init__(self, calls: int, body_bytes: int) -> None:
        self._simulator = VapiSimulator(concurrency_limit=1_000_000)
        self._campaign = Campaign(self._simulator, calls, body_bytes)
        self._front = Front(self._simulator.app, self._campaign.ended)
        self._listening = LocalServer(self._front, 0)

    def __enter__(self) -> Server:
        self._listening.start()
        self._campaign.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._campaign.stop()
        self._listening.stop()

    def describe(self) -> dict[str, Any]:
        """Return the URL, the calls, and the average size of their JSON."""
        calls = self._campaign.calls
        sample = [len(as_sent(self._simulator.get_call(call_id))) for call_id, _ in calls[:_SAMPLE]]
        return {
            "url": f"http://{HOST}:{self._listening.port}",
            "key": self._simulator.api_key,
            "calls": calls,
            "bytes": sum(sample) / len(sample),
        }

    def answered(self) -> dict[str, Any]:
        """Return how many calls got a response of their own, and when responses were sent."""
        firsts = [at for path, at in list(self._front.first_answers.items()) if path != "/call"]
        return {
            "calls": len(firsts),
            "last_first": max(firsts, default=0.0),
            "last": self._front.last_answer,
        }

    def end_calls(self, begin: float, seconds: float, number: int) -> dict[str, Any]:
        self._campaign.end_calls(begin, seconds, number)
        return {}

    def cpu(self) -> dict[str, Any]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {"cpu": usage.ru_utime + usage.ru_stime}

    def totals(self, begin: float, end: float) -> dict[str, Any]:
        """Return the requests and bytes in this period, and when each call ended."""
        requests = [record for record in self._simulator.requests if begin <= record.at.timestamp() < end]
        return {
            "requests": len(requests),
            "bytes": sum(record.bytes_sent for record in requests),
            "ended": self._campaign.ended,
        }


def _bodies(size: int, body_bytes: int) -> Iterator[dict[str, Any]]:
    """
    Generate the calls in order of creation.

    Each contains an assistant's whole configuration, as in Vapi's documentation, as far as that fits, and a conversation
    that fills it up. Quiet calls have a conversation, too, so that all have the same size.
    """
    now = datetime.now(timezone.utc)
    common = _filled(_trimmed(documented_call(), body_bytes), body_bytes)
    for position in range(size):
        created_at = _timestamp(now - PLACED_WITHIN * (1 - (position + 1) / size))
        live = position % LIVE_SHARE == 0
        # Spread evenly over the time between two changes.
        changed_at = _timestamp(now - timedelta(seconds=CHANGE_SECONDS * (1 - position / size)))
        yield {
            **{name: value for name, value in common.items() if name not in ("id", "endedReason", "endedAt")},
            "status": "in-progress" if live else ("scheduled", "queued")[position % 2],
            "createdAt": created_at,
            "updatedAt": max(created_at, changed_at) if live else created_at,
        }


def _trimmed(call: dict[str, Any], size: int) -> dict[str, Any]:
    """Drop the largest properties of a call until it fits."""
    while len(as_sent(call)) > size:
        largest = max(call, key=lambda name: len(as_sent(call[name])))
        call = {name: value for name, value in call.items() if name != largest}
    return call


def _filled(call: dict[str, Any], size: int) -> dict[str, Any]:
    """Lengthen the conversation, which the API returns twice, and a third time as a transcript."""
    number = 0
    while len(as_sent(call)) < size:
        number += 2
        turns = [_turn(position) for position in range(number)]
        artifact = {**call.get("artifact", {}), "messages": turns, "transcript": _SPOKEN * number}
        call = {**call, "messages": turns, "artifact": artifact}
    return call


def _turn(position: int) -> dict[str, Any]:
    return {
        "role": "user" if position % 2 else "bot",
        "message": _SPOKEN,
        "time": 1730815407000.0 + 4000 * position,
        "endTime": 1730815410000.0 + 4000 * position,
        "secondsFromStart": 4.0 * position,
        "duration": 3000.0,
    }


def _timestamp(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def main() -> int:
    with Server(calls=int(sys.argv[1]), body_bytes=int(sys.argv[2])) as server:
        commands: dict[str, Callable[..., dict[str, Any]]] = {
            command.__name__: command
            for command in (server.describe, server.answered, server.end_calls, server.cpu, server.totals)
        }
        for line in sys.stdin:
            command = json.loads(line)
            print(json.dumps(commands[command.pop("do")](**command)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
