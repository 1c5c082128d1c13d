"""Confidence against accuracy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dexpression.calibration import calibration_error, fit_calibration, reliability
from dexpression.loss import EmotionLoss


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.5, 0.5])
    right = np.array([True, True, True, False, True, False])
    bins = reliability(confidence, right)
    assert bins == [(2, 0.5, 0.5), (4, pytest.approx(0.9), 0.75)]
    assert calibration_error(bins) == pytest.approx(4 / 6 * 0.15)


def test_certainty_falls_into_the_last_bin():
    assert reliability(np.array([1.0, 0.95]), np.array([True, False])) == [(2, 0.975, 0.5)]


def spoilt(logits: Tensor, temperature: float, factors: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """What a model answers whose logits are so many times too large, and whose probabilities lack these factors."""
    loss, wrong = EmotionLoss(), logits * temperature - factors.log() * temperature
    return partial(loss.answer, wrong)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_what_answers_were_spoilt_by_is_found(temperature):
    torch.manual_seed(0)
    logits = torch.randn(20_000, 4, dtype=torch.double) * 2
    labels = torch.distributions.Categorical(logits=logits).sample()
    factors = torch.tensor([2.0, 0.5, 0.25, 4.0], dtype=torch.double)
    found, corrections = fit_calibration(spoilt(logits, temperature, factors), labels, classes=4)
    assert found == pytest.approx(temperature, rel=0.05)
    assert corrections.tolist() == pytest.approx(factors.tolist(), rel=0.1)


def test_a_rare_label_weighs_as_much_as_a_frequent_one():
    torch.manual_seed(0)
    labels = (torch.rand(20_000) < 0.05).long()
    logits = torch.randn(20_000, 2, dtype=torch.double) + functional.one_hot(labels, 2)
    answer = partial(EmotionLoss().answer, logits + torch.tensor([3.0, 0.0]))  # as if hardly any were rare
    answered = answer(*fit_calibration(answer, labels, classes=2)).argmax(dim=1)
    recalls = [float((answered[labels == label] == label).double().mean()) for label in (0, 1)]
    assert recalls[1] == pytest.approx(recalls[0], abs=0.03)


def test_one_face_of_a_label_moves_its_factor_little():
    torch.manual_seed(0)
    logits = torch.randn(2_000, 3, dtype=torch.double)
    labels = torch.distributions.Categorical(logits=logits[:, :2]).sample()
    labels[0], logits[0] = 2, torch.tensor([1.0, 1.0, -2.0])
    _, factors = fit_calibration(partial(EmotionLoss().answer, logits), labels, classes=3)
    assert 0.5 < factors[2] < 2


def test_a_label_that_is_missing_keeps_its_factor():
    torch.manual_seed(0)
    logits = torch.randn(200, 3, dtype=torch.double)
    labels = torch.distributions.Categorical(logits=logits[:, :2]).sample()
    _, factors = fit_calibration(partial(EmotionLoss().answer, logits), labels, classes=3)
    assert factors[2] == 1
    assert bool(factors.isfinite().all())
