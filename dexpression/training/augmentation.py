"""Augmentation of training faces: each image of a batch is changed on its own."""

from __future__ import annotations

from typing import Any

from fastai.vision.augment import AffineCoordTfm, PadMode, affine_mat, aug_transforms
from torch import Tensor


def augmentations(strength: float = 1.0) -> list[Any]:
    """The random changes of training faces, 0 to 2 times as strong as these.

    Horizontal flip (at any strength), rotation up to 15 degrees, zoom up to 1.25, shift up to a tenth of the side,
    brightness and contrast.
    """
    max_zoom = 1 + 0.25 * strength
    # fastai combines the shift with its own affine transforms, so that a face is interpolated once.
    shift = AffineCoordTfm(aff_fs=RandomShift(0.1 * strength), pad_mode=PadMode.Zeros, align_corners=False)
    changes: list[Any] = aug_transforms(
        max_rotate=15.0 * strength,
        min_zoom=1 / max_zoom,
        max_zoom=max_zoom,
        max_warp=0.0,
        max_lighting=0.3 * strength,
        p_affine=0.9,
        p_lighting=0.5,
        # Bicubic keeps faces sharp. Bilinear made all training faces softer than the faces to predict.
        mode="bicubic",
        pad_mode=PadMode.Zeros,
        xtra_tfms=[shift],
    )
    return changes


class RandomShift:
    """Makes an affine matrix for each image that shifts it by up to `max_shift` of its side.

    fastai's own transforms shift only an image that they zoom.
    """

    def __init__(self, max_shift: float) -> None:
        self.max_shift = max_shift

    def __call__(self, x: Tensor) -> Tensor:
        one, zero = x.new_ones(len(x)), x.new_zeros(len(x))
        across, down = (2 * x.new_empty(2, len(x)).uniform_(-self.max_shift, self.max_shift)).unbind()
        matrix: Tensor = affine_mat(one, zero, across, zero, one, down)
        return matrix
