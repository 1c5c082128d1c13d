"""What the supervisor does with the result of a verification: whether the served model stays, goes or is not ready."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from dexpression.artifact.manifest import OnnxModel, load_onnx_model
from dexpression.errors import BrokenWeights, StartError
from dexpression.serving.supervisor import RETRY_SECONDS, Supervisor
from dexpression.serving.verification_process import Verified
from dexpression.settings import Settings

DIFFERS = BrokenWeights("The learner differs.")
COULD_NOT_RUN = StartError("The process that verifies the model died.")


class StubWorker:
    """Records the models that it received, and whether it has to report that it is not ready."""

    def __init__(self) -> None:
        self.models: list[OnnxModel] = []
        self.is_withdrawn = False

    def send_model(self, model: OnnxModel) -> None:
        self.models.append(model)
        self.is_withdrawn = False

    def withdraw(self) -> None:
        self.is_withdrawn = True


@pytest.fixture
def worker() -> StubWorker:
    return StubWorker()


@pytest.fixture
def supervisor(model: Path, worker: StubWorker) -> Supervisor:
    """A supervisor that has just started with an export, which was not compared with its learner yet."""
    supervisor = Supervisor(Settings(model_path=model.parent), None, 1, None)
    supervisor._workers, supervisor._model = [worker], load_onnx_model(model.parent)
    return supervisor


def take(supervisor: Supervisor, result: Verified | Exception) -> None:
    """Let the supervisor take the result of a verification."""

    def give() -> Verified:
        if isinstance(result, Exception):
            raise result
        return result

    supervisor._take_result(SimpleNamespace(result=give, with_learner=True))


def test_a_comparison_that_could_not_run_leaves_the_server_ready_and_is_tried_again(supervisor, worker):
    take(supervisor, COULD_NOT_RUN)
    first = supervisor._next_verification - time.monotonic()
    take(supervisor, COULD_NOT_RUN)
    second = supervisor._next_verification - time.monotonic()
    assert not worker.is_withdrawn
    assert first == pytest.approx(RETRY_SECONDS, abs=5)
    assert second == pytest.approx(2 * RETRY_SECONDS, abs=5)


def test_a_served_model_that_differs_from_its_learner_is_withdrawn_until_it_was_compared(supervisor, worker, caplog):
    caplog.set_level(logging.INFO)
    take(supervisor, DIFFERS)
    assert worker.is_withdrawn
    take(supervisor, Verified(supervisor._model, with_learner=False))  # the weights were removed
    assert worker.is_withdrawn
    take(supervisor, Verified(supervisor._model, with_learner=True))
    assert not worker.is_withdrawn
    assert "is ready again" in caplog.text
    assert "new model" not in caplog.text


def test_files_that_are_damaged_after_the_comparison_do_not_withdraw_the_model(supervisor, worker):
    take(supervisor, Verified(supervisor._model, with_learner=True))
    take(supervisor, DIFFERS)
    assert not worker.is_withdrawn
    assert worker.models == []


def test_a_bad_export_that_replaced_the_served_one_does_not_withdraw_it(supervisor, worker, model, other_model):
    shutil.copy(other_model.with_suffix(".json"), model.with_suffix(".json"))
    take(supervisor, DIFFERS)
    assert not worker.is_withdrawn


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ({"reading": "people"}, "DEXPRESSION_READING is people, but the model has only labels"),
        ({"labels": "five"}, "DEXPRESSION_LABELS is five, but the model has only BORED, VERY ATTENTIVE"),
    ],
)
def test_a_new_model_without_what_the_settings_choose_is_not_used(worker, own_model, caplog, choice, reason):
    supervisor = Supervisor(Settings(model_path=own_model.parent, **choice), None, 1, None)
    supervisor._workers, supervisor._model = [worker], load_onnx_model(Settings.model_path)
    take(supervisor, Verified(load_onnx_model(own_model.parent), with_learner=True))
    assert (worker.models, worker.is_withdrawn) == ([], False)
    [line] = caplog.messages
    assert f"the old one still answers. {reason}" in line


def test_another_model_ends_a_withdrawal(supervisor, worker, other_model):
    take(supervisor, DIFFERS)
    other = load_onnx_model(other_model.parent)
    take(supervisor, Verified(other, with_learner=False))
    assert worker.models == [other]
    assert not worker.is_withdrawn
