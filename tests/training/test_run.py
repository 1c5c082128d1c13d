"""A whole run, self-distillation included, continues after a stop, and its export is what was trained."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path

import pytest
import torch
from fastai.learner import Learner

from dexpression.__main__ import main
from dexpression.artifact.export import load_exported
from dexpression.artifact.manifest import ExportPaths, Manifest, export_paths
from dexpression.labels import FIVE
from dexpression.prediction import Predictor
from dexpression.training import distillation, fitting
from dexpression.training.distillation import KnowledgeDistillation, train_student
from dexpression.training.fitting import create_learner, fit, recipe_dataloaders
from dexpression.training.recipe import Recipe
from dexpression.training.run import train, train_network
from tests.support.faces import draw_face, write_class_folders, write_votes
from tests.support.recipes import QUICK

pytestmark = pytest.mark.slow

ONE_EPOCH = dataclasses.replace(QUICK, epochs=1)
WITH_STUDENT = dataclasses.replace(ONE_EPOCH, student_epochs=2, teachers=2)


class StopInSecondEpoch(KnowledgeDistillation):
    """Stops the student's run in its second epoch, after the first was saved."""

    def before_batch(self) -> None:
        super().before_batch()
        if self.training and self.epoch == 1:
            raise KeyboardInterrupt


def trained(source: Path, runs: Path, recipe: Recipe) -> Learner:
    return train_network(recipe_dataloaders(source, recipe), recipe, runs)


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Learner, "_backward", lambda *_, **__: pytest.fail("trained a finished run"))


@pytest.fixture(scope="module", params=["compact", "paper"])
def output(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ExportPaths:
    """The export that the command `train` writes, of either network."""
    folder = tmp_path_factory.mktemp(request.param)
    write_class_folders(folder / "faces" / "train", 6)
    write_class_folders(folder / "faces" / "valid", 2, seed=1)
    options = ["--epochs", "1", "--student-epochs", "1", "--batch-size", "8", "--labels", "five"]
    places = ["--output", str(folder / "model"), "--runs", str(folder / "runs")]
    main(["train", str(folder / "faces"), "--network", request.param, *options, *places])
    return export_paths(folder / "model")


def test_the_exported_learner_and_its_onnx_model_give_the_same_answer(output):
    answers = [Predictor.load(path).predict(draw_face("HAPPY", 0)).prediction for path in (output.learner, output.onnx)]
    assert all(tuple(answer.probabilities) == FIVE for answer in answers)
    assert answers[1].confidence == pytest.approx(answers[0].confidence, abs=0.05)  # int8 against float32


def test_the_manifest_records_data_scores_calibration_and_history(output):
    manifest = Manifest.read(output.manifest)
    [readout] = load_exported(output.learner)[0].loss_func.readouts.values()
    assert manifest.labels == list(FIVE)
    assert manifest.data["images"]["train"] == dict.fromkeys(FIVE, 6)
    assert manifest.results["labels"]["five"]["n"] == manifest.results["float32"]["labels"]["five"]["n"] == 10
    assert manifest.calibration["labels"]["temperature"] == readout.temperature != 1
    assert len(manifest.history["epochs"][0]) == len(manifest.history["columns"]) == 3


def test_the_exported_learner_is_small_and_has_no_image_folder_optimizer_or_training_state(output):
    learner, _ = load_exported(output.learner)
    assert output.learner.stat().st_size < 12_000_000
    assert learner.dls.train_ds.items == learner.dls.valid_ds.items == []
    assert learner.opt is None
    assert not hasattr(learner, "recorder")
    with zipfile.ZipFile(output.learner) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    private = bytes(output.learner.parent.parent), b"PIL.Image", b"Recorder"
    assert not any(word in content for word in private)


def test_the_manifest_records_the_resolved_precision_and_its_run_is_that_of_the_explicit_precision(
    split_folders, tmp_path, monkeypatch
):
    monkeypatch.setattr(fitting, "is_faster_in_bfloat16", lambda device: False)
    auto, float32 = (dataclasses.replace(ONE_EPOCH, precision=name) for name in ("auto", "float32"))
    manifest = train(split_folders, auto, tmp_path / "model", tmp_path / "runs")
    written = json.loads((tmp_path / "model" / "dexpression.json").read_text())
    assert manifest.recipe["precision"] == written["recipe"]["precision"] == "float32"
    forbid_training(monkeypatch)
    trained(split_folders, tmp_path / "runs", float32)
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_a_stopped_self_distillation_continues_to_the_same_weights(split_folders, tmp_path, monkeypatch):
    whole = trained(split_folders, tmp_path / "whole", WITH_STUDENT)
    learner = create_learner(recipe_dataloaders(split_folders, WITH_STUDENT), WITH_STUDENT)
    fit(learner, WITH_STUDENT, tmp_path / "stopped")
    monkeypatch.setattr(distillation, "KnowledgeDistillation", StopInSecondEpoch)
    with pytest.raises(KeyboardInterrupt):
        train_student(learner, WITH_STUDENT, tmp_path / "stopped")
    monkeypatch.undo()
    resumed = trained(split_folders, tmp_path / "stopped", WITH_STUDENT)
    weights = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in weights)


def test_a_finished_self_distillation_is_not_trained_again(split_folders, tmp_path, monkeypatch):
    trained(split_folders, tmp_path, WITH_STUDENT)
    forbid_training(monkeypatch)
    trained(split_folders, tmp_path, WITH_STUDENT)
    assert len(list(tmp_path.glob("compact-*"))) == 3  # two teachers and the student


def test_without_student_epochs_only_one_network_is_trained(split_folders, tmp_path):
    trained(split_folders, tmp_path, dataclasses.replace(WITH_STUDENT, student_epochs=0))
    assert len(list(tmp_path.glob("compact-*"))) == 1


def test_a_network_with_a_head_for_votes_can_continue_on_faces_without_votes(class_folders, tmp_path):
    votes = write_votes(class_folders / "fer2013new.csv", None, 70)
    first = train(class_folders, ONE_EPOCH, tmp_path / "model", tmp_path / "runs")
    votes.unlink()
    recipe = dataclasses.replace(ONE_EPOCH, start=tmp_path / "model", student_epochs=1)
    last = train(class_folders, recipe, tmp_path / "next", tmp_path / "runs")
    assert first.readings == last.readings == ["people", "labels"]
    assert last.calibration["people"] == {"vote_share": 1.0, "temperature": 1.0, "factors": {}}  # without votes to fit
    assert list(first.results) == ["split", "float32", "people", "labels"]
    assert first.results["people"]["seven"]["n"] == 7
    assert last.results["people"] == {}


def test_label_sets_and_votes_that_no_face_has_are_left_out_of_the_results(tmp_path):
    write_class_folders(tmp_path / "faces", 10, labels=("SAD", "SURPRISE"))
    votes = write_votes(tmp_path / "faces" / "fer2013new.csv", None, 20)
    votes.write_text(votes.read_text().replace("0,8,0,0,0,0,0,0,0,2", "4,4,0,0,0,0,0,0,0,2"))  # no majority
    manifest = train(tmp_path / "faces", ONE_EPOCH, tmp_path / "model", tmp_path / "runs")
    sets = {reading: list(manifest.results[reading]) for reading in manifest.readings}
    assert sets == {"people": [], "labels": ["seven"]}
