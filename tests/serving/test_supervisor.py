"""A running server: workers that die or hang, models that change, and stops, each while clients send requests."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from http.client import HTTPResponse
from pathlib import Path

import onnx
import pytest
from PIL import Image

from dexpression.artifact.manifest import export_paths
from dexpression.errors import StartError
from dexpression.labels import FIVE
from dexpression.serving import processes, verification_process
from dexpression.serving.shared_metrics import PREFIX
from tests.support.exports import replace_file
from tests.support.faces import OWN_LABELS, draw_face, encode
from tests.support.server import Server, ask, connect, light, read_file, sha256
from tests.support.web import MULTIPART, multipart

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals between processes"),
]
reads_proc = pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads the state of processes from /proc")

FACE = encode(draw_face("HAPPY", 0))
REPLACED = "is replaced"  # in the log line of each worker that died
CALLERS = 32  # each has one request at a time; those that a worker had when it was killed are lost


def wait_for_answers(server: Server, count: int) -> None:
    """Wait for this many more answers to `server.callers`."""
    answered = len(server.seen)
    server.wait(lambda: len(server.seen) >= answered + count)


def is_suspended(process: int) -> bool:
    return "State:\tT" in read_file(Path(f"/proc/{process}/status"))


@light
@reads_proc
def test_a_worker_that_dies_is_replaced_while_the_other_one_answers(server, model):
    before = server.workers()
    assert len(before) == 2
    with server.callers(count=CALLERS):
        wait_for_answers(server, 50)
        os.kill(before[0], signal.SIGKILL)
        killed = time.monotonic()
        wait_for_answers(server, 50)
        server.wait(lambda: len(set(server.workers()) - set(before)) == 1)
        server.wait(lambda: server.worker_counts() == {sha256(model): 2})
        print(f"{time.monotonic() - killed:.1f} s until two workers answered again")
    assert {status for status, _ in server.answers} == {200}
    assert len(server.failures) <= CALLERS
    assert f"Worker {before[0]} died (-9) and {REPLACED}" in server.log


@light
@reads_proc
def test_a_worker_that_works_too_long_on_one_request_is_replaced_and_loses_no_other(model):
    large = encode(Image.new("RGB", (7000, 7000)), "PNG")  # decoding takes a third of a second
    settings = {"DEXPRESSION_REQUEST_TIMEOUT_SECONDS": "3", "DEXPRESSION_MAX_PIXELS": "2000000000"}
    with Server(model, **settings) as server:
        before = server.workers()
        with server.callers():
            wait_for_answers(server, 50)
            status, body = ask(server.url, *[large] * 32)
            assert (status, json.loads(body)["code"]) == (422, "too_complex")
            server.wait(lambda: len(set(before) - set(server.workers())) == 1)  # one has left
            server.wait(lambda: server.worker_counts() == {sha256(model): 2})
            wait_for_answers(server, 50)
    assert server.answers.keys() == {(200, sha256(model))}
    assert server.failures == []
    assert server.log.count("works too long on one request") == 1


# Starts the server, which waits only this long for a worker that hangs.
IMPATIENT = """
import runpy
from dexpression.serving import supervisor
supervisor.HANG_SECONDS = 3
runpy.run_path("server.py", run_name="__main__")
"""


@light
@reads_proc
def test_a_worker_that_hangs_for_longer_than_any_request_may_take_is_replaced(model):
    command = (sys.executable, "-c", IMPATIENT)
    with Server(model, command=command, DEXPRESSION_REQUEST_TIMEOUT_SECONDS="0.5") as server:
        hanging = server.workers()[0]
        os.kill(hanging, signal.SIGSTOP)
        server.wait(lambda: f"Worker {hanging} died (-9) and {REPLACED}" in server.log)
        server.wait(lambda: server.worker_counts() == {sha256(model): 2})


@light
@reads_proc
def test_ten_deaths_in_a_row_lose_only_the_requests_of_the_dead_workers(server):
    with server.callers(count=CALLERS):
        for deaths in range(10):
            server.wait(lambda deaths=deaths: server.log.count(REPLACED) == deaths and len(server.workers()) == 2)
            wait_for_answers(server, 20)
            os.kill(server.workers()[0], signal.SIGKILL)
        server.wait(lambda: server.log.count(REPLACED) == 10)
        wait_for_answers(server, 200)
    assert {status for status, _ in server.answers} == {200}
    assert len(server.failures) <= 10 * CALLERS
    assert server.log.count(REPLACED) == 10


@light
@reads_proc
def test_a_worker_that_hangs_delays_only_its_own_requests_and_answers_them_later(server):
    [hanging, _] = server.workers()
    with server.callers():
        wait_for_answers(server, 50)
        os.kill(hanging, signal.SIGSTOP)
        try:
            server.wait(lambda: is_suspended(hanging))
            for _ in range(100):
                assert ask(server.url, FACE)[0] == 200
        finally:
            os.kill(hanging, signal.SIGCONT)
        wait_for_answers(server, 100)
    assert {status for status, _ in server.answers} == {200}
    assert server.failures == []


def test_a_new_model_is_loaded_by_every_worker_without_losing_a_request(server, model, other_model):
    old, new = sha256(model), sha256(other_model)
    # More callers, or callers without a pause, would make the verification take long, which has a low priority.
    with server.callers(pause=0.1, count=8):
        server.wait(lambda: server.answers[200, old] > 20)
        for name in ("dexpression.safetensors", "dexpression.pkl", "dexpression.onnx", "dexpression.json"):
            shutil.copy(other_model.with_name(name), model.with_name(name))
        server.wait(lambda: server.answers[200, new] > 20)
        server.wait(lambda: server.worker_counts() == {new: 2})
    assert server.answers.keys() == {(200, old), (200, new)}
    server.seen.clear()
    with server.callers():  # their connections are spread over both workers
        wait_for_answers(server, 200)
    assert server.answers.keys() == {(200, new)}
    assert server.failures == []
    assert server.model_names() == (new, new)


@light
def test_a_new_model_may_have_other_labels_than_the_old_one(server, model, own_model):
    face, old = encode(draw_face("HAPPY", 0)), sha256(model)
    assert json.loads(ask(server.url, face)[1])["result"] in FIVE
    for path in own_model.parent.iterdir():
        shutil.copy(path, model.parent)
    server.wait(lambda: server.worker_counts() == {sha256(own_model): 2})
    status, body = ask(server.url, face)
    assert (status, json.loads(body)["result"] in OWN_LABELS, old == sha256(model)) == (200, True, False)
    assert ask(f"{server.url}/?labels=five", face)[0] == 400
    assert json.dumps([*OWN_LABELS, "UNKNOWN"]) in ask(f"{server.url}/openapi.json")[1].decode()


def test_a_new_onnx_model_of_the_same_learner_is_loaded(server, model):
    onnx_model = onnx.load(model.with_suffix(".onnx"))
    onnx_model.producer_name = "another"
    content = onnx_model.SerializeToString()
    manifest = json.loads(model.with_suffix(".json").read_text())
    manifest["digests"]["onnx"] = hashlib.sha256(content).hexdigest()
    model.with_suffix(".onnx").write_bytes(content)
    model.with_suffix(".json").write_text(json.dumps(manifest))
    server.wait(lambda: f"The new model {sha256(model)[:12]} answers from now on." in server.log)
    server.wait(lambda: server.worker_counts() == {sha256(model): 2})
    assert server.model_names() == (sha256(model), sha256(model))


def test_a_damaged_export_is_not_loaded_and_the_log_says_why(server, model):
    old = sha256(model)
    for name, content, reason in (
        ("dexpression.onnx", b"x", "dexpression.onnx is not the file that dexpression.json describes"),
        ("dexpression.safetensors", b"x", "dexpression.safetensors is not the file that dexpression.json describes"),
        ("dexpression.json", b"{}", "dexpression.json is not a valid manifest"),
    ):
        model.with_name(name).write_bytes(content)
        os.kill(server.process.pid, signal.SIGHUP)
        line = f"The new model is not used; the old one still answers. {reason}"
        server.wait(lambda line=line: line in server.log)
    assert [server.model_names() for _ in range(4)] == [(old, old)] * 4


@light
def test_a_damaged_export_without_a_learner_leaves_the_server_ready(server, model):
    model.with_suffix(".onnx").write_bytes(b"x")
    os.kill(server.process.pid, signal.SIGHUP)
    server.wait(lambda: "The new model is not used; the old one still answers. dexpression.onnx is not" in server.log)
    assert ask(f"{server.url}/health/ready")[0] == 200
    assert ask(server.url, FACE)[0] == 200


@reads_proc
def test_a_new_worker_gets_the_last_good_model_after_the_files_were_damaged(server, model):
    old, before = sha256(model), server.workers()
    model.with_suffix(".onnx").write_bytes(b"x")
    for worker in before:
        os.kill(worker, signal.SIGKILL)
    server.wait(lambda: server.log.count(REPLACED) == 2)
    server.wait(lambda: server.worker_counts() == {old: 2})
    assert not set(before) & set(server.workers())
    assert ask(server.url, FACE)[0] == 200


def test_a_model_that_differs_from_its_learner_is_not_ready_until_another_one_comes(model, other_model):
    weights, before = export_paths(model).weights, export_paths(model).weights.read_bytes()
    replace_file(weights, export_paths(other_model).weights.read_bytes())
    with Server(model) as server:
        server.wait(lambda: {ask(f"{server.url}/health/ready")[0] for _ in range(8)} == {503})
        assert b"does not answer as its learner does" in ask(f"{server.url}/health/ready")[1]
        os.kill(server.workers()[0], signal.SIGKILL)
        server.wait(lambda: REPLACED in server.log and server.worker_counts() == {sha256(model): 2})
        server.wait(lambda: {ask(f"{server.url}/health/ready")[0] for _ in range(8)} == {503})
        assert ask(server.url, FACE)[0] == 200
        assert server.log.count("The server is not ready any more, until it gets another model.") == 1
        replace_file(weights, before)
        server.wait(lambda: ask(f"{server.url}/health/ready")[0] == 200)
        server.wait(lambda: "answers as its learner does" in server.log)


def metrics_folder(server: Server) -> Path:
    """The server's folder of metrics, from the environment of a worker."""
    environ = read_file(Path(f"/proc/{server.workers()[0]}/environ")).split("\0")
    [folder] = [value for key, _, value in (entry.partition("=") for entry in environ) if PREFIX in value]
    return Path(folder)


