"""Shares, temperatures and class factors are found again where they are known, for each reading by its own truth."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dexpression.network.loss import EmotionLoss, Readout, default_readouts
from dexpression.training.calibration import calibrate, fit_class_factors, fit_readout, fit_temperature
from dexpression.training.face_set import Face

VOCABULARY = ["ANGRY", "HAPPY", "SAD"]
COLUMNS = {"ANGRY": "anger", "HAPPY": "happiness", "SAD": "sadness"}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def drawn(logits: Tensor) -> Tensor:
    """Labels (N,) that these logits (N, C) are calibrated for."""
    return torch.distributions.Categorical(logits=logits).sample()


def random_logits(faces: int, labels: int, scale: float = 2.0) -> Tensor:
    return torch.randn(faces, labels, dtype=torch.double) * scale


def class_factors(logits: Tensor, truth: Tensor) -> Tensor:
    """Class factors for logits (N, C) at temperature 1."""
    return fit_class_factors(Readout(), logits, truth)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_the_logits_were_multiplied_by_is_found(temperature):
    logits = random_logits(20_000, 5)
    _, share, found = fit_temperature(Readout(), 0.0, logits * temperature, drawn(logits))
    assert (share, found) == (0.0, pytest.approx(temperature, rel=0.05))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_the_votes_that_the_truth_was_drawn_with_is_found(share):
    logits = random_logits(20_000, 10).reshape(20_000, 2, 5)
    both = logits.softmax(dim=2)
    truth = drawn(torch.lerp(both[:, 0], both[:, 1], share).log())
    readout = Readout()
    fit_readout(readout, logits, truth)
    assert (readout.vote_share, readout.temperature) == pytest.approx((share, 1.0), abs=0.051)


def test_one_head_has_no_share_of_votes():
    readout = Readout()
    fit_readout(readout, random_logits(500, 3), torch.zeros(500, dtype=torch.long))
    assert readout.vote_share == 0


def test_the_factors_that_the_probabilities_were_divided_by_are_found():
    logits = random_logits(20_000, 4)
    factors = torch.tensor([2.0, 0.5, 0.25, 4.0], dtype=torch.double)
    assert class_factors(logits - factors.log(), drawn(logits)).tolist() == pytest.approx(factors.tolist(), rel=0.1)


def test_a_rare_label_gets_the_same_recall_as_a_frequent_one():
    truth = (torch.rand(20_000) < 0.05).long()
    logits = random_logits(20_000, 2, scale=1.0) + functional.one_hot(truth, 2)
    logits += torch.tensor([3.0, 0.0])  # as of a network that finds the rare label even less often
    predicted = Readout(class_factors=class_factors(logits, truth))(logits).argmax(dim=1)
    recalls = [float((predicted[truth == label] == label).double().mean()) for label in (0, 1)]
    assert recalls[1] == pytest.approx(recalls[0], abs=0.03)


def test_a_single_face_of_a_label_moves_its_factor_little():
    logits = random_logits(2_000, 3, scale=1.0)
    truth = drawn(logits[:, :2])
    truth[0], logits[0] = 2, torch.tensor([1.0, 1.0, -2.0])
    assert 0.5 < class_factors(logits, truth)[2] < 2


def test_a_label_without_faces_keeps_the_factor_1():
    logits = random_logits(200, 3, scale=1.0)
    factors = class_factors(logits, drawn(logits[:, :2]))
    assert factors[2] == 1
    assert bool(factors.isfinite().all())


def test_class_factors_are_kept_if_they_raise_the_accuracy_on_other_faces():
    logits = random_logits(4_000, 4)
    readout = Readout()
    fit_readout(readout, logits - torch.tensor([3.0, -3.0, 0.0, 0.0]), drawn(logits))
    assert readout.class_factors is not None
    assert readout.class_factors[0] > 4 * readout.class_factors[1]


def test_class_factors_that_do_not_raise_the_accuracy_on_other_faces_are_not_kept():
    """Equal recall costs accuracy where one label is far more frequent than the others, as the logits know already."""
    logits = random_logits(4_000, 4, scale=1.0) + torch.tensor([3.0, 0.0, 0.0, 0.0])
    truth = drawn(logits)
    readout = Readout(class_factors=torch.ones(4))
    fit_readout(readout, logits, truth)
    assert readout.class_factors is None
    assert not torch.allclose(class_factors(logits, truth), torch.ones(4), atol=0.5)  # there were some to keep


@pytest.mark.parametrize("faces", [1, 2, 3])
def test_a_few_faces_give_a_finite_readout(faces):
    readout, logits = Readout(), random_logits(faces, 14).reshape(faces, 2, 7)
    fit_readout(readout, logits, torch.arange(faces))
    assert bool(readout(logits).isfinite().all())


def face_of(label: str, seen: str | None) -> Face:
    """A face with a label and eight of ten FER+ votes for what people see; without votes for None."""
    return Face("0.png", label, "valid", None, votes={COLUMNS[seen]: 8, "unknown": 2} if seen else None)


def calibrated(faces: list[Face], logits: Tensor, with_votes: bool = True) -> EmotionLoss:
    """The loss of a learner with two heads after `calibrate`; `logits` are those of its valid split, `faces`."""
    learner = SimpleNamespace(
        no_bar=nullcontext,
        removed_cbs=nullcontext,
        recorder=None,
        get_preds=lambda act: (act(logits),),
        loss_func=EmotionLoss(readouts=default_readouts(heads=2)),
        dls=SimpleNamespace(
            vocab=VOCABULARY,
            valid_ds=SimpleNamespace(items=faces),
            train_ds=SimpleNamespace(tls=["faces", "labels", "votes"][: 3 if with_votes else 2]),
        ),
    )
    calibrate(learner)
    return learner.loss_func


@pytest.fixture
def two_truths() -> tuple[list[Face], Tensor]:
    """Faces whose labels the first head knows, at temperature 2, and whose votes the second one, at temperature 0.5."""
    by_label, by_votes = random_logits(3_000, 3), random_logits(3_000, 3)
    pairs = zip(drawn(by_label).tolist(), drawn(by_votes).tolist(), strict=True)
    faces = [face_of(VOCABULARY[label], VOCABULARY[seen]) for label, seen in pairs]
    return faces, torch.stack([2 * by_label, 0.5 * by_votes], dim=1)


def test_labels_are_fitted_to_the_labels_and_people_to_the_majority_vote(two_truths):
    readouts = calibrated(*two_truths).readouts
    assert readouts["labels"].vote_share == pytest.approx(0, abs=0.051)
    assert readouts["labels"].temperature == pytest.approx(2, rel=0.1)
    assert readouts["people"].vote_share == pytest.approx(1, abs=0.051)
    assert readouts["people"].temperature == pytest.approx(0.5, rel=0.1)


def test_faces_without_a_majority_vote_for_one_of_the_labels_do_not_fit_people(two_truths):
    faces, logits = two_truths
    no_majority = [None, {"fear": 10}, {"unknown": 10}, {"anger": 5, "sadness": 5}]
    others = [replace(face, votes=no_majority[number % 4]) for number, face in enumerate(faces)]
    confusing = torch.randn(len(others), 2, 3, dtype=torch.double) * 50
    expected = calibrated(faces, logits).readouts["people"]
    people = calibrated(faces + others, torch.cat([logits, confusing])).readouts["people"]
    assert (people.vote_share, people.temperature) == (expected.vote_share, expected.temperature)


@pytest.mark.parametrize("with_votes", [True, False], ids=["no majority", "no votes"])
def test_without_a_majority_vote_people_stays_the_head_of_the_votes(two_truths, with_votes):
    faces, logits = two_truths
    unseen = [replace(face, votes={"fear": 10}) if with_votes else replace(face, votes=None) for face in faces]
    loss = calibrated(unseen, logits, with_votes)
    people, labels = loss.readouts["people"], loss.readouts["labels"]
    assert (people.vote_share, people.temperature, people.class_factors) == (1.0, 1.0, None)
    assert labels.temperature == pytest.approx(2, rel=0.1)
