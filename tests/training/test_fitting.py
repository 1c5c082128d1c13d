"""A short run on drawn faces: it learns, it resumes, and what it exports is what it trained."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path

import pytest
import torch
from fastai.callback.core import Callback
from fastai.learner import Learner

from dexpression.__main__ import main
from dexpression.artifact.export import load_exported
from dexpression.errors import RecipeError
from dexpression.labels import SEVEN
from dexpression.prediction import Predictor
from dexpression.training import callbacks
from dexpression.training.fitting import class_weights, create_learner, fit, recipe_dataloaders
from dexpression.training.recipe import Recipe
from dexpression.training.run import train
from tests.support.faces import draw_face, write_class_folders
from tests.support.recipes import QUICK

FILES = "dexpression.pkl", "dexpression.onnx"


class StopAfterFirstEpoch(Callback):
    order = 90  # after the checkpoint

    def after_epoch(self) -> None:
        raise KeyboardInterrupt


def trained(source: Path, runs: Path, recipe: Recipe, *callbacks: Callback) -> tuple[list[torch.Tensor], list[object]]:
    """The weights and the recorded values of a run."""
    learner = create_learner(recipe_dataloaders(source, recipe), recipe)
    learner.add_cbs(callbacks)
    with learner.no_bar(), learner.no_logging():
        fit(learner, recipe, runs)
    return list(learner.model.state_dict().values()), [list(row) for row in learner.recorder.values]


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(split_folders, tmp_path):
    whole = trained(split_folders, tmp_path / "whole", QUICK)
    with pytest.raises(KeyboardInterrupt):
        trained(split_folders, tmp_path / "stopped", QUICK, StopAfterFirstEpoch())
    resumed = trained(split_folders, tmp_path / "stopped", QUICK)
    assert all(torch.equal(one, other) for one, other in zip(whole[0], resumed[0], strict=True))
    assert whole[1] == resumed[1]


def test_a_finished_run_is_not_trained_again(split_folders, tmp_path, monkeypatch):
    first = trained(split_folders, tmp_path, QUICK)
    monkeypatch.setattr(Learner, "_backward", lambda *_, **__: pytest.fail("trained a finished run"))
    assert trained(split_folders, tmp_path, QUICK)[1] == first[1]


def test_another_recipe_or_other_data_is_another_run(split_folders, tmp_path):
    trained(split_folders, tmp_path / "runs", dataclasses.replace(QUICK, epochs=1))
    trained(split_folders, tmp_path / "runs", dataclasses.replace(QUICK, epochs=1, seed=1))
    draw_face("HAPPY", 99).save(split_folders / "train" / "happy" / "more.png")
    trained(split_folders, tmp_path / "runs", dataclasses.replace(QUICK, epochs=1))
    assert len(list((tmp_path / "runs").iterdir())) == 3


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_network_learns_to_tell_drawn_faces_apart(tmp_path, precision):
    write_class_folders(tmp_path / "train", 40, labels=("HAPPY", "SURPRISE"))
    write_class_folders(tmp_path / "valid", 10, labels=("HAPPY", "SURPRISE"), seed=1)
    recipe = dataclasses.replace(QUICK, epochs=8, precision=precision)
    *_, last = trained(tmp_path, tmp_path / "runs", recipe)[1]
    assert last[-1] > 0.9


@pytest.mark.parametrize("share", [0.5, 1.2])
def test_a_processor_trains_in_bfloat16_where_a_convolution_is_faster_in_it(monkeypatch, share):
    monkeypatch.setattr(callbacks, "_seconds_of_convolution", {torch.bfloat16: share, torch.float32: 1.0}.get)
    assert callbacks.is_faster_in_bfloat16(torch.device("cpu")) is (share < 1)


def test_votes_are_learnt_from_where_they_are_asked_for(class_folders, tmp_path):
    from tests.support.faces import write_votes

    write_votes(class_folders / "fer2013new.csv", None, 70)  # everybody saw happiness in every face
    recipe = dataclasses.replace(QUICK, epochs=4, blend=1.0)
    learner = create_learner(recipe_dataloaders(class_folders, recipe), recipe)
    with learner.no_bar(), learner.no_logging():
        fit(learner, recipe, tmp_path)
    assert learner.get_preds()[0].argmax(dim=1).tolist() == [SEVEN.index("HAPPY")] * 7


def test_a_model_of_two_heads_can_go_on_with_faces_that_nobody_voted_on(class_folders, tmp_path):
    from tests.support.faces import write_votes

    votes = write_votes(class_folders / "fer2013new.csv", None, 70)
    recipe = dataclasses.replace(QUICK, epochs=1, blend=1.0)
    train(class_folders, recipe, tmp_path / "model", tmp_path / "runs")
    votes.unlink()
    recipe = dataclasses.replace(recipe, start=tmp_path / "model" / "dexpression.pkl", student_epochs=1)
    train(class_folders, recipe, tmp_path / "next", tmp_path / "runs")
    learner, _ = load_exported(tmp_path / "next" / "dexpression.pkl")
    assert learner.loss_func.blend == 0


def test_faces_grow_to_their_whole_size_by_the_last_third(split_folders, tmp_path):
    sides: list[list[int]] = [[], []]
    note = Callback(after_batch=lambda self: sides[self.training].append(self.xb[0].shape[-1]))
    recipe = dataclasses.replace(QUICK, batch_size=42)
    trained(split_folders, tmp_path, recipe, note)
    assert sides[True] == [32, 40, 48]
    assert set(sides[False]) == {48}


def test_rare_labels_weigh_more_and_images_weigh_one_on_average(tmp_path):
    write_class_folders(tmp_path / "train", 9, labels=("HAPPY", "SAD"))
    write_class_folders(tmp_path / "train" / "happy" / "more", 27, labels=("HAPPY",), seed=1)
    write_class_folders(tmp_path / "valid", 2, labels=("HAPPY", "SAD"), seed=2)
    dataloaders = recipe_dataloaders(tmp_path, QUICK)
    assert class_weights(dataloaders, 0.0) is None
    happy, sad = (float(class_weights(dataloaders, 0.5)[SEVEN.index(label)]) for label in ("HAPPY", "SAD"))
    assert sad / happy == pytest.approx(2)
    assert (36 * happy + 9 * sad) / 45 == pytest.approx(1)


def test_a_label_without_images_is_not_learnt(tmp_path):
    write_class_folders(tmp_path, 60, labels=("ANGRY", "HAPPY"))
    dataloaders = recipe_dataloaders(tmp_path, QUICK)
    assert [bool(weight) for weight in class_weights(dataloaders, 0.5)] == [
        True,
        False,
        False,
        True,
        False,
        False,
        False,
    ]


def test_an_export_of_labels_that_are_not_among_the_five_is_scored_without_those(tmp_path):
    from tests.support.faces import write_votes

    write_class_folders(tmp_path / "faces", 10, labels=("SAD", "SURPRISE"))
    votes = write_votes(tmp_path / "faces" / "fer2013new.csv", None, 20)
    votes.write_text(votes.read_text().replace("0,8,0,0,0,0,0,0,0,2", "4,4,0,0,0,0,0,0,0,2"))  # no majority
    manifest = train(tmp_path / "faces", dataclasses.replace(QUICK, epochs=1), tmp_path / "model", tmp_path / "runs")
    assert set(manifest.results) == {"split", "seven", "int8"}


def test_a_start_without_the_head_that_votes_need_is_refused(split_folders, exported_learner):
    from tests.support.faces import write_votes

    write_votes(split_folders / "fer2013new.csv", None, 1070)
    recipe = dataclasses.replace(QUICK, start=exported_learner)
    with pytest.raises(RecipeError, match="has no head for votes"):
        create_learner(recipe_dataloaders(split_folders, recipe), recipe)


@pytest.mark.parametrize("epochs", [1, 2])
def test_the_last_epoch_of_a_short_run_is_of_whole_faces(split_folders, tmp_path, epochs):
    sides: list[int] = []
    note = Callback(after_batch=lambda self: sides.append(self.xb[0].shape[-1]) if self.training else None)
    trained(split_folders, tmp_path, dataclasses.replace(QUICK, epochs=epochs, batch_size=42), note)
    assert sides[-1] == 48


def test_a_seed_that_no_generator_takes_is_refused():
    with pytest.raises(RecipeError, match="seed is -1"):
        Recipe(seed=-1)


def test_a_run_can_go_on_from_an_exported_learner(split_folders, tmp_path, exported_learner):
    recipe = dataclasses.replace(QUICK, epochs=1, learning_rate=1e-8, start=exported_learner)
    learner = create_learner(recipe_dataloaders(split_folders, recipe), recipe)
    given = load_exported(exported_learner)[0].model.state_dict()
    assert all(torch.equal(weight, given[name]) for name, weight in learner.model.state_dict().items())
    assert recipe.facts()["start"] == load_exported(exported_learner)[1].sha256


def test_a_start_that_does_not_fit_the_run_is_refused(split_folders, exported_learner):
    recipe = dataclasses.replace(QUICK, labels="five", start=exported_learner)
    with pytest.raises(RecipeError, match=r"is for 7 labels .* this run is for 5 labels"):
        create_learner(recipe_dataloaders(split_folders, recipe), recipe)


@pytest.mark.parametrize("network", ["compact", "paper"])
def test_the_command_trains_exports_and_the_export_answers(split_folders, tmp_path, network):
    output, runs = tmp_path / "model", tmp_path / "runs"
    flags = ["--network", network, "--epochs", "1", "--student-epochs", "1", "--batch-size", "8", "--labels", "five"]
    main(["train", str(split_folders), *flags, "--output", str(output), "--runs", str(runs)])
    learner, manifest = load_exported(output / "dexpression.pkl")
    answers = [Predictor.load(output / name).predict(draw_face("HAPPY", 0)).prediction for name in FILES]
    assert all(list(answer.probabilities) == manifest.labels for answer in answers)
    assert answers[1].confidence == pytest.approx(answers[0].confidence, abs=0.05)  # int8 against float32
    facts = json.loads((output / "dexpression.json").read_text())
    assert facts["data"]["images"]["train"] == dict.fromkeys(manifest.labels, 6)
    assert facts["results"]["five"]["n"] == 10
    factors = learner.loss_func.class_factors.tolist()
    assert facts["calibration"]["factors"] == dict(zip(manifest.labels, factors, strict=True))
    assert len(set(factors)) > 1
    assert len(facts["history"]["epochs"][0]) == len(facts["history"]["columns"]) == 3
    assert (output / "dexpression.pkl").stat().st_size < 12_000_000
    assert learner.dls.train_ds.items == learner.dls.valid_ds.items == []
    assert learner.opt is None
    assert not hasattr(learner, "recorder")
    with zipfile.ZipFile(output / "dexpression.pkl") as archive:
        content = b"".join(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    assert not any(
        private in content for private in (bytes(tmp_path), b"PosixPath", b"WindowsPath", b"PIL.Image", b"Recorder")
    )
