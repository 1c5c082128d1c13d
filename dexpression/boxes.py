"""The tree of boxes (ISO/IEC 14496-12) that an AVIF or HEIC file is, and the items that its boxes list (23008-12).

What a decoder does not need is left out before it reads the file. Names of boxes and fields are those of the standards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from dexpression.errors import TooComplex

MAX_PARTS = 10_000  # boxes, places of data, and units of streams; an animation's frames are not among them
MAX_LAYERS = 8  # as often as this, all pixels of a picture may be decoded: colours and transparency, in rounded sizes
SMALL_PIXELS = 1_000_000  # what may be decoded for a smaller picture

IGNORED = b"free"
OTHER_LISTS = (b"moov", b"mini")  # of frames, and of the items of another layout, which decoders may prefer
LISTS = {b"iinf", b"iloc", b"pitm", b"iprp", b"ipco", b"ipma", b"iref", b"idat"}


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


def strip_boxes(content: bytes, find_unneeded: Callable[[Meta], Iterable[Item]]) -> bytes:
    """Leave out the frames of animations and, of each list of items, those that are not needed.

    All bytes stay at their places. A damaged file loses its kind, so that no decoder tries what could not be counted.
    """
    try:
        return _strip(content, find_unneeded)
    except (LookupError, ValueError):
        return content[:4] + IGNORED + content[8:]


def ends_in_box(content: bytes) -> bool:
    """Whether the file ends before its last box does."""
    try:
        return any(box.end > len(content) for box in read_boxes(content, 0, len(content), Parts()))
    except ValueError:
        return False


def check_effort(decoded: int, picture: int) -> None:
    """Raise TooComplex if the pixels that are decoded are far more than the picture has."""
    if decoded > MAX_LAYERS * max(picture, SMALL_PIXELS):
        raise TooComplex


def _strip(content: bytes, find_unneeded: Callable[[Meta], Iterable[Item]]) -> bytes:
    """Do what `strip_boxes` does; raises LookupError or ValueError for a damaged file."""
    stripped, parts, has_items = bytearray(content), Parts(), False
    for box in read_boxes(content, 0, len(content), parts):
        if box.kind == b"ftyp":
            stripped[box.begin : box.end] = content[box.begin : box.end].replace(b"avis", b"avif")
        elif box.kind in OTHER_LISTS:
            stripped[box.place : box.place + 4] = IGNORED
        elif box.kind == b"meta":
            has_items = True
            for item in find_unneeded(Meta(content, box, parts)):
                stripped[item.place : item.place + 4] = IGNORED
    if not has_items:
        raise ValueError("The file has no items.")
    return bytes(stripped)


class Meta:
    """The box that lists the items of a file."""

    def __init__(self, content: bytes, meta: Box, parts: Parts) -> None:
        self.parts = parts
        self._content = content
        self._boxes = self._children(meta, meta.begin + 4)
        self.items: dict[int, Item] = {}
        for number, item in self._read_items(self._boxes[b"iinf"]):
            if number in self.items:
                raise ValueError("Two items have the same number.")
            self.items[number] = item

    @cached_property
    def primary(self) -> int:
        """The item that is the picture."""
        pitm = self._boxes[b"pitm"]
        return self.numbers(pitm.begin + 4).next(4 if self._content[pitm.begin] else 2)

    def pixels(self, number: int) -> int:
        """The size that an item claims."""
        [ispe] = [box for box in self.properties(number) if box.kind == b"ispe"]
        size = self.numbers(ispe.begin + 4)
        return size.next(4) * size.next(4)

    def properties(self, number: int) -> list[Box]:
        """The properties of an item."""
        return [self._properties[index - 1] for index in self._owned[number] if index]

    def data(self, number: int) -> bytes:
        """The data of an item; raises ValueError if some are beyond the end of the file."""
        if any(begin + length > len(self._content) for begin, length in self._places[number]):
            raise ValueError("The file ends within an item.")
        return b"".join(self._content[begin : begin + length] for begin, length in self._places[number])

    def text(self, begin: int, end: int) -> bytes:
        """The bytes of a text that a zero ends."""
        return self._content[begin:end].partition(b"\0")[0]

    def numbers(self, begin: int) -> Numbers:
        """The numbers at a place of the file."""
        return Numbers(self._content, begin)

    def check_sharing(self, numbers: Iterable[int]) -> None:
        """Raise TooComplex if many items share the same data."""
        lengths = (min(length, len(self._content)) for number in numbers for _, length in self._places[number])
        if sum(lengths) > 2 * len(self._content):
            raise TooComplex

    def references(self, kind: bytes) -> dict[int, list[int]]:
        """Which items each item refers to, in references of a kind."""
        found: dict[int, list[int]] = {}
        if iref := self._boxes.get(b"iref"):
            size = 4 if self._content[iref.begin] else 2  # by the version
            for box in read_boxes(self._content, iref.begin + 4, iref.end, self.parts):
                if box.kind == kind:
                    numbers = self.numbers(box.begin)
                    targets = found.setdefault(numbers.next(size), [])
                    for _ in range(numbers.next(2)):
                        self.parts.take()
                        targets.append(numbers.next(size))
        return found

    @cached_property
    def _iprp(self) -> dict[bytes, Box]:
        return self._children(self._boxes[b"iprp"])

    @cached_property
    def _properties(self) -> list[Box]:
        ipco = self._iprp[b"ipco"]
        return list(read_boxes(self._content, ipco.begin, ipco.end, self.parts))

    @cached_property
    def _owned(self) -> dict[int, list[int]]:
        return self._read_owned(self._iprp[b"ipma"])

    @cached_property
    def _places(self) -> dict[int, list[tuple[int, int]]]:
        return self._read_places(self._boxes[b"iloc"])

    def _children(self, box: Box, begin: int | None = None) -> dict[bytes, Box]:
        """The boxes in a box, by their kinds; decoders differ in which of two they take."""
        found: dict[bytes, Box] = {}
        for child in read_boxes(self._content, begin or box.begin, box.end, self.parts):
            if child.kind in found and child.kind in LISTS:
                raise ValueError("A list is there twice.")
            found[child.kind] = child
        return found

    def _read_items(self, iinf: Box) -> Iterator[tuple[int, Item]]:
        """The items by their numbers."""
        first = iinf.begin + (8 if self._content[iinf.begin] else 6)
        for infe in read_boxes(self._content, first, iinf.end, self.parts):
            size = 4 if self._content[infe.begin] > 2 else 2  # by the version
            place = infe.begin + 4 + size + 2
            number = self.numbers(infe.begin + 4).next(size)
            yield number, Item(self._content[place : place + 4], place)

    def _read_places(self, iloc: Box) -> dict[int, list[tuple[int, int]]]:
        """Where the data of each item begin, and their lengths."""
        version, numbers = self._content[iloc.begin], self.numbers(iloc.begin + 4)
        (offset, length), (base, index) = (divmod(numbers.next(1), 16) for _ in range(2))
        places: dict[int, list[tuple[int, int]]] = {}
        for _ in range(numbers.next(4 if version == 2 else 2)):
            self.parts.take()
            number = numbers.next(4 if version == 2 else 2)
            in_idat = version > 0 and numbers.next(2) & 15
            numbers.next(2)  # which file; it is always this one
            begin = numbers.next(base) + (self._boxes[b"idat"].begin if in_idat else 0)
            for _ in range(numbers.next(2)):
                self.parts.take()
                numbers.next(index if version else 0)
                place = begin + numbers.next(offset)
                rest = max(0, len(self._content) - place)
                places.setdefault(number, []).append((place, numbers.next(length) or rest))
        return places

    def _read_owned(self, ipma: Box) -> dict[int, list[int]]:
        """The properties of each item, as indices from 1."""
        version, numbers = self._content[ipma.begin], self.numbers(ipma.begin + 4)
        size, mask = (2, 0x7FFF) if self._content[ipma.begin + 3] & 1 else (1, 0x7F)
        owned: dict[int, list[int]] = {}
        count = numbers.next(4)
        for _ in range(count):
            self.parts.take()
            number = numbers.next(4 if version else 2)
            owned[number] = [numbers.next(size) & mask for _ in range(numbers.next(1))]
        if len(owned) < count:
            raise ValueError("An item has two lists of properties.")
        return owned


def read_boxes(content: bytes, begin: int, end: int, parts: Parts) -> Iterator[Box]:
    """The boxes from one place of a file to another; raises ValueError for a damaged one."""
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
