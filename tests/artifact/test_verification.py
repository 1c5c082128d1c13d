"""An export is served only if its learner gives the golden answers, and its ONNX model those of the learner."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from fastai.learner import Learner
from onnx import numpy_helper

from dexpression import extras
from dexpression.artifact import verification
from dexpression.artifact.export import export_learner, load_exported
from dexpression.artifact.golden import golden_faces
from dexpression.artifact.manifest import Manifest, export_paths, learner_obstacle
from dexpression.artifact.verification import verify_export, verify_onnx_model
from dexpression.artifact.weights import encode_weights
from dexpression.engine import onnx_backend
from dexpression.errors import BrokenWeights, DigestMismatch, MissingExtra
from dexpression.labels import EVIDENCE, READINGS
from dexpression.network.inference import torch_backend
from dexpression.settings import Settings
from tests.support.exports import change_manifest, replace_file
from tests.support.server import ROOT


def export_changed(model: Path, bias_change: float, onnx_model: bytes | None = None) -> None:
    """Export again with a changed bias of the last layer, or another ONNX model, but with the old golden answers."""
    learner, manifest = load_exported(model)
    changed = copy.deepcopy(learner)
    with torch.no_grad():
        changed.model.classifier[-1].bias[0] += bias_change
    export_learner(changed, model.parent, 48, {}, onnx_model or export_paths(model).onnx.read_bytes())
    change_manifest(model, golden=manifest.golden)


@pytest.mark.parametrize("export", ["random", "shipped"])
def test_a_sound_export_is_verified_and_its_onnx_model_answers_as_its_learner(export, exported_learner):
    path = exported_learner if export == "random" else Settings.model_path
    content, manifest = verify_export(path)
    faces = golden_faces(48)
    learner, expected = load_exported(path)
    assert manifest.sha256 == expected.sha256
    answers, of_learner = onnx_backend(content)(faces), torch_backend(learner)(faces)
    assert list(answers) == [*manifest.readings, EVIDENCE]
    assert all(np.abs(answers[reading] - of_learner[reading]).mean() < 0.03 for reading in manifest.readings)


@pytest.mark.parametrize("suffix", [".safetensors", ".pkl", ".onnx", ".json"])
def test_an_export_with_another_name_is_verified_by_its_own_manifest(model, suffix):
    for path in export_paths(model):
        path.rename(path.with_stem("mine"))
    renamed = model.with_name(f"mine{suffix}")
    assert verify_export(renamed)[1].sha256 == load_exported(renamed)[1].sha256


def test_without_pytorch_an_export_without_an_onnx_model_is_refused(exported, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"This export has no ONNX model\. Making one needs more packages"):
        verify_onnx_model(exported)
    assert learner_obstacle(exported) == "torch is not installed"


@pytest.mark.slow
def test_an_export_without_an_onnx_model_gets_one_in_float32(exported):
    content, manifest = verify_export(exported)
    faces = golden_faces(48)
    assert "onnx" not in manifest.digests
    expected = torch_backend(load_exported(exported)[0])(faces)["labels"]
    assert onnx_backend(content)(faces)["labels"] == pytest.approx(expected, abs=1e-4)


def test_an_onnx_model_is_verified_without_its_learner(model):
    assert verify_onnx_model(model) == verify_export(model)
    for path in (export_paths(model).weights, export_paths(model).learner):
        path.unlink()
    assert verify_onnx_model(model).manifest.sha256
    assert learner_obstacle(model) == "dexpression.safetensors is not there"


@pytest.mark.parametrize("reading", READINGS)
def test_an_onnx_model_that_does_not_give_its_recorded_answers_of_a_reading_is_refused(two_readings, reading, tmp_path):
    model = Path(shutil.copytree(two_readings.parent, tmp_path / "copy")) / two_readings.name
    assert verify_onnx_model(model).manifest.readings == list(READINGS)
    golden = Manifest.read(export_paths(model).manifest).golden
    change_manifest(model, golden=golden | {reading: [[1.0, 0, 0, 0, 0, 0, 0]] * 16})
    with pytest.raises(DigestMismatch, match=r"dexpression\.onnx does not answer as recorded"):
        verify_onnx_model(model)
    with pytest.raises(BrokenWeights, match="no longer answers"):
        verify_export(model)


def test_an_onnx_model_with_its_readings_exchanged_is_refused(two_readings, tmp_path):
    model = Path(shutil.copytree(two_readings.parent, tmp_path / "copy")) / two_readings.name
    exchanged = onnx.load(export_paths(model).onnx)
    people, labels, _ = exchanged.graph.output
    for node in exchanged.graph.node:
        node.output[:] = [{people.name: labels.name, labels.name: people.name}.get(name, name) for name in node.output]
    replace_file(export_paths(model).onnx, exchanged.SerializeToString())
    with pytest.raises(DigestMismatch, match="does not answer as recorded"):
        verify_onnx_model(model)


def test_the_weights_that_lie_beside_an_onnx_model_are_those_of_the_manifest(model):
    export_paths(model).weights.write_bytes(b"others")
    with pytest.raises(DigestMismatch, match=r"dexpression\.safetensors is not the file"):
        verify_onnx_model(model)


def test_verifying_an_onnx_model_imports_no_torch(exported_learner):
    program = f"""import sys
from dexpression.artifact.verification import verify_onnx_model
verify_onnx_model({str(exported_learner)!r})
sys.exit(any(name in sys.modules for name in ("torch", "fastai", "onnx")))"""
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_a_learner_that_does_not_give_its_golden_answers_is_refused(model):
    export_changed(model, bias_change=50.0)
    with pytest.raises(BrokenWeights, match="no longer answers"):
        verify_export(model)


def test_a_learner_with_a_weight_that_is_not_a_number_is_neither_exported_nor_verified(model):
    with pytest.raises(BrokenWeights, match="Train at a lower learning rate"):
        export_changed(model, bias_change=float("nan"))
    network = load_exported(model)[0].model
    with torch.no_grad():
        network.classifier[-1].bias[0] = float("nan")
    replace_file(export_paths(model).weights, encode_weights(network))
    with pytest.raises(BrokenWeights, match="values that are not numbers"):
        verify_export(model)


def test_the_onnx_model_of_another_learner_is_refused(model):
    other = onnx.load(export_paths(model).onnx)
    for weight in other.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.ndim >= 2:
            weight.CopyFrom(numpy_helper.from_array(-values, weight.name))
    export_changed(model, 0.0, other.SerializeToString())
    with pytest.raises(DigestMismatch, match="does not answer as"):
        verify_export(model)


def test_an_export_that_arrives_during_a_verification_is_not_mixed_with_the_one_before(model, other_model, monkeypatch):
    def load_then_replace(path: Path) -> tuple[Learner, Manifest]:
        loaded = load_exported(path)
        for new, old in zip(export_paths(other_model), export_paths(model), strict=True):
            shutil.copy(new, old)
        return loaded

    monkeypatch.setattr(verification, "load_exported", load_then_replace)
    with pytest.raises(DigestMismatch, match=r"dexpression\.onnx is not the file"):
        verify_export(model)
