"""The loss on labels and votes, and the probabilities of one head or two."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from dexpression.network.loss import EmotionLoss, Readout, default_readouts

LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3]])
BOTH_HEADS = torch.stack([LOGITS, LOGITS.flip(1)], dim=1)
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


@pytest.mark.parametrize(("vote_share", "temperature"), [(0.0, 1.0), (0.25, 2.0), (1.0, 0.5)])
def test_a_readout_averages_both_heads_at_one_temperature(vote_share, temperature):
    by_label, by_votes = (logits.div(temperature).softmax(1) for logits in (LOGITS, LOGITS.flip(1)))
    assert torch.allclose(
        Readout(vote_share, temperature)(BOTH_HEADS), (1 - vote_share) * by_label + vote_share * by_votes
    )


def test_a_readout_multiplies_by_the_class_factors_and_its_probabilities_sum_to_one():
    factors = torch.tensor([1.0, 4.0, 0.5])
    expected = LOGITS.softmax(1) * factors
    assert torch.allclose(Readout(class_factors=factors)(LOGITS), expected / expected.sum(1, keepdim=True))


def test_each_readout_gives_its_own_probabilities_and_the_first_is_the_default():
    people = Readout(1.0, 2.0, torch.tensor([1.0, 4.0, 0.5]))
    labels = Readout(0.15, 0.5)
    loss = EmotionLoss(readouts={"people": people, "labels": labels})
    of_people, of_labels = loss.probabilities(BOTH_HEADS)
    assert torch.equal(of_people, people(BOTH_HEADS))
    assert torch.equal(of_labels, labels(BOTH_HEADS))
    assert torch.equal(loss.activation(BOTH_HEADS), of_people)
    assert not torch.allclose(of_people, of_labels, atol=0.1)


def test_before_calibration_each_reading_is_one_head():
    loss = EmotionLoss(readouts=default_readouts(heads=2))
    assert list(loss.readouts) == ["people", "labels"]
    people, labels = loss.probabilities(BOTH_HEADS)
    assert torch.equal(people, LOGITS.flip(1).softmax(1))
    assert torch.equal(labels, LOGITS.softmax(1))


def test_a_network_with_one_head_has_the_reading_of_the_labels_alone():
    assert list(default_readouts(heads=1)) == list(EmotionLoss().readouts) == ["labels"]
    assert torch.equal(EmotionLoss().activation(LOGITS), LOGITS.softmax(1))


def test_class_weights_scale_the_loss_of_each_label():
    weights = torch.tensor([3.0, 1.0, 0.5])
    unweighted = functional.cross_entropy(LOGITS, LABELS, reduction="none")
    weighted = EmotionLoss(reduction="none", class_weights=weights)(LOGITS, LABELS)
    assert weighted.tolist() == pytest.approx((unweighted * weights[LABELS]).tolist())


def test_without_reduction_there_is_one_loss_a_face():
    assert EmotionLoss(reduction="none")(LOGITS, LABELS).shape == (2,)
