"""The server as a user starts it: its first answers, its exit after a signal, and starts that fail."""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dexpression.labels import FIVE, SEVEN
from dexpression.prediction import Predictor
from tests.support.faces import draw_face, encode
from tests.support.server import Server, StartFailed, ask, connect, read_file

pytestmark = pytest.mark.slow

MAX_UPLOAD_BYTES = 2_000_000


@pytest.fixture(scope="module")
def server(exported_learner: Path) -> Iterator[Server]:
    """A server that has compared its learner, for tests that change nothing."""
    with Server(exported_learner, DEXPRESSION_MAX_UPLOAD_BYTES=str(MAX_UPLOAD_BYTES)) as server:
        yield server


@pytest.fixture
def url(server: Server) -> str:
    return server.url


def exchange(url: str, sent: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer to these bytes, after which the server closes the connection."""
    with connect(url) as connection:
        connection.sendall(sent)
        head, _, body = b"".join(iter(lambda: connection.recv(4096), b"")).partition(b"\r\n\r\n")
    return head, body


def test_post_answers_with_the_prediction_of_the_same_model_in_python(url, exported_learner):
    predictor = Predictor.load(exported_learner.parent)
    for label in SEVEN:
        face = draw_face(label, 0)
        expected = predictor.predict(face).among(FIVE).emotion
        assert ask(url, encode(face)) == (200, b'{"result": "%s"}' % expected.encode())


def test_concurrent_requests_get_the_answers_of_sequential_ones(url):
    faces = [encode(draw_face(label, seed)) for label in SEVEN for seed in range(6)]
    sequential = [ask(url, face) for face in faces]
    with ThreadPoolExecutor(24) as threads:
        assert list(threads.map(lambda face: ask(url, face), faces * 4)) == sequential * 4
    assert len(set(sequential)) > 1  # equal answers would prove nothing


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads the state of processes from /proc")
def test_workers_do_not_load_torch(server):
    maps = [read_file(Path(f"/proc/{worker}/maps")) for worker in server.workers()]
    assert len(maps) == 2
    assert all("onnxruntime" in text and "libtorch" not in text for text in maps)


def test_the_log_names_service_links_and_the_number_of_workers(light_export):
    with Server(light_export, DEXPRESSION_SERVICE_HOST="10.0.0.1") as server:
        assert "links to Services of Kubernetes: DEXPRESSION_SERVICE_HOST." in server.log
        assert "2 workers: set by DEXPRESSION_WORKERS." in server.log


def test_errors_of_the_http_server_are_problem_documents_too(url):
    for sent, status, code in (
        (b"this is not HTTP\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n", 413, "payload_too_large"),
    ):
        head, body = exchange(url, sent)
        problem = json.loads(body)
        assert b"application/problem+json" in head
        assert (problem["status"], problem["code"]) == (status, code)
        assert problem["request_id"].encode() in head


def test_an_upload_one_byte_too_large_is_read_to_its_end_and_refused(url):
    status, body = ask(url, bytes(MAX_UPLOAD_BYTES + 1))
    assert (status, json.loads(body)["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals between processes")
def test_a_signal_ends_the_server_with_status_0_and_no_traceback(light_export, number):
    with Server(light_export) as server:
        server.process.send_signal(number)
        assert server.wait_for_exit() == 0
    assert "Traceback" not in server.log


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals between processes")
def test_a_second_signal_does_not_interrupt_the_stop(light_export):
    with Server(light_export) as server:
        for _ in range(20):
            server.process.send_signal(signal.SIGTERM)
        assert server.wait_for_exit() == 0
    assert "Traceback" not in server.log
    assert "Stopped." in server.log


def assert_start_fails(server: Server, reason: str) -> None:
    """Check that the server exits with status 1, and that its last line has the reason; no other line is an error."""
    with pytest.raises(StartFailed) as failure:
        server.start()
    *before, last = str(failure.value).splitlines()
    assert failure.value.status == 1
    assert reason in last
    assert [line for line in before if '"INFO"' not in line] == []


def test_a_start_without_a_model_fails_with_one_line(tmp_path):
    assert_start_fails(Server(tmp_path), "Cannot read")


def test_a_start_with_a_bad_setting_fails_with_one_line_that_names_it(exported_learner):
    assert_start_fails(Server(exported_learner, DEXPRESSION_WORKERS="many"), "DEXPRESSION_WORKERS is 'many'")


def test_a_start_with_a_reading_that_the_model_lacks_fails_with_one_line(exported_learner):
    message = "DEXPRESSION_READING is people, but the model has only labels. Unset it."
    assert_start_fails(Server(exported_learner, DEXPRESSION_READING="people"), message)


def test_a_start_with_labels_that_the_model_lacks_fails_with_one_line(own_model):
    message = "DEXPRESSION_LABELS is five, but the model has only BORED, VERY ATTENTIVE. Unset it."
    assert_start_fails(Server(own_model, DEXPRESSION_LABELS="five"), message)


def test_a_start_on_a_port_in_use_fails_with_one_line(exported_learner):
    with socket.create_server(("127.0.0.1", 0)) as other_program:
        port = other_program.getsockname()[1]
        assert_start_fails(Server(exported_learner, port=port), f"Cannot listen on 127.0.0.1:{port}")
