"""Muon's steps: all directions of a convolution alike, AdamW's size, and AdamW for what is no convolution."""

from __future__ import annotations

import pytest
import torch
from fastai.optimizer import Adam
from torch import Tensor, nn

from dexpression.training.optimizer import ADAM_STEP, muon, orthogonalise


def one_step(weight: Tensor, gradient: Tensor, **hypers: float) -> Tensor:
    """How far the first step moves a weight."""
    parameter = nn.Parameter(weight.clone())
    parameter.grad = gradient
    muon([parameter], **{"lr": 0.1, "wd": 0.0} | hypers).step()
    return parameter.detach() - weight


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (12, 12)])
def test_all_directions_of_a_matrix_come_out_nearly_alike(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape) * torch.logspace(0, -1, shape[1])
    before, after = (torch.linalg.svdvals(each) for each in (matrix, orthogonalise(matrix)))
    assert before.max() / before.min() > 4
    assert 0.5 < after.min() < after.max() < 1.3


def test_a_convolutions_step_is_as_large_as_adamws_however_large_its_gradient():
    torch.manual_seed(0)
    gradient = torch.randn(16, 8, 3, 3)
    steps = [one_step(torch.zeros(16, 8, 3, 3), scale * gradient) for scale in (1e-3, 1e3)]
    assert torch.allclose(*steps, atol=1e-4)
    assert steps[0].square().mean().sqrt() == pytest.approx(0.1 * ADAM_STEP, rel=0.2)
    assert (steps[0] * gradient).sum() < 0


@pytest.mark.parametrize("shape", [(16, 1, 3, 3), (7, 40), (40,)], ids=["first convolution", "linear", "norm"])
def test_what_is_no_hidden_convolution_learns_by_adamw(shape):
    torch.manual_seed(0)
    gradient = torch.randn(shape)
    parameter = nn.Parameter(torch.zeros(shape))
    parameter.grad = gradient.clone()
    Adam([parameter], lr=0.1, mom=0.95, wd=0.0).step()
    assert torch.allclose(one_step(torch.zeros(shape), gradient), parameter.detach())


def test_weights_decay_beside_the_step():
    torch.manual_seed(0)
    weight, gradient = torch.randn(4, 4, 3, 3), torch.randn(4, 4, 3, 3)
    decayed = one_step(weight, gradient, wd=0.5) - one_step(weight, gradient)
    assert torch.allclose(decayed, -0.1 * 0.5 * weight, atol=1e-6)
