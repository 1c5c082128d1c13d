"""Muon for hidden convolutions and AdamW for all other weights, as one fastai optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import sqrt
from typing import Any

import torch
from fastai.optimizer import Optimizer, adam_step, average_grad, average_sqr_grad, step_stat, weight_decay
from torch import Tensor

# Quintic Newton-Schulz iteration of Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon): these have the
# steepest slope at 0 with which singular values still end near 1.
COEFFICIENTS = 3.4445, -4.7750, 2.0315
ITERATIONS = 5
ADAM_STEP = 0.2  # root mean square of AdamW's steps, in units of the learning rate (Liu et al. 2025, arXiv:2502.16982)


def muon(params: Sequence[Any], lr: float, mom: float = 0.95, wd: float = 0.01) -> Optimizer:
    """Create a fastai optimizer that orthogonalises the steps of hidden convolutions (Muon, Jordan et al. 2024).

    All other weights get AdamW's steps. Muon's steps are scaled to the size of AdamW's, so that one learning rate and
    one decoupled weight decay fit all weights.
    """
    steps = [weight_decay, partial(average_grad, dampening=True), average_sqr_grad, step_stat]
    return Optimizer(params, [*steps, _muon_step], lr=lr, mom=mom, sqr_mom=0.99, eps=1e-5, wd=wd)


def _muon_step(p: Tensor, lr: float, mom: float, grad_avg: Tensor, **state: Any) -> None:
    if p.dim() != 4 or p.shape[1] == 1:  # as is usual, the first convolution and the last layer use AdamW
        adam_step(p, lr, mom, grad_avg=grad_avg, **state)
        return
    gradient = p.grad.lerp(grad_avg, mom)  # type: ignore[union-attr]  # Nesterov momentum
    step = orthogonalise(gradient.flatten(1))
    p.data.add_(step.reshape(p.shape), alpha=-lr * ADAM_STEP * sqrt(max(step.shape)))


def orthogonalise(matrix: Tensor) -> Tensor:
    """Bring every singular value of a matrix (rows, columns) to between about 0.7 and 1.2.

    Each iteration multiplies the matrix by a polynomial of its Gram matrix. So the iterations run on the small Gram
    matrix alone, which takes half the time in float32.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x: Tensor = wide / (wide.norm() + 1e-7)
    gram = x @ x.T
    identity = factor = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        polynomial = a * identity + b * gram + c * gram @ gram
        factor = polynomial @ factor
        gram = polynomial @ gram @ polynomial
    x = factor @ x
    return x if wide is matrix else x.T
