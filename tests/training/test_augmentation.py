"""Training faces are changed one by one, and stay faces."""

from __future__ import annotations

import pytest
import torch
from fastai.torch_core import TensorImageBW
from fasttransform import Pipeline

from dexpression.training.augmentation import RandomErasing, RandomShift, augmentations


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def batch(count: int = 64) -> TensorImageBW:
    return TensorImageBW(torch.linspace(0.2, 0.8, 48).expand(count, 1, 48, 48).clone())


def test_every_image_of_a_batch_is_changed_on_its_own():
    changed = Pipeline(augmentations(), split_idx=0)(batch())
    assert changed.shape == (64, 1, 48, 48)
    assert len({image.numpy().tobytes() for image in changed}) == 64


def test_validation_faces_are_left_as_they_are():
    assert torch.allclose(Pipeline(augmentations(), split_idx=1)(batch()), batch(), atol=1e-5)


def test_at_strength_nothing_a_face_is_at_most_mirrored():
    plain = batch()
    views = {view.numpy().round(4).tobytes() for view in (plain[0], plain[0].flip(-1))}
    assert {image.numpy().round(4).tobytes() for image in Pipeline(augmentations(0.0), split_idx=0)(batch())} <= views


def test_a_shift_moves_by_no_more_than_its_share_of_the_side():
    matrices = RandomShift(0.1)(batch(1000))
    shifts = torch.Tensor(matrices)[:, :2, 2] / 2  # grid coordinates run from -1 to 1, so 2 is the whole side
    assert 0.09 < float(shifts.abs().max()) <= 0.1


def test_a_patch_is_erased_from_about_the_share_asked_for():
    erase = RandomErasing(p=0.5, min_side=0.2, max_side=0.4)
    plain = TensorImageBW(torch.zeros(1000, 1, 48, 48))
    erased = (erase(plain, split_idx=0) != 0).float().mean(dim=(1, 2, 3))
    assert 0.45 < (erased > 0).float().mean() < 0.55
    assert erased[erased > 0].min() > 0.03
    assert erased.max() < 0.17


def test_a_turned_face_is_about_as_sharp_as_a_plain_one():
    plain = TensorImageBW(torch.rand(256, 1, 12, 12).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3))
    turned = Pipeline(augmentations()[:1], split_idx=0)(plain.clone())  # without light and patches
    middle = slice(16, 32)  # away from what was shifted in
    steepness = [faces[..., middle, middle].diff().square().mean() for faces in (plain, turned)]
    assert steepness[1] > 0.9 * steepness[0]
