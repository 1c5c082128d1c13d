"""The loss on the label and on the votes, and the answer of two heads."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from dexpression.network.loss import EmotionLoss

LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3]])
LABELS = torch.tensor([0, 2])
SHARES = torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.0, 0.0]])


def test_without_votes_it_is_smoothed_cross_entropy():
    expected = functional.cross_entropy(LOGITS, LABELS, label_smoothing=0.1)
    assert EmotionLoss(0.1)(LOGITS, LABELS).item() == pytest.approx(expected.item())


def test_each_head_learns_its_own_truth():
    by_label, by_votes = LOGITS, LOGITS.flip(1)
    on_votes = functional.cross_entropy(by_votes[:1], SHARES[:1]) / 2  # nobody voted on the second face
    expected = functional.cross_entropy(by_label, LABELS) + 0.5 * on_votes
    both = torch.stack([by_label, by_votes], dim=1)
    assert EmotionLoss(vote_weight=0.5)(both, LABELS, SHARES).item() == pytest.approx(expected.item())


def test_without_votes_the_second_head_learns_nothing():
    both = torch.stack([LOGITS, LOGITS], dim=1).requires_grad_()
    EmotionLoss()(both, LABELS).backward()
    assert both.grad[:, 0].abs().sum() > 0
    assert both.grad[:, 1].abs().sum() == 0


def test_one_head_leaves_the_votes_aside():
    assert torch.equal(EmotionLoss()(LOGITS, LABELS, SHARES), EmotionLoss()(LOGITS, LABELS))


@pytest.mark.parametrize(("blend", "temperature"), [(0.0, 1.0), (0.25, 2.0), (1.0, 0.5)])
def test_the_answer_is_a_blend_of_both_heads_at_its_temperature(blend, temperature):
    by_votes = LOGITS.flip(1)
    answer = EmotionLoss(blend=blend, temperature=temperature).activation(torch.stack([LOGITS, by_votes], dim=1))
    by_label, by_votes = (logits.div(temperature).softmax(1) for logits in (LOGITS, by_votes))
    assert torch.allclose(answer, (1 - blend) * by_label + blend * by_votes)


def test_the_answer_is_weighed_label_by_label_and_sums_to_one():
    factors = torch.tensor([1.0, 4.0, 0.5])
    expected = LOGITS.softmax(1) * factors
    answer = EmotionLoss(class_factors=factors).activation(LOGITS)
    assert torch.allclose(answer, expected / expected.sum(1, keepdim=True))


def test_class_weights_scale_what_a_label_costs():
    weights = torch.tensor([3.0, 1.0, 0.5])
    alone = functional.cross_entropy(LOGITS, LABELS, reduction="none")
    weighted = EmotionLoss(reduction="none", class_weights=weights)(LOGITS, LABELS)
    assert weighted.tolist() == pytest.approx((alone * weights[LABELS]).tolist())


def test_a_loss_a_face_is_what_the_worst_mistakes_are_found_by():
    assert EmotionLoss(reduction="none")(LOGITS, LABELS).shape == (2,)
