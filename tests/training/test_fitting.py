"""A run learns, continues after a stop, and never mixes with the runs of other recipes, precisions or data."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from fastai.callback.core import Callback
from fastai.learner import Learner

from dexpression.artifact.export import load_exported
from dexpression.errors import RecipeError
from dexpression.labels import SEVEN
from dexpression.network.architecture import DeXpression
from dexpression.training import fitting
from dexpression.training.fitting import (
    average_weights,
    class_weights,
    create_learner,
    fit,
    recipe_dataloaders,
    resolve_precision,
    run_folder,
    training_folder,
)
from dexpression.training.recipe import Recipe
from tests.support.faces import draw_face, write_class_folders, write_votes
from tests.support.recipes import QUICK

AUTO, BFLOAT16, FLOAT32 = (
    dataclasses.replace(QUICK, precision=precision) for precision in ("auto", "bfloat16", "float32")
)


class StopAfterFirstEpoch(Callback):
    order = 90  # after the checkpoint

    def after_epoch(self) -> None:
        raise KeyboardInterrupt


def fitted(source: Path, runs: Path, recipe: Recipe, *callbacks: Callback) -> Learner:
    learner = create_learner(recipe_dataloaders(source, recipe), recipe)
    learner.add_cbs(callbacks)
    with learner.no_bar(), learner.no_logging():
        fit(learner, recipe, runs)
    return learner


def recorded(learner: Learner) -> list[list[float]]:
    """The losses and the accuracy of each epoch."""
    return [list(row) for row in learner.recorder.values]


def measure(monkeypatch: pytest.MonkeyPatch, *, bfloat16_is_faster: bool) -> None:
    """Let the measurement of the processor give this result."""
    monkeypatch.setattr(fitting, "is_faster_in_bfloat16", lambda device: bfloat16_is_faster)


@pytest.mark.parametrize(("bfloat16_is_faster", "expected"), [(True, BFLOAT16), (False, FLOAT32)])
def test_auto_becomes_the_precision_that_is_measured_to_be_faster(
    split_folders, tmp_path, monkeypatch, bfloat16_is_faster, expected
):
    measure(monkeypatch, bfloat16_is_faster=bfloat16_is_faster)
    assert resolve_precision(AUTO, recipe_dataloaders(split_folders, AUTO), tmp_path) == expected


@pytest.mark.parametrize(("begun", "bfloat16_is_faster"), [(BFLOAT16, False), (FLOAT32, True)])
def test_auto_keeps_the_precision_of_a_begun_run_even_if_the_other_one_is_faster_now(
    split_folders, tmp_path, monkeypatch, begun, bfloat16_is_faster
):
    measure(monkeypatch, bfloat16_is_faster=bfloat16_is_faster)
    dataloaders = recipe_dataloaders(split_folders, AUTO)
    training_folder(dataloaders, begun, tmp_path).mkdir()
    assert resolve_precision(AUTO, dataloaders, tmp_path) == begun


def test_a_begun_run_of_another_recipe_does_not_decide_the_precision(split_folders, tmp_path, monkeypatch):
    measure(monkeypatch, bfloat16_is_faster=True)
    dataloaders = recipe_dataloaders(split_folders, AUTO)
    training_folder(dataloaders, dataclasses.replace(FLOAT32, seed=1), tmp_path).mkdir()
    assert resolve_precision(AUTO, dataloaders, tmp_path) == BFLOAT16


@pytest.mark.parametrize(("explicit", "begun"), [(BFLOAT16, FLOAT32), (FLOAT32, BFLOAT16)])
def test_an_explicit_precision_stays_and_is_not_measured(split_folders, tmp_path, monkeypatch, explicit, begun):
    monkeypatch.setattr(fitting, "is_faster_in_bfloat16", lambda device: pytest.fail("measured"))
    dataloaders = recipe_dataloaders(split_folders, explicit)
    training_folder(dataloaders, begun, tmp_path).mkdir()
    assert resolve_precision(explicit, dataloaders, tmp_path) == explicit


def test_auto_and_the_same_explicit_precision_are_one_run_and_the_other_precision_is_another(
    split_folders, tmp_path, monkeypatch
):
    measure(monkeypatch, bfloat16_is_faster=False)
    dataloaders = recipe_dataloaders(split_folders, AUTO)
    resolved = resolve_precision(AUTO, dataloaders, tmp_path)
    assert training_folder(dataloaders, resolved, tmp_path) == training_folder(dataloaders, FLOAT32, tmp_path)
    assert training_folder(dataloaders, resolved, tmp_path) != training_folder(dataloaders, BFLOAT16, tmp_path)


def test_a_learner_is_not_created_with_an_unresolved_precision(split_folders):
    with pytest.raises(RecipeError, match="precision is auto"):
        create_learner(recipe_dataloaders(split_folders, AUTO), AUTO)


@pytest.mark.parametrize(
    ("option", "value", "same_run", "same_training"),
    [
        ("seed", 1, False, False),
        ("epochs", 4, False, False),
        ("student_epochs", 5, False, True),
        ("teachers", 2, False, True),
        ("jpeg", 0.5, False, False),
        ("start_share", 0.5, True, True),  # it changes the result of a run, not the run
    ],
)
def test_a_run_is_named_by_the_options_that_decide_what_it_learns(
    split_folders, tmp_path, option, value, same_run, same_training
):
    dataloaders = recipe_dataloaders(split_folders, QUICK)
    other = dataclasses.replace(QUICK, **{option: value})
    same = [
        folder(dataloaders, QUICK, tmp_path) == folder(dataloaders, other, tmp_path)
        for folder in (run_folder, training_folder)
    ]
    assert same == [same_run, same_training]


def test_rare_labels_weigh_more_and_the_mean_weight_of_the_images_is_1(tmp_path):
    write_class_folders(tmp_path / "train", 9, labels=("HAPPY", "SAD"))
    write_class_folders(tmp_path / "train" / "happy" / "more", 27, labels=("HAPPY",), seed=1)
    write_class_folders(tmp_path / "valid", 2, labels=("HAPPY", "SAD"), seed=2)
    dataloaders = recipe_dataloaders(tmp_path, QUICK)
    assert class_weights(dataloaders, 0.0) is None
    happy, sad = (float(class_weights(dataloaders, 0.5)[SEVEN.index(label)]) for label in ("HAPPY", "SAD"))
    assert sad / happy == pytest.approx(2)
    assert (36 * happy + 9 * sad) / 45 == pytest.approx(1)


def test_a_label_without_images_has_no_weight(tmp_path):
    write_class_folders(tmp_path, 60, labels=("ANGRY", "HAPPY"))
    weights = class_weights(recipe_dataloaders(tmp_path, QUICK), 0.5)
    assert [label for label, weight in zip(SEVEN, weights, strict=True) if weight] == ["ANGRY", "HAPPY"]


def test_a_run_can_start_from_the_weights_of_an_export(split_folders, exported_learner):
    recipe = dataclasses.replace(QUICK, start=exported_learner)
    learner = create_learner(recipe_dataloaders(split_folders, recipe), recipe)
    given = load_exported(exported_learner)[0].model.state_dict()
    assert all(torch.equal(weight, given[name]) for name, weight in learner.model.state_dict().items())


def test_a_start_with_other_labels_is_refused(split_folders, exported_learner):
    recipe = dataclasses.replace(QUICK, labels="five", start=exported_learner)
    with pytest.raises(RecipeError, match=r"is for 7 labels .* this run is for 5 labels"):
        create_learner(recipe_dataloaders(split_folders, recipe), recipe)


def test_a_network_has_a_readout_for_each_head(split_folders):
    recipe = dataclasses.replace(QUICK, votes=0.0)
    write_votes(split_folders / "fer2013new.csv", None, 1070)
    readings = [
        list(create_learner(recipe_dataloaders(split_folders, given), given).loss_func.readouts)
        for given in (QUICK, recipe)
    ]
    assert readings == [["people", "labels"], ["labels"]]


def test_a_start_without_a_head_for_votes_is_refused_for_faces_with_votes(split_folders, exported_learner):
    write_votes(split_folders / "fer2013new.csv", None, 1070)
    recipe = dataclasses.replace(QUICK, start=exported_learner)
    with pytest.raises(RecipeError, match="has no head for votes"):
        create_learner(recipe_dataloaders(split_folders, recipe), recipe)


@pytest.mark.slow
def test_a_run_that_was_stopped_continues_to_the_same_weights(split_folders, tmp_path):
    whole = fitted(split_folders, tmp_path / "whole", QUICK)
    with pytest.raises(KeyboardInterrupt):
        fitted(split_folders, tmp_path / "stopped", QUICK, StopAfterFirstEpoch())
    resumed = fitted(split_folders, tmp_path / "stopped", QUICK)
    weights = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in weights)
    assert recorded(whole) == recorded(resumed)


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(split_folders, tmp_path, monkeypatch):
    first = recorded(fitted(split_folders, tmp_path, QUICK))
    monkeypatch.setattr(Learner, "_backward", lambda *_, **__: pytest.fail("trained a finished run"))
    assert recorded(fitted(split_folders, tmp_path, QUICK)) == first


@pytest.mark.slow
def test_another_recipe_or_other_data_is_another_run(split_folders, tmp_path):
    recipe = dataclasses.replace(QUICK, epochs=1)
    fitted(split_folders, tmp_path / "runs", recipe)
    fitted(split_folders, tmp_path / "runs", dataclasses.replace(recipe, seed=1))
    draw_face("HAPPY", 99).save(split_folders / "train" / "happy" / "more.png")
    fitted(split_folders, tmp_path / "runs", recipe)
    assert len(list((tmp_path / "runs").iterdir())) == 3


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_network_learns_to_tell_drawn_faces_apart(tmp_path, precision):
    write_class_folders(tmp_path / "train", 40, labels=("HAPPY", "SURPRISE"))
    write_class_folders(tmp_path / "valid", 10, labels=("HAPPY", "SURPRISE"), seed=1)
    recipe = dataclasses.replace(QUICK, epochs=8, precision=precision)
    *_, last = recorded(fitted(tmp_path, tmp_path / "runs", recipe))
    assert last[-1] > 0.9


@pytest.mark.slow
def test_the_head_for_votes_learns_the_votes(class_folders, tmp_path):
    write_votes(class_folders / "fer2013new.csv", None, 70)  # every face has most votes for happiness
    learner = fitted(class_folders, tmp_path, dataclasses.replace(QUICK, epochs=4))
    learner.loss_func.readouts["people"].vote_share = 1.0  # whatever calibration found
    assert learner.get_preds()[0].argmax(dim=1).tolist() == [SEVEN.index("HAPPY")] * 7


@pytest.mark.slow
def test_training_faces_grow_from_32_to_48_pixels_and_validation_faces_have_48(split_folders, tmp_path):
    sides: list[list[int]] = [[], []]
    note = Callback(after_batch=lambda self: sides[self.training].append(self.xb[0].shape[-1]))
    fitted(split_folders, tmp_path, dataclasses.replace(QUICK, batch_size=42), note)
    assert sides[True] == [32, 40, 48]
    assert set(sides[False]) == {48}


def test_weights_and_statistics_are_averaged_with_those_of_the_start():
    networks = [DeXpression.compact(2) for _ in range(2)]
    before = [{name: tensor.clone() for name, tensor in network.state_dict().items()} for network in networks]
    average_weights(*networks, share=0.25)
    for name, tensor in networks[0].state_dict().items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor, 0.75 * before[0][name] + 0.25 * before[1][name], atol=1e-6)
    assert all(torch.equal(tensor, before[1][name]) for name, tensor in networks[1].state_dict().items())
