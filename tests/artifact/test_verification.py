"""What lies in model/ is held against itself before it answers."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from dexpression.artifact.export import export_learner, load_exported
from dexpression.artifact.golden import COUNT, golden_faces
from dexpression.artifact.manifest import export_paths
from dexpression.artifact.verification import verify_export
from dexpression.engine import onnx_backend
from dexpression.errors import BrokenLearner, DigestMismatch
from dexpression.network.inference import torch_backend
from dexpression.settings import Settings


def export_again(model: Path, damage: float, engine: bytes | None = None) -> None:
    """With one weight of the last layer changed, after golden answers were given."""
    learner, manifest = load_exported(model)
    changed = copy.deepcopy(learner)
    with torch.no_grad():
        changed.model.classifier[-1].bias[0] += damage
    golden = manifest.golden
    export_learner(changed, model.parent, 48, {}, engine or export_paths(model).onnx.read_bytes())
    path = model.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"golden": golden}))


def test_golden_faces_differ_from_each_other_and_are_the_same_every_time():
    faces = golden_faces(48)
    assert (faces.shape, faces.dtype) == ((COUNT, 1, 48, 48), np.uint8)
    assert len({face.tobytes() for face in faces}) == COUNT
    assert int(faces.astype(int).sum()) == 4_700_236


@pytest.mark.parametrize("learner", ["drawn", "shipped"])
def test_a_sound_export_gives_an_engine_that_answers_as_its_learner(learner, exported_learner):
    path = exported_learner if learner == "drawn" else Settings.model_path
    content, manifest = verify_export(path)
    faces = golden_faces(48)
    assert manifest.sha256 == load_exported(path)[1].sha256
    assert np.abs(onnx_backend(content)(faces) - torch_backend(load_exported(path)[0])(faces)).mean() < 0.03


def test_an_export_of_another_name_is_verified_by_its_own_manifest(model):
    renamed = model.rename(model.with_name("mine.pkl"))
    model.with_suffix(".json").rename(renamed.with_suffix(".json"))
    assert verify_export(renamed)[1].sha256 == load_exported(renamed)[1].sha256


def test_an_export_without_an_onnx_form_is_given_one(model):
    learner, _ = load_exported(model)
    export_learner(learner, model.parent, 48, {})
    content, manifest = verify_export(model)
    faces = golden_faces(48)
    assert manifest.engine == {}
    assert onnx_backend(content)(faces) == pytest.approx(torch_backend(learner)(faces), abs=1e-4)


def test_a_learner_that_answers_otherwise_than_at_its_export_is_refused(model):
    export_again(model, 50.0)
    with pytest.raises(BrokenLearner, match="no longer answers"):
        verify_export(model)


def test_a_learner_whose_weights_are_no_numbers_is_refused(model):
    export_again(model, float("nan"))
    with pytest.raises(BrokenLearner, match="no number"):
        verify_export(model)


def test_an_onnx_form_of_another_learner_is_refused(model):
    engine = onnx.load(export_paths(model).onnx)
    for weight in engine.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.ndim >= 2:
            weight.CopyFrom(numpy_helper.from_array(-values, weight.name))
    export_again(model, 0.0, engine.SerializeToString())
    with pytest.raises(DigestMismatch, match="does not answer as"):
        verify_export(model)
