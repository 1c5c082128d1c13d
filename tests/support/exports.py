"""Exports with random weights, made without training, and changed files of an export."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from fastai.learner import Learner
from torch import nn

import tests.support.torch_on_cpu  # noqa: F401
from dexpression.artifact.export import export_learner
from dexpression.artifact.manifest import export_paths
from dexpression.artifact.quantisation import to_onnx
from dexpression.labels import EVIDENCE, SEVEN
from dexpression.network.architecture import DeXpression
from dexpression.network.loss import EmotionLoss, default_readouts
from dexpression.network.transforms import inference_dataloaders
from tests.support.faces import draw_face


def export_random_learner(folder: Path, seed: int, heads: int = 1, labels: Sequence[str] = SEVEN) -> Path:
    """Export a learner with random weights into `folder`; returns the path of its .pkl file.

    With two heads it has both readings, which differ.
    """
    torch.manual_seed(seed)
    network = DeXpression.compact(len(labels), heads=heads).eval()
    _spread_logits(network)
    loss = EmotionLoss(readouts=default_readouts(heads))
    learner = Learner(inference_dataloaders(labels, 48), network, loss_func=loss)
    export_learner(learner, folder, 48, {}, to_onnx(learner, 48).SerializeToString())
    return export_paths(folder).learner


def change_manifest(model: Path, **changes: object) -> None:
    """Replace some fields of an export's manifest, whether the values are valid or not."""
    path = export_paths(model).manifest
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file of an export, and its digest in the manifest, as an attacker with access to the folder can."""
    path.write_bytes(content)
    digests = json.loads(export_paths(path).manifest.read_text())["digests"]
    change_manifest(path, digests=digests | {path.suffix[1:]: hashlib.sha256(content).hexdigest()})


def remove_evidence(model: Path) -> None:
    """Make an export one of a version before evidence, which neither its manifest names nor its ONNX model gives."""
    paths = export_paths(model)
    content = onnx.load(paths.onnx)
    [output] = (output for output in content.graph.output if output.name == EVIDENCE)
    content.graph.output.remove(output)
    replace_file(paths.onnx, content.SerializeToString())
    network = json.loads(paths.manifest.read_text())["network"]
    del network["evidence_side"]
    change_manifest(model, network=network)


def _spread_logits(network: DeXpression) -> None:
    """Scale the last layer so that drawn faces get different labels; random weights give nearly equal logits."""
    faces = torch.stack([torch.from_numpy(np.array(draw_face(label, 0))) for label in SEVEN]).float() / 64 - 2
    with torch.no_grad():
        logits = network(faces[:, None]).flatten(1)
        *_, linear = (module for module in network.classifier if isinstance(module, nn.Linear))
        linear.bias.copy_((linear.bias - logits.mean(0)) / logits.std(0))
        linear.weight.div_(logits.std(0)[:, None])
