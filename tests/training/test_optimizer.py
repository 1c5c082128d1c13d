"""Muon's steps: equal to PyTorch's for hidden convolutions, as large as AdamW's, and AdamW's for all other weights."""

from __future__ import annotations

import pytest
import torch
from fastai.optimizer import Adam
from torch import Tensor, nn

from dexpression.training.optimizer import ADAM_STEP, muon, orthogonalise


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def first_step(weight: Tensor, gradient: Tensor, **hypers: float) -> Tensor:
    """The change of a weight by the first step."""
    parameter = nn.Parameter(weight.clone())
    parameter.grad = gradient
    muon([parameter], **{"lr": 0.1, "wd": 0.0} | hypers).step()
    return parameter.detach() - weight


@pytest.mark.parametrize(
    "shape",
    [(8, 16, 3, 3), (64, 4, 1, 1), (64, 3, 3, 3), (16, 16, 1, 1)],
    ids=["wide", "tall", "tall 3x3", "square"],
)
def test_the_steps_of_a_convolution_are_those_of_pytorchs_muon_on_its_matrix(shape, monkeypatch):
    # PyTorch orthogonalises in bfloat16, whose rounding moves a step by 1 to 4 %. In float32 both agree to 1e-5.
    monkeypatch.setattr(Tensor, "bfloat16", Tensor.clone)
    weight = torch.randn(shape)
    ours, reference = nn.Parameter(weight.clone()), nn.Parameter(weight.flatten(1).clone())
    optimizers = (
        muon([ours], lr=0.1, mom=0.95, wd=0.1),
        # This adjustment scales a step as we do, to the size of AdamW's.
        torch.optim.Muon([reference], lr=0.1, momentum=0.95, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(2):  # the first step does not depend on the momentum
        gradient, before = torch.randn(shape), reference.detach().clone()
        ours.grad, reference.grad = gradient.clone(), gradient.flatten(1).clone()
        for optimizer in optimizers:
            optimizer.step()
        difference = (ours.detach().flatten(1) - reference.detach()).norm()
        assert difference < 1e-4 * (reference.detach() - before).norm()


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (12, 12)])
def test_the_singular_values_of_an_orthogonalised_matrix_are_nearly_equal(shape):
    matrix = torch.randn(shape) * torch.logspace(0, -1, shape[1])
    before, after = (torch.linalg.svdvals(each) for each in (matrix, orthogonalise(matrix)))
    assert before.max() / before.min() > 4
    assert 0.5 < after.min() < after.max() < 1.3


def test_a_step_of_a_convolution_is_as_large_as_adamws_whatever_the_size_of_its_gradient():
    gradient = torch.randn(16, 8, 3, 3)
    steps = [first_step(torch.zeros(16, 8, 3, 3), scale * gradient) for scale in (1e-3, 1e3)]
    assert torch.allclose(*steps, atol=1e-4)
    assert steps[0].square().mean().sqrt() == pytest.approx(0.1 * ADAM_STEP, rel=0.2)
    assert (steps[0] * gradient).sum() < 0


@pytest.mark.parametrize("shape", [(16, 1, 3, 3), (7, 40), (40,)], ids=["first convolution", "linear", "norm"])
def test_weights_other_than_hidden_convolutions_get_the_steps_of_adamw(shape):
    gradient = torch.randn(shape)
    parameter = nn.Parameter(torch.zeros(shape))
    parameter.grad = gradient.clone()
    Adam([parameter], lr=0.1, mom=0.95, wd=0.0).step()
    assert torch.allclose(first_step(torch.zeros(shape), gradient), parameter.detach())


def test_weight_decay_is_added_to_the_step():
    weight, gradient = torch.randn(4, 4, 3, 3), torch.randn(4, 4, 3, 3)
    decay = first_step(weight, gradient, wd=0.5) - first_step(weight, gradient)
    assert torch.allclose(decay, -0.1 * 0.5 * weight, atol=1e-6)
