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


def fit_temperature(answer: Callable[[Tensor], Tensor], labels: Tensor) -> float:
    """The temperature at which probabilities (N, C) = answer(temperature) make the labels (N,) likeliest."""
    log_temperature = torch.zeros((), dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.nll_loss(answer(log_temperature.exp()).log(), labels)
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return float(log_temperature.detach().exp())
