"""The whole thing, as a user starts it: a process, a port, HTTP."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from dexpression.labels import FIVE, SEVEN
from dexpression.prediction import Predictor
from dexpression.serving.http_server import HttpServer
from dexpression.settings import Settings
from dexpression.web import create_app
from dexpression.web.service import Service
from tests.support.faces import draw_face, encode
from tests.support.server import ask, connect, free_port, start, wait_until_ready

MAX_UPLOAD = 2_000_000


def exchange(url: str, sent: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer to these bytes."""
    with connect(url) as connection:
        connection.sendall(sent)
        head, _, body = b"".join(iter(lambda: connection.recv(4096), b"")).partition(b"\r\n\r\n")
    return head, body


@pytest.fixture(scope="module")
def url(exported_learner: Path) -> Iterator[str]:
    port = free_port()
    process = start(port, exported_learner, DEXPRESSION_MAX_UPLOAD_BYTES=str(MAX_UPLOAD))
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def test_a_posted_face_is_answered_with_the_answer_of_the_predictor(url, exported_learner):
    predictor = Predictor.load(exported_learner)
    for label in SEVEN:
        face = draw_face(label, 0)
        expected = predictor.predict(face).among(FIVE).emotion
        assert ask(url, encode(face)) == (200, b'{"result": "%s"}' % expected.encode())


def test_requests_at_the_same_time_get_the_answers_of_requests_one_by_one(url):
    faces = [encode(draw_face(label, seed)) for label in SEVEN for seed in range(6)] * 4
    one_by_one = [ask(url, face) for face in faces[:42]] * 4
    with ThreadPoolExecutor(24) as threads:
        assert list(threads.map(lambda face: ask(url, face), faces)) == one_by_one
    assert len(set(one_by_one)) > 1  # or equal answers would prove nothing


def test_what_the_http_server_itself_refuses_has_the_one_shape_too(url):
    for sent, status, code in (
        (b"this is no HTTP\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n", 413, "payload_too_large"),
    ):
        head, body = exchange(url, sent)
        problem = json.loads(body)
        assert b"application/problem+json" in head
        assert (problem["status"], problem["code"]) == (status, code)
        assert problem["request_id"].encode() in head


def test_an_upload_somewhat_too_large_is_read_and_refused(url):
    status, body = ask(url, bytes(MAX_UPLOAD + 1))
    assert (status, json.loads(body)["code"]) == (413, "payload_too_large")


def test_an_upload_never_touches_the_disk_of_the_http_server(exported_learner, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")  # whoever makes a temporary file now fails
    settings = Settings(max_upload_bytes=MAX_UPLOAD)
    service = Service(Predictor.load(exported_learner))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = HttpServer(create_app(service, settings), listener, settings)
        thread = threading.Thread(target=server.run, args=(service,))
        thread.start()
        large = encode(Image.effect_noise((1200, 1200), 100), "BMP")
        assert len(large) > 1_000_000  # waitress by itself puts more than 512 kB on disk
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert ask(url, large)[0] == 200
        assert ask(url, bytes(MAX_UPLOAD + 1))[0] == 413
        server.stop()
        thread.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals between processes")
def test_a_signal_stops_the_server_cleanly(exported_learner, number):
    port = free_port()
    process = start(port, exported_learner)
    wait_until_ready(f"http://127.0.0.1:{port}", process)
    process.send_signal(number)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in log


def assert_start_fails(process: subprocess.Popen[str], wanted: str) -> None:
    _, log = process.communicate(timeout=120)
    assert process.returncode == 1
    assert log.startswith("dexpression: ")
    assert wanted in log
    assert log.count("\n") == 1


def test_a_start_without_a_model_says_so_in_one_line(tmp_path):
    assert_start_fails(start(free_port(), tmp_path / "dexpression.pkl"), "Cannot read")


def test_a_start_with_a_bad_setting_names_it_in_one_line(exported_learner):
    assert_start_fails(
        start(free_port(), exported_learner, DEXPRESSION_WORKERS="many"), "DEXPRESSION_WORKERS is 'many'"
    )


def test_a_start_on_a_taken_port_says_so_in_one_line(exported_learner):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert_start_fails(start(port, exported_learner), f"Cannot listen on 127.0.0.1:{port}")
