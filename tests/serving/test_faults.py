"""A running server under injected faults: damaged models, clients that disconnect, no memory, no file descriptors.

`pipenv run faults` replaces the model 50 times instead of 3, and prints how many requests each fault lost.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from PIL import Image

from tests.support.faces import draw_face, encode
from tests.support.server import Server, StartFailed, ask, connect, light, read_file, sha256
from tests.support.web import multipart, post_request

resource = pytest.importorskip("resource", reason="Windows has no limits of open files and of memory")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads the state of processes from /proc"),
]

REPLACEMENTS = int(os.environ.get("REPLACEMENTS", "3"))
FILES = "dexpression.safetensors", "dexpression.onnx", "dexpression.json"
FACE = encode(draw_face("HAPPY", 0))
REFUSED, LOADED = "The new model is not used", "answers from now on"
FAULTS = {
    "last byte changed": lambda content: content[:-1] + b"x",
    "second half cut off": lambda content: content[: len(content) // 2],
    "a folder in place of the file": None,
    "missing": None,
}


def wait_for_answers(server: Server, count: int = 50) -> None:
    """Wait for this many more answers to `server.callers`."""
    answered = len(server.seen)
    server.wait(lambda: len(server.seen) >= answered + count)


def replace(source: Path, target: Path) -> None:
    """Put a file, completely written, in the place of another file or folder."""
    complete = target.with_name(target.name + ".partial")
    shutil.copy(source, complete)
    if target.is_dir():
        target.rmdir()
    complete.replace(target)


def replace_damaged(source: Path, target: Path, number: int) -> None:
    """Put a damaged file, a folder or nothing in the place of a file; `number` chooses one of FAULTS."""
    fault, damage = list(FAULTS.items())[number % len(FAULTS)]
    if target.is_dir():
        target.rmdir()
    if damage:
        target.write_bytes(damage(source.read_bytes()))
        return
    target.unlink(missing_ok=True)
    if fault != "missing":
        target.mkdir()


def replace_export(source: Path, model: Path) -> None:
    for name in FILES:
        replace(source.with_name(name), model.with_name(name))


def replace_export_damaged(source: Path, model: Path, number: int) -> None:
    """Replace the damaged file first, so that the folder has no complete export at any time."""
    damaged = FILES[number % len(FILES)]
    replace_damaged(source.with_name(damaged), model.with_name(damaged), number)
    for name in FILES:
        if name != damaged:
            replace(source.with_name(name), model.with_name(name))


def test_of_models_that_replace_each_other_under_load_only_undamaged_ones_answer(server, model, other_model, tmp_path):
    models = [other_model, Path(shutil.copytree(model.parent, tmp_path / "first")) / model.name]
    good = {sha256(path) for path in models}
    loads = 0
    # More callers, or callers without a pause, would make the verification take long, which has a low priority.
    with server.callers(pause=0.2, count=8):
        wait_for_answers(server)
        for number in range(REPLACEMENTS):
            next_model = models[loads % 2]  # the one that does not answer now
            if number % 3 == 2:
                refusals = server.log.count(REFUSED)
                replace_export_damaged(next_model, model, number // 3)
                server.wait(lambda refusals=refusals: server.log.count(REFUSED) > refusals)
            else:
                replace_export(next_model, model)
                loads += 1
                server.wait(lambda loads=loads: server.log.count(LOADED) >= loads)
    assert server.log.count(LOADED) == loads == REPLACEMENTS - REPLACEMENTS // 3
    # On a busy machine, the supervisor may also see, and refuse, an export of which only some files are replaced.
    assert server.log.count(REFUSED) >= REPLACEMENTS // 3
    assert {status for status, _ in server.answers} == {200}
    assert {answered_by for _, answered_by in server.answers} == good
    assert server.failures == []


def test_a_model_folder_that_is_missing_or_unreadable_leaves_the_old_model_answering(server, model, tmp_path):
    old = sha256(model)
    with server.callers():
        wait_for_answers(server)
        model.parent.rename(tmp_path / "elsewhere")
        server.wait(lambda: REFUSED in server.log)
        refusals = server.log.count(REFUSED)
        (tmp_path / "elsewhere").rename(model.parent)
        model.parent.chmod(0)
        try:
            os.kill(server.process.pid, signal.SIGHUP)
            if os.geteuid():  # root can read the folder anyway
                server.wait(lambda: server.log.count(REFUSED) > refusals)
            wait_for_answers(server)
        finally:
            model.parent.chmod(0o755)
    assert server.answers.keys() == {(200, old)}
    assert server.failures == []


def open_files(server: Server, kind: str = "") -> int:
    """The number of open files of all workers whose name in /proc starts with `kind`, such as `socket:`."""
    names = []
    for worker in server.workers():
        for descriptor in Path(f"/proc/{worker}/fd").iterdir():
            with suppress(FileNotFoundError):  # the worker has closed it meanwhile
                names.append(str(descriptor.readlink()))
    return sum(name.startswith(kind) for name in names)


@light
def test_clients_that_disconnect_lose_no_request_of_others_and_leak_no_file(server):
    request = post_request(multipart(FACE))
    idle_sockets = open_files(server, "socket:")
    with server.callers():
        wait_for_answers(server)  # with its first answers, a worker opens its files of metrics
    server.wait(lambda: open_files(server, "socket:") == idle_sockets)
    before = open_files(server)
    with server.callers():
        wait_for_answers(server)
        for number in range(300):
            connection = connect(server.url)
            connection.sendall(request[: len(request) * (number % 10 + 1) // 10])
            if number % 2:  # close it by a reset
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
        wait_for_answers(server)
    assert {status for status, _ in server.answers} == {200}
    assert server.failures == []
    server.wait(lambda: open_files(server) <= before)


@light
def test_connections_beyond_the_limit_of_open_files_replace_those_that_are_idle(model):
    with Server(model, max_open_files=128) as server:
        with ExitStack() as held, ThreadPoolExecutor(20) as threads:
            for _ in range(300):  # more than both workers may have open
                held.enter_context(closing(connect(server.url)))
            late = [threads.submit(ask, server.url, FACE) for _ in range(20)]
            assert [answer.result()[0] for answer in late] == [200] * 20
            assert server.log.count("All connections are in use") == 2  # once in each worker, however many they close
        with server.callers():
            wait_for_answers(server, 100)
    assert {status for status, _ in server.answers} == {200}
    assert server.failures == []
    assert "Too many open files" not in server.log


@light
@pytest.mark.parametrize("files", [24, 40])
def test_a_server_that_may_open_too_few_files_says_so_and_does_not_start(model, files):
    with pytest.raises(StartFailed, match=r"Too many open files|ulimit -n") as failed, Server(model, files):
        pass
    assert failed.value.status == 1
    assert "Traceback" not in str(failed.value)


@light
def test_a_picture_that_needs_too_much_memory_is_refused_and_others_are_answered(server):
    large = encode(Image.new("RGB", (7000, 7000)), "PNG")  # Pillow needs 196 MB for it
    workers = server.workers()
    with server.callers():
        wait_for_answers(server)  # after its first answers, a worker needs little more memory than it has
        for worker in workers:
            size = int(read_file(Path(f"/proc/{worker}/statm")).split()[0]) * resource.getpagesize()
            hard = resource.prlimit(worker, resource.RLIMIT_AS)[1]
            resource.prlimit(worker, resource.RLIMIT_AS, (size + 100_000_000, hard))
        refused = [ask(server.url, large) for _ in range(6)]
        wait_for_answers(server)
    assert [status for status, _ in refused] == [503] * 6
    assert all(b"not enough free memory" in body for _, body in refused)
    assert {status for status, _ in server.answers} == {200}
    assert server.failures == []
    assert server.workers() == workers
    assert "Traceback" not in server.log
