"""Augmentation of training faces: each image of a batch is changed on its own."""

from __future__ import annotations

from typing import Any

import torch
from fastai.vision.augment import AffineCoordTfm, PadMode, RandTransform, affine_mat, aug_transforms
from torch import Tensor


def augmentations(strength: float = 1.0) -> list[Any]:
    """The random changes of training faces, 0 to 2 times as strong as these.

    Horizontal flip (at any strength), rotation up to 15 degrees, zoom up to 1.25, shift up to a tenth of the side,
    brightness and contrast, and random erasing in half of the faces.
    """
    max_zoom = 1 + 0.25 * strength
    # fastai combines the shift with its own affine transforms, so that a face is interpolated once.
    shift = AffineCoordTfm(aff_fs=RandomShift(0.1 * strength), pad_mode=PadMode.Zeros, align_corners=False)
    changes = aug_transforms(
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
    return [*changes, RandomErasing(0.5 * strength)]


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


class RandomErasing(RandTransform):
    """Replace one rectangle in each image by noise (Zhong et al. 2017).

    fastai's own transform erases the same rectangle in all images of a batch. `p` is the probability for an image;
    sides of the rectangle are shares of the image's side.
    """

    order = 100  # after normalisation, so that noise of mean 0 and deviation 1 looks like pixels

    def __init__(self, p: float = 0.5, min_side: float = 0.15, max_side: float = 0.5) -> None:
        super().__init__(p=1.0)
        self.probability, self.min_side, self.max_side = p, min_side, max_side

    def encodes(self, x: Tensor) -> Tensor:
        if x.dim() != 4:  # fastai passes the labels too
            return x
        down = self._stripe(len(x), x.shape[2], x.device)[:, :, None]
        across = self._stripe(len(x), x.shape[3], x.device)[:, None, :]
        is_erased = torch.rand(len(x), 1, 1, device=x.device) < self.probability
        erased = (down & across & is_erased)[:, None]
        return torch.where(erased, torch.randn_like(x), x)

    def _stripe(self, images: int, side: int, device: torch.device) -> Tensor:
        """Booleans (images, side) that are true along a random stretch of the side."""
        length = torch.empty(images, 1, device=device).uniform_(self.min_side, self.max_side) * side
        start = torch.rand(images, 1, device=device) * (side - length)
        position = torch.arange(side, device=device)
        return (position >= start) & (position < start + length)
