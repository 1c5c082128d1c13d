"""The loss on labels and votes, and the probabilities of one head or two."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from dexpression.network.loss import EmotionLoss

LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3]])
LABELS = torch.tensor([0, 2])
VOTES = torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.0, 0.0]])  # distributions; the second face has no votes


def test_the_loss_without_votes_is_smoothed_cross_entropy():
    expected = functional.cross_entropy(LOGITS, LABELS, label_smoothing=0.1)
    assert EmotionLoss(0.1)(LOGITS, LABELS).item() == pytest.approx(expected.item())


def test_the_loss_of_two_heads_is_a_weighted_sum_over_labels_and_votes():
    by_label, by_votes = LOGITS, LOGITS.flip(1)
    on_votes = functional.cross_entropy(by_votes[:1], VOTES[:1]) / 2  # the mean of two faces, one without votes
    expected = functional.cross_entropy(by_label, LABELS) + 0.5 * on_votes
    both = torch.stack([by_label, by_votes], dim=1)
    assert EmotionLoss(vote_weight=0.5)(both, LABELS, VOTES).item() == pytest.approx(expected.item())


def test_the_second_head_gets_no_gradient_without_votes():
    both = torch.stack([LOGITS, LOGITS], dim=1).requires_grad_()
    EmotionLoss()(both, LABELS).backward()
    assert both.grad[:, 0].abs().sum() > 0
    assert both.grad[:, 1].abs().sum() == 0


def test_a_network_with_one_head_ignores_the_votes():
    assert torch.equal(EmotionLoss()(LOGITS, LABELS, VOTES), EmotionLoss()(LOGITS, LABELS))


@pytest.mark.parametrize(("blend", "temperature"), [(0.0, 1.0), (0.25, 2.0), (1.0, 0.5)])
def test_the_probabilities_are_a_blend_of_both_heads_at_one_temperature(blend, temperature):
    by_votes = LOGITS.flip(1)
    probabilities = EmotionLoss(blend=blend, temperature=temperature).activation(torch.stack([LOGITS, by_votes], dim=1))
    by_label, by_votes = (logits.div(temperature).softmax(1) for logits in (LOGITS, by_votes))
    assert torch.allclose(probabilities, (1 - blend) * by_label + blend * by_votes)


def test_probabilities_are_multiplied_by_the_class_factors_and_sum_to_one():
    factors = torch.tensor([1.0, 4.0, 0.5])
    expected = LOGITS.softmax(1) * factors
    probabilities = EmotionLoss(class_factors=factors).activation(LOGITS)
    assert torch.allclose(probabilities, expected / expected.sum(1, keepdim=True))


def test_class_weights_scale_the_loss_of_each_label():
    weights = torch.tensor([3.0, 1.0, 0.5])
    unweighted = functional.cross_entropy(LOGITS, LABELS, reduction="none")
    weighted = EmotionLoss(reduction="none", class_weights=weights)(LOGITS, LABELS)
    assert weighted.tolist() == pytest.approx((unweighted * weights[LABELS]).tolist())


def test_without_reduction_there_is_one_loss_a_face():
    assert EmotionLoss(reduction="none")(LOGITS, LABELS).shape == (2,)
