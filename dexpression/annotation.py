"""Draw a box and a label on every face of a picture, and lay its evidence over it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dexpression.picture import Box
from dexpression.reading import FaceReading, Grid, Reading

COLOUR = "#ffd400"
# What speaks for a label and what speaks against it: colours that all forms of colour blindness tell apart, and
# that no skin has (ColorBrewer's PiYG).
FOR, AGAINST = (208, 28, 139), (77, 172, 38)
STRONGEST = 0.7  # opacity of the strongest evidence of a face, so that the face still shows through

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont  # the latter if Pillow was built without FreeType


def annotate(picture: Image.Image, reading: Reading, min_confidence: float = 0.0) -> Image.Image:
    """Copy the upright picture in RGB and draw its reading: on each face its box, result and confidence.

    If the predictions have evidence, each face is grey, with pink where it speaks for the label and green where against
    it. The picture may be reduced.
    """
    scale = picture.width / reading.width, picture.height / reading.height
    drawn = picture.convert("RGB")
    for face in reversed(reading.faces):  # the largest last, so that it is whole
        _lay_evidence(drawn, face, scale)
    return draw_boxes(
        drawn,
        [
            (_scaled(face.box, scale), f"{face.prediction.result(min_confidence)} {face.prediction.confidence:.0%}")
            for face in reading.faces
        ],
    )


def _lay_evidence(drawn: Image.Image, face: FaceReading, scale: tuple[float, float]) -> None:
    if not (face.prediction.evidence and face.crop):
        return
    crop = _scaled(face.crop, scale)
    left, top, right, bottom = (round(edge) for edge in (crop.left, crop.top, crop.right, crop.bottom))
    square = drawn.crop((left, top, max(left + 1, right), max(top + 1, bottom)))
    drawn.paste(colour_evidence(square, face.prediction.evidence[face.prediction.emotion]), (left, top))


def colour_evidence(square: Image.Image, grid: Grid) -> Image.Image:
    """Copy the square of a face in grey, with pink where the evidence speaks for a label and green where against it.

    The strongest place gets the same opacity in each copy.
    """
    evidence = np.array(grid, np.float32)
    scaled = Image.fromarray(evidence / max(abs(evidence).max(), 1e-6)).resize(square.size, Image.Resampling.BICUBIC)
    strength = np.asarray(scaled)
    colours = np.where(strength[..., None] > 0, FOR, AGAINST).astype(np.uint8)
    opacity = (255 * STRONGEST * abs(strength).clip(0, 1)).astype(np.uint8)
    grey = square.convert("L").convert("RGB")
    grey.paste(Image.fromarray(colours), mask=Image.fromarray(opacity))
    return grey


def _scaled(box: Box, scale: tuple[float, float]) -> Box:
    across, down = scale
    return Box(box.left * across, box.top * down, box.right * across, box.bottom * down)


def draw_boxes(picture: Image.Image, boxes: Iterable[tuple[Box, str]]) -> Image.Image:
    """Copy a picture in RGB and draw boxes, each with its text; lines and letters grow with the picture."""
    drawn = picture.convert("RGB")
    # Pixels: the width of a line. A picture that is long and narrow needs thin ones, or they would cover it.
    unit = max(1, min(max(drawn.size) // 300, min(drawn.size) // 30))
    font = ImageFont.load_default(size=max(10, 7 * unit))
    draw = ImageDraw.Draw(drawn)
    for box, text in boxes:
        _draw_box(draw, box, unit)
        _draw_text(draw, box, text, font, drawn.size)
    return drawn


def _draw_box(draw: ImageDraw.ImageDraw, box: Box, unit: int) -> None:
    # Pillow draws both corners, but right and bottom are just outside the box.
    corners = (box.left, box.top, max(box.left, box.right - 1), max(box.top, box.bottom - 1))
    draw.rectangle(corners, outline=COLOUR, width=unit)


def _draw_text(draw: ImageDraw.ImageDraw, box: Box, text: str, font: Font, size: tuple[int, int]) -> None:
    """Draw the text above the box, or as near to that as it fits into the picture."""
    _, _, width, height = draw.textbbox((0, 0), text, font=font)
    x = max(0, round(min(box.left, size[0] - width)))
    y = max(0, round(box.top - height))
    draw.rectangle((x, y, x + width, y + height), fill=COLOUR)
    draw.text((x, y), text, fill="black", font=font)
