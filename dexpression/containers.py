"""Cut the file of a picture down to what its pixels and its orientation need, before a decoder reads it.

Decoders read comments, profiles, further frames and other chunks in pure Python, some in quadratic time, and none of it
changes the pixels of the first frame. What is left is decoded in a time that depends on the picture's size.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from dexpression.avif import strip_avif
from dexpression.boxes import IGNORED, ends_in_box
from dexpression.errors import TooComplex
from dexpression.heic import strip_heic
from dexpression.jpeg import Effort, lacks_end, strip_jpeg
from dexpression.kinds import HEAD_BYTES, HEIC, find_format

MAX_PARTS = 100_000  # chunks of PNG, blocks of GIF; 20 MB of PNG in its usual chunks of 8 kB are 2,500
MAX_METADATA_BYTES = 65_536  # of EXIF and XMP, as in one segment of a JPEG file
# Pillow decodes the run lengths of BMP in pure Python: 0.1 to 0.2 us a pixel, and 0.4 us a run of two bytes.
MAX_RLE_PIXELS = MAX_RLE_BYTES = 2_500_000
RLE_EFFORT = 20  # of a pixel or a byte, when decoding a pixel as usual is 1

PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_OVERHEAD = 12  # bytes of a chunk: length, kind and checksum
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
PNG_PIXELS = {b"IHDR", b"PLTE", b"IEND"}  # and IDAT
# The first of each is kept, if its checksum is right: the picture can be shown without.
PNG_EXTRAS = {b"tRNS", b"eXIf"}
# These are where ImageMagick and Adobe's programs store the orientation.
PNG_TEXTS = {b"tEXt": b"Raw profile type exif\0", b"zTXt": b"Raw profile type exif\0", b"iTXt": b"XML:com.adobe.xmp\0"}
GIF_STARTS = (b"GIF87a", b"GIF89a")
GIF_BLOCK = re.compile(b"[!,;]")  # an extension, an image, the end; decoders skip other bytes
GIF_CONTROL = b"\xf9"
BMP_START = b"BM"
BMP_OLD_HEADER = 12  # bytes; it has no field for a compression
BMP_RUN_LENGTHS = (1, 2)  # the compressions RLE8 and RLE4
JPEG_START = b"\xff\xd8\xff"
RIFF_START, WEBP_START = b"RIFF", b"WEBP"  # between them stands the size
WEBP_EXTENDED, WEBP_ORIENTATION = b"VP8X", {b"EXIF", b"XMP "}
WEBP_PIXELS = {WEBP_EXTENDED, b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"}
WEBP_PROFILE = 0x20  # the bit of VP8X that announces a profile
FTYP, AVIF_BRANDS = b"ftyp", {b"avif", b"avis", b"mif1", b"msf1"}  # which Pillow takes for AVIF


def strip_metadata(content: bytes, effort: Effort | None = None) -> bytes:
    """The same picture with as little else as possible; the bytes of an unknown format are given back as they are.

    What decoding costs beyond once per pixel is added to `effort`. A damaged file stays damaged. Raises TooComplex if
    the decoder would be busy for much longer than with other pictures of this size, and UnreadableImage for kinds of
    JPEG that are not supported.
    """
    effort = effort or Effort()
    if content.startswith(JPEG_START):
        return strip_jpeg(content, effort)
    if content.startswith(PNG_START):
        return _strip_png(content)
    if content.startswith(GIF_STARTS):
        return _strip_gif(content)
    if content.startswith(RIFF_START) and content[8:12] == WEBP_START:
        return _strip_webp(content)
    if find_format(content[:HEAD_BYTES]) == HEIC:
        return strip_heic(content, effort)
    if content[4:8] == FTYP and content[8:12] in AVIF_BRANDS:
        return strip_avif(content, effort)
    if content.startswith(BMP_START):
        _check_bmp(content, effort)
    return content


def is_cut_off(stripped: bytes) -> bool:
    """Whether the end of a stripped file is missing; the pixels may be there all the same."""
    if stripped.startswith(JPEG_START):
        return lacks_end(stripped)
    if stripped.startswith(PNG_START):
        return stripped[-8:-4] != b"IEND"
    if stripped.startswith(GIF_STARTS):
        return not stripped.rstrip(b"\0").endswith(b";")
    if stripped.startswith(BMP_START):
        return len(stripped) < int.from_bytes(stripped[2:6], "little")
    if stripped.startswith(RIFF_START):
        return len(stripped) < 8 + int.from_bytes(stripped[4:8], "little")
    return stripped[4:8] in (FTYP, IGNORED) and ends_in_box(stripped)


def _strip_png(content: bytes) -> bytes:
    """Leave out all chunks but those of pixels and orientation, and pixel data beyond what the picture can need."""
    kept, seen, room = [PNG_START], set(), 0
    for kind, chunk in _read_chunks(content):
        if kind == b"IDAT":
            if room > 0:
                kept.append(chunk[: room + PNG_OVERHEAD])
                room -= len(chunk) - PNG_OVERHEAD
        elif kind not in seen and _is_needed(kind, chunk):
            seen.add(kind)
            kept.append(chunk)
            room = _max_png_data(chunk) if kind == b"IHDR" else room
    return b"".join(kept)


def _read_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the bytes of each chunk up to IEND, the last perhaps cut off; raises TooComplex if many."""
    position, kind = len(PNG_START), b""
    for _ in range(MAX_PARTS):
        if kind == b"IEND" or position + 8 > len(content):
            return
        length, kind = struct.unpack_from(">I4s", content, position)
        yield kind, content[position : position + length + PNG_OVERHEAD]
        position += length + PNG_OVERHEAD
    raise TooComplex


