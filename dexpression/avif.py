"""Cut an AVIF file down to what its first picture needs, and count what its decoder will work on.

AVIF is a tree of boxes with AV1 streams. The size that the boxes claim limits neither the number nor the size of the
frames in a stream, and all of them are decoded. Names of fields are those of the standards.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from dexpression.boxes import Item, Meta, Parts, check_effort, strip_boxes
from dexpression.errors import TooComplex
from dexpression.jpeg import Effort

SEQUENCE_HEADER, FRAME_HEADER, FRAME = 1, 3, 6  # kinds of units (OBU) of an AV1 stream
MAX_SEQUENCE_HEADER = 64  # bytes
METADATA = (b"Exif", b"mime")  # the latter is XMP; the orientation has boxes of its own


class Bits:
    """Reads numbers of some bits one after the other; raises ValueError at the end of the content."""

    def __init__(self, content: bytes) -> None:
        self._content, self._left = int.from_bytes(content), 8 * len(content)

    def next(self, count: int) -> int:
        """The number in the next `count` bits."""
        self._left -= count
        if self._left < 0:
            raise ValueError("The file ends within a number.")
        return self._content >> self._left & (1 << count) - 1


def strip_avif(content: bytes, effort: Effort) -> bytes:
    """Leave out EXIF, XMP and, of an animation, all but its first picture; add what decoding costs to `effort`.

    All bytes stay at their places. A damaged file loses its kind, so that no decoder tries what could not be counted.
    Raises TooComplex if the decoder would work on far more pixels than the picture has.
    """
    return strip_boxes(content, partial(_find_metadata, effort=effort))


def _find_metadata(meta: Meta, effort: Effort) -> list[Item]:
    effort.pixels += _decoded_pixels(meta)
    return [item for item in meta.items.values() if item.kind in METADATA]


def _decoded_pixels(meta: Meta) -> int:
    """The pixels of all frames of all items; raises TooComplex if the picture has far fewer."""
    pictures = [number for number, item in meta.items.items() if item.kind == b"av01"]
    meta.check_sharing(pictures)
    pixels = sum(count_stream_pixels(meta.data(number), meta.parts) for number in pictures)
    check_effort(pixels, meta.pixels(meta.primary))
    return pixels


def count_stream_pixels(stream: bytes, parts: Parts) -> int:
    """The pixels of all frames of an AV1 stream, each of the largest size that the stream allows."""
    largest = frames = 0
    for kind, unit in _read_units(stream, parts):
        if kind == SEQUENCE_HEADER:
            largest = max(largest, _largest_frame(unit))
        frames += kind in (FRAME_HEADER, FRAME)
    return largest * frames


def _read_units(stream: bytes, parts: Parts) -> Iterator[tuple[int, bytes]]:
    """The kind and the first bytes of each unit of a stream."""
    position = 0
    while position < len(stream):
        parts.take()
        head = stream[position]
        position += 2 if head & 4 else 1
        size = len(stream) - position
        if head & 2:
            size, position = _read_leb128(stream, position)
        yield head >> 3 & 15, stream[position : position + min(size, MAX_SEQUENCE_HEADER)]
        position += size


def _read_leb128(stream: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    number = 0
    for place in range(8):
        byte = stream[position + place]
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    return number, position + place + 1


def _largest_frame(sequence_header: bytes) -> int:
    """The pixels of the largest frame that may follow; raises TooComplex for a stream of timed frames."""
    bits = Bits(sequence_header)
    bits.next(4)  # the profile, and whether this is a still picture
    has_one_frame = bits.next(1)
    if has_one_frame:
        bits.next(5)  # the level
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.next(4) + 1, bits.next(4) + 1
    width, height = bits.next(width_bits) + 1, bits.next(height_bits) + 1
    # In other streams, each frame may have a size of its own in as many bits.
    return width * height if has_one_frame else 2 ** (width_bits + height_bits)


def _skip_operating_points(bits: Bits) -> None:
    if bits.next(1):  # frames have times
        raise TooComplex
    has_delays = bits.next(1)
    for _ in range(bits.next(5) + 1):
        bits.next(12)
        if bits.next(5) > 7:  # the level
            bits.next(1)
        if has_delays and bits.next(1):
            bits.next(4)
