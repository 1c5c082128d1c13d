"""Confidence against accuracy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dexpression.network.loss import EmotionLoss
from dexpression.training.calibration import calibration_error, fit_class_factors, fit_temperature, reliability


def fitted(logits: Tensor, labels: Tensor, classes: int) -> Tensor:
    loss = EmotionLoss()
    return fit_class_factors(
        lambda factors: loss.probabilities(logits, 1.0, factors), functional.one_hot(labels, classes).double()
    )


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.5, 0.5])
    right = np.array([True, True, True, False, True, False])
    bins = reliability(confidence, right)
    assert bins == [(2, 0.5, 0.5), (4, pytest.approx(0.9), 0.75)]
    assert calibration_error(bins) == pytest.approx(4 / 6 * 0.15)


def test_certainty_falls_into_the_last_bin():
    assert reliability(np.array([1.0, 0.95]), np.array([True, False])) == [(2, 0.975, 0.5)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_logits_were_spoilt_by_is_found(temperature):
    torch.manual_seed(0)
    logits = torch.randn(20_000, 5, dtype=torch.double) * 2
    labels = torch.distributions.Categorical(logits=logits).sample()
    found = fit_temperature(lambda divisor: (logits * temperature / divisor).softmax(1), labels)
    assert found == pytest.approx(temperature, rel=0.05)


def test_the_factors_that_answers_lack_are_found():
    torch.manual_seed(0)
    logits = torch.randn(20_000, 4, dtype=torch.double) * 2
    labels = torch.distributions.Categorical(logits=logits).sample()
    factors = torch.tensor([2.0, 0.5, 0.25, 4.0], dtype=torch.double)
    assert fitted(logits - factors.log(), labels, 4).tolist() == pytest.approx(factors.tolist(), rel=0.1)


def test_a_rare_label_weighs_as_much_as_a_frequent_one():
    torch.manual_seed(0)
    labels = (torch.rand(20_000) < 0.05).long()
    logits = torch.randn(20_000, 2, dtype=torch.double) + functional.one_hot(labels, 2)
    logits += torch.tensor([3.0, 0.0])  # as if the other one were rarer still
    answered = EmotionLoss(class_factors=fitted(logits, labels, 2)).activation(logits).argmax(dim=1)
    recalls = [float((answered[labels == label] == label).double().mean()) for label in (0, 1)]
    assert recalls[1] == pytest.approx(recalls[0], abs=0.03)


def test_one_face_of_a_label_moves_its_factor_little():
    torch.manual_seed(0)
    logits = torch.randn(2_000, 3, dtype=torch.double)
    labels = torch.distributions.Categorical(logits=logits[:, :2]).sample()
    labels[0], logits[0] = 2, torch.tensor([1.0, 1.0, -2.0])
    factors = fitted(logits, labels, 3)
    assert 0.5 < factors[2] < 2


def test_a_label_that_is_missing_keeps_its_factor():
    torch.manual_seed(0)
    logits = torch.randn(200, 3, dtype=torch.double)
    labels = torch.distributions.Categorical(logits=logits[:, :2]).sample()
    factors = fitted(logits, labels, 3)
    assert factors[2] == 1
    assert bool(factors.isfinite().all())
