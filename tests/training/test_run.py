"""A whole run: its export is what was trained, speaks the labels of the data, and replaces no better one."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from fastai.learner import Learner

from dexpression.__main__ import main
from dexpression.artifact.export import load_exported
from dexpression.artifact.manifest import ExportPaths, Manifest, export_paths, files_in
from dexpression.labels import FIVE
from dexpression.prediction import Predictor
from dexpression.settings import Settings
from dexpression.training import fitting, run
from dexpression.training.crops import FaceCropper
from dexpression.training.digests import trained_on
from dexpression.training.fitting import create_learner, fit, prepare_run
from dexpression.training.run import train
from dexpression.training.sources import read_faces
from tests.support.exports import change_manifest, remove_evidence
from tests.support.faces import draw_face, write_class_folders, write_votes
from tests.support.recipes import QUICK

pytestmark = pytest.mark.slow

ONE_EPOCH = dataclasses.replace(QUICK, epochs=1)
SHIPPED = Manifest.read(export_paths(Settings.model_path).manifest)
STRANGE = {"bored": "HAPPY", "very attentive": "SURPRISE"}  # the folders, and what is drawn in them


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Learner, "_backward", lambda *_, **__: pytest.fail("trained"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module", params=["compact", "paper"])
def output(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ExportPaths:
    """The export that the command `train` writes from scratch, of either network."""
    folder = tmp_path_factory.mktemp(request.param)
    write_class_folders(folder / "faces" / "train", 6)
    write_class_folders(folder / "faces" / "valid", 2, seed=1)
    options = ["--epochs", "1", "--batch-size", "8", "--labels", "five", "--from-scratch"]
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


def test_the_manifest_records_the_faces_that_were_trained_on_and_the_scores_under_conditions(output):
    manifest = Manifest.read(output.manifest)
    faces = read_faces(output.manifest.parents[1] / "faces", FaceCropper(manifest.image_size)).of_labels(FIVE)
    assert trained_on(manifest, faces.of_split("train").faces) == [True] * 30
    assert trained_on(manifest, faces.of_split("valid").faces) == [False] * 10
    conditions = manifest.results["conditions"]
    assert (conditions["reading"], conditions["clean"]["n"]) == ("labels", 10)
    assert conditions["clean"]["share"] == manifest.results["labels"]["five"]["accuracy"]
    assert manifest.public_facts()["conditions"]["mean"] == conditions["mean"]


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
    dataloaders, recipe = prepare_run(split_folders, float32, tmp_path / "runs")
    fit(create_learner(dataloaders, recipe), recipe, tmp_path / "runs")
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_a_network_with_a_head_for_votes_can_continue_on_faces_without_votes_and_loses_its_reading(
    class_folders, tmp_path
):
    votes = write_votes(class_folders / "fer2013new.csv", None, 70)
    first = train(class_folders, ONE_EPOCH, tmp_path / "model", tmp_path / "runs")
    votes.unlink()
    recipe = dataclasses.replace(ONE_EPOCH, start=tmp_path / "model", from_scratch=False)
    last = train(class_folders, recipe, tmp_path / "next", tmp_path / "runs")
    assert (first.readings, last.readings) == (["people", "labels"], ["labels"])
    assert first.results["people"]["seven"]["n"] == 7
    assert last.recipe["start"] == first.sha256


def test_the_manifest_records_the_start_that_was_trained_and_not_one_that_replaced_it_during_the_run(
    split_folders, tmp_path, model, other_model, monkeypatch
):
    start = Manifest.of_export(model)
    monkeypatch.setattr(
        run, "describe_plan", lambda *_: shutil.copytree(other_model.parent, model.parent, dirs_exist_ok=True)
    )
    recipe = dataclasses.replace(ONE_EPOCH, start=model, from_scratch=False)
    assert train(split_folders, recipe, tmp_path / "next", tmp_path / "runs").recipe["start"] == start.sha256
    assert Manifest.of_export(model).sha256 != start.sha256


def test_label_sets_and_votes_that_no_face_has_are_left_out_of_the_results(tmp_path):
    write_class_folders(tmp_path / "faces", 10, labels=("SAD", "SURPRISE"))
    votes = write_votes(tmp_path / "faces" / "fer2013new.csv", None, 20)
    votes.write_text(votes.read_text().replace("0,8,0,0,0,0,0,0,0,2", "4,4,0,0,0,0,0,0,0,2"))  # no majority
    manifest = train(tmp_path / "faces", ONE_EPOCH, tmp_path / "model", tmp_path / "runs")
    sets = {reading: list(manifest.results[reading]) for reading in manifest.readings}
    assert sets == {"people": [], "labels": ["own"]}


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with faces of two strange names, and in model/ what `train` makes of them, from the shipped weights."""
    folder = tmp_path_factory.mktemp("strange")
    write_class_folders(folder / "faces" / "train", 30, tuple(STRANGE.values()), names=tuple(STRANGE))
    write_class_folders(folder / "faces" / "valid", 12, tuple(STRANGE.values()), seed=1, names=tuple(STRANGE))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        main(["train", "faces"])
    return folder


