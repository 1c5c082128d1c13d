"""Drawn faces, encoded pictures, class folders, and tables of FER+ votes."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dexpression.labels import SEVEN
from dexpression.training.tables import VOTE_COLUMNS

# Start and end of the mouth's arc in degrees, and half the width of an eye: enough to tell the drawings apart.
MOUTHS = {
    "ANGRY": (180, 360, 1),
    "DISGUST": (200, 300, 2),
    "FEAR": (0, 360, 5),
    "HAPPY": (0, 180, 3),
    "NEUTRAL": (80, 100, 3),
    "SAD": (220, 320, 2),
    "SURPRISE": (0, 360, 6),
}

OWN_LABELS = ("BORED", "VERY ATTENTIVE")  # a vocabulary without any of our labels


def draw_face(label: str, seed: int, size: int = 48) -> Image.Image:
    """Draw a grey face of `size` x `size` pixels; every seed gives a slightly different one."""
    random = np.random.default_rng([SEVEN.index(label), seed])
    start, end, eye = MOUTHS[label]
    image = Image.new("L", (size, size), int(random.integers(10, 60)))
    draw = ImageDraw.Draw(image)
    unit = size / 48
    left, top = (float(value) for value in random.uniform(-2, 2, 2) * unit)
    draw.ellipse(
        [left + 6 * unit, top + 4 * unit, left + 42 * unit, top + 44 * unit], fill=int(random.integers(150, 220))
    )
    for x in (17, 31):
        draw.ellipse([left + (x - eye) * unit, top + 17 * unit, left + (x + eye) * unit, top + 21 * unit], fill=20)
    box = [left + 16 * unit, top + 28 * unit, left + 32 * unit, top + 38 * unit]
    draw.arc(box, start, end, fill=20, width=max(1, round(2 * unit)))
    return image


def encode(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    """Encode an image; `options` are those of `Image.save`."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


# EXIF orientation -> how a camera turns an upright picture before it stores it.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encode_turned(image: Image.Image, orientation: int, file_format: str = "PNG") -> bytes:
    """Encode an upright picture as a turned camera stores it: its pixels turned, and the EXIF orientation 1..8."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = image.transpose(TURNS[orientation]) if orientation in TURNS else image
    return encode(stored, file_format, exif=exif)


def write_class_folders(
    root: Path, count: int, labels: tuple[str, ...] = SEVEN, seed: int = 0, names: tuple[str, ...] = ()
) -> Path:
    """Write `count` faces a label, as root/happy/00003.png; numbers run on over the labels, as rows in fer2013.csv.

    The folders have these names, by default the labels in lower case.
    """
    row = seed * 1000
    for label, name in zip(labels, names or map(str.lower, labels), strict=True):
        (root / name).mkdir(parents=True)
        for number in range(count):
            draw_face(label, seed * 100 + number).save(root / name / f"{row:05}.png")
            row += 1
    return root


def write_votes(path: Path, files: list[str] | None, rows: int) -> Path:
    """Write FER+ votes for `rows` faces: eight for happiness and two for "not a face" in every row.

    With `files`, the table names them, as ferplus.csv does. Without, it has the columns of fer2013new.csv.
    """
    lead = ["file"] if files else ["Usage", "Image name"]
    with path.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow([*lead, *VOTE_COLUMNS])
        for row in range(rows):
            head = [files[row]] if files else ["Training", f"fer{row:07}.png"]
            writer.writerow([*head, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2])
    return path
