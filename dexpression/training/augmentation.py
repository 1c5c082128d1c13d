"""What a training face may look like besides itself. Each image of a batch is changed on its own."""

from __future__ import annotations

from typing import Any

import torch
from fastai.vision.augment import AffineCoordTfm, PadMode, RandTransform, affine_mat, aug_transforms
from torch import Tensor


def augmentations(strength: float = 1.0) -> list[Any]:
    """Flip, and at strength 1 up to 15 degrees, zoom of 1.25, shift of a tenth, light, a patch in half of the faces."""
    max_zoom = 1 + 0.25 * strength
    # Given to fastai's own, the shift becomes one matrix with them, so that a face is interpolated once.
    shift = AffineCoordTfm(aff_fs=RandomShift(0.1 * strength), pad_mode=PadMode.Zeros, align_corners=False)
    changes = aug_transforms(
        max_rotate=15.0 * strength,
        min_zoom=1 / max_zoom,
        max_zoom=max_zoom,
        max_warp=0.0,
        max_lighting=0.3 * strength,
        p_affine=0.9,
        p_lighting=0.5,
        # A turned face keeps its sharpness: bilinear, training faces were all softer than those that are asked about.
        mode="bicubic",
        pad_mode=PadMode.Zeros,
        xtra_tfms=[shift],
    )
    return [*changes, ErasePatch(0.5 * strength)]


class RandomShift:
    """An affine matrix an image that moves it by up to `max_shift` of its side: fastai moves only what it zooms."""

    def __init__(self, max_shift: float) -> None:
        self.max_shift = max_shift

    def __call__(self, x: Tensor) -> Tensor:
        one, zero = x.new_ones(len(x)), x.new_zeros(len(x))
        across, down = (2 * x.new_empty(2, len(x)).uniform_(-self.max_shift, self.max_shift)).unbind()
        matrix: Tensor = affine_mat(one, zero, across, zero, one, down)
        return matrix


class ErasePatch(RandTransform):
    """Put noise in place of one rectangle an image (Zhong et al. 2017): fastai erases the same one in a whole batch."""

    order = 100  # after normalisation, so that noise of mean 0 and deviation 1 looks like pixels

    def __init__(self, p: float = 0.5, min_side: float = 0.15, max_side: float = 0.5) -> None:
        super().__init__(p=1.0)
        self.share, self.min_side, self.max_side = p, min_side, max_side

    def encodes(self, x: Tensor) -> Tensor:
        if x.dim() != 4:  # the labels pass here too
            return x
        down = self._stripe(len(x), x.shape[2], x.device)[:, :, None]
        across = self._stripe(len(x), x.shape[3], x.device)[:, None, :]
        chosen = torch.rand(len(x), 1, 1, device=x.device) < self.share
        erased = (down & across & chosen)[:, None]
        return torch.where(erased, torch.randn_like(x), x)

    def _stripe(self, images: int, side: int, device: torch.device) -> Tensor:
        """(images, side): true along a random stretch of the side."""
        length = torch.empty(images, 1, device=device).uniform_(self.min_side, self.max_side) * side
        start = torch.rand(images, 1, device=device) * (side - length)
        position = torch.arange(side, device=device)
        return (position >= start) & (position < start + length)
