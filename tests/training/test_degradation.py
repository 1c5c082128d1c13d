"""Degradations change some faces of a training batch, each on its own, and no validation face."""

from __future__ import annotations

import pytest
import torch
from fastai.torch_core import TensorImageBW

from dexpression.training.degradation import Blur, Cover, Exposure, JpegArtefacts, Noise, Shrink, degradations

ALL = [Blur, Cover, Exposure, JpegArtefacts, Noise, Shrink]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def checked_faces(count: int = 64) -> TensorImageBW:
    """A batch of one face, repeated: squares of 4 pixels, dark and light."""
    squares = torch.tensor([0.2, 0.8]).repeat(6).repeat_interleave(4)
    return TensorImageBW((squares[:, None] - squares[None]).abs().expand(count, 1, 48, 48).clone())


@pytest.mark.parametrize("kind", ALL)
def test_a_share_of_the_faces_is_degraded_each_in_its_own_way(kind):
    changed = kind(1.0, p=0.25)(checked_faces(200), split_idx=0)
    differing = [
        face.numpy().tobytes()
        for face, plain in zip(changed, checked_faces(200), strict=True)
        if not torch.equal(face, plain)
    ]
    assert 30 < len(differing) < 70
    assert len(set(differing)) > 3  # faces are shrunk in four parts of a batch
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1


@pytest.mark.parametrize("kind", ALL)
def test_neither_validation_faces_nor_labels_are_degraded(kind):
    degrade = kind(1.0, p=1.0)
    assert torch.equal(degrade(checked_faces(), split_idx=1), checked_faces())
    labels = torch.tensor([1, 2])
    assert degrade(labels, split_idx=0) is labels


@pytest.mark.parametrize("kind", [Blur, Exposure, Noise, Shrink])
def test_a_stronger_degradation_changes_more(kind):
    plain = checked_faces(200)
    changes = []
    for strength in (0.3, 1.0):
        torch.manual_seed(0)
        changes.append((kind(strength, p=1.0)(plain.clone(), split_idx=0) - plain).abs().mean())
    assert changes[0] < changes[1]


def test_blur_keeps_the_brightness_and_takes_the_edges():
    plain = checked_faces()
    blurred = Blur(1.0, p=1.0)(plain.clone(), split_idx=0)
    middle = slice(12, 36)
    assert float(blurred[..., middle, middle].mean()) == pytest.approx(
        float(plain[..., middle, middle].mean()), abs=0.01
    )
    assert blurred.diff().abs().mean() < 0.8 * plain.diff().abs().mean()


def test_a_degradation_of_strength_0_is_left_out():
    assert degradations() == []
    assert [type(one) for one in degradations(blur=1.0, noise=0.5)] == [Blur, Noise]
