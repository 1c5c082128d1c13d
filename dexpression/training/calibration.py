"""Fit class factors and a temperature, so that confidence is close to accuracy (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from fastai.learner import Learner
from fastcore.foundation import noop
from torch import Tensor
from torch.nn import functional

from dexpression.artifact.validation import FACTORS, TEMPERATURES
from dexpression.training.data import has_votes


def calibrate(learner: Learner) -> None:
    """Fit the class factors and the temperature on the valid split.

    The factors are fitted to labels and votes, mixed as `blend` says, the temperature to labels alone.
    """
    with learner.no_bar(), learner.removed_cbs([learner.recorder]):  # the recorder would forget the run
        logits, truth = learner.get_preds(act=noop)
    labels, *votes = truth if has_votes(learner.dls) else (truth,)
    loss, logits = learner.loss_func, logits.double()
    blended = functional.one_hot(labels, len(learner.dls.vocab)).double()
    if votes:
        blended = torch.lerp(blended, votes[0].double(), loss.blend)
    loss.class_factors = fit_class_factors(lambda factors: loss.probabilities(logits, 1.0, factors), blended)
    loss.temperature = fit_temperature(
        lambda temperature: loss.probabilities(logits, temperature, loss.class_factors), labels
    )


def fit_class_factors(probabilities: Callable[[Tensor], Tensor], truth: Tensor) -> Tensor:
    """Fit the class factors (C,) at which `probabilities(factors)` (N, C) maximise the likelihood of the truth (N, C).

    All labels weigh alike, as if they were equally frequent, so that rare ones are found. The factors correspond to the
    bias in bias-corrected temperature scaling (Alexandari et al. 2020, arXiv:1901.06852). Their geometric mean is
    1, and a label that does not occur keeps 1.
    """
    counts = truth.sum(dim=0)
    present = counts > 0
    weight = torch.where(present, 1 / counts, 0.0)
    log_factors = torch.zeros(len(counts), dtype=torch.double, requires_grad=True)

    def factors() -> Tensor:
        return torch.where(present, log_factors - log_factors[present].mean(), 0.0).exp()

    def loss() -> Tensor:
        likelihood = (truth * weight * probabilities(factors()).clamp(min=1e-30).log()).sum() / present.sum()
        return (log_factors.square() * weight).mean() - likelihood  # a prior: few faces move a factor little

    _minimise(loss, log_factors)
    return factors().detach().float().clamp(*FACTORS)


def fit_temperature(probabilities: Callable[[Tensor], Tensor], labels: Tensor) -> float:
    """Fit the temperature at which `probabilities(temperature)` (N, C) maximise the likelihood of the labels (N,)."""
    log_temperature = torch.zeros((), dtype=torch.double, requires_grad=True)
    _minimise(lambda: functional.nll_loss(probabilities(log_temperature.exp()).log(), labels), log_temperature)
    return float(log_temperature.detach().exp().clamp(*TEMPERATURES))


def _minimise(loss: Callable[[], Tensor], parameter: Tensor) -> None:
    optimizer = torch.optim.LBFGS([parameter], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    optimizer.step(closure)  # type: ignore[no-untyped-call]
