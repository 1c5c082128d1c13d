"""Draw scenes: faces of many sizes and conditions, all from one portrait, on pictures without a face."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps
from skimage import data

from benchmarks.small_faces import FACE, FACELESS
from dexpression.faces import SIDE
from dexpression.picture import Box

SIZES = [
    (640, 480),
    (480, 640),
    (640, 360),
    (640, 640),
    (320, 240),
    (500, 400),
    (1280, 720),
    (1200, 1600),
    (1920, 1080),
]
COUNTS = (0, 1, 1, 1, 1, 2, 3, 5, 8, 13, 20)  # of the faces in a scene
WIDTHS = (20, 400)  # pixels of a face when the long side is scaled down to 640 pixels
CUT = (100, 0, 346, 246)  # head and shoulders in the portrait: a square around the face
TRIES = 30  # to find a free place for a face


@dataclass(frozen=True)
class Scene:
    """A picture, and the boxes of the faces that were drawn into it."""

    picture: Image.Image
    faces: list[Box]


def draw_scene(number: int) -> Scene:
    """Draw one scene; the same number gives the same scene. It has fewer faces than chosen if there is no room."""
    chance = random.Random(number)
    size = chance.choice(SIZES)
    picture, faces = _background(size, chance), []
    count, unit = chance.choice(COUNTS), max(1, max(size) / SIDE)
    for _ in range(count):
        width = unit * WIDTHS[0] * (WIDTHS[1] / WIDTHS[0]) ** (chance.random() if count < 8 else chance.random() / 2)
        side = round(width * (CUT[2] - CUT[0]) / (FACE[2] - FACE[0]))
        place = _free_place(size, width, side, faces, chance)
        if place:
            faces.append(_draw_face(picture, place, side, chance))
    return Scene(picture, faces)


def _background(size: tuple[int, int], chance: random.Random) -> Image.Image:
    picture = _picture(chance.choice(FACELESS.split()))
    share = chance.uniform(0.5, 1)
    part = round(picture.width * share), round(picture.height * share)
    left, top = (chance.randint(0, whole - kept) for whole, kept in zip(picture.size, part, strict=True))
    cut = picture.crop((left, top, left + part[0], top + part[1])).resize(size)
    return ImageEnhance.Brightness(cut).enhance(chance.uniform(0.4, 1.2))


@cache
def _picture(name: str) -> Image.Image:
    return Image.fromarray(getattr(data, name)()).convert("RGB")


def _free_place(
    size: tuple[int, int], width: float, side: int, faces: list[Box], chance: random.Random
) -> tuple[int, int] | None:
    """Where the centre of a face may lie so that it is inside the picture and its portrait hides no other face."""
    if 1.4 * width > min(size):
        return None
    for _ in range(TRIES):
        x, y = (chance.randint(round(0.7 * width), round(length - 0.7 * width)) for length in size)
        if all(_distance(face, x, y) > side / 2 + 0.8 * (face.right - face.left) for face in faces):
            return x, y
    return None


def _distance(face: Box, x: int, y: int) -> float:
    """How far a point is from the centre of a face, along the axis where it is further."""
    return max(abs((face.left + face.right) / 2 - x), abs((face.top + face.bottom) / 2 - y))


def _draw_face(picture: Image.Image, place: tuple[int, int], side: int, chance: random.Random) -> Box:
    """Paste the portrait, changed at random, around a place; returns the box of its face."""
    portrait = _picture("astronaut").crop(CUT).resize((side, side), Image.Resampling.LANCZOS)
    scale = side / (CUT[2] - CUT[0])
    half_width, half_height = scale * (FACE[2] - FACE[0]) / 2, scale * (FACE[3] - FACE[1]) / 2
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).ellipse([0.08 * side, 0.04 * side, 0.92 * side, 0.96 * side], fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(0.03 * side))
    portrait = _degrade(portrait, half_width, chance)
    angle = chance.choice((0, chance.uniform(-30, 30)))
    centre = scale * ((FACE[0] + FACE[2]) / 2 - CUT[0]), scale * ((FACE[1] + FACE[3]) / 2 - CUT[1])
    portrait, mask = (part.rotate(angle, Image.Resampling.BICUBIC, center=centre) for part in (portrait, mask))
    if chance.random() < 0.5:
        portrait, mask, centre = ImageOps.mirror(portrait), ImageOps.mirror(mask), (side - centre[0], centre[1])
    picture.paste(portrait, (round(place[0] - centre[0]), round(place[1] - centre[1])), mask)
    x, y = place
    return Box(x - half_width, y - half_height, x + half_width, y + half_height)


def _degrade(portrait: Image.Image, half_width: float, chance: random.Random) -> Image.Image:
    """Dim or brighten, flatten, blur and grey a portrait, each in about a third of the cases."""
    changes = (
        lambda image: ImageEnhance.Brightness(image).enhance(chance.uniform(0.2, 1.4)),
        lambda image: ImageEnhance.Contrast(image).enhance(chance.uniform(0.3, 1)),
        lambda image: image.filter(ImageFilter.GaussianBlur(half_width * chance.uniform(0.02, 0.2))),
        lambda image: image.convert("L").convert("RGB"),
    )
    for change in changes:
        if chance.random() < 1 / 3:
            portrait = change(portrait)
    return portrait
