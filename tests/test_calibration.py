"""Confidence against accuracy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dexpression.calibration import calibration_error, fit_temperature, reliability


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
