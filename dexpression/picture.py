"""Bytes -> upright picture, or a reason why not; picture -> the grey square that the network sees."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageOps

from dexpression.errors import EmptyFile, TooLittleMemory, TooManyPixels, UnreadableImage

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")  # an allow-list: Pillow tries no other decoder
PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"}  # of the files that are looked for in a folder
GREY_MODES = ("1", "F")
MAX_PIXELS = 50_000_000  # a 50-megapixel phone photo
# Pixels that the shorter side keeps: faces are looked for at 640, and one that is found there has enough left for the
# network. What is larger is read faster, and in less memory, in a half, a third and so on.
SUFFICIENT = 960

TURNS = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

SIDEWAYS = (5, 6, 7, 8)

Source = bytes | str | os.PathLike[str]


@dataclass(frozen=True)
class Box:
    """In pixels of the upright picture, from its top left corner; `right` and `bottom` are just outside."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.bottom - self.top)


@dataclass(frozen=True)
class Picture:
    """Upright, in 8 bits a channel: grey (mode L) or colour (RGB); `image` may be smaller than the picture."""

    image: Image.Image
    width: int  # of the picture itself, in pixels
    height: int

    @classmethod
    def of(cls, image: Image.Image, size: tuple[int, int] | None = None) -> Picture:
        """A picture that was decoded already, in its own size unless another is said to be that."""
        width, height = size or image.size
        if _orientation(image) in SIDEWAYS:
            width, height = height, width
        return cls(turn_upright(image, SUFFICIENT), width, height)

    def own(self, box: Box) -> Box:
        """A box on `image`, on the picture in its own size."""
        (width, height), (own_width, own_height) = self.image.size, (self.width, self.height)
        return Box(
            box.left * own_width / width,
            box.top * own_height / height,
            box.right * own_width / width,
            box.bottom * own_height / height,
        )


def load_picture(source: Source, max_pixels: int = MAX_PIXELS) -> Picture:
    """The first frame; one whose sides are at least twice `SUFFICIENT` in a part of its size.

    Raises EmptyFile, UnreadableImage, TooLittleMemory or TooManyPixels (the latter before anything is decoded).
    """
    with _opened(source, max_pixels) as image:
        size = image.size
        image.draft(None, (SUFFICIENT, SUFFICIENT))  # has the decoder of JPEG leave out what shrinking would
        image.load()  # while the bytes are open
        return Picture.of(image, size)


def read_picture(source: Source, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """As `load_picture`, in its own size."""
    with _opened(source, max_pixels) as image:
        image.load()
        return turn_upright(image)


@contextmanager
def _opened(source: Source, max_pixels: int) -> Iterator[Image.Image]:
    """For a body that decodes it; what goes wrong there is an error of ours, too."""
    content = source if isinstance(source, bytes) else _read_file(source)
    if not content:
        raise EmptyFile("The file is empty. Send the bytes of a picture.")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise TooManyPixels(f"The picture has more than {max_pixels} pixels. Scale it down and send it again.")
            yield image
    except TooManyPixels:
        raise
    except Image.DecompressionBombError as error:
        raise TooManyPixels("The picture has far too many pixels. Scale it down and send it again.") from error
    except Exception as error:  # decoders raise nearly anything (OSError, SyntaxError, struct.error) on broken bytes
        if isinstance(error, MemoryError) or "out of memory" in str(error):
            raise TooLittleMemory from error
        raise UnreadableImage(f"This is no picture that can be decoded. Send {', '.join(FORMATS)}.") from error


def turn_upright(image: Image.Image, sufficient: int | None = None) -> Image.Image:
    """The picture as its EXIF says that it should be seen, flattened; itself, where it is both already.

    With a number of pixels that suffices for the shorter side, in a half, a third and so on where that leaves as many.
    """
    plain, turn = flatten(image), TURNS.get(_orientation(image))
    if sufficient and min(plain.size) >= 2 * sufficient:
        plain = plain.reduce(min(plain.size) // sufficient)
    if turn is None:
        return plain
    turned = plain.transpose(turn)
    turned.info.clear()  # with the EXIF, or who calls this again would turn the picture again
    return turned


def flatten(image: Image.Image) -> Image.Image:
    """Mode L or RGB, whatever the mode was; transparent parts become white, as on a page. Itself, where it is so."""
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion would clip everything above 255
        return image.convert("I").point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(layer, mask=layer.getchannel("A"))
        return white
    if image.mode in ("L", "RGB"):
        return image  # uncopied: a picture passes here more than once on its way
    return image.convert("L" if image.mode in GREY_MODES else "RGB")


def to_grey(image: Image.Image) -> Image.Image:
    """Mode L, whatever the mode was."""
    return flatten(image).convert("L")


def frame_face(picture: Image.Image, size: int) -> Image.Image:
    """The largest centred square of the picture, grey, scaled to `size` x `size` with an antialiasing filter."""
    grey = to_grey(picture)
    if grey.size == (size, size):
        return grey
    return ImageOps.fit(grey, (size, size), method=Image.Resampling.BILINEAR)


def _read_file(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UnreadableImage(f"The file cannot be read ({error.strerror}).") from error


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # garbage where EXIF should be says nothing against the picture
        return 1