@pytest.fixture
def served(strange, tmp_path, monkeypatch) -> Path:
    """The current folder: that of `strange`, with a copy of model/ that a test may change."""
    for name in ("faces", "runs"):
        (tmp_path / name).symlink_to(strange / name)
    shutil.copytree(strange / "model", tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_two_strange_names_are_learned_from_the_shipped_weights_and_answered(strange):
    manifest = Manifest.read(files_in(strange / "model").manifest)
    assert manifest.labels == ["BORED", "VERY ATTENTIVE"]
    assert manifest.recipe["start"] == SHIPPED.sha256
    assert list(manifest.results["labels"]) == ["own"]
    assert manifest.results["labels"]["own"]["accuracy"] > 0.9
    predictor = Predictor.load(strange / "model")
    unseen = [(name.upper(), draw_face(label, seed)) for name, label in STRANGE.items() for seed in range(900, 915)]
    assert sum(predictor.predict(face).emotion == name for name, face in unseen) > 25


def test_evaluate_says_how_many_of_the_faces_were_trained_on(strange, capsys):
    for split, expected in (("train", "trained on 60 of the 60 faces"), ("valid", "")):
        main(["evaluate", str(strange / "faces"), "--model", str(strange / "model"), "--split", split, "--json"])
        out, error = capsys.readouterr()
        assert json.loads(out)["accuracy"] > 0.9
        assert expected in error
        assert expected or "trained on" not in error


POOR = ["--from-scratch", "--epochs", "1", "--learning-rate", "1e-8"]  # a network that guesses


def test_a_worse_model_is_exported_only_by_force_and_until_then_the_former_one_answers(served, capsys, monkeypatch):
    before = contents(served / "model")
    with pytest.raises(SystemExit, match=r"worse than the one in model, which stays\. .*Give --force") as stopped:
        main(["train", "faces", *POOR])
    assert "\n" not in str(stopped.value.code)
    assert contents(served / "model") == before
    assert not (served / "model.previous").exists()
    assert Predictor.load("model").predict(draw_face("HAPPY", 905)).emotion == "BORED"
    assert re.search(r"On the same 24 faces of valid, .* before has an accuracy of (0\.9|1)", capsys.readouterr().err)
    forbid_training(monkeypatch)
    main(["train", "faces", *POOR, "--force"])
    assert contents(served / "model.previous") == before
    assert contents(served / "model") != before
    assert "To go back, copy its files into model" in capsys.readouterr().err


def test_a_model_that_is_as_good_replaces_the_former_one(served, capsys):
    before = contents(served / "model")
    main(["train", "faces", "--epochs", "1", "--learning-rate", "1e-6"])  # from the former one
    assert contents(served / "model.previous") == before
    manifest = Manifest.read(files_in(served / "model").manifest)
    assert manifest.recipe["start"] == Manifest.read(files_in(served / "model.previous").manifest).sha256
    assert "the new one of" in capsys.readouterr().err


def test_a_run_says_before_what_it_is_going_to_do_and_afterwards_what_came_of_it(served, capsys):
    (served / "output").mkdir()
    draw_face("HAPPY", 0).save(served / "output" / "unrelated.png")
    main(["train", "faces", *POOR, "--output", "output"])
    said = capsys.readouterr().err
    places = [
        said.index(text)
        for text in ("faces: 84 faces (60 train, 24 valid)", "Start: random weights. 1 epochs", "Exported to output")
    ]
    assert places == sorted(places)
    assert "no better than guessing" in said or "95 % interval" in said
    assert (served / "output" / "unrelated.png").exists()


def test_an_export_of_an_earlier_version_is_written_anew_with_evidence_and_without_training(
    two_readings, tmp_path, monkeypatch
):
    model = Path(shutil.copytree(two_readings.parent, tmp_path / "model")) / two_readings.name
    remove_evidence(model)
    change_manifest(model, data={"name": "drawn"}, history={"loss": [1.0]})
    before = Manifest.of_export(model)
    forbid_training(monkeypatch)
    after = run.export_again(model.parent, write_class_folders(tmp_path / "faces", 6))
    assert (before.evidence_side, after.evidence_side) == (None, 6)
    assert (after.sha256, after.data, after.history) == (before.sha256, before.data, before.history)
    [face] = Predictor.load(model.parent).predict(draw_face("HAPPY", 0), explain=True).faces
    assert face.prediction.evidence
