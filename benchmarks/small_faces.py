"""Measure how small a face may be, with and without tiles: `pipenv run python -W ignore -m benchmarks.small_faces`.

Portraits of many sizes lie at random places on a large photo without a face. What is found there besides them is false,
as is whatever is found in other large pictures without a face.
"""

from __future__ import annotations

import io
import random
import time
from dataclasses import replace

from PIL import Image
from skimage import data

from dexpression.faces import FaceDetector, FoundFace
from dexpression.picture import MIN_SHORT_SIDE, Picture, load_picture
from dexpression.reading import MIN_TILED_SIDE

SIZE = (4000, 3000)  # pixels of each picture
WIDTHS = (12, 16, 20, 24, 32, 40, 50, 64, 80, 100, 140, 200, 300)  # pixels of a face, of which its height is 1.25
FACES = 30  # in a picture, at most
PORTRAIT = (60, 0, 360, 300)  # what is pasted of the portrait
FACE = (178, 63, 268, 176)  # in the portrait
FACELESS = (
    "brick chelsea clock coffee colorwheel grass gravel hubble_deep_field immunohistochemistry microaneurysms moon "
    "page retina rocket text"
)  # functions of skimage.data


def main() -> None:
    """Print the share of faces found by size, false finds, and processor time; one thread."""
    detector, chance = FaceDetector.load(threads=1), random.Random(0)
    print("| pixels of a face, of 4000 | share of the long side | found | found in tiles | false | false in tiles |")
    print("|---|---|---|---|---|---|")
    for width in WIDTHS:
        content, places = _scene(width, chance)
        usual, tiled = _find(detector, content)
        hits = [sum(any(_is_in(face, place) for face in found) for place in places) for found in (usual, tiled)]
        false = [sum(not any(_is_in(face, place) for place in places) for face in found) for found in (usual, tiled)]
        shown = " | ".join(f"{hit / len(places):.0%}" for hit in hits)
        print(f"| {width} | {width / SIZE[0]:.1%} | {shown} | {false[0]} | {false[1]} |")
    print("\n| picture without a face | false | false in tiles | s | s in tiles |\n|---|---|---|---|---|")
    for name in FACELESS.split():
        content = _encode(Image.fromarray(getattr(data, name)()).convert("RGB").resize(SIZE))
        started = time.process_time()
        usual = detector.find_faces(load_picture(content).image)
        between = time.process_time()
        tiled = detector.find_faces(load_picture(content, min_short_side=MIN_TILED_SIDE).image, in_tiles=True)
        seconds = f"{between - started:.2f} | {time.process_time() - between:.2f}"
        print(f"| {name} | {len(usual)} | {len(tiled)} | {seconds} |")


def _scene(width: int, chance: random.Random) -> tuple[bytes, list[tuple[int, int, int]]]:
    """A picture with portraits whose faces have this width, and the left, top and side of each portrait."""
    picture = Image.fromarray(data.coffee()).resize(SIZE)  # type: ignore[no-untyped-call]
    portrait = Image.fromarray(data.astronaut()).crop(PORTRAIT)  # type: ignore[no-untyped-call]
    side = round(portrait.width * width / (FACE[2] - FACE[0]))
    cell = max(side, 300)
    cells = [(left, top) for left in range(0, SIZE[0] - cell, cell) for top in range(0, SIZE[1] - cell, cell)]
    places = []
    for left, top in chance.sample(cells, min(FACES, len(cells))):
        place = left + chance.randint(0, cell - side), top + chance.randint(0, cell - side)
        picture.paste(portrait.resize((side, side), Image.Resampling.LANCZOS), place)
        places.append((*place, side))
    return _encode(picture), places


def _find(detector: FaceDetector, content: bytes) -> list[list[FoundFace]]:
    """The faces without and with tiles, in pixels of the original picture."""
    found = []
    for side, in_tiles in ((MIN_SHORT_SIDE, False), (MIN_TILED_SIDE, True)):
        picture = load_picture(content, min_short_side=side)
        found.append([_in_original(picture, face) for face in detector.find_faces(picture.image, in_tiles)])
    return found


def _in_original(picture: Picture, face: FoundFace) -> FoundFace:
    return replace(face, box=picture.to_original(face.box))


def _is_in(face: FoundFace, place: tuple[int, int, int]) -> bool:
    """Whether a box is about where the face of a pasted portrait is."""
    left, top, side = place
    scale = side / (PORTRAIT[2] - PORTRAIT[0])
    x, y = left + scale * ((FACE[0] + FACE[2]) / 2 - PORTRAIT[0]), top + scale * (FACE[1] + FACE[3]) / 2
    box, width = face.box, scale * (FACE[2] - FACE[0])
    return box.left < x < box.right and box.top < y < box.bottom and 0.5 < (box.right - box.left) / width < 2


def _encode(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
