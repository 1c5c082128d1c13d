"""Degrade training faces as cameras do: blur, few pixels, poor light, JPEG, noise, and covered or erased parts."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from fastai.callback.core import Callback
from PIL import Image
from torch import Tensor
from torch.nn import functional

from dexpression.network.transforms import MEAN, STD
from dexpression.training.recipe import Recipe

SMALLEST_SIDE = 14  # pixels of the most shrunken faces
BLUR_RADIUS = 6  # pixels; three deviations of the strongest blur
PARTS = 4  # of a batch that are shrunk to sizes of their own


class Degradation:
    """A change of some faces of a batch (N, 1, H, W) in 0..1: each with the probability `p`, and independently.

    `strength` 0..2 scales how far the changes go.
    """

    def __init__(self, strength: float, p: float = 0.25) -> None:
        self.strength, self.p = strength, p

    def __call__(self, faces: Tensor) -> Tensor:
        chosen = torch.rand(len(faces), device=faces.device) < self.p
        if not chosen.any():
            return faces
        faces = faces.clone()
        faces[chosen] = self.degrade(faces[chosen])
        return faces

    def degrade(self, faces: Tensor) -> Tensor:
        """All faces, each degraded at random."""
        raise NotImplementedError


class Blur(Degradation):
    """Gaussian blur with a deviation of up to 2 pixels."""

    def degrade(self, faces: Tensor) -> Tensor:
        deviation = faces.new_empty(len(faces), 1).uniform_(0.3, 2.0 * self.strength + 0.3)
        places = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=faces.device)
        kernel = (-(places**2) / (2 * deviation**2)).softmax(dim=1)  # (N, 13)
        padded = functional.pad(faces.transpose(0, 1), (BLUR_RADIUS,) * 4, mode="replicate")  # one channel a face
        across = functional.conv2d(padded, kernel[:, None, None, :], groups=len(faces))
        return functional.conv2d(across, kernel[:, None, :, None], groups=len(faces)).transpose(0, 1)


class Shrink(Degradation):
    """Shrink a face to as little as 14 pixels a side, and scale it up again."""

    def degrade(self, faces: Tensor) -> Tensor:
        side = faces.shape[-1]
        smallest = max(4, round(side - self.strength * (side - SMALLEST_SIDE)))
        return torch.cat([self._shrink(part, int(torch.randint(smallest, side, ()))) for part in faces.chunk(PARTS)])

    def _shrink(self, faces: Tensor, side: int) -> Tensor:
        small = functional.interpolate(faces, size=(side, side), mode="bilinear", antialias=True)
        mode = "bilinear" if torch.rand(()) < 0.5 else "bicubic"
        return functional.interpolate(small, size=faces.shape[-2:], mode=mode).clamp(0, 1)


class Exposure(Degradation):
    """Too much or too little light, and low contrast: a power of the pixels, and a narrower range of them."""

    def degrade(self, faces: Tensor) -> Tensor:
        spread = [faces.new_empty(len(faces), 1, 1, 1).uniform_(-1, 1) for _ in range(2)]
        power = (1.1 * self.strength * spread[0]).exp()
        span = 1 - 0.7 * min(1.0, self.strength) * faces.new_empty(len(faces), 1, 1, 1).uniform_()
        lowest = (1 - span) * (spread[1] + 1) / 2
        return faces.clamp(min=1e-4) ** power * span + lowest


class JpegArtefacts(Degradation):
    """JPEG compression at a quality of 8 to 60."""

    def degrade(self, faces: Tensor) -> Tensor:
        return torch.stack([self._compress(face) for face in (faces.clamp(0, 1) * 255).byte().cpu()]).to(faces) / 255

    def _compress(self, face: Tensor) -> Tensor:
        quality = 60 - min(1.0, self.strength) * 52 * float(torch.rand(()))
        content = io.BytesIO()  # by Pillow: torchvision's own JPEG is deprecated, and gives the same pixels
        Image.fromarray(face[0].numpy()).save(content, "JPEG", quality=round(quality))
        return torch.from_numpy(np.array(Image.open(content)))[None]


class Noise(Degradation):
    """Noise of a sensor, with a deviation of up to 0.1."""

    def degrade(self, faces: Tensor) -> Tensor:
        deviation = faces.new_empty(len(faces), 1, 1, 1).uniform_(0, 0.1 * self.strength)
        return (faces + deviation * torch.randn_like(faces)).clamp(0, 1)


class Cover(Degradation):
    """Cover the lower part of a face, as a mask does, or a band over the eyes, with one grey."""

    def degrade(self, faces: Tensor) -> Tensor:
        count, side = len(faces), faces.shape[-1]
        row = torch.arange(side, device=faces.device)[None] / side  # (1, H)
        top = faces.new_empty(count, 1).uniform_(0.5, 0.7)
        eyes = faces.new_empty(count, 1).uniform_(0.15, 0.35)
        is_mask = torch.rand(count, 1, device=faces.device) < 0.5
        height = 0.2 * min(1.0, self.strength)
        rows = torch.where(is_mask, row >= top, (row >= eyes) & (row < eyes + height))
        margin = faces.new_empty(count, 1).uniform_(0, 0.2)
        columns = (row >= margin) & (row < 1 - margin)
        covered = rows[:, None, :, None] & columns[:, None, None, :]
        return torch.where(covered, faces.new_empty(count, 1, 1, 1).uniform_(), faces)


class Erasing(Degradation):
    """Replace one rectangle in each face by noise (Zhong et al. 2017); its sides are shares of the face's side."""

    def __init__(self, strength: float, min_side: float = 0.15, max_side: float = 0.5) -> None:
        super().__init__(strength, p=0.5 * strength)
        self.min_side, self.max_side = min_side, max_side

    def degrade(self, faces: Tensor) -> Tensor:
        down = self._stripe(len(faces), faces.shape[2], faces.device)[:, None, :, None]
        across = self._stripe(len(faces), faces.shape[3], faces.device)[:, None, None, :]
        return torch.where(down & across, MEAN + STD * torch.randn_like(faces), faces)

    def _stripe(self, faces: int, side: int, device: torch.device) -> Tensor:
        """Booleans (faces, side) that are true along a random stretch of the side."""
        length = torch.empty(faces, 1, device=device).uniform_(self.min_side, self.max_side) * side
        start = torch.rand(faces, 1, device=device) * (side - length)
        position = torch.arange(side, device=device)
        return (position >= start) & (position < start + length)


def degradations(recipe: Recipe) -> list[Degradation]:
    """The degradations of a recipe, in the order in which a camera makes them; without those of strength 0."""
    made = [
        Cover(recipe.cover),
        Exposure(recipe.exposure),
        Blur(recipe.blur),
        Shrink(recipe.shrink),
        Noise(recipe.noise),
        JpegArtefacts(recipe.jpeg),
        Erasing(recipe.augmentation),
    ]
    return [degradation for degradation in made if degradation.strength]


class DegradeFaces(Callback):
    """Degrade the faces of every training batch, which are normalised."""

    order = 60  # after a teacher has seen them as they are

    def __init__(self, degradations: Sequence[Degradation]) -> None:
        self.degradations = degradations

    def before_batch(self) -> None:
        if not self.training or not self.degradations:
            return
        normalised = self.learn.xb[0]
        faces = (normalised.as_subclass(Tensor) * STD + MEAN).clamp(0, 1)
        with torch.autocast(faces.device.type, enabled=False):
            for degradation in self.degradations:
                faces = degradation(faces)
        self.learn.xb = (((faces - MEAN) / STD).as_subclass(type(normalised)), *self.learn.xb[1:])
