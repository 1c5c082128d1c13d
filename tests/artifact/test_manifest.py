"""The files of an export are found from any of them, and only a valid manifest and matching files are read."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
from pathlib import Path

import pytest

from dexpression.artifact.manifest import MAX_MANIFEST_BYTES, Manifest, export_paths, load_onnx_model
from dexpression.artifact.validation import find_fault
from dexpression.errors import BrokenManifest, DigestMismatch, MissingArtifact
from dexpression.labels import SEVEN
from tests.support.exports import change_manifest

SOUND = {"vote_share": 0, "temperature": 1, "factors": {}}  # a readout that every network can have
ROWS = [[1.0, 0, 0, 0, 0, 0, 0]] * 16  # golden answers that a model of seven labels may have
MINE = ("mine.json", "mine.onnx", "mine.safetensors", "mine.pkl")


def test_a_folder_means_the_files_named_dexpression_in_it(tmp_path):
    assert export_paths(tmp_path) == tuple(
        tmp_path / name
        for name in ("dexpression.json", "dexpression.onnx", "dexpression.safetensors", "dexpression.pkl")
    )


@pytest.mark.parametrize("name", MINE)
def test_each_file_of_an_export_leads_to_the_others(tmp_path, name):
    assert export_paths(tmp_path / name) == tuple(tmp_path / name for name in MINE)


@pytest.mark.parametrize("name", ["missing", "missing.v2"])
def test_a_path_that_does_not_exist_is_a_folder_unless_it_has_a_suffix_of_an_export(tmp_path, name):
    assert export_paths(tmp_path / name) == export_paths(str(tmp_path / name))
    assert export_paths(tmp_path / name).onnx == tmp_path / name / "dexpression.onnx"


def test_a_folder_whose_name_ends_with_onnx_is_a_folder(tmp_path):
    folder = tmp_path / "model.onnx"
    folder.mkdir()
    assert export_paths(folder).onnx == folder / "dexpression.onnx"


def test_the_manifest_is_read_as_it_was_written(model):
    path = export_paths(model).manifest
    assert json.loads(path.read_text()) == dataclasses.asdict(Manifest.read(path))


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"labels": ["A", "B"]}', '{"labels": 1}'],
    ids=["empty", "cut off", "a list", "a part", "a wrong type"],
)
def test_an_invalid_manifest_is_refused(model, content):
    path = export_paths(model).manifest
    path.write_text(content)
    with pytest.raises(BrokenManifest, match=r"dexpression.json is not a valid manifest .*Export the learner again"):
        Manifest.read(path)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": "HAPPY"},
        {"labels": ["HAPPY"]},
        {"labels": ["HAPPY"] * 7},
        {"labels": [1, 2]},
        {"labels": 5},
        {"labels": None},
        {"labels": ["A<script>", "B"]},
        {"labels": ["HAPPY", "sad"]},
        {"labels": ["HAPPY", "UNKNOWN"]},
        {"image_size": "48"},
        {"image_size": -4},
        {"image_size": True},
        {"image_size": 10**9},
        {"digests": {}},
        {"digests": {"safetensors": "x"}},
        {"digests": {"safetensors": "0" * 64, "../../x": "0" * 64}},
        {"normalisation": 1},
        {"normalisation": {"mean": "0.5", "std": 0.25}},
        {"versions": []},
        {"versions": {"fastai": 2}},
        {"network": {"name": "other", "heads": 1}},
        {"network": {"name": "compact", "heads": 10**6}},
        {"network": {"name": "compact", "heads": 1, "evidence_side": 0}},
        {"network": {"name": "compact", "heads": 1, "evidence_side": 49}},
        {"network": {"name": "compact", "heads": 1, "evidence_side": "6"}},
        {"calibration": SOUND},
        {"calibration": {"labels": 1}},
        {"calibration": {"labels": SOUND | {"temperature": 0}}},
        {"calibration": {"labels": SOUND | {"vote_share": 1.1}}},
        {"calibration": {"labels": SOUND | {"factors": {"HAPPY": 1}}}},
        {"calibration": {"labels": SOUND | {"blend": 0}}},
        {"calibration": {"labels": {"vote_share": 0, "temperature": 1}}},
        {"golden": "x"},
        {"golden": ROWS},
        {"golden": {"labels": [[1, 2]]}},
        {"golden": {"labels": [[2.0] * 7] * 16}},
        {"results": 1},
        {"results": {"labels": 1}},
        {"results": {"labels": {"seven": 1}}},
        {"unknown": 1},
        {"data": {"x": [[[[[[[[[[[[[1]]]]]]]]]]]]]}},
    ],
    ids=str,
)
def test_a_manifest_with_a_value_of_a_wrong_type_or_range_is_refused(model, change):
    change_manifest(model, **change)
    with pytest.raises(BrokenManifest, match=r"is not a valid manifest \((its|it has|it is)"):
        Manifest.read(export_paths(model).manifest)


@pytest.mark.parametrize(
    ("heads", "readings", "fault"),
    [
        (1, (), "its calibration cannot be used"),
        (1, ("people",), "its calibration cannot be used"),
        (1, ("people", "labels"), "its calibration cannot be used"),
        (1, ("labels",), None),
        (2, ("labels",), "its calibration cannot be used"),
        (2, ("people",), "its calibration cannot be used"),
        (2, ("people", "labels", "others"), "its calibration cannot be used"),
        (2, ("people", "labels"), None),
    ],
)
def test_a_model_is_calibrated_for_the_readings_that_its_heads_can_give(model, heads, readings, fault):
    facts = json.loads(export_paths(model).manifest.read_text())
    facts["network"]["heads"] = heads
    facts |= {"calibration": dict.fromkeys(readings, SOUND), "golden": dict.fromkeys(readings, ROWS)}
    assert find_fault(facts) == fault


@pytest.mark.parametrize("readings", [(), ("labels",), ("people",), ("people", "labels", "others")])
def test_golden_answers_of_other_readings_are_refused(model, readings):
    facts = json.loads(export_paths(model).manifest.read_text())
    facts["network"]["heads"] = 2
    facts |= {"calibration": {"people": SOUND, "labels": SOUND}, "golden": dict.fromkeys(readings, ROWS)}
    assert find_fault(facts) == "its golden cannot be used"


def test_the_default_reading_comes_first_whatever_the_order_in_the_file(model):
    calibration, golden = {"labels": SOUND, "people": SOUND}, {"labels": ROWS, "people": ROWS}
    change_manifest(model, network={"name": "compact", "heads": 2}, calibration=calibration, golden=golden)
    assert Manifest.read(export_paths(model).manifest).readings == ["people", "labels"]


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_manifest_with_a_constant_that_is_not_json_is_refused(model, constant):
    path = export_paths(model).manifest
    path.write_text(path.read_text().replace('"image_size": 48', f'"image_size": {constant}'))
    with pytest.raises(BrokenManifest, match=r"is not a number|too large"):
        Manifest.read(path)


def test_a_manifest_that_is_nested_too_deeply_is_refused(model):
    path = export_paths(model).manifest
    path.write_text("[" * 100_000)
    with pytest.raises(BrokenManifest, match="nested too deeply"):
        Manifest.read(path)


def test_a_file_that_is_too_large_is_not_read(model):
    path = export_paths(model).manifest
    with path.open("r+b") as file:
        file.truncate(10**10)  # without content, so that it takes no room on the disk
    with pytest.raises(MissingArtifact, match=f"has more than {MAX_MANIFEST_BYTES} bytes"):
        Manifest.read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("suffix", [".json", ".onnx"])
def test_a_pipe_is_refused_at_once(model, suffix):
    model.with_suffix(suffix).unlink()
    os.mkfifo(model.with_suffix(suffix))
    with pytest.raises(MissingArtifact, match="is not a regular file"):
        load_onnx_model(model)


def test_public_facts_have_the_scores_of_each_reading_and_their_split_but_no_confusion_matrix(model):
    score = {"n": 10, "accuracy": 0.5, "balanced_accuracy": 0.5, "ece": 0.1, "recall": {"HAPPY": 0.5}}
    results = {"seven": score | {"confusion": [[5, 5]]}}
    change_manifest(model, results={"split": "valid", "labels": results, "float32": {"labels": results}})
    facts = Manifest.read(export_paths(model).manifest).public_facts()
    assert facts["results"] == {"labels": {"seven": {"split": "valid"} | score}}
    assert (facts["labels"], facts["readings"], facts["input"]["width"]) == (list(SEVEN), ["labels"], 48)
    assert not {"recipe", "history", "golden", "digests"} & facts.keys()


def test_public_facts_have_the_scores_under_conditions_but_no_digest_of_a_face(model):
    conditions = {"reading": "labels", "mean": 0.4}
    results = {"split": "valid", "labels": {}, "conditions": conditions}
    change_manifest(model, results=results, data={"name": "mine", "images": {}, "digests": "AAAA"})
    facts = Manifest.read(export_paths(model).manifest).public_facts()
    assert (facts["conditions"], facts["data"]) == (conditions, {"name": "mine", "images": {}})


def test_an_export_without_scores_under_conditions_says_so(model):
    assert Manifest.read(export_paths(model).manifest).public_facts()["conditions"] is None


def test_a_manifest_may_have_the_digests_of_a_million_faces(model):
    digests = base64.b64encode(bytes(4_000_000)).decode()
    change_manifest(model, data={"digests": digests})
    assert Manifest.read(export_paths(model).manifest).data["digests"] == digests


def test_the_onnx_model_is_loaded_from_the_folder_or_from_any_file(model):
    loaded = [load_onnx_model(path) for path in (model.parent, str(model.parent), *export_paths(model))]
    assert len({content for content, _ in loaded}) == 1


def test_the_onnx_model_is_loaded_without_the_learner(model):
    content = load_onnx_model(model.parent).content
    model.unlink()
    assert load_onnx_model(model.parent).content == content


def test_an_onnx_model_that_the_manifest_does_not_describe_is_refused(model):
    path = export_paths(model).onnx
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DigestMismatch, match=r"dexpression.onnx is not the file that dexpression.json describes"):
        load_onnx_model(model.parent)


@pytest.mark.parametrize("suffix", [".onnx", ".json"])
def test_a_missing_file_is_refused_with_the_command_that_makes_one(model: Path, suffix):
    model.with_suffix(suffix).unlink()
    with pytest.raises(MissingArtifact, match=rf"dexpression\{suffix} .*dexpression train FOLDER --output"):
        load_onnx_model(model.parent)


def test_an_export_without_an_onnx_model_is_refused_with_the_path_of_its_learner(exported):
    with pytest.raises(MissingArtifact, match=r"has no ONNX model\. .* name the learner: .*dexpression\.safetensors"):
        load_onnx_model(exported.parent)
