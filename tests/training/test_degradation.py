"""Degradations change some faces of a training batch, each on its own, and no validation face."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from fastai.torch_core import TensorImageBW
from torch import Tensor

from dexpression.network.transforms import MEAN, STD
from dexpression.training.callbacks import ProgressiveResizing
from dexpression.training.degradation import (
    Blur,
    Cover,
    Degradation,
    DegradeFaces,
    Erasing,
    Exposure,
    JpegArtefacts,
    Noise,
    Shrink,
    degradations,
)
from dexpression.training.distillation import KnowledgeDistillation
from dexpression.training.recipe import Recipe

ALL = [Blur, Cover, Exposure, JpegArtefacts, Noise, Shrink]
STRENGTHS = ("cover", "exposure", "blur", "shrink", "noise", "jpeg", "augmentation")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def checked_faces(count: int = 64) -> Tensor:
    """A batch of one face, repeated: squares of 4 pixels, dark and light."""
    squares = torch.tensor([0.2, 0.8]).repeat(6).repeat_interleave(4)
    return (squares[:, None] - squares[None]).abs().expand(count, 1, 48, 48).clone()


@pytest.mark.parametrize("kind", ALL)
def test_a_share_of_the_faces_is_degraded_each_in_its_own_way(kind):
    changed = kind(1.0, p=0.25)(checked_faces(200))
    differing = [
        face.numpy().tobytes()
        for face, plain in zip(changed, checked_faces(200), strict=True)
        if not torch.equal(face, plain)
    ]
    assert 30 < len(differing) < 70
    assert len(set(differing)) > 3  # faces are shrunk in four parts of a batch
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1


@pytest.mark.parametrize("kind", [*ALL, Erasing])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_batch_of_a_few_faces_keeps_its_shape_and_is_not_changed_in_place(kind, count):
    plain = checked_faces(count)
    degrade = kind(1.0)
    degrade.p = 1.0
    changed = degrade(plain)
    assert changed.shape == plain.shape
    assert torch.equal(plain, checked_faces(count))
    assert all(not torch.equal(face, before) for face, before in zip(changed, plain, strict=True))


@pytest.mark.parametrize("kind", [Blur, Exposure, Noise, Shrink])
def test_a_stronger_degradation_changes_more(kind):
    plain = checked_faces(200)
    changes = []
    for strength in (0.3, 1.0):
        torch.manual_seed(0)
        changes.append((kind(strength, p=1.0)(plain) - plain).abs().mean())
    assert changes[0] < changes[1]


def test_blur_keeps_the_brightness_and_takes_the_edges():
    plain = checked_faces()
    blurred = Blur(1.0, p=1.0)(plain)
    middle = slice(12, 36)
    assert float(blurred[..., middle, middle].mean()) == pytest.approx(
        float(plain[..., middle, middle].mean()), abs=0.01
    )
    assert blurred.diff().abs().mean() < 0.8 * plain.diff().abs().mean()


def test_erasing_replaces_a_rectangle_of_the_given_size_in_half_of_the_faces():
    plain = torch.zeros(1000, 1, 48, 48)
    erased = (Erasing(1.0, min_side=0.2, max_side=0.4)(plain) != 0).float().mean(dim=(1, 2, 3))
    assert 0.45 < (erased > 0).float().mean() < 0.55
    assert erased[erased > 0].min() > 0.03
    assert erased.max() < 0.17


def test_a_degradation_of_strength_0_is_left_out():
    none = Recipe(**dict.fromkeys(STRENGTHS, 0.0))
    assert degradations(none) == []
    assert [type(one) for one in degradations(dataclasses.replace(none, blur=1.0, noise=0.5))] == [Blur, Noise]
    assert len(degradations(Recipe())) == len(STRENGTHS)


class Darken(Degradation):
    """Sets all faces to a tenth of the light."""

    def degrade(self, faces: Tensor) -> Tensor:
        return faces / 10


def degraded(faces: Tensor, *degradations: Degradation, training: bool = True) -> SimpleNamespace:
    """Apply DegradeFaces to a batch of normalised faces."""
    callback = DegradeFaces(degradations)
    callback.learn = SimpleNamespace(training=training, xb=(faces, "more"))
    callback.before_batch()
    return callback.learn


def test_normalised_training_faces_are_degraded_in_0_to_1_and_normalised_again():
    faces = TensorImageBW((checked_faces(4) - MEAN) / STD)
    batch = degraded(faces, Darken(1.0, p=1.0))
    assert torch.allclose(torch.Tensor(batch.xb[0]) * STD + MEAN, checked_faces(4) / 10, atol=1e-6)
    assert (type(batch.xb[0]), batch.xb[1]) == (TensorImageBW, "more")


@pytest.mark.parametrize(("training", "degrade"), [(False, [Darken(1.0, p=1.0)]), (True, [])])
def test_validation_faces_are_never_degraded_and_nothing_is_changed_without_degradations(training, degrade):
    faces = TensorImageBW((checked_faces(4) - MEAN) / STD)
    assert degraded(faces, *degrade, training=training).xb[0] is faces


def test_a_teacher_sees_faces_before_they_are_degraded_and_a_network_after_they_are_shrunk():
    assert KnowledgeDistillation.order < DegradeFaces.order < ProgressiveResizing.order
