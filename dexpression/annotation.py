"""A picture with a box and a label drawn on every face."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from dexpression.reading import FaceReading, Reading

COLOUR = "#ffd400"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont  # the latter where Pillow was built without FreeType


def annotate(picture: Image.Image, reading: Reading) -> Image.Image:
    """A copy in colour of the upright picture that was read; lines and letters grow with it."""
    drawn = picture.convert("RGB")
    unit = max(1, max(drawn.size) // 300)  # pixels: the width of a line
    font = ImageFont.load_default(size=max(10, 7 * unit))
    for face in reading.faces:
        _draw_face(ImageDraw.Draw(drawn), face, font, unit)
    return drawn


def _draw_face(draw: ImageDraw.ImageDraw, face: FaceReading, font: Font, unit: int) -> None:
    box = face.box
    draw.rectangle((box.left, box.top, box.right, box.bottom), outline=COLOUR, width=unit)
    text = f"{face.prediction.emotion} {face.prediction.confidence:.0%}"
    _, _, right, bottom = draw.textbbox((0, 0), text, font=font)
    height = bottom + unit
    y = box.top - height if box.top >= height else box.bottom  # below where there is no room above
    draw.rectangle((box.left, y, box.left + right + 2 * unit, y + height), fill=COLOUR)
    draw.text((box.left + unit, y), text, fill="black", font=font)