@light
@reads_proc
@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="the system removes the folder of metrics itself")
def test_a_start_removes_the_metrics_of_a_killed_server_and_no_others(model):
    with Server(model) as killed, Server(model) as neighbour:
        left = metrics_folder(killed)
        killed.process.kill()
        killed.process.wait()
        assert left.is_dir()
        killed.wait_for_exit()
        with Server(model) as restarted:
            assert not left.exists()
            assert metrics_folder(neighbour).is_dir()
            assert metrics_folder(restarted).is_dir()
            assert neighbour.worker_counts() == restarted.worker_counts() == {sha256(model): 2}


@light
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_loses_no_request(server, number):
    with server.callers():
        wait_for_answers(server, 50)
        os.kill(server.process.pid, number)
        assert server.wait_for_exit() == 0
    assert {status for status, _ in server.answers} == {200}
    assert server.failures == []
    assert "Traceback" not in server.log
    assert server.log.count("Stopped.") == 1


def refuses_connections(server: Server) -> bool:
    try:
        connect(server.url).close()
    except ConnectionRefusedError:
        return True
    except OSError:  # the server has dropped the connection's first packet, or it stopped before it accepted
        pass
    return False


@light
def test_a_request_that_has_begun_is_answered_while_the_server_stops(server):
    body = multipart(FACE)
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: {MULTIPART}\r\nContent-Length: {len(body)}\r\n"
    with connect(server.url) as connection:
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert read_head(connection).startswith(b"HTTP/1.1 100 ")  # the server has read the head
        connection.sendall(body[:100])
        server.process.send_signal(signal.SIGTERM)
        server.wait(lambda: refuses_connections(server))
        connection.sendall(body[100:])
        response = HTTPResponse(connection)
        response.begin()
        assert (response.status, response.headers["Connection"]) == (200, "close")
        response.read()
    assert server.wait_for_exit() == 0


