"""Eileen Collins, astronaut (NASA, public domain), as callers send her: cut out, on a webcam, on a phone's photo."""

from __future__ import annotations

import io
import random

from PIL import Image, ImageEnhance
from skimage.data import astronaut

FACE = (223, 119)  # the middle of her face in the portrait's 512x512 pixels
CROP = 48  # pixels a side


def cut_crops(count: int = 32) -> list[bytes]:
    """Different framing, brightness and turn, or all would have the same label; the same crops every time."""
    chance, portrait = random.Random(0), _portrait()
    crops = []
    for _ in range(count):
        half = chance.uniform(40, 65)
        x, y = (middle + chance.uniform(-16, 16) for middle in FACE)
        turned = portrait.rotate(chance.uniform(-180, 180), Image.Resampling.BILINEAR, center=(x, y))
        crop = turned.resize((CROP, CROP), box=(x - half, y - half, x + half, y + half)).convert("L")
        crops.append(_jpeg(ImageEnhance.Brightness(crop).enhance(chance.uniform(0.5, 1.4))))
    return crops


def paste_portraits(width: int, height: int, count: int = 1) -> list[bytes]:
    """The portrait, as high as the picture, on a grey ground: at a different place in each."""
    portrait = _portrait().resize((height, height))
    pictures = []
    for index in range(count):
        picture = Image.new("RGB", (width, height), "grey")
        picture.paste(portrait, (index * (width - height) // count, 0))
        pictures.append(_jpeg(picture))
    return pictures


def tile_portraits(faces: int) -> bytes:
    """960x960 pixels in nine fields, the first ones with the portrait."""
    picture, portrait = Image.new("RGB", (960, 960), "grey"), _portrait().resize((320, 320))
    for field in range(faces):
        picture.paste(portrait, (field % 3 * 320, field // 3 * 320))
    return _jpeg(picture)


def _portrait() -> Image.Image:
    return Image.fromarray(astronaut())  # type: ignore[no-untyped-call]


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
