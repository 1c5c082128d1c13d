"""Check that an export can be served: digests, operators, and recorded answers; and, with PyTorch, its learner.

The server runs this in a separate process, which can be killed, and whose memory is freed when it exits.
"""

from __future__ import annotations

import os

import numpy as np

from dexpression.artifact.export import load_exported
from dexpression.artifact.golden import golden_faces
from dexpression.artifact.manifest import (
    MAX_WEIGHTS_BYTES,
    Manifest,
    OnnxModel,
    export_paths,
    read_checked,
    read_onnx_model,
)
from dexpression.engine import onnx_backend
from dexpression.errors import BrokenWeights, DigestMismatch
from dexpression.extras import require_extra

# Largest allowed differences of a probability. Other machines and versions of torch add numbers in another order.
GOLDEN_TOLERANCE = 1e-3
# On average over the golden faces: int8 differed by 0.01 to 0.02, the network of another epoch of one run by 0.04.
ONNX_TOLERANCE = 0.03


def verify_onnx_model(model: str | os.PathLike[str]) -> OnnxModel:
    """Return the ONNX model of an export after it gave the answers to the golden faces that the manifest records.

    The weights of the learner need not be there; if they are, their digest is checked too. Loads no PyTorch, except for
    an export without an ONNX model, which `verify_export` then makes. Raises MissingArtifact, BrokenManifest,
    BrokenOnnxModel, DigestMismatch or MissingExtra.
    """
    paths = export_paths(model)
    manifest = Manifest.read(paths.manifest)
    if "onnx" not in manifest.digests:
        require_extra("train", "This export has no ONNX model. Making one")
        return verify_export(model)
    if paths.weights.exists():
        read_checked(paths.weights, manifest, MAX_WEIGHTS_BYTES)
    verified = read_onnx_model(paths.onnx, manifest)
    _compare(verified.content, manifest, _golden_answers(manifest), f"{paths.onnx.name} does not answer as recorded")
    return verified


def verify_export(model: str | os.PathLike[str]) -> OnnxModel:
    """Return the ONNX model of an export after it gave the answers of the learner, which PyTorch computes.

    The learner has to give the probabilities that the manifest records for the golden inputs. For an export without
    an ONNX model, one is made in float32. Raises what `load_exported` does, BrokenOnnxModel, and BrokenWeights or
    DigestMismatch where probabilities differ.
    """
    paths = export_paths(model)
    learner, manifest = load_exported(model)
    from dexpression.network.inference import torch_backend

    faces = golden_faces(manifest.image_size)
    answers = torch_backend(learner)(faces)
    if not all(np.isfinite(rows).all() for rows in answers.values()):
        raise BrokenWeights(f"{paths.weights.name} gives probabilities that are not numbers. Train and export again.")
    golden = _golden_answers(manifest)
    if not all(np.allclose(answers[reading], golden[reading], atol=GOLDEN_TOLERANCE) for reading in golden):
        raise BrokenWeights(f"{paths.weights.name} no longer answers as when it was exported. Export it again.")
    if "onnx" in manifest.digests:
        content = read_onnx_model(paths.onnx, manifest).content  # by the manifest of the learner, not by a newer one
    else:
        from dexpression.artifact.quantisation import to_onnx

        content = to_onnx(learner, manifest.image_size).SerializeToString()
    _compare(content, manifest, answers, f"{paths.onnx.name} does not answer as the learner does")
    return OnnxModel(content, manifest)


def _golden_answers(manifest: Manifest) -> dict[str, np.ndarray]:
    return {reading: np.array(rows) for reading, rows in manifest.golden.items()}


def _compare(onnx_model: bytes, manifest: Manifest, answers: dict[str, np.ndarray], fault: str) -> None:
    """Raise DigestMismatch if an ONNX model does not give these answers to the golden faces in each reading."""
    given = onnx_backend(onnx_model, threads=1)(golden_faces(manifest.image_size))
    differences = [np.abs(given[reading] - answers[reading]).mean() for reading in manifest.readings]
    if not all(difference <= ONNX_TOLERANCE for difference in differences):  # NaN is refused too
        raise DigestMismatch(f"{fault}. Export the learner again.")
