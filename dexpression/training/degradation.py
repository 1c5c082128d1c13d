"""Degrade training faces as cameras do: blur, few pixels, poor light, JPEG, noise and covered parts."""

from __future__ import annotations

import io

import numpy as np
import torch
from fastai.vision.augment import RandTransform
from PIL import Image
from torch import Tensor
from torch.nn import functional

SMALLEST_SIDE = 14  # pixels of the most shrunken faces
BLUR_RADIUS = 6  # pixels; three deviations of the strongest blur
PARTS = 4  # of a batch that are shrunk to sizes of their own


class Degradation(RandTransform):
    """A change of some faces of a batch (N, 1, H, W) in 0..1: each with the probability `p`, and independently.

    `strength` 0..2 scales how far the changes go.
    """

    order = 60  # after rotation and lighting, before normalisation

    def __init__(self, strength: float, p: float = 0.25) -> None:
        super().__init__(p=1.0)
        self.strength, self.probability = strength, p

    def encodes(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or self.strength == 0:  # fastai passes the labels too
            return x
        chosen = torch.rand(len(x), device=x.device) < self.probability
        if not chosen.any():
            return x
        faces = x.as_subclass(Tensor).clone()
        faces[chosen] = self.degrade(faces[chosen])
        return faces.as_subclass(type(x))

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


def degradations(
    blur: float = 0.0,
    shrink: float = 0.0,
    exposure: float = 0.0,
    jpeg: float = 0.0,
    noise: float = 0.0,
    cover: float = 0.0,
) -> list[Degradation]:
    """The degradations of these strengths, in the order in which a camera makes them; without those of strength 0."""
    made = [
        Cover(cover),
        Exposure(exposure),
        Blur(blur),
        Shrink(shrink),
        Noise(noise),
        JpegArtefacts(jpeg),
    ]
    return [degradation for degradation in made if degradation.strength]
