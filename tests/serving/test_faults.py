"""What befalls a server: models that cannot be read, callers who vanish, no memory, no files left; under load.

`pipenv run faults` has the model replaced fifty times instead of three, and prints what was lost in each.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from PIL import Image

from tests.support.faces import draw_face, encode
from tests.support.server import Server, ask, connect, read_file, sha256
from tests.support.web import MULTIPART, multipart

resource = pytest.importorskip("resource", reason="Windows has no such limits")
pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into processes in /proc")

REPLACEMENTS = int(os.environ.get("REPLACEMENTS", "3"))
FILES = "dexpression.pkl", "dexpression.onnx", "dexpression.json"
FACE = encode(draw_face("HAPPY", 0))
REFUSED, TAKEN = "The new model is not used", "Answers come from the model"


def put(source: Path, target: Path) -> None:
    """Each file of an export in one step."""
    for name in FILES:
        shutil.copy(source.with_name(name), target.with_name(name + ".partial"))
        target.with_name(name + ".partial").replace(target.with_name(name))


def spoil(model: Path, number: int) -> None:
    """One of its files: damaged, cut, missing, or something that cannot be read."""
    file = model.with_name(FILES[number % 3])
    content = file.read_bytes()
    file.unlink()
    if number % 4 == 0:
        file.write_bytes(content[:-1] + b"x")
    elif number % 4 == 1:
        file.write_bytes(content[: len(content) // 2])
    elif number % 4 == 2:
        file.mkdir()


def mend(model: Path) -> None:
    for name in FILES:
        if model.with_name(name).is_dir():
            model.with_name(name).rmdir()


def test_of_models_that_replace_each_other_under_load_the_good_ones_alone_answer(server, model, other_model, tmp_path):
    models = [other_model, Path(shutil.copytree(model.parent, tmp_path / "first")) / model.name]
    good = {sha256(path) for path in models}
    with server.callers(pause=0.2):  # or the check, which leaves the processor to them, would take half a minute
        server.wait(lambda: len(server.seen) > 50)
        for number in range(REPLACEMENTS):
            taken, refused = server.log.count(TAKEN), server.log.count(REFUSED)
            mend(model)
            put(models[taken % 2], model)  # the one that does not answer now
            if number % 3 == 2:
                spoil(model, number // 3)
            server.wait(lambda before=taken + refused: server.log.count(TAKEN) + server.log.count(REFUSED) > before)
    assert server.log.count(REFUSED) == REPLACEMENTS // 3
    assert server.log.count(TAKEN) == REPLACEMENTS - REPLACEMENTS // 3
    assert {status for status, _ in server.answers} == {200}
    assert {answered_by for _, answered_by in server.answers} == good
    assert server.failures == []


def test_a_model_folder_that_is_gone_or_cannot_be_read_leaves_the_old_model_answering(server, model, tmp_path):
    old = sha256(model)
    with server.callers():
        server.wait(lambda: len(server.seen) > 50)
        model.parent.rename(tmp_path / "elsewhere")
        server.wait(lambda: server.log.count(REFUSED) == 1)
        (tmp_path / "elsewhere").rename(model.parent)
        model.parent.chmod(0)
        os.kill(server.process.pid, signal.SIGHUP)
        if os.geteuid():  # who is root reads all the same
            server.wait(lambda: server.log.count(REFUSED) == 2)
        answered = len(server.seen)
        server.wait(lambda: len(server.seen) > answered + 50)
        model.parent.chmod(0o755)
    assert server.answers.keys() == {(200, old)}
    assert server.failures == []


def test_callers_who_vanish_cost_the_others_nothing(server):
    body = multipart(FACE)
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {MULTIPART}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    files = [len(list(Path(f"/proc/{worker}/fd").iterdir())) for worker in server.workers()]
    with server.callers():
        server.wait(lambda: len(server.seen) > 50)
        for number in range(300):
            connection = connect(server.url)
            connection.sendall((head + body)[: (len(head) + len(body)) * (number % 10 + 1) // 10])
            if number % 2:  # a reset instead of an end
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
        answered = len(server.seen)
        server.wait(lambda: len(server.seen) > answered + 50)
    assert {status for status, _ in server.answers} == {200}
    assert server.failures == []
    server.wait(
        lambda: sum(len(list(Path(f"/proc/{worker}/fd").iterdir())) for worker in server.workers()) <= sum(files) + 2
    )


def test_more_callers_than_there_are_file_numbers_wait_and_are_answered(model):
    server = Server(model, files=128)
    with ExitStack() as held, ThreadPoolExecutor(20) as threads:
        for _ in range(300):  # more than both workers may have open
            held.enter_context(closing(connect(server.url)))
        time.sleep(1)
        late = [threads.submit(ask, server.url, FACE) for _ in range(20)]
        time.sleep(1)
        assert not any(answer.done() for answer in late)
        assert server.log.count("\n") < 20  # it is not filled with what cannot be let in
        held.close()
        assert [answer.result()[0] for answer in late] == [200] * 20
    with server.callers():
        server.wait(lambda: len(server.seen) > 100)
    server.stop()
    assert {status for status, _ in server.answers} == {200}
    assert server.failures == []
    assert "Too many open files" not in server.log


def test_what_there_is_too_little_memory_for_is_told_so_and_the_rest_is_answered(server):
    large = encode(Image.new("RGB", (7000, 7000)), "PNG")
    for worker in server.workers():
        size = int(read_file(Path(f"/proc/{worker}/statm")).split()[0]) * resource.getpagesize()
        hard = resource.prlimit(worker, resource.RLIMIT_AS)[1]
        resource.prlimit(worker, resource.RLIMIT_AS, (size + 60_000_000, hard))
    with server.callers():
        refused = [ask(server.url, large) for _ in range(6)]
        answered = len(server.seen)
        server.wait(lambda: len(server.seen) > answered + 50)
    assert [status for status, _ in refused] == [503] * 6
    assert all(b"too little memory" in body for _, body in refused)
    assert {status for status, _ in server.answers} == {200}
    assert server.failures == []
    assert len(server.workers()) == 2
    assert "Traceback" not in server.log
