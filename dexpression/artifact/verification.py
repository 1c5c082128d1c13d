"""Check that an export can be served: load its learner, and compare the ONNX model's answers with the learner's.

The server runs this in a separate process that then exits, because a worker needs the ONNX model alone, not torch.
"""

from __future__ import annotations

import os

import numpy as np

from dexpression.artifact.export import load_exported
from dexpression.artifact.golden import golden_faces
from dexpression.artifact.manifest import OnnxModel, export_paths, read_onnx_model
from dexpression.artifact.quantisation import to_onnx
from dexpression.engine import onnx_backend
from dexpression.errors import BrokenWeights, DigestMismatch

# Largest allowed differences of a probability. Other machines and versions of torch add numbers in another order.
GOLDEN_TOLERANCE = 1e-3
# On average over the golden faces: int8 differed by 0.01 to 0.02, the network of another epoch of one run by 0.04.
ONNX_TOLERANCE = 0.03


def verify_export(model: str | os.PathLike[str]) -> OnnxModel:
    """Return the ONNX model of an export after it was seen to answer as the learner does.

    The learner has to give the probabilities that the manifest records for the golden inputs. For an export without
    an ONNX model, one is made in float32. Raises what `load_exported` does, BrokenOnnxModel, and BrokenWeights or
    DigestMismatch where probabilities differ.
    """
    from dexpression.network.inference import torch_backend

    paths = export_paths(model)
    learner, manifest = load_exported(model)
    faces = golden_faces(manifest.image_size)
    answers = torch_backend(learner)(faces)
    if not np.isfinite(answers).all():
        raise BrokenWeights(f"{paths.weights.name} gives probabilities that are not numbers. Train and export again.")
    if not np.allclose(answers, manifest.golden, atol=GOLDEN_TOLERANCE):
        raise BrokenWeights(f"{paths.weights.name} no longer answers as when it was exported. Export it again.")
    if "onnx" in manifest.digests:
        content = read_onnx_model(paths.onnx, manifest).content  # by the manifest of the learner, not by a newer one
    else:
        content = to_onnx(learner, manifest.image_size).SerializeToString()
    difference = np.abs(onnx_backend(content, threads=1)(faces) - answers).mean()
    if not difference <= ONNX_TOLERANCE:
        raise DigestMismatch(f"{paths.onnx.name} does not answer as the learner does. Export the learner again.")
    return OnnxModel(content, manifest)
