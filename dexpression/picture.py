"""Bytes -> upright grey picture, or a reason why not; picture -> the square that the network sees."""

from __future__ import annotations

import io
import os
import warnings

from PIL import Image, ImageOps

from dexpression.errors import EmptyFile, TooManyPixels, UnreadableImage

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")  # an allow-list: Pillow tries no other decoder
MAX_PIXELS = 50_000_000  # a 50-megapixel phone photo; decoded, it is 150 MB

Source = bytes | str | os.PathLike[str]


def read_picture(source: Source, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The first frame, upright by EXIF, as 8-bit grey (mode L) of its own size.

    Raises EmptyFile, UnreadableImage or TooManyPixels (the latter before anything is decoded).
    """
    if source == b"":
        raise EmptyFile("The file is empty. Send the bytes of a picture.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata and large sizes; neither hinders us
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
                _check_pixels(image, max_pixels)
                image.load()
                return to_grey(ImageOps.exif_transpose(image))
    except (TooManyPixels, Image.DecompressionBombError) as error:
        raise TooManyPixels(
            f"The picture has more than {max_pixels} pixels. Scale it down and send it again."
        ) from error
    except Exception as error:  # decoders raise nearly anything (OSError, SyntaxError, struct.error) on broken bytes
        raise UnreadableImage(f"This is no picture that can be decoded. Send {', '.join(FORMATS)}.") from error


def to_grey(image: Image.Image) -> Image.Image:
    """Mode L, whatever the mode was; transparent parts become white, as on a page."""
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion would clip everything above 255
        return image.convert("I").point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("L")
    return image.convert("L")


def frame_face(picture: Image.Image, size: int) -> Image.Image:
    """The largest centred square of the picture, scaled to `size` x `size` pixels with an antialiasing filter."""
    if picture.size == (size, size):
        return picture
    return ImageOps.fit(picture, (size, size), method=Image.Resampling.BILINEAR)


def _check_pixels(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise TooManyPixels
