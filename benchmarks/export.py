# SPDX-License-Identifier: Apache-2.0
"""
The CPU time and memory of an export of calls, compared with iterating ``hook.list_calls``.

Run ``python -m benchmarks.export`` from the repository's root. Each measurement runs in a separate process, and so does
the server, so that only the export itself is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Process, Queue
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks.payload import plain_call
from benchmarks.report import machine, table, verdict

ROOT = Path(__file__).resolve().parent.parent
CALLS = 10_000
CALL_BYTES = 50_000
PAGE = 100
TARGET_RATIO = 1.3
TARGET_MS = 4.0
TARGET_MIB = 80
EVERYTHING = ["analysis", "cost_breakdown", "customer", "messages", "structured_outputs", "transcript"]


def instant(number: int) -> str:
    seconds = 86_399 - number * 8
    return f"2026-03-10T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.000Z"


def row(number: int) -> bytes:
    """Return a call of about 50 KB, mostly messages and transcript."""
    call: dict[str, Any] = plain_call()
    at = instant(number)
    call |= {"id": f"019a7c2e-5f00-7000-8000-{number:012}", "createdAt": at, "endedAt": at, "status": "ended"}
    said = "I would like to move my appointment to Tuesday at ten, please. "
    messages = [
        {
            "role": "user" if turn % 2 else "bot",
            "message": said * 3,
            "time": 1e12 + turn,
            "secondsFromStart": turn,
        }
        for turn in range(110)
    ]
    call["artifact"] = {"messages": messages, "transcript": "\n".join(f"User: {said * 3}" for _ in range(70))}
    return json.dumps(call).encode()


def serve(ports: Queue[int], calls: int) -> None:
    rows = [row(number) for number in range(calls)]
    instants = [instant(number)[:19] for number in range(calls)]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            latest, before = (query.get(name, ["9"])[0][:19] for name in ("createdAtLe", "createdAtLt"))
            first = next(
                (at for at, value in enumerate(instants) if value <= latest and value < before), calls
            )
            body = b"[" + b",".join(rows[first : first + int(query["limit"][0])]) + b"]"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ports.put(server.server_address[1])
    server.serve_forever()


def measured(work: str, target: str) -> dict[str, Any]:
    """Do the work in this process, and return its CPU time in seconds and its memory growth in MiB."""
    import resource
    import time

    from airflow.sdk import ObjectStoragePath
    from vapi_provider.hooks.vapi import VapiHook
    from vapi_provider.transfers.calls_to_object_storage import VapiCallsToObjectStorageOperator

    # Airflow searches all providers for filesystems, once per process.
    _ = ObjectStoragePath(f"file://{target}").fs
    bounds = {"created_at_ge": "2026-03-10T00:00:00Z", "created_at_lt": "2026-03-11T00:00:00Z"}
    _ = VapiHook().client.session
    memory, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    if work == "list":
        count = sum(len(call.summary(["transcript"])) > 0 for call in VapiHook().list_calls(**bounds))
    else:
        include = EVERYTHING if work == "everything" else ["transcript"]
        operator = VapiCallsToObjectStorageOperator(
            task_id="export",
            path=f"file://{target}/calls.jsonl",
            include=include,
            if_exists="replace",
            **bounds,
        )
        count = type(operator).execute.__wrapped__(operator, {})["calls"]  # type: ignore[attr-defined]
    seconds = time.process_time() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    return {"seconds": seconds, "mib": grown / 1024, "calls": count}


def run(work: str, port: int, calls: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        connection = {"conn_type": "vapi", "host": f"http://127.0.0.1:{port}", "password": "benchmark-key"}
        environment = {
            **os.environ,
            "AIRFLOW_HOME": folder,
            "AIRFLOW_CONN_VAPI_DEFAULT": json.dumps(connection),
            "NO_PROXY": "127.0.0.1",
        }
        command = [sys.executable, "-m", "benchmarks.export", "--work", work, folder]
        done = subprocess.run(
            command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if result["calls"] != calls:
        raise RuntimeError(f"{work} processed {result['calls']} calls instead of {calls}")
    return result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__)
    parser.add_argument(
        "-n", "--calls", type=int, default=CALLS, help=f"calls to export (default: {CALLS:,})"
    )
    parser.add_argument("--rounds", type=int, default=2, help="processes per work (default: 2)")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("folder", nargs="?", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(measured(options.work, options.folder)))
        return 0
    ports: Queue[int] = Queue()
    server = Process(target=serve, args=(ports, options.calls), daemon=True)
    server.start()
    try:
        port = ports.get(timeout=300)
        works = ("list", "transcript", "everything")
        results: dict[str, list[dict[str, Any]]] = {work: [] for work in works}
        for _ in range(options.rounds):
            for work in works:
                results[work].append(run(work, port, options.calls))
    finally:
        server.terminate()
    best = {work: min(each["seconds"] for each in results[work]) for work in works}
    memory = {work: max(each["mib"] for each in results[work]) for work in works}
    names = {
        "list": "hook.list_calls, summaries",
        "transcript": "export, transcript",
        "everything": "export, all of include",
    }
    print(f"Exporting {options.calls:,} calls of {len(row(0)):,} bytes ({machine()})")
    print()
    rows = [
        [
            names[work],
            f"{best[work]:.1f}",
            f"{best[work] / options.calls * 1000:.2f}",
            f"{memory[work]:.0f}",
            "",
        ]
        for work in works
    ]
    print(table(["work", "CPU s", "ms per call", "MiB added", ""], rows))
    print()
    ratio, each = best["transcript"] / best["list"], best["everything"] / options.calls * 1000
    print(verdict(f"at most {TARGET_RATIO} x the list", f"{ratio:.2f} x", ratio <= TARGET_RATIO))
    print(verdict(f"at most {TARGET_MS:.0f} ms per call", f"{each:.2f} ms", each <= TARGET_MS))
    added = max(memory["transcript"], memory["everything"])
    print(verdict(f"under {TARGET_MIB} MiB", f"{added:.0f} MiB", added < TARGET_MIB))
    return 0


if __name__ == "__main__":
    sys.exit(main())
