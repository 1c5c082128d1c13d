"""Compare how our server and others that serve the same app bear faults: `python -W ignore -m benchmarks.faults`.

Each cell comes from a server that was started for it, so that no fault affects the next one. Seconds are those of the
slowest of eight callers that send a 48x48 face at the same time, while the fault lasts or right after it. In the flood,
they do so five times. In the row of surplus callers, seconds are those of the slowest of them.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.callers import Request, build_upload, measure_load
from benchmarks.clients import (
    LIMIT,
    NO_ANSWER,
    Answer,
    SteadyCallers,
    idle_clients,
    send,
    send_together,
    slow_senders,
    vanish,
)
from benchmarks.pictures import cut_crops, paste_portraits
from benchmarks.servers import SAME_APP, Running, Server, install_peers, our_servers, started
from dexpression.artifact.manifest import export_paths

MODEL = Path("model")
OPEN_FILES = 8192  # that this process and each server may have; many systems allow 1,024
NEXT_CALLERS, CALLERS, IDLE, VANISHED = 8, 32, 900, 200
QUEUE = 32  # pictures that may wait in one worker of our server, for the row of surplus callers
LARGE_FILE = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"  # 1.7 MB
READY = b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n"
FACE = build_upload("/", cut_crops(1)[0], "face.jpg")
STOP_SECONDS = 2.0  # until a server is killed after its measurement
RELOAD_SECONDS = 10.0  # in which a server has read a new model and decided about it


@dataclass(frozen=True)
class Fault:
    """One row: `measure` puts a running server, whose model is in a folder, to the test and describes the result."""

    name: str
    measure: Callable[[Running, Path], str]
    at_once: bool = False  # all servers are measured at the same time, because they and their clients mostly wait
    variables: dict[str, str] = field(default_factory=dict)


def describe(answers: Sequence[Answer]) -> str:
    """The seconds of the slowest answer; then the number of requests with another status than 200, if there are any."""
    slowest = max(answer.seconds for answer in answers)
    text = f"> {LIMIT:g} s" if slowest >= LIMIT else f"{slowest:.2f} s"
    failed = [answer.status for answer in answers if answer.status != 200]
    lost = failed.count(NO_ANSWER)
    parts = [f"{lost} of {len(answers)} not answered"] if lost else []
    parts += [f"{len(failed) - lost} of {len(answers)} refused"] if len(failed) > lost else []
    return ", ".join([text, *parts])


def _next_callers(running: Running) -> str:
    return describe(send_together(running.port, FACE, NEXT_CALLERS))


def _stop(running: Running, _model: Path) -> str:
    head, _, body = FACE.partition(b"\r\n\r\n")
    content_type = head.partition(b"Content-Type: ")[2].partition(b"\r\n")[0].decode()
    callers = SteadyCallers(running.port, body, content_type, CALLERS)
    time.sleep(2)
    os.kill(running.pid, signal.SIGTERM)
    callers.join()
    return f"{callers.lost} lost"


def _slow(count: int) -> Callable[[Running, Path], str]:
    def measure(running: Running, _model: Path) -> str:
        with slow_senders(running.port, FACE[: len(FACE) // 2], count):
            return _next_callers(running)

    return measure


def _idle(running: Running, _model: Path) -> str:
    with idle_clients(running.port, b"", IDLE):
        return _next_callers(running)


def _vanished(content: bytes) -> Callable[[Running, Path], str]:
    def measure(running: Running, _model: Path) -> str:
        vanish(running.port, content, VANISHED)
        return _next_callers(running)

    return measure


def _pipelined(running: Running, _model: Path) -> str:
    assert send(running.port, LARGE_FILE).status == 200, "this server has no such file"
    before = sum(running.memory())
    with idle_clients(running.port, 150 * LARGE_FILE, 6):
        text = _next_callers(running)
        return f"{text}, {sum(running.memory()) - before:+} MB"


def _flood(running: Running, _model: Path) -> str:
    with ThreadPoolExecutor(1) as pool:
        flood = pool.submit(measure_load, running.port, [Request(READY, b"ready")], CALLERS, 4.0, 0.0)
        time.sleep(1)
        answers = [answer for _ in range(5) for answer in send_together(running.port, FACE, NEXT_CALLERS)]
        flood.result()
    return describe(answers)


def _surplus(running: Running, _model: Path) -> str:
    frame = build_upload("/", paste_portraits(640, 480, count=1)[0], "frame.jpg")
    answers = send_together(running.port, frame, 4 * QUEUE * (os.cpu_count() or 1))
    hints = [answer.has_retry_after for answer in answers if answer.status not in (200, NO_ANSWER)]
    return describe(answers) + (f" ({sum(hints)} with Retry-After)" if hints else "")


def _broken_model(running: Running, model: Path) -> str:
    path = export_paths(model).onnx
    path.write_bytes(path.read_bytes()[:-1000])
    os.kill(running.pid, signal.SIGHUP)
    answers, end = [], time.monotonic() + RELOAD_SECONDS
    while time.monotonic() < end:
        answers.append(send(running.port, FACE))
        time.sleep(0.1)
    return f"{sum(answer.status == 200 for answer in answers)} of {len(answers)} answered"


FAULTS = (
    Fault(f"SIGTERM under {CALLERS} callers", _stop),
    Fault("2 uploads that never end", _slow(2), at_once=True),
    Fault("64 uploads that never end", _slow(64), at_once=True),
    Fault(f"{IDLE} idle connections", _idle, at_once=True),
    Fault(f"{VANISHED} senders vanished after half a request", _vanished(FACE[: len(FACE) // 2])),
    Fault(f"{VANISHED} senders vanished after a request", _vanished(FACE)),
    Fault("6 clients pipeline 150 GETs of 1.7 MB each and never read", _pipelined, at_once=True),
    Fault(f"{CALLERS} callers flood GET /health/ready", _flood),
    Fault(
        "frames from 4 callers for each place in our queue", _surplus, variables={"DEXPRESSION_MAX_QUEUE": str(QUEUE)}
    ),
    Fault("a damaged model and SIGHUP", _broken_model, at_once=True),
)


def measure_row(fault: Fault, servers: Sequence[Server], folder: Path) -> list[str]:
    """Measure one fault in fresh servers; "failed" and the error where that is impossible.

    Raises RuntimeError if a server does not start.
    """
    if not fault.at_once:
        return [_measure_together(fault, [server], folder)[0] for server in servers]
    return _measure_together(fault, servers, folder)


def _measure_together(fault: Fault, servers: Sequence[Server], folder: Path) -> list[str]:
    models = [folder / server.name for server in servers]
    with ExitStack() as stack, ThreadPoolExecutor(len(servers)) as pool:
        running = [
            stack.enter_context(_start(fault, server, model)) for server, model in zip(servers, models, strict=True)
        ]
        return list(pool.map(_measure, [fault] * len(servers), running, models))


def _start(fault: Fault, server: Server, model: Path) -> AbstractContextManager[Running]:
    """Start a server with a copy of the model of its own."""
    shutil.rmtree(model, ignore_errors=True)
    shutil.copytree(MODEL, model)
    chosen = dict(server.variables) | {"DEXPRESSION_MODEL_PATH": str(model)} | fault.variables
    return started(replace(server, variables=chosen), model.parent, STOP_SECONDS)


def _measure(fault: Fault, running: Running, model: Path) -> str:
    try:
        return fault.measure(running, model)
    except Exception as error:
        return f"failed ({type(error).__name__})"


def table(servers: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """The Markdown table of the cells of all servers, by the name of the fault."""
    head = ["fault", *(name.removeprefix(f"{SAME_APP}, ") for name in servers)]
    lines = [head, ["---"] * len(head), *([fault, *cells] for fault, cells in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("| --- ", "|---").replace("--- |", "---|")


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard), hard))


def main() -> None:
    """Measure every fault with every server, and print the table; progress goes to standard error."""
    parser = argparse.ArgumentParser(description="Compare how servers of the same app bear faults.")
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="servers whose names begin so")
    parser.add_argument("--faults", nargs="+", default=[""], metavar="TEXT", help="faults whose names contain this")
    options = parser.parse_args()
    install_peers()
    _raise_file_limit()
    servers = [server for server in our_servers(MODEL.resolve()) if server.name.startswith(tuple(options.only))]
    faults = [fault for fault in FAULTS if any(text in fault.name for text in options.faults)]
    rows: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for fault in faults:
            rows[fault.name] = measure_row(fault, servers, Path(folder))
            print(f"{fault.name}: {'; '.join(rows[fault.name])}", file=sys.stderr, flush=True)
    print(table([server.name for server in servers], rows))


if __name__ == "__main__":
    main()
