"""Muon for the convolutions and AdamW for the rest, as one fastai optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import sqrt
from typing import Any

import torch
from fastai.optimizer import Optimizer, adam_step, average_grad, average_sqr_grad, step_stat, weight_decay
from torch import Tensor

# Quintic Newton-Schulz iteration, Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon): the steepest slope at
# 0 with which singular values still end near 1.
COEFFICIENTS = 3.4445, -4.7750, 2.0315
ITERATIONS = 5
ADAM_STEP = 0.2  # root mean square of AdamW's steps, in learning rates; Liu et al. 2025 (arXiv:2502.16982)


def muon(params: Sequence[Any], lr: float, mom: float = 0.95, wd: float = 0.01) -> Optimizer:
    """An optimizer whose steps turn and stretch all directions of a convolution alike (Muon, Jordan et al. 2024).

    Steps are of AdamW's size, so that one learning rate and one decoupled weight decay fit all weights.
    """
    steps = [weight_decay, partial(average_grad, dampening=True), average_sqr_grad, step_stat]
    return Optimizer(params, [*steps, _muon_step], lr=lr, mom=mom, sqr_mom=0.99, eps=1e-5, wd=wd)


def _muon_step(p: Tensor, lr: float, mom: float, grad_avg: Tensor, **state: Any) -> None:
    if p.dim() != 4 or p.shape[1] == 1:  # the first convolution reads pixels: like the last layer, it is AdamW's
        adam_step(p, lr, mom, grad_avg=grad_avg, **state)
        return
    ahead = p.grad.lerp(grad_avg, mom)  # type: ignore[union-attr]  # Nesterov's
    step = orthogonalise(ahead.flatten(1))
    p.data.add_(step.reshape(p.shape), alpha=-lr * ADAM_STEP * sqrt(max(step.shape)))


def orthogonalise(matrix: Tensor) -> Tensor:
    """(rows, columns) -> the same with every singular value between about 0.7 and 1.2.

    The iterations multiply the matrix by polynomials of its square alone, so they are made of the square, which is
    small: in float32 they take half the time.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x: Tensor = wide / (wide.norm() + 1e-7)
    square = x @ x.T
    identity = factor = torch.eye(len(square), dtype=square.dtype, device=square.device)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        polynomial = a * identity + b * square + c * square @ square
        factor = polynomial @ factor
        square = polynomial @ square @ polynomial
    x = factor @ x
    return x if wide is matrix else x.T
