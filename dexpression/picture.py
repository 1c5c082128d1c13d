"""Decode bytes into an upright picture, or raise the reason why not; frame a picture as a grey square face."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from PIL import ExifTags, Image, ImageOps

from dexpression.containers import MAX_METADATA_BYTES, is_cut_off, strip_metadata
from dexpression.errors import (
    EmptyFile,
    OtherLargePictures,
    OutOfMemory,
    PictureError,
    TooComplex,
    TooManyPixels,
    UnreadableImage,
)
from dexpression.files import BinaryFile, read_open_file, read_picture_file
from dexpression.heic import register_decoder
from dexpression.jpeg import END, NO_PIXELS, Effort, lacks_end
from dexpression.kinds import FORMATS, HEIC, READABLE, find_format, name_kind

WRITTEN_SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".avif"}
PICTURE_SUFFIXES = WRITTEN_SUFFIXES | {".heic", ".heif", ".hif"}  # of files that are meant to be pictures
GREY_MODES = ("1", "F")
MAX_PIXELS = 50_000_000  # a 50-megapixel phone photo
MAX_SIDE = 65_535  # pixels, as in JPEG and GIF; Pillow keeps a pointer to each row, and millions of rows take gigabytes
# Pixels that the shorter side keeps when a large picture is reduced to a half, a third and so on, which saves time and
# memory. Faces are detected at 640 pixels, and each still has enough pixels for the network.
MIN_SHORT_SIDE = 960

MAX_EFFORT = 2.0  # beyond once per pixel, for as many pixels as are allowed
LIGHT_PIXELS = 2_000_000  # of a request, up to which it takes under about a tenth of a second
LARGE_PIXELS = 4_000_000
ONE_LARGE_PICTURE = threading.Lock()
TURN_SECONDS = 5.0  # until a large picture is refused, because other large ones are decoded

TURNS = {  # EXIF orientation -> what turns the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

SIDEWAYS = (5, 6, 7, 8)

Source = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryFile


class Point(NamedTuple):
    """A place in pixels of the upright picture, from its top left corner."""

    x: float
    y: float


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the upright picture, from its top left corner; `right` and `bottom` are just outside."""

    left: float
    top: float
    right: float
    bottom: float

    def to_dict(self) -> dict[str, int]:
        """Place and size in whole pixels, for JSON."""
        left, top = round(self.left), round(self.top)
        return {"x": left, "y": top, "width": round(self.right) - left, "height": round(self.bottom) - top}

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.bottom - self.top)


@dataclass(frozen=True)
class Picture:
    """A decoded, upright picture. `image` is in mode L or RGB and may be reduced; the original size is kept."""

    image: Image.Image
    width: int  # of the original, in pixels
    height: int

    @classmethod
    def of(
        cls, image: Image.Image, size: tuple[int, int] | None = None, min_short_side: int = MIN_SHORT_SIDE
    ) -> Picture:
        """Make a picture from a PIL image; `size` is the original (width, height), if the image is reduced already.

        For `min_short_side` see `turn_upright`.
        """
        width, height = size or image.size
        if _orientation(image) in SIDEWAYS:
            width, height = height, width
        return cls(turn_upright(image, min_short_side), width, height)

    def to_original(self, box: Box) -> Box:
        """Scale a box from pixels of `image` to pixels of the original picture."""
        corners = Point(box.left, box.top), Point(box.right, box.bottom)
        return Box(*(side for corner in corners for side in self.point_to_original(corner)))

    def point_to_original(self, point: Point) -> Point:
        """Scale a point from pixels of `image` to pixels of the original picture."""
        return Point(point.x * self.width / self.image.width, point.y * self.height / self.image.height)


class PixelBudget:
    """The pixels that one picture, or several together, may have, and the effort of decoding them.

    A picture counts before it is decoded, so that it counts even if decoding fails. `before_long` is called before
    a picture that makes the whole take long.
    """

    def __init__(self, pixels: int = MAX_PIXELS, before_long: Callable[[], None] | None = None) -> None:
        self.pixels = self.left = pixels
        self.effort = Effort()  # beyond the pixels themselves
        self._before_long = before_long

    def take(self, width: int, height: int) -> None:
        """Count a picture; raises TooManyPixels, and counts nothing, if it has more pixels than are left.

        Raises TooComplex if the effort of all pictures is too much.
        """
        if width * height > self.pixels:
            raise TooManyPixels(f"The picture has more than {self.pixels} pixels. Scale it down and send it again.")
        if width * height > self.left:
            raise TooManyPixels(f"The pictures have more than {self.pixels} pixels together. Send fewer at once.")
        self.left -= width * height
        if self.effort.pixels > MAX_EFFORT * max(self.pixels, MAX_PIXELS):
            raise TooComplex
        if self._before_long and self.pixels - self.left + self.effort.pixels > LIGHT_PIXELS:
            self._before_long()


def load_picture(source: Source, budget: PixelBudget | None = None, min_short_side: int = MIN_SHORT_SIDE) -> Picture:
    """Decode the first frame of a picture, reduced if its shorter side is at least twice `min_short_side`.

    The source is the bytes of a file, a path, or an open file. Raises EmptyFile, UnreadableImage, OutOfMemory,
    OtherLargePictures, or, before anything is decoded, TooManyPixels or TooComplex.
    """
    with _opened(source, budget) as image:
        size = image.size
        image.draft(None, (min_short_side, min_short_side))  # JPEG can be decoded in a reduced size
        _decode(image)
        return Picture.of(image, size, min_short_side)


