"""The loss between the label and the votes."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from dexpression.loss import EmotionLoss

LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3]])
LABELS = torch.tensor([0, 2])
SHARES = torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.0, 0.0]])


def test_without_votes_it_is_smoothed_cross_entropy():
    expected = functional.cross_entropy(LOGITS, LABELS, label_smoothing=0.1)
    assert EmotionLoss(0.1)(LOGITS, LABELS).item() == pytest.approx(expected.item())


def test_votes_replace_the_label_by_their_weight():
    target = torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]])  # nobody voted on the second face
    expected = functional.cross_entropy(LOGITS, target)
    assert EmotionLoss(votes=0.5)(LOGITS, LABELS, SHARES).item() == pytest.approx(expected.item())


def test_class_weights_scale_what_a_label_costs():
    weights = torch.tensor([3.0, 1.0, 0.5])
    alone = functional.cross_entropy(LOGITS, LABELS, reduction="none")
    weighted = EmotionLoss(reduction="none", class_weights=weights)(LOGITS, LABELS)
    assert weighted.tolist() == pytest.approx((alone * weights[LABELS]).tolist())


def test_a_loss_a_face_is_what_the_worst_mistakes_are_found_by():
    assert EmotionLoss(reduction="none")(LOGITS, LABELS).shape == (2,)
