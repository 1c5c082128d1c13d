"""Draw a box and a label on every face of a picture."""

from __future__ import annotations

from collections.abc import Iterable

from PIL import Image, ImageDraw, ImageFont

from dexpression.picture import Box
from dexpression.reading import Reading

COLOUR = "#ffd400"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont  # the latter if Pillow was built without FreeType


def annotate(picture: Image.Image, reading: Reading) -> Image.Image:
    """Copy the upright picture in RGB and draw its reading: on each face its box, label and confidence."""
    return draw_boxes(
        picture,
        [(face.box, f"{face.prediction.emotion} {face.prediction.confidence:.0%}") for face in reading.faces],
    )


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