def read_picture(source: Source, budget: PixelBudget | None = None) -> Image.Image:
    """Decode the first frame of a picture in its original size; takes and raises what `load_picture` does."""
    with _opened(source, budget) as image:
        _decode(image)
        return turn_upright(image)


@contextmanager
def _opened(source: Source, budget: PixelBudget | None) -> Iterator[Image.Image]:
    """Open a picture; any exception while it is open, such as from decoding, becomes a PictureError."""
    content = stripped = _read(source)
    if not content:
        raise EmptyFile("The file is empty. Send the bytes of a picture.")
    budget = budget or PixelBudget()
    try:
        formats, earlier = _formats(content), budget.effort.pixels
        stripped = strip_metadata(content, budget.effort)
        is_open = lacks_end(stripped)
        with Image.open(io.BytesIO(stripped + END if is_open else stripped), formats=formats) as image:
            if is_open:
                budget.effort.pixels += 2 * (image.width * image.height + budget.effort.pixels - earlier)
            budget.take(image.width, image.height)
            if max(image.size) > MAX_SIDE:
                raise TooComplex
            with _turn(image.size):
                if is_open and not _has_all_pixels(stripped):
                    raise UnreadableImage(_cut_off(content))
                yield image
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise TooManyPixels("The picture has far too many pixels. Scale it down and send it again.") from error
    except Exception as error:  # decoders raise nearly anything on damaged bytes: OSError, SyntaxError, struct.error
        if isinstance(error, MemoryError) or "out of memory" in str(error):
            raise OutOfMemory from error
        raise UnreadableImage(_describe(content, stripped, error)) from error


def _formats(content: bytes) -> tuple[str, ...]:
    """The formats whose decoders may try a file; raises MissingDecoder for HEIC without the extra."""
    if find_format(content) != HEIC:
        return FORMATS
    register_decoder()
    return (HEIC,)


def _read(source: Source) -> bytes:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, (str, os.PathLike)):
        return read_picture_file(source)
    return read_open_file(source)


def _describe(content: bytes, stripped: bytes, error: Exception) -> str:
    """What is wrong with a file that cannot be decoded, and what to do."""
    if not find_format(content):
        return f"The file is {name_kind(content)}, not a picture that can be read. Send {READABLE}."
    if is_cut_off(stripped) or "image file is truncated" in str(error):
        return _cut_off(content)
    return f"The file is {name_kind(content)}, but damaged. Save it anew, or send another one: {READABLE}."


def _cut_off(content: bytes) -> str:
    return f"The file is {name_kind(content)} that is cut off: its last part is missing. Send the whole file."


def _has_all_pixels(stripped: bytes) -> bool:
    """Whether a JPEG file lacks nothing but its end marker: then its pixels are the same, whatever follows."""
    return _jpeg_pixels(stripped + END) == _jpeg_pixels(stripped + NO_PIXELS + END)


def _jpeg_pixels(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        return image.tobytes()


@contextmanager
def _turn(size: tuple[int, int]) -> Iterator[None]:
    """Let a large picture wait for its turn, so that all threads of a process need the memory of one.

    Raises OtherLargePictures if that takes too long.
    """
    if size[0] * size[1] < LARGE_PIXELS:
        yield
        return
    if not ONE_LARGE_PICTURE.acquire(timeout=TURN_SECONDS):
        raise OtherLargePictures
    try:
        yield
    finally:
        ONE_LARGE_PICTURE.release()


def _decode(image: Image.Image) -> None:
    """Decode while the bytes are open, and keep only the start of the EXIF, where the orientation stands."""
    image.load()
    exif = image.info.get("exif") or b""  # None in HEIC
    if len(exif) > MAX_METADATA_BYTES:  # made-up entries, each with a warning, in the EXIF of PNG and WebP
        image.info["exif"] = exif[:MAX_METADATA_BYTES]


def turn_upright(image: Image.Image, min_short_side: int | None = None) -> Image.Image:
    """Turn a picture as its EXIF orientation says, and flatten it; a picture that needs neither is not copied.

    With `min_short_side`, in pixels, the picture is reduced to a half, a third and so on while its shorter side keeps
    that many.
    """
    plain, turn = flatten(image), TURNS.get(_orientation(image))
    if min_short_side and min(plain.size) >= 2 * min_short_side:
        plain = plain.reduce(min(plain.size) // min_short_side)
    if turn is None:
        return plain
    turned = plain.transpose(turn)
    turned.info.clear()  # drop the EXIF, or a second call would turn the picture again
    return turned


def flatten(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to L or RGB; transparent parts become white. L and RGB are not copied."""
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion would clip everything above 255
        return image.convert("I").point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
            return image.convert("RGB")  # programs that know no transparency leave zeros where it would stand
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(layer, mask=layer.getchannel("A"))
        return white
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode in GREY_MODES else "RGB")


def to_grey(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to L."""
    return flatten(image).convert("L")


def frame_face(picture: Image.Image, size: int) -> Image.Image:
    """Cut out the largest centred square, grey, and scale it to `size` x `size` with an antialiasing filter."""
    grey = to_grey(picture)
    if grey.size == (size, size):
        return grey
    return ImageOps.fit(grey, (size, size), method=Image.Resampling.BILINEAR)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a picture with damaged EXIF is still a picture
        return 1
