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


def fit_factors(answer: Callable[[Tensor], Tensor], truth: Tensor) -> Tensor:
    """The factors (C,) at which probabilities (N, C) = answer(factors) fit the truth (N, C), all labels weighing alike.

    The bias of bias-corrected temperature scaling (Alexandari et al. 2020, arXiv:1901.06852), for labels as if they
    were equally frequent, so that rare ones are found. Their geometric mean is 1; a label that is missing gets 1.
    """
    counts = truth.sum(dim=0)
    present = counts > 0
    weight = torch.where(present, 1 / counts, 0.0)
    log_factors = torch.zeros(len(counts), dtype=torch.double, requires_grad=True)

    def factors() -> Tensor:
        return torch.where(present, log_factors - log_factors[present].mean(), 0.0).exp()

    def loss() -> Tensor:
        likelihood = (truth * weight * answer(factors()).clamp(min=1e-30).log()).sum() / present.sum()
        return (log_factors.square() * weight).mean() - likelihood  # of few faces little is believed

    _minimise(loss, log_factors)
    return factors().detach().float()


def fit_temperature(answer: Callable[[Tensor], Tensor], labels: Tensor) -> float:
    """The temperature at which probabilities (N, C) = answer(temperature) make the labels (N,) likeliest."""
    log_temperature = torch.zeros((), dtype=torch.double, requires_grad=True)
    _minimise(lambda: functional.nll_loss(answer(log_temperature.exp()).log(), labels), log_temperature)
    return float(log_temperature.detach().exp())


def _minimise(loss: Callable[[], Tensor], parameter: Tensor) -> None:
    optimizer = torch.optim.LBFGS([parameter], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    optimizer.step(closure)  # type: ignore[no-untyped-call]