def _max_png_data(header: bytes) -> int:
    """The most bytes that a picture needs, even badly compressed; more of them would decode to nothing."""
    if len(header) < 21:
        return 0
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", header, 8)
    raw: int = height * (1 + -(-width * bits * PNG_CHANNELS.get(colour, 4) // 8))
    raw += 4 * height + width if interlaced else 0  # seven pictures, each with its own rows
    return raw * 9 // 8 + MAX_METADATA_BYTES


def _is_needed(kind: bytes, chunk: bytes) -> bool:
    """Whether a chunk has to do with pixels or orientation, and the decoder will not refuse the picture for it."""
    if kind in PNG_PIXELS:
        return True
    if zlib.crc32(chunk[4:-4]).to_bytes(4) != chunk[-4:]:
        return False
    return kind in PNG_EXTRAS or (
        kind in PNG_TEXTS and chunk[8:].startswith(PNG_TEXTS[kind]) and _is_short(kind, chunk)
    )


def _is_short(kind: bytes, chunk: bytes) -> bool:
    """Whether a text is short, also after it is decompressed; the decoder refuses a picture for a longer one."""
    _, _, text = chunk[8:-4].partition(b"\0")
    if kind == b"iTXt":
        is_compressed, text = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
    else:
        is_compressed, text = kind == b"zTXt", text[1:]
    try:
        plain = zlib.decompressobj().decompress(text, MAX_METADATA_BYTES + 1) if is_compressed else text
    except zlib.error:
        return False
    return len(plain) <= MAX_METADATA_BYTES


def _strip_webp(content: bytes) -> bytes:
    """Leave out profiles, unknown chunks, cut metadata, frames after the first, and what follows the picture."""
    kept: dict[bytes, bytes] = {}
    position, size = 12, 4
    for _ in range(MAX_PARTS):
        if position + 8 > len(content):
            return b"".join((RIFF_START, struct.pack("<I", min(size, 0xFFFFFFFF)), WEBP_START, *kept.values()))
        kind, length = struct.unpack_from("<4sI", content, position)
        chunk = content[position : position + 8 + length]
        position += 8 + length + length % 2
        if kind in kept or not (kind in WEBP_PIXELS or (kind in WEBP_ORIENTATION and len(chunk) == 8 + length)):
            continue
        if kind == WEBP_EXTENDED and len(chunk) > 8:
            chunk = chunk[:8] + bytes([chunk[8] & ~WEBP_PROFILE]) + chunk[9:]
        kept[kind] = chunk + bytes(length % 2)
        size += 8 + length + length % 2
    raise TooComplex


def _strip_gif(content: bytes) -> bytes:
    """Leave out all extensions before the first image but the last one that names its transparent colour."""
    flags = content[10:11]
    colours = 3 << (flags[0] & 7) + 1 if flags >= b"\x80" else 0
    kept, control, parts = content[: 13 + colours], b"", iter(range(MAX_PARTS))
    position = len(kept)
    while found := GIF_BLOCK.search(content, position):
        begin = found.start()
        if found[0] != b"!":
            return kept + control + content[begin:]
        position = _end_of_extension(content, begin, parts)
        if content[begin + 1 : begin + 2] == GIF_CONTROL:
            control = content[begin:position]
    return kept + control


def _end_of_extension(content: bytes, begin: int, parts: Iterator[int]) -> int:
    """Where an extension of GIF ends. Each block of its data uses up one of `parts`; raises TooComplex without any."""
    position = begin + 2
    for _ in parts:
        size = int.from_bytes(content[position : position + 1])
        position += 1 + size
        if size == 0:
            return position
    raise TooComplex


def _check_bmp(content: bytes, effort: Effort) -> None:
    """Raise TooComplex for a large picture in run lengths; add what a small one costs."""
    if len(content) < 34:
        return
    header, width, height, _, compression = struct.unpack_from("<IIIII", content, 14)
    if header == BMP_OLD_HEADER or compression not in BMP_RUN_LENGTHS:
        return
    height = 2**32 - height if height >> 24 == 0xFF else height  # negative: the rows run from top to bottom
    if width * height > MAX_RLE_PIXELS or len(content) > MAX_RLE_BYTES:
        raise TooComplex
    effort.pixels += RLE_EFFORT * (width * height + len(content))
