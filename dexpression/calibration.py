"""How far a confidence can be believed, and what makes it more so (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

BINS = 15


Bin = tuple[int, float, float]  # how many answers, their mean confidence, the share of them that is right


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[Bin]:
    """The answers in fifteen bins of equal width of confidence; empty bins are left out."""
    numbers = np.minimum((confidence * BINS).astype(int), BINS - 1)
    members = [numbers == number for number in np.unique(numbers)]
    return [(int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean())) for inside in members]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Mean gap between confidence and accuracy, 0..1, over the bins, weighted by their size."""
    return sum(count * abs(confidence - right) for count, confidence, right in bins) / sum(
        count for count, _, _ in bins
    )


def fit_calibration(answer: Callable[[Tensor, Tensor], Tensor], labels: Tensor, classes: int) -> tuple[float, Tensor]:
    """The temperature and factors (C,) at which probabilities (N, C) = answer(temperature, factors) fit labels (N,).

    Bias-corrected temperature scaling (Alexandari et al. 2020, arXiv:1901.06852), but with every label weighing alike,
    so that rare ones are found; confidence is then that of equally frequent labels. Factors have a geometric mean of 1;
    a label that is missing gets 1.
    """
    counts = functional.one_hot(labels, classes).sum(dim=0)
    weight = counts.clamp(min=1).double().reciprocal()
    present = counts > 0
    log_temperature = torch.zeros((), dtype=torch.double, requires_grad=True)
    log_factors = torch.zeros(classes, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature, log_factors], max_iter=100, line_search_fn="strong_wolfe")

    def calibration() -> tuple[Tensor, Tensor]:
        centred = torch.where(present, log_factors - log_factors[present].mean(), 0.0)
        return log_temperature.exp(), centred.exp()

    def loss() -> Tensor:
        optimizer.zero_grad()
        penalty = (log_factors.square() * weight).mean()  # of few faces little is believed
        value = functional.nll_loss(answer(*calibration()).log(), labels, weight) + penalty
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        temperature, factors = calibration()
    return float(temperature), factors.float()
