"""Evidence: the network's logits by place, those of a reading, and what becomes of them without training."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from fastai.learner import Learner
from skimage.data import astronaut
from torch import nn

from dexpression.artifact.export import load_exported
from dexpression.evidence import evidence_maps
from dexpression.labels import EVIDENCE, READINGS, SEVEN
from dexpression.network.architecture import DeXpression
from dexpression.network.inference import torch_backend
from dexpression.network.loss import Readout
from dexpression.prediction import Predictor
from dexpression.settings import Settings
from tests.support.faces import draw_face


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("heads", [1, 2])
def test_the_mean_over_the_places_is_the_logits_of_the_network(heads):
    network = DeXpression.compact(7, heads=heads).eval()
    faces = torch.randn(3, 1, 48, 48)
    evidence = network.evidence(faces)
    assert evidence.shape == (3, heads, 7, 6, 6)
    assert torch.allclose(evidence.mean(dim=(-2, -1)).squeeze(1), network(faces), atol=1e-4)


def test_the_papers_network_has_no_evidence():
    assert not DeXpression.paper(7, image_size=16).has_evidence


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("factors", [None, torch.linspace(0.5, 2.0, 5)])
def test_the_softmax_of_the_means_is_the_probabilities_of_any_reading(heads, factors):
    """Also of one that mixes two heads and multiplies by class factors, which is no softmax of logits."""
    logits = 4 * torch.randn(6, heads, 5, 3, 3)
    readout = {"vote_share": 0.3, "temperature": 0.7}
    means = logits.mean(dim=(3, 4))
    probabilities = Readout(**readout, class_factors=factors)(means if heads == 2 else means[:, 0]).numpy()
    maps = evidence_maps(logits.numpy(), probabilities, readout)
    assert softmax(maps.mean(axis=(2, 3))) == pytest.approx(probabilities, abs=1e-5)


def test_for_a_reading_of_one_head_nothing_is_added_to_its_logits():
    logits = torch.randn(6, 2, 5, 3, 3)
    probabilities = Readout(1.0, 0.5)(logits.mean(dim=(3, 4))).numpy()
    maps = evidence_maps(logits.numpy(), probabilities, {"vote_share": 1.0, "temperature": 0.5})
    of_head = logits[:, 1].numpy() / 0.5
    assert maps == pytest.approx(of_head - of_head.mean(axis=1, keepdims=True), abs=1e-4)


def test_a_probability_of_0_gives_finite_evidence():
    logits = np.zeros((1, 2, 2, 3, 3))
    logits[:, :, 1] = 2000
    maps = evidence_maps(logits, np.array([[0.0, 1.0]]), {"vote_share": 0.5, "temperature": 1.0})
    assert np.isfinite(maps).all()


@pytest.mark.parametrize("reading", READINGS)
def test_the_shipped_model_explains_a_photo_by_numbers_that_give_its_probabilities(shipped: Predictor, reading):
    [face] = shipped.predict(astronaut(), reading=reading, explain=True).faces
    maps = np.array(list(face.prediction.evidence.values()))
    assert maps.shape == (7, 6, 6)
    assert softmax(maps.mean(axis=(1, 2))) == pytest.approx(list(face.prediction.probabilities.values()), abs=1e-5)
    assert face.crop.right - face.crop.left == pytest.approx(face.crop.bottom - face.crop.top)


FACES = np.stack([np.asarray(draw_face(label, 0)) for label in SEVEN])[:, None]


def answered_maps(learner: Learner, labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The label of each drawn face, by default the answer, and the places' evidence for it: (N,) and (N, 36)."""
    answers = torch_backend(learner)(FACES)
    maps = evidence_maps(answers[EVIDENCE], answers["people"], {"vote_share": 1.0, "temperature": 1.0})
    chosen = answers["people"].argmax(axis=1) if labels is None else labels
    return chosen, maps[np.arange(len(FACES)), chosen].reshape(len(FACES), -1)


def randomise(module: nn.Module) -> None:
    """Draw all weights of a part of a network anew, as they are before training."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            part.reset_parameters()


@pytest.mark.parametrize("parts", [["classifier"], ["classifier", "blocks"], ["classifier", "blocks", "stem"]])
def test_the_map_changes_when_the_weights_are_randomised_from_the_last_layer_on(parts):
    """A map that stays the same would show the edges of a face, and not the network (Adebayo et al. 2018)."""
    learner, _ = load_exported(Settings.model_path)
    labels, before = answered_maps(learner)
    trained, correlations = copy.deepcopy(learner.model), []
    for seed in range(5):
        torch.manual_seed(seed)
        learner.model = copy.deepcopy(trained)
        for part in parts:
            randomise(getattr(learner.model, part))
        after = answered_maps(learner, labels)[1]
        correlations += [np.corrcoef(*pair)[0, 1] for pair in zip(before, after, strict=True)]
    assert abs(np.mean(correlations)) < 0.3
