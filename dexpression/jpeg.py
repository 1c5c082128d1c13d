"""Cut a JPEG file down to what its pixels and its orientation need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from dexpression.errors import TooComplex, UnreadableImage

MAX_SEGMENTS = 10_000  # a file of 20 MB with a profile, previews and a depth map has some hundred
MAX_TABLE_BYTES = 250_000  # of Huffman and quantisation tables; a picture with 30 scans has under 50,000
MAX_SCANS = 256  # encoders write about 10
# A scan may hold no data, and the decoder visits every block all the same: up to 0.6 ns a pixel and component.
MAX_FULL_SCANS = 32  # of one component and the whole picture; encoders need up to 24
SCAN_EFFORT = 0.06  # of a pixel in a scan, when decoding a pixel as usual is 1
MAX_SCANNED_PIXELS = MAX_FULL_SCANS * 50_000_000  # smaller pictures may have more scans
# Before a marker, any number of 0xFF may stand. When a decoder that gets 64 kB at a time waits for the end of a long
# run, it reads the run from its start again and again.
FILL_RUN = b"\xff" * 1024

# Restarts belong to the data of a scan, as do an escaped 0xFF and codes below 0xC0, which are damaged restarts.
MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
START, END, START_OF_SCAN = b"\xff\xd8", b"\xff\xd9", 0xDA
# After the last pixel, a decoder passes over this. Before, it takes some of it for pixels, or a restart for one that it
# waits for.
NOISE = bytes(range(1, 255)) * 2
NO_PIXELS = NOISE + b"".join(bytes([0xFF, 0xD0 + restart]) + NOISE for restart in range(8))
MAX_END_ZEROS = 8  # of the data of a scan without an end marker; more are not pixels, but fill the file
FRAMES = {0xC0, 0xC1, 0xC2}  # sequential and progressive, with Huffman codes
OTHER_FRAMES = set(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}  # lossless, hierarchical, and arithmetic codes
TABLES = {0xC4, 0xDB, 0xDD}  # Huffman, quantisation, restart interval
METADATA = set(range(0xE0, 0xF0)) | {0xFE, 0xCC, 0xDC}  # application data, comments, and what libjpeg skips
SEGMENTS = FRAMES | OTHER_FRAMES | TABLES | METADATA | {START_OF_SCAN}  # each has a length; any other marker has none
# The only application data that matter: how colours are stored, and how to turn the picture. The first of each is kept.
KEPT = ((0xE0, b"JFIF"), (0xE1, b"Exif\0\0"), (0xE1, b"http://ns.adobe.com/xap/1.0/\0"), (0xEE, b"Adobe"))


@dataclass
class Effort:
    """What decoding pictures costs beyond once per pixel, in pixels that cost the same."""

    pixels: float = 0.0


class Segment(NamedTuple):
    """A marker, the bytes from the marker to the end of its segment, and the coded data of a scan, if it begins one."""

    marker: int
    content: bytes
    data: bytes = b""


@dataclass
class Work:
    """What decoding the segments so far costs."""

    frame_pixels: int = 0
    table_bytes: int = 0
    scans: int = 0
    scanned_pixels: int = 0

    def add(self, segment: Segment) -> None:
        """Count a segment; raises TooComplex if it is too much, and UnreadableImage for an unusual kind of JPEG."""
        content = segment.content
        if segment.marker in OTHER_FRAMES:
            raise UnreadableImage("This kind of JPEG is not supported. Save the picture as a baseline JPEG or as PNG.")
        if segment.marker in FRAMES and not self.frame_pixels:
            height, width = int.from_bytes(content[5:7]), int.from_bytes(content[7:9])
            self.frame_pixels = 64 * -(-height // 8) * -(-width // 8)  # whole blocks
        if segment.marker == START_OF_SCAN:
            components = max(1, int.from_bytes(content[4:5]))
            self.scans += 1
            self.scanned_pixels += components * self.frame_pixels
        else:
            self.table_bytes += len(content)
        too_many_pixels = self.scanned_pixels > max(MAX_SCANNED_PIXELS, MAX_FULL_SCANS * self.frame_pixels)
        if too_many_pixels or self.scans > MAX_SCANS or self.table_bytes > MAX_TABLE_BYTES:
            raise TooComplex


def strip_jpeg(content: bytes, effort: Effort) -> bytes:
    """Leave out comments, profiles, previews, long runs of fill bytes, and all that follows the end of the picture.

    What the scans cost is added to `effort`.

    A damaged file stays damaged in the same place; an end marker that is missing is not added. Raises TooComplex if the
    decoder would be busy for much longer than with other pictures of this size, and UnreadableImage for kinds of JPEG
    that browsers do not decode either.
    """
    kept, work, seen = [START], Work(), set()
    for segment in _read_segments(content):
        if segment.marker not in SEGMENTS and segment.content != END:
            continue
        if segment.marker in METADATA:
            name = _kept_name(segment)
            if name is None or name in seen:
                continue
            seen.add(name)
        else:
            work.add(segment)
        kept += [segment.content, segment.data]
    effort.pixels += SCAN_EFFORT * work.scanned_pixels
    return b"".join(kept)


def _read_segments(content: bytes) -> Iterator[Segment]:
    """Yield segments up to the end of the picture or to a marker that decoders refuse; raises TooComplex if many."""
    position = len(START)
    for _ in range(MAX_SEGMENTS):
        found = MARKER.search(content, position)
        if not found:
            return
        start, marker = found.start(), found[0][1]
        if marker not in SEGMENTS:
            yield Segment(marker, found[0])
            return
        # Decoders take a length under 2, which does not count itself, as an empty segment.
        position = start + 2 + max(2, int.from_bytes(content[start + 2 : start + 4]))
        data = b""
        if marker == START_OF_SCAN:
            end = MARKER.search(content, position)
            data = content[position : end.start()] if end else _without_filling(content[position:])
        yield Segment(marker, content[start:position], data.replace(FILL_RUN, b"\xff"))
        position += len(data)
    raise TooComplex


def _kept_name(segment: Segment) -> bytes | None:
    payload = segment.content[4:]
    return next((name for marker, name in KEPT if marker == segment.marker and payload.startswith(name)), None)


def _without_filling(data: bytes) -> bytes:
    """The data of a last scan that no marker ends, without what fills the file up after it."""
    data = data.removesuffix(b"\xff")
    return data[: len(data.rstrip(b"\0")) + MAX_END_ZEROS]


def lacks_end(stripped: bytes) -> bool:
    """Whether these are the bytes of a stripped JPEG file without its end marker."""
    return stripped.startswith(START) and not stripped.endswith(END)
