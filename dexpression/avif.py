"""Cut an AVIF file down to what its first picture needs, and count what its decoder will work on.

AVIF is a tree of boxes (ISO/IEC 14496-12) with AV1 streams. The size that the boxes claim limits neither the number nor
the size of the frames in a stream, and all of them are decoded. Names of boxes and fields are those of the standards.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dexpression.errors import TooComplex
from dexpression.jpeg import Effort

MAX_PARTS = 10_000  # boxes, places of data, and units of streams; an animation's frames are not among them
MAX_LAYERS = 8  # as often as this, all pixels of a picture may be decoded: colours and transparency, in rounded sizes
SMALL_PIXELS = 1_000_000  # what may be decoded for a smaller picture

SEQUENCE_HEADER, FRAME_HEADER, FRAME = 1, 3, 6  # kinds of units (OBU) of an AV1 stream
MAX_SEQUENCE_HEADER = 64  # bytes
METADATA = (b"Exif", b"mime")  # the latter is XMP; the orientation has boxes of its own
IGNORED = b"free"


class Box(NamedTuple):
    """A box: its kind, where that stands, and where its content begins and ends, which may be beyond the file."""

    kind: bytes
    place: int
    begin: int
    end: int


class Item(NamedTuple):
    """A picture, a part of one, or metadata: its kind, and where that stands."""

    kind: bytes
    place: int


class Parts:
    """Counts the parts of a file that are looked at, since a few bytes can claim millions."""

    def __init__(self) -> None:
        self._left = MAX_PARTS

    def take(self) -> None:
        """Count one; raises TooComplex if there are too many."""
        self._left -= 1
        if self._left < 0:
            raise TooComplex


class Numbers:
    """Reads big-endian numbers one after the other; raises ValueError at the end of the content."""

    def __init__(self, content: bytes, position: int) -> None:
        self._content, self._position = content, position

    def next(self, size: int) -> int:
        """The number in the next `size` bytes; 0 if `size` is."""
        number = self._content[self._position : self._position + size]
        if len(number) < size:
            raise ValueError("The file ends within a number.")
        self._position += size
        return int.from_bytes(number)


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
    try:
        return _strip(content, effort)
    except (LookupError, ValueError):
        return content[:4] + IGNORED + content[8:]


def ends_in_box(content: bytes) -> bool:
    """Whether the file ends before its last box does."""
    try:
        return any(box.end > len(content) for box in _read_boxes(content, 0, len(content), Parts()))
    except ValueError:
        return False


def _strip(content: bytes, effort: Effort) -> bytes:
    """Do what `strip_avif` does; raises LookupError or ValueError for a damaged file."""
    stripped, parts, has_items = bytearray(content), Parts(), False
    for box in _read_boxes(content, 0, len(content), parts):
        if box.kind == b"ftyp":
            stripped[box.begin : box.end] = content[box.begin : box.end].replace(b"avis", b"avif")
        elif box.kind == b"moov":  # the frames of an animation
            stripped[box.place : box.place + 4] = IGNORED
        elif box.kind == b"meta":
            meta, has_items = Meta(content, box, parts), True
            for item in meta.items.values():
                if item.kind in METADATA:
                    stripped[item.place : item.place + 4] = IGNORED
            effort.pixels += meta.decoded_pixels()
    if not has_items:
        raise ValueError("The file has no items.")
    return bytes(stripped)


class Meta:
    """The box that lists the items of a file."""

    def __init__(self, content: bytes, meta: Box, parts: Parts) -> None:
        self._content, self._parts = content, parts
        self._boxes = self._children(meta, meta.begin + 4)
        self.items = dict(self._read_items(self._boxes[b"iinf"]))

    def decoded_pixels(self) -> int:
        """The pixels of all frames of all items; raises TooComplex if the picture has far fewer."""
        places = self._read_places(self._boxes[b"iloc"])
        streams = [places[number] for number, item in self.items.items() if item.kind == b"av01"]
        if sum(min(length, len(self._content)) for stream in streams for _, length in stream) > 2 * len(self._content):
            raise TooComplex  # many items share the same data
        pixels = sum(self._stream_pixels(stream) for stream in streams)
        if pixels > MAX_LAYERS * max(self._picture_pixels(), SMALL_PIXELS):
            raise TooComplex
        return pixels

    def _stream_pixels(self, places: list[tuple[int, int]]) -> int:
        stream = b"".join(self._content[begin : begin + length] for begin, length in places)
        return count_stream_pixels(stream, self._parts)

    def _picture_pixels(self) -> int:
        """The size that the primary item claims, which is the one of the picture."""
        pitm, iprp = self._boxes[b"pitm"], self._children(self._boxes[b"iprp"])
        primary = Numbers(self._content, pitm.begin + 4).next(4 if self._content[pitm.begin] else 2)
        ipco = iprp[b"ipco"]
        properties = list(_read_boxes(self._content, ipco.begin, ipco.end, self._parts))
        owned = [properties[index - 1] for index in self._read_owned(iprp[b"ipma"])[primary] if index]
        [ispe, *_] = [box for box in owned if box.kind == b"ispe"]
        size = Numbers(self._content, ispe.begin + 4)
        return size.next(4) * size.next(4)

    def _children(self, box: Box, begin: int | None = None) -> dict[bytes, Box]:
        found = _read_boxes(self._content, begin or box.begin, box.end, self._parts)
        return {child.kind: child for child in found}

    def _read_items(self, iinf: Box) -> Iterator[tuple[int, Item]]:
        """The items by their numbers."""
        first = iinf.begin + (8 if self._content[iinf.begin] else 6)
        for infe in _read_boxes(self._content, first, iinf.end, self._parts):
            size = 4 if self._content[infe.begin] > 2 else 2  # by the version
            place = infe.begin + 4 + size + 2
            number = Numbers(self._content, infe.begin + 4).next(size)
            yield number, Item(self._content[place : place + 4], place)

    def _read_places(self, iloc: Box) -> dict[int, list[tuple[int, int]]]:
        """Where the data of each item begin, and their lengths."""
        version, numbers = self._content[iloc.begin], Numbers(self._content, iloc.begin + 4)
        (offset, length), (base, index) = (divmod(numbers.next(1), 16) for _ in range(2))
        places: dict[int, list[tuple[int, int]]] = {}
        for _ in range(numbers.next(4 if version == 2 else 2)):
            self._parts.take()
            number = numbers.next(4 if version == 2 else 2)
            in_idat = version > 0 and numbers.next(2) & 15
            numbers.next(2)  # which file; it is always this one
            begin = numbers.next(base) + (self._boxes[b"idat"].begin if in_idat else 0)
            for _ in range(numbers.next(2)):
                self._parts.take()
                numbers.next(index if version else 0)
                place = begin + numbers.next(offset), numbers.next(length) or len(self._content)
                places.setdefault(number, []).append(place)
        return places

    def _read_owned(self, ipma: Box) -> dict[int, list[int]]:
        """The properties of each item, as indices from 1."""
        version, numbers = self._content[ipma.begin], Numbers(self._content, ipma.begin + 4)
        size, mask = (2, 0x7FFF) if self._content[ipma.begin + 3] & 1 else (1, 0x7F)
        owned = {}
        for _ in range(numbers.next(4)):
            self._parts.take()
            number = numbers.next(4 if version else 2)
            owned[number] = [numbers.next(size) & mask for _ in range(numbers.next(1))]
        return owned


def count_stream_pixels(stream: bytes, parts: Parts) -> int:
    """The pixels of all frames of an AV1 stream, each of the largest size that the stream allows."""
    largest = frames = 0
    for kind, unit in _read_units(stream, parts):
        if kind == SEQUENCE_HEADER:
            largest = max(largest, _largest_frame(unit))
        frames += kind in (FRAME_HEADER, FRAME)
    return largest * frames


def _read_boxes(content: bytes, begin: int, end: int, parts: Parts) -> Iterator[Box]:
    while begin + 8 <= end:
        parts.take()
        size, kind, header = Numbers(content, begin).next(4), content[begin + 4 : begin + 8], 8
        if size == 1:
            size, header = Numbers(content, begin + 8).next(8), 16
        elif size == 0:
            size = end - begin
        if size < header:
            raise ValueError("A box is smaller than its header.")
        yield Box(kind, begin + 4, begin + header, begin + size)
        begin += size


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
