"""Left to run: workers that die, models that change, a stop, each while callers ask."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import onnx
import pytest

from dexpression.serving.supervisor import METRICS
from tests.support.faces import draw_face, encode
from tests.support.server import Server, ask, read_file, sha256
from tests.support.web import MULTIPART, multipart

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals between processes")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc")
def test_a_worker_that_dies_is_replaced_and_the_others_answer_meanwhile(server):
    before = server.workers()
    assert len(before) == 2
    with server.callers():
        server.wait(lambda: len(server.seen) > 50)
        os.kill(before[0], signal.SIGKILL)
        killed, answered = time.monotonic(), len(server.seen)
        server.wait(lambda: len(server.seen) > answered + 50)
        server.wait(lambda: len(set(server.workers()) - set(before)) == 1 and server.answering() == 2)
        print(f"{time.monotonic() - killed:.1f} s until two workers answered again")
    assert {status for status, _ in server.answers} == {200}
    assert len(server.failures) <= 32  # what the dead one had in hand
    assert f"Worker {before[0]} died (-9)" in server.log


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc")
def test_ten_deaths_in_a_row_cost_no_more_than_what_the_dead_had_in_hand(server):
    with server.callers():
        for _ in range(10):
            server.wait(lambda: len(server.workers()) == 2)
            answered = len(server.seen)
            server.wait(lambda answered=answered: len(server.seen) > answered + 20)
            os.kill(server.workers()[0], signal.SIGKILL)
        answered = len(server.seen)
        server.wait(lambda: len(server.seen) > answered + 200)
    assert {status for status, _ in server.answers} == {200}
    assert len(server.failures) <= 10 * 32  # callers that each of them had
    assert server.log.count("another takes its place") == 10


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc")
def test_while_a_worker_hangs_new_callers_are_answered_and_its_own_afterwards(model):
    server = Server(model, DEXPRESSION_QUEUE_TIMEOUT_SECONDS="60")  # by default who has waited for ten is told so
    [hanging, _] = server.workers()
    with server.callers():
        server.wait(lambda: len(server.seen) > 50)
        os.kill(hanging, signal.SIGSTOP)
        try:
            until = time.monotonic() + 10
            while time.monotonic() < until:
                assert ask(server.url, encode(draw_face("HAPPY", 0)))[0] == 200
        finally:
            os.kill(hanging, signal.SIGCONT)
        answered = len(server.seen)
        server.wait(lambda: len(server.seen) > answered + 100)
    assert {status for status, _ in server.answers} == {200}
    assert server.failures == []
    server.stop()


def test_a_new_model_is_taken_up_without_losing_a_request(server, model, other_model):
    old, new = sha256(model), sha256(other_model)
    with server.callers():
        server.wait(lambda: server.answers[200, old] > 20)
        for name in ("dexpression.pkl", "dexpression.onnx", "dexpression.json"):
            shutil.copy(other_model.with_name(name), model.with_name(name))
        server.wait(lambda: server.answers[200, new] > 20)
        time.sleep(1)
        late = server.answers[200, old]
        time.sleep(1)
    assert server.answers[200, old] == late  # no worker was forgotten
    assert server.answers.keys() == {(200, old), (200, new)}
    assert server.failures == []
    assert server.public_facts() == (new, new)


def test_a_new_onnx_form_of_the_same_learner_is_taken_up(server, model):
    form = onnx.load(model.with_suffix(".onnx"))
    form.producer_name = "another"
    content = form.SerializeToString()
    manifest = json.loads(model.with_suffix(".json").read_text())
    manifest["engine"]["sha256"] = hashlib.sha256(content).hexdigest()
    model.with_suffix(".onnx").write_bytes(content)
    model.with_suffix(".json").write_text(json.dumps(manifest))
    server.wait(lambda: "Answers come from the model" in server.log)
    server.wait(lambda: server.answering() == 2)
    assert server.public_facts() == (sha256(model),) * 2


def test_a_bad_model_is_not_taken_up(server, model):
    old = sha256(model)
    for name, content, reason in (
        ("dexpression.onnx", b"x", "dexpression.onnx is not the file that dexpression.json describes"),
        ("dexpression.pkl", b"x", "dexpression.pkl is not the file that dexpression.json describes"),
        ("dexpression.json", b"{}", "dexpression.json is no manifest of ours"),
    ):
        model.with_name(name).write_bytes(content)
        os.kill(server.process.pid, signal.SIGHUP)
        server.wait(
            lambda reason=reason: f"The new model is not used; the one before answers on. {reason}" in server.log
        )
    assert [server.public_facts() for _ in range(4)] == [(old, old)] * 4


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc")
def test_a_worker_that_is_replaced_after_the_model_went_bad_has_the_good_one(server, model):
    before = server.workers()
    model.with_suffix(".onnx").write_bytes(b"x")
    for worker in before:
        os.kill(worker, signal.SIGKILL)
    server.wait(lambda: server.log.count("another takes its place") == 2)
    server.wait(lambda: server.answering() == 2)
    assert ask(server.url, encode(draw_face("HAPPY", 0)))[0] == 200


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="the metrics lie in a folder that the system tidies")
def test_what_a_killed_server_leaves_in_memory_goes_with_the_next_start_and_nobody_elses(model):
    def folders() -> set[Path]:
        return set(Path("/dev/shm").glob(f"{METRICS}*"))

    others = folders()
    server, neighbour = Server(model), Server(model)
    both = folders() - others
    assert len(both) == 2
    server.process.kill()
    server.stop()
    assert both <= folders()
    next_one = Server(model)
    left = folders() - others
    assert len(left & both) == 1
    assert len(left) == 2
    assert neighbour.answering() == next_one.answering() == 2
    neighbour.stop()
    next_one.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_loses_no_request(server, number):
    with server.callers():
        server.wait(lambda: len(server.seen) > 50)
        os.kill(server.process.pid, number)
        assert server.process.wait(30) == 0
    assert {status for status, _ in server.answers} == {200}
    assert server.failures == []
    assert "Traceback" not in server.log
    assert server.log.count("Stopped.") == 1


def test_a_request_in_hand_is_finished_when_the_server_stops(server):
    body = multipart(encode(draw_face("HAPPY", 0)))
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.putrequest("POST", "/")
        connection.putheader("Content-Type", MULTIPART)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:100])
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        with pytest.raises(ConnectionRefusedError), closing(HTTPConnection("127.0.0.1", server.port)) as late:
            late.connect()
        connection.send(body[100:])
        with connection.getresponse() as response:
            response.read()
            assert (response.status, response.headers["Connection"]) == (200, "close")
    assert server.process.wait(30) == 0


def test_metrics_are_those_of_all_workers(server):
    with server.callers():
        server.wait(lambda: len(server.seen) > 200)
    text = ask(f"{server.url}/metrics")[1].decode()
    assert f'dexpression_requests_total{{method="POST",route="/",status="200"}} {len(server.seen)}.0' in text
    assert f'dexpression_model_workers{{sha256="{next(iter(server.answers))[1]}"}} 2.0' in text


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc")
def test_no_worker_has_loaded_torch(server):
    maps = [read_file(Path(f"/proc/{worker}/maps")) for worker in server.workers()]
    assert all("onnxruntime" in text and "libtorch" not in text for text in maps)
