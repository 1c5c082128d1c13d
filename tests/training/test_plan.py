"""What a run is going to do is said before it begins."""

from __future__ import annotations

import dataclasses
import re
import time

import pytest
import torch

from dexpression.training import plan
from dexpression.training.fitting import create_learner, prepare_run
from dexpression.training.plan import describe_plan, expected_seconds
from tests.support.faces import write_class_folders
from tests.support.recipes import QUICK


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A learner of two labels before its training, and its recipe."""
    monkeypatch.setattr(plan, "TIMED_FACES", 2)
    write_class_folders(tmp_path / "faces" / "train", 12, ("HAPPY", "SAD"), names=("happy", "a b"))
    write_class_folders(tmp_path / "faces" / "valid", 3, ("HAPPY",), seed=1)
    dataloaders, recipe = prepare_run(tmp_path / "faces", QUICK, tmp_path / "runs")
    return create_learner(dataloaders, recipe), recipe


def test_the_plan_has_the_images_of_each_label_the_start_the_epochs_and_the_minutes(run):
    head, *rows, last = describe_plan(*run).splitlines()
    assert (head, *rows) == ("       train  valid", "A B       12      0", "HAPPY     12      3")
    assert last == (
        "Start: random weights. 3 epochs in batches of 16, in float32: about a minute, if nothing else runs on this "
        "machine."
    )


def test_the_plan_names_the_export_that_the_run_starts_from(run, exported_learner):
    recipe = dataclasses.replace(run[1], from_scratch=False, start=exported_learner.parent)
    assert f"Start: the export in {exported_learner.parent}. 3 epochs" in describe_plan(run[0], recipe)


def test_the_minutes_follow_from_the_time_of_one_pass_and_the_number_of_folds(run, monkeypatch):
    monkeypatch.setattr(plan.timeit, "repeat", lambda *_, **__: [4.0, 2.0, 3.0])
    seconds = expected_seconds(*run)
    assert seconds == pytest.approx(plan.OVERHEAD * 2 / plan.TIMED_FACES * 24 * 3 / torch.get_num_threads())
    longer = dataclasses.replace(run[1], epochs=300)
    for folds, expected in ((1, r"about (\d+) minutes, if"), (10, r"about (\d+) minutes for all 10 folds, if")):
        minutes = int(re.search(expected, describe_plan(run[0], longer, folds))[1])
        assert minutes == round(folds * 100 * seconds / 60)


def test_the_time_for_which_other_work_stops_the_measurement_does_not_count(run, monkeypatch):
    monkeypatch.setattr(plan, "_pass", lambda *_: time.sleep(0.05))
    on_the_clock = plan.OVERHEAD * 0.05 / plan.TIMED_FACES * 24 * 3
    assert expected_seconds(*run) < on_the_clock / 5


def test_to_measure_a_pass_changes_no_weight_and_not_the_number_of_threads(run, monkeypatch):
    learner, threads = run[0], []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    describe_plan(*run)
    assert all(torch.equal(tensor, before[name]) for name, tensor in learner.model.state_dict().items())
    assert all(weight.grad is None for weight in learner.model.parameters())
    assert threads == [1, torch.get_num_threads()]
