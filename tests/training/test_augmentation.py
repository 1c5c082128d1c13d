"""Augmentation changes each training face on its own, and leaves validation faces alone."""

from __future__ import annotations

import pytest
import torch
from fastai.torch_core import TensorImageBW
from fasttransform import Pipeline

from dexpression.training.augmentation import RandomShift, augmentations


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def equal_faces(count: int = 64) -> TensorImageBW:
    """A batch of one face, repeated: darker on the left, lighter on the right."""
    return TensorImageBW(torch.linspace(0.2, 0.8, 48).expand(count, 1, 48, 48).clone())


def test_each_face_of_a_batch_is_changed_differently():
    changed = Pipeline(augmentations(), split_idx=0)(equal_faces())
    assert changed.shape == (64, 1, 48, 48)
    assert len({face.numpy().tobytes() for face in changed}) == 64


def test_validation_faces_are_not_changed():
    assert torch.allclose(Pipeline(augmentations(), split_idx=1)(equal_faces()), equal_faces(), atol=1e-5)


def test_strength_0_only_flips_faces():
    plain = equal_faces()
    changed = Pipeline(augmentations(0.0), split_idx=0)(equal_faces())
    possible = {face.numpy().round(4).tobytes() for face in (plain[0], plain[0].flip(-1))}
    assert {face.numpy().round(4).tobytes() for face in changed} <= possible


def test_a_shift_moves_a_face_by_at_most_its_share_of_the_side():
    matrices = RandomShift(0.1)(equal_faces(1000))
    shifts = torch.Tensor(matrices)[:, :2, 2] / 2  # grid coordinates run from -1 to 1, so 2 is the whole side
    assert 0.09 < float(shifts.abs().max()) <= 0.1


def test_a_rotated_face_is_about_as_sharp_as_the_original():
    plain = TensorImageBW(torch.rand(256, 1, 12, 12).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3))
    rotated = Pipeline(augmentations()[:1], split_idx=0)(plain.clone())  # without lighting
    middle = slice(16, 32)  # away from the border, where rotation and shift bring in zeros
    sharpness = [faces[..., middle, middle].diff().square().mean() for faces in (plain, rotated)]
    assert sharpness[1] > 0.9 * sharpness[0]
