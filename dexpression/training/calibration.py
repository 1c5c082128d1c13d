"""Fit the readout of each reading to its own truth, so that confidence is close to accuracy (Guo et al. 2017).

The methods are those of arXiv:1706.04599 and arXiv:1901.06852.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from fastai.learner import Learner
from fastcore.foundation import noop
from torch import Tensor
from torch.nn import functional

from dexpression.artifact.validation import FACTORS, TEMPERATURES
from dexpression.labels import LABELS_READING, ReadingName
from dexpression.network.loss import Readout
from dexpression.training.data import has_votes
from dexpression.training.face_set import Face

VOTE_SHARES = [number / 20 for number in range(21)]


def calibrate(learner: Learner) -> None:
    """Fit every readout on the valid split: `labels` to the labels, `people` to the FER+ majority vote.

    Without votes, or if no face of the split has a majority, `people` stays as it is.
    """
    with learner.no_bar(), learner.removed_cbs([learner.recorder]):  # the recorder would forget the run
        logits = learner.get_preds(act=noop)[0].double()
    faces, vocabulary = learner.dls.valid_ds.items, list(learner.dls.vocab)
    for reading, readout in learner.loss_func.readouts.items():
        if reading != LABELS_READING and not has_votes(learner.dls):
            continue
        truth = torch.tensor([_index(face, cast(ReadingName, reading), vocabulary) for face in faces])
        if (truth >= 0).any():
            fit_readout(readout, logits[truth >= 0], truth[truth >= 0])


def _index(face: Face, reading: ReadingName, vocabulary: list[str]) -> int:
    """The index of the true label of a face; -1 if it has none."""
    label = face.with_truth(reading).label
    return vocabulary.index(label) if label in vocabulary else -1


def fit_readout(readout: Readout, logits: Tensor, truth: Tensor) -> None:
    """Fit share, temperature and class factors to logits (N, C) or (N, 2, C) and the true labels (N,).

    The share and the temperature have the highest likelihood. Class factors are kept if they raise the accuracy on
    faces that they were not fitted to.
    """
    candidates = [fit_temperature(readout, share, logits, truth) for share in _possible_shares(logits)]
    _, readout.vote_share, readout.temperature = min(candidates)
    readout.class_factors = None
    if _class_factors_pay(readout, logits, truth):
        readout.class_factors = fit_class_factors(readout, logits, truth)
        _, _, readout.temperature = fit_temperature(readout, readout.vote_share, logits, truth)


def _possible_shares(logits: Tensor) -> list[float]:
    return [0.0] if logits.dim() == 2 else VOTE_SHARES


def fit_temperature(readout: Readout, share: float, logits: Tensor, truth: Tensor) -> tuple[float, float, float]:
    """Fit the temperature at this share, with the readout's class factors; returns the loss, the share and it."""
    log_temperature = torch.zeros((), dtype=torch.double, requires_grad=True)
    fitted = Readout(share)

    def loss() -> Tensor:
        probabilities = fitted.probabilities(logits, log_temperature.exp(), readout.class_factors)
        return functional.nll_loss(probabilities.clamp(min=1e-30).log(), truth)

    _minimise(loss, log_temperature)
    return float(loss().detach()), share, float(log_temperature.detach().exp().clamp(*TEMPERATURES))


def fit_class_factors(readout: Readout, logits: Tensor, truth: Tensor) -> Tensor:
    """Fit class factors (C,) that maximise the likelihood of the truth (N,), at the readout's share and temperature.

    All labels weigh alike, as if they were equally frequent, so that rare ones are found. The factors correspond to the
    bias in bias-corrected temperature scaling (Alexandari et al. 2020). Their geometric mean is 1, and a label that
    does not occur keeps 1.
    """
    counts = torch.bincount(truth, minlength=logits.shape[-1]).double()
    present = counts > 0
    weight = torch.where(present, 1 / counts, 0.0)
    log_factors = torch.zeros(len(counts), dtype=torch.double, requires_grad=True)

    def factors() -> Tensor:
        return torch.where(present, log_factors - log_factors[present].mean(), 0.0).exp()

    def loss() -> Tensor:
        probabilities = readout.probabilities(logits, readout.temperature, factors()).clamp(min=1e-30)
        likelihood = (weight[truth] * probabilities.log().gather(1, truth[:, None])[:, 0]).sum() / present.sum()
        return (log_factors.square() * weight).mean() - likelihood  # a prior: few faces move a factor little

    _minimise(loss, log_factors)
    return factors().detach().float().clamp(*FACTORS)


def _class_factors_pay(readout: Readout, logits: Tensor, truth: Tensor) -> bool:
    """Whether factors that are fitted to one half of the faces raise the accuracy on the other half."""
    plain, corrected = 0, 0
    even, odd = slice(0, None, 2), slice(1, None, 2)
    for part, other in ((even, odd), (odd, even)):
        factors = fit_class_factors(readout, logits[part], truth[part])
        plain += _count_right(readout.probabilities(logits[other], readout.temperature, None), truth[other])
        corrected += _count_right(readout.probabilities(logits[other], readout.temperature, factors), truth[other])
    return corrected > plain


def _count_right(probabilities: Tensor, truth: Tensor) -> int:
    return int((probabilities.argmax(dim=1) == truth).sum())


def _minimise(loss: Callable[[], Tensor], parameter: Tensor) -> None:
    optimizer = torch.optim.LBFGS([parameter], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    optimizer.step(closure)  # type: ignore[no-untyped-call]