def read_head(connection: socket.socket) -> bytes:
    """Read an answer without a body, and nothing after it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1) or pytest.fail("The server closed the connection.")
    return head


@light
def test_metrics_are_the_sums_of_all_workers(server, model):
    with server.callers():
        wait_for_answers(server, 200)
    assert server.failures == []
    text = ask(f"{server.url}/metrics")[1].decode()
    assert f'dexpression_requests_total{{method="POST",route="/",status="200"}} {len(server.seen)}.0' in text
    assert server.worker_counts() == {sha256(model): 2}


class Signalling:
    """Sends this process a signal when it is deleted."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_that_comes_while_an_object_is_deleted_is_not_lost():
    handlers = {number: signal.getsignal(number) for number in processes.STOP_SIGNALS}
    try:
        stop_signal = processes.StopSignal()
        stop_signal.wait([])
        Signalling()
        with pytest.raises(processes.StopRequested):
            stop_signal.wait([])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_a_verification_past_its_deadline_is_killed(model, monkeypatch):
    monkeypatch.setattr(verification_process, "VERIFY_SECONDS", 0)
    verification = verification_process.Verification(model)
    assert verification.is_done()
    with pytest.raises(StartError, match="took longer than 0 s"):
        verification.result()
    verification.kill()
    assert verification._process.exitcode == -signal.SIGKILL


def test_a_server_that_stops_kills_a_verification(server, model):
    os.kill(server.process.pid, signal.SIGHUP)
    server.wait(lambda: len(server.workers()) > 2)  # two workers, and the verification
    server.stop()
    assert server.process.returncode == 0
    assert "The new model" not in server.log


@light
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_place_of_a_file_is_refused_at_once(server, model):
    manifest = export_paths(model).manifest
    manifest.unlink()
    os.mkfifo(manifest)
    server.wait(lambda: "dexpression.json is not a regular file" in server.log)
