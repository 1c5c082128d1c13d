"""Make the test pictures, all from one portrait: Eileen Collins, astronaut (NASA, public domain)."""

from __future__ import annotations

import io
import random

from PIL import Image, ImageEnhance
from skimage.data import astronaut

FACE = (223, 119)  # centre of the face, in the 512x512 pixels of the portrait
CROP = 48  # pixels a side


def cut_crops(count: int = 32) -> list[bytes]:
    """Crop the face with random framing, brightness and rotation, so that labels differ; the seed is fixed."""
    generator, portrait = random.Random(0), _portrait()
    crops = []
    for _ in range(count):
        half_side = generator.uniform(40, 65)
        x, y = (middle + generator.uniform(-16, 16) for middle in FACE)
        rotated = portrait.rotate(generator.uniform(-180, 180), Image.Resampling.BILINEAR, center=(x, y))
        crop = rotated.resize((CROP, CROP), box=(x - half_side, y - half_side, x + half_side, y + half_side)).convert(
            "L"
        )
        crops.append(_jpeg(ImageEnhance.Brightness(crop).enhance(generator.uniform(0.5, 1.4))))
    return crops


def paste_portraits(width: int, height: int, count: int = 1) -> list[bytes]:
    """Paste the portrait, as high as the picture, on a grey background, at a different position in each picture."""
    portrait = _portrait().resize((height, height))
    pictures = []
    for index in range(count):
        picture = Image.new("RGB", (width, height), "grey")
        picture.paste(portrait, (index * (width - height) // count, 0))
        pictures.append(_jpeg(picture))
    return pictures


def tile_portraits(faces: int) -> bytes:
    """Make a picture of 960x960 pixels in nine tiles, of which the first `faces` show the portrait."""
    picture, portrait = Image.new("RGB", (960, 960), "grey"), _portrait().resize((320, 320))
    for tile in range(faces):
        picture.paste(portrait, (tile % 3 * 320, tile // 3 * 320))
    return _jpeg(picture)


def _portrait() -> Image.Image:
    return Image.fromarray(astronaut())  # type: ignore[no-untyped-call]


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
