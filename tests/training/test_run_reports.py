"""What a run says at its end, and where it keeps the export that it replaces."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dexpression.artifact.manifest import Manifest, export_paths, files_in
from dexpression.errors import UnwritableArtifact
from dexpression.settings import Settings
from dexpression.training.run import describe_results, keep_former_export

SHIPPED = Manifest.read(export_paths(Settings.model_path).manifest)


def test_the_former_export_is_kept_beside_the_new_one(model):
    before = {path.name: path.read_bytes() for path in export_paths(model)}
    keep_former_export(model.parent)
    kept = model.parent.with_name("model.previous")
    assert {path.name: path.read_bytes() for path in files_in(kept)} == before
    export_paths(model).onnx.unlink()
    keep_former_export(model.parent)
    assert {path.name for path in kept.iterdir()} == before.keys() - {"dexpression.onnx"}


def test_a_first_export_keeps_nothing(tmp_path):
    keep_former_export(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_former_export_that_cannot_be_kept_is_not_replaced(model):
    Path(f"{model.parent}.previous").write_text("a file in its place")
    with pytest.raises(UnwritableArtifact, match="cannot be kept in"):
        keep_former_export(model.parent)


def test_the_scores_of_each_reading_are_said():
    lines = describe_results(SHIPPED).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "people, five labels", "people, seven labels", "labels, five labels", "labels, seven labels"
    ]  # fmt: skip
    assert "no better than guessing" not in describe_results(SHIPPED)


def report(results: dict, images: dict) -> list[str]:
    manifest = dataclasses.replace(SHIPPED, results=SHIPPED.results | results, data={"images": images})
    return describe_results(manifest).splitlines()


def test_each_score_has_its_interval_and_the_number_of_its_faces():
    score = {"n": 10, "accuracy": 0.8, "balanced_accuracy": 0.8, "labels": ["A", "B"]}
    [line] = report({"people": {}, "labels": {"own": score}}, {})
    assert line == "labels, own labels: accuracy 0.800 (95 % interval 0.490 to 0.943), n = 10"


@pytest.mark.parametrize(
    ("train", "valid", "uncertain"),
    [
        ({"A": 500, "B": 500}, {"A": 50, "B": 50}, False),
        ({"A": 500, "B": 500}, {"A": 50, "B": 19}, True),
        ({"A": 500, "B": 9}, {"A": 50, "B": 50}, True),
        ({"A": 500, "B": 500}, {"A": 50}, True),  # B has no face to score
    ],
)
def test_few_faces_of_a_label_are_called_uncertain_with_the_command_that_scores_every_face(train, valid, uncertain):
    *_, last = report({}, {"train": train, "valid": valid})
    assert ("dexpression crossvalidate FOLDER" in last) is uncertain
    if uncertain:
        assert f"{min(train.values())} faces to train on and {min(valid.get(one, 0) for one in train)} to score" in last


def test_a_manifest_without_numbers_of_images_is_described_too():
    assert "crossvalidate" not in describe_results(dataclasses.replace(SHIPPED, data={}))


def test_a_model_that_guesses_is_called_so():
    poor = SHIPPED.results["labels"]["seven"] | {"balanced_accuracy": 0.14}
    manifest = dataclasses.replace(SHIPPED, results=SHIPPED.results | {"labels": {"seven": poor}})
    assert "no better than guessing (0.143" in describe_results(manifest).splitlines()[-1]
