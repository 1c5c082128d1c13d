"""Pictures as Python programs hold them: bytes, paths, open files, PIL images and arrays of pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image

from dexpression.errors import UnreadableImage
from dexpression.picture import MIN_SHORT_SIDE, Picture, Source, load_picture

AnyPicture = Source | Image.Image | np.ndarray | Picture


def to_picture(given: AnyPicture, min_short_side: int = MIN_SHORT_SIDE) -> Picture:
    """Make a picture of anything that holds one; a Picture stays as it is. Raises PictureError.

    Arrays are (height, width) in grey or (height, width, 3) in RGB, in uint8 or as floats 0..1. For `min_short_side`
    see `dexpression.picture.turn_upright`.
    """
    if isinstance(given, Picture):
        return given
    if isinstance(given, np.ndarray):
        given = _image_of(given)
    if isinstance(given, Image.Image):
        return _picture_of(given, min_short_side)
    return load_picture(given, min_short_side=min_short_side)


def _picture_of(image: Image.Image, min_short_side: int) -> Picture:
    """Take over a PIL image, which Pillow may not have decoded yet, or which may be empty; raises UnreadableImage."""
    try:
        if 0 in image.size:
            raise ValueError("no pixels")
        image.load()
        return Picture.of(image, min_short_side=min_short_side)
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        reason = "is cut off" if "truncated" in str(error) else "has no pixels, or they cannot be decoded"
        raise UnreadableImage(f"The PIL image {reason}. Give a complete one, in RGB.") from error


def _image_of(array: np.ndarray) -> Image.Image:
    """Make a PIL image of an array of pixels; raises UnreadableImage."""
    shape, is_float = array.shape, np.issubdtype(array.dtype, np.floating)
    if 0 in shape or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
        raise UnreadableImage(
            f"An array of shape {shape} is not a picture. Give (height, width) or (height, width, 3)."
        )
    if not (is_float or array.dtype == np.uint8):
        raise UnreadableImage(f"An array of {array.dtype} is no picture. Give uint8, or floats from 0 to 1.")
    if is_float:
        if not (array.min() >= 0 and array.max() <= 1):  # NaN is neither
            raise UnreadableImage("The array has values below 0, above 1 or NaN. Give floats from 0 to 1, or uint8.")
        array = np.rint(255 * array).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array))
