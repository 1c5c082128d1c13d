"""Class factors and the temperature are found again where they are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dexpression.network.loss import EmotionLoss
from dexpression.training.calibration import fit_class_factors, fit_temperature


def class_factors(logits: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Fit the class factors of logits (N, C) to labels (N,)."""
    loss = EmotionLoss()
    return fit_class_factors(
        lambda factors: loss.probabilities(logits, 1.0, factors), functional.one_hot(labels, classes).double()
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_the_logits_were_multiplied_by_is_found(temperature):
    torch.manual_seed(0)
    logits = torch.randn(20_000, 5, dtype=torch.double) * 2
    labels = torch.distributions.Categorical(logits=logits).sample()
    found = fit_temperature(lambda divisor: (logits * temperature / divisor).softmax(1), labels)
    assert found == pytest.approx(temperature, rel=0.05)


def test_the_factors_that_the_probabilities_were_divided_by_are_found():
    torch.manual_seed(0)
    logits = torch.randn(20_000, 4, dtype=torch.double) * 2
    labels = torch.distributions.Categorical(logits=logits).sample()
    factors = torch.tensor([2.0, 0.5, 0.25, 4.0], dtype=torch.double)
    assert class_factors(logits - factors.log(), labels, 4).tolist() == pytest.approx(factors.tolist(), rel=0.1)


def test_a_rare_label_gets_the_same_recall_as_a_frequent_one():
    torch.manual_seed(0)
    labels = (torch.rand(20_000) < 0.05).long()
    logits = torch.randn(20_000, 2, dtype=torch.double) + functional.one_hot(labels, 2)
    logits += torch.tensor([3.0, 0.0])  # as of a network that finds the rare label even less often
    predicted = EmotionLoss(class_factors=class_factors(logits, labels, 2)).activation(logits).argmax(dim=1)
    recalls = [float((predicted[labels == label] == label).double().mean()) for label in (0, 1)]
    assert recalls[1] == pytest.approx(recalls[0], abs=0.03)


def test_a_single_face_of_a_label_moves_its_factor_little():
    torch.manual_seed(0)
    logits = torch.randn(2_000, 3, dtype=torch.double)
    labels = torch.distributions.Categorical(logits=logits[:, :2]).sample()
    labels[0], logits[0] = 2, torch.tensor([1.0, 1.0, -2.0])
    factors = class_factors(logits, labels, 3)
    assert 0.5 < factors[2] < 2


def test_a_label_without_faces_keeps_the_factor_1():
    torch.manual_seed(0)
    logits = torch.randn(200, 3, dtype=torch.double)
    labels = torch.distributions.Categorical(logits=logits[:, :2]).sample()
    factors = class_factors(logits, labels, 3)
    assert factors[2] == 1
    assert bool(factors.isfinite().all())
