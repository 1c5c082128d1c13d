"""The application for other WSGI servers: it loads its model once, late, and without our server."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dexpression import wsgi
from dexpression.errors import MissingArtifact
from dexpression.settings import Settings
from dexpression.web import create_app
from dexpression.web.service import Service
from tests.support.server import ROOT
from tests.support.web import FACE, MULTIPART, StubPredictor, assert_refused, multipart


@pytest.fixture
def predictor() -> wsgi.LazyPredictor:
    return wsgi.LazyPredictor(Settings())


@pytest.fixture
def client(predictor):
    return create_app(Service(predictor), Settings()).test_client()


def run(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("DEXPRESSION_", "PROMETHEUS_"))}
    command = [sys.executable, "-W", "ignore", "-c", program]
    return subprocess.run(command, cwd=ROOT, env=environ | variables, capture_output=True, text=True, timeout=300)


def refuse_to_load(monkeypatch, *failures):
    """Let each of the first loads fail as listed, and the next one succeed; returns the list of loads."""
    loads = []

    def load(_settings):
        loads.append(threading.get_ident())
        if len(loads) <= len(failures):
            raise failures[len(loads) - 1]
        return StubPredictor()

    monkeypatch.setattr(wsgi, "_load_predictor", load)
    return loads


def test_the_app_answers_with_the_shipped_model():
    client = wsgi.app.test_client()
    response = client.post("/", data=multipart(FACE), content_type=MULTIPART)
    assert response.status_code == 200
    assert client.get("/health/ready").status_code == 200


def test_first_requests_of_many_threads_load_the_model_once(monkeypatch, predictor):
    start, loads = threading.Barrier(8, timeout=60), refuse_to_load(monkeypatch)

    def use(_number):
        start.wait()
        return predictor.public_facts()["name"]

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(use, range(8))) == {"dexpression"}
    assert len(loads) == 1


@pytest.mark.parametrize("failure", [MissingArtifact("Put an exported model there."), RuntimeError("no memory")])
def test_a_model_that_cannot_be_loaded_is_a_problem_document_and_one_line(monkeypatch, client, caplog, failure):
    loads = refuse_to_load(monkeypatch, failure, failure)
    for path in ("/health/ready", "/", "/v1/model"):
        response = client.get(path)
        assert_refused(response, 503, "not_ready")
        assert response.headers["Retry-After"]
    lines = [record.getMessage() for record in caplog.records if record.name == "dexpression.wsgi"]
    assert len(loads) == 1
    assert len(lines) == 1
    assert str(failure) in lines[0]


def test_a_model_that_is_repaired_is_loaded_later(monkeypatch, client):
    monkeypatch.setattr(wsgi, "RETRY_SECONDS", 0)
    refuse_to_load(monkeypatch, MissingArtifact("Put an exported model there."))
    assert [client.get("/health/ready").status_code for _ in range(2)] == [503, 200]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"reading": "people"}, "DEXPRESSION_READING is people, but the model has only labels. Unset it."),
        ({"labels": "seven"}, "DEXPRESSION_LABELS is seven, but the model has only BORED, VERY ATTENTIVE. Unset it."),
    ],
)
def test_what_the_settings_choose_and_the_model_lacks_is_a_problem_document_and_one_line(
    own_model, caplog, choice, message
):
    settings = Settings(model_path=own_model.parent, **choice)
    client = create_app(Service(wsgi.LazyPredictor(settings)), settings).test_client()
    assert_refused(client.get("/health/ready"), 503, "not_ready")
    [line] = [record.getMessage() for record in caplog.records if record.name == "dexpression.wsgi"]
    assert message in line


def test_importing_the_app_loads_neither_the_model_nor_torch_nor_our_server():
    foreign = "('torch', 'fastai', 'waitress', 'dexpression.serving', 'dexpression.artifact.manifest')"
    program = f"import sys, dexpression.wsgi as wsgi; print([name for name in {foreign} if name in sys.modules])"
    done = run(f"{program}; wsgi.app.test_client().get('/health/ready'); print('torch' in sys.modules)")
    assert done.stdout.split("\n")[:2] == ["[]", "False"], done.stderr


def test_settings_come_from_the_environment_and_a_bad_one_is_named():
    done = run("import dexpression.wsgi as wsgi; print(wsgi.settings.max_pixels)", DEXPRESSION_MAX_PIXELS="77")
    assert done.stdout == "77\n", done.stderr
    done = run("import dexpression.wsgi", DEXPRESSION_MAX_PIXELS="many")
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith("dexpression.errors.SettingError: DEXPRESSION_MAX_PIXELS is 'many'")


def test_metrics_are_those_of_all_processes_in_the_folder_of_prometheus(tmp_path):
    program = "import dexpression.wsgi as wsgi; print(wsgi.app.test_client().get({!r}).text)"
    folder = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        run(program.format("/health/live"), **folder)
    text = run(program.format("/metrics"), **folder).stdout
    assert 'dexpression_requests_total{method="GET",route="/health/live",status="200"} 2.0' in text
