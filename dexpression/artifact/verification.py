"""Is what lies in model/ fit to answer? The learner is loaded, and its ONNX form held against it, in this process.

The server does this in a process of its own that ends afterwards: what answers needs the ONNX form alone, no torch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dexpression.artifact.export import lean_learner, load_exported
from dexpression.artifact.golden import golden_faces
from dexpression.artifact.manifest import ENGINE_FILE, Model, read_checked
from dexpression.artifact.quantisation import to_onnx
from dexpression.engine import onnx_engine
from dexpression.errors import BrokenLearner, DigestMismatch
from dexpression.network.inference import torch_engine

SAME = 1e-3  # of a probability: other machines and versions of torch add up in another order
AGREED = 0.03  # of a probability, on average: int8 gave 0.01 to 0.02, the network of another stage of the same run 0.04


def verify_export(learner_path: Path) -> Model:
    """The ONNX form of an exported learner, once it was seen to answer as the learner does, and the learner's manifest.

    For an export without one it is made, in float32. Raises what `load_exported` does, and BrokenLearner or
    DigestMismatch where answers differ.
    """
    learner, manifest = load_exported(learner_path)
    faces = golden_faces(manifest.image_size)
    answers = torch_engine(learner)(faces)
    if not np.isfinite(answers).all():
        raise BrokenLearner(f"{learner_path.name} answers with what is no number. Train and export it again.")
    if manifest.golden and not np.allclose(answers, manifest.golden, atol=SAME):
        raise BrokenLearner(f"{learner_path.name} no longer answers as when it was exported. Export it again.")
    if manifest.engine:
        content = read_checked(learner_path.with_name(ENGINE_FILE), manifest.engine.get("sha256", ""))
    else:
        content = to_onnx(lean_learner(learner, manifest.image_size), manifest.image_size).SerializeToString()
    difference = np.abs(onnx_engine(content, threads=1)(faces) - answers).mean()
    if not difference <= AGREED:
        raise DigestMismatch(f"{ENGINE_FILE} does not answer as {learner_path.name} does. Export the learner again.")
    return content, manifest
