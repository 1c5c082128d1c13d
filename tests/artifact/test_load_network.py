"""The network of an export, to train it further: from its weights or, as in an installed package, its ONNX model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.learner import Learner
from torch import Tensor, nn

from dexpression.artifact.export import export_learner, load_exported, load_network
from dexpression.artifact.manifest import export_paths
from dexpression.artifact.quantisation import to_onnx
from dexpression.errors import BrokenWeights, DigestMismatch, MissingArtifact
from dexpression.labels import SEVEN
from dexpression.network.architecture import DeXpression
from dexpression.network.loss import EmotionLoss
from dexpression.network.transforms import MEAN, STD, inference_dataloaders
from dexpression.settings import Settings
from tests.support.faces import draw_face

FACES = torch.stack([torch.from_numpy(np.array(draw_face(label, seed))) for label in SEVEN for seed in range(6)])
SHIPPED = export_paths(Settings.model_path)


@pytest.fixture
def package(tmp_path) -> Path:
    """A folder with what an installed package has of the shipped export: the manifest and the ONNX model."""
    for path in (SHIPPED.manifest, SHIPPED.onnx):
        shutil.copy(path, tmp_path)
    return tmp_path


def probabilities(network: nn.Module) -> Tensor:
    """The probabilities of both heads for the drawn faces."""
    with torch.no_grad():
        return network((FACES[:, None].float() / 255 - MEAN) / STD).softmax(dim=-1)


def test_with_weights_the_network_is_that_of_the_learner(exported):
    network, manifest = load_network(exported)
    expected = load_exported(exported)[0].model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())
    assert manifest.labels == list(SEVEN)


def test_without_weights_the_network_of_the_onnx_model_gives_nearly_the_answers_of_the_weights(package):
    folded, manifest = load_network(package)
    whole, _ = load_network(SHIPPED.weights)
    given, expected = probabilities(folded), probabilities(whole)
    assert (given.shape, manifest.sha256) == (expected.shape, load_network(SHIPPED.weights)[1].sha256)
    assert (given - expected).abs().mean() < 0.01  # int8
    agreeing = (given.argmax(dim=-1) == expected.argmax(dim=-1)).float().mean()
    assert agreeing > 0.9


def test_a_network_of_an_onnx_model_learns_in_all_its_weights(package):
    network = load_network(package)[0]
    network((FACES[:8, None].float() / 255 - MEAN) / STD).square().sum().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_neither_weights_nor_an_onnx_model_are_refused(package):
    (package / "dexpression.onnx").unlink()
    with pytest.raises(MissingArtifact, match=r"dexpression\.onnx"):
        load_network(package)


def test_an_onnx_model_that_the_manifest_does_not_describe_is_refused(package):
    path = package / "dexpression.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DigestMismatch):
        load_network(package)


@pytest.mark.slow
def test_an_onnx_model_that_is_not_the_compact_network_is_refused(tmp_path):
    learner = Learner(inference_dataloaders(SEVEN, 224), DeXpression.paper(7), loss_func=EmotionLoss())
    export_learner(learner, tmp_path, 224, {}, to_onnx(learner, 224).SerializeToString())
    export_paths(tmp_path).weights.unlink()
    with pytest.raises(BrokenWeights, match=r"cannot be read from the ONNX model\. Give an export with weights"):
        load_network(tmp_path)
