"""Pictures in every format and mode, damaged and padded copies, slow pictures, bombs, and other files."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from dexpression.kinds import FORMATS
from tests.support.faces import draw_face, encode

MODES = ("L", "RGB", "P", "1", "CMYK", "LA", "RGBA", "I;16", "YCbCr", "PA")
FACE = draw_face("HAPPY", 0)
BMP = encode(FACE, "BMP")


def pictures() -> dict[str, bytes]:
    """Encode a face in every format and in every mode that it can store, and with profiles, EXIF and more frames."""
    found = {}
    for name in FORMATS:
        for mode in MODES:
            try:
                found[f"{name} {mode}"] = encode(FACE.convert(mode), name)
            except (OSError, ValueError):  # the format has no such mode
                continue
    frames = [Image.new("L", FACE.size, shade) for shade in (0, 128, 255)]
    for name in ("GIF", "WEBP", "PNG", "AVIF"):
        found[f"{name} animated"] = encode(FACE, name, save_all=True, append_images=frames)
    found["JPEG profile"] = encode(FACE, "JPEG", icc_profile=b"not a profile" * 100)
    found["JPEG large EXIF"] = encode(FACE, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0" + bytes(60_000))
    found["PNG transparent palette"] = encode(FACE.convert("P"), transparency=0)
    found["BMP in a GIF's name"] = encode(FACE, "BMP")
    return found


PICTURES = pictures()


def damage(content: bytes, seed: int) -> Iterator[bytes]:
    """Yield 40 damaged copies: 10 cut off, 20 with flipped bits, 5 with bytes inserted and 5 with bytes removed."""
    chance = random.Random(seed)
    yield from (content[: len(content) * tenth // 10] for tenth in range(10))
    for _ in range(20):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        yield bytes(damaged)
    for _ in range(5):
        place = chance.randrange(len(content))
        yield content[:place] + chance.randbytes(7) + content[place:]
        yield content[:place] + content[place + 7 :]


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG file whose header claims this size, whatever its compressed `data` holds; `extra` are chunks before it."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", data) + chunk(b"IEND")


def cut_png(width: int, height: int) -> bytes:
    """A black PNG picture whose last bytes are missing."""
    return png(width, height, zlib.compress(bytes((width + 1) * height))[:-40])


def gif_of_many_frames() -> bytes:
    """A small GIF file with about 60 frames of 900x900 pixels."""
    frame = Image.new("P", (900, 900))
    return encode(frame, "GIF", save_all=True, append_images=[Image.new("P", (900, 900), n) for n in range(60)])


def avif_of_another_size(width: int, height: int) -> bytes:
    """An AVIF picture of 3000x3000 pixels, whose boxes claim another size."""
    content = encode(Image.new("L", (3000, 3000)), "AVIF", speed=10)
    place = content.index(b"ispe") + 8
    return content[:place] + struct.pack(">II", width, height) + content[place + 8 :]


def avif_of_many_frames(count: int, side: int = 1024) -> bytes:
    """An AVIF picture whose stream holds itself many times."""
    content = encode(Image.new("L", (side, side)), "AVIF")
    begin = content.index(b"mdat") + 4
    stream = content[begin:]
    content = content.replace(struct.pack(">I", len(stream)), struct.pack(">I", len(stream) * count))
    size = struct.pack(">I", 8 + len(stream) * count)
    return content[: begin - 8] + size + b"mdat" + stream * count


BOMBS = {
    "many pixels in few bytes": encode(Image.new("1", (1001, 1000))),
    "a PNG that claims the largest size": png(2**31 - 1, 2**31 - 1),
    "a PNG without width": png(0, 10),
    "a PNG whose data is larger than its size": png(10, 10, zlib.compress(bytes(50_000_000))),
    "a GIF of many frames": gif_of_many_frames(),
    "a BMP that claims a huge size": BMP[:18] + struct.pack("<ii", 2**30, 2**30) + BMP[26:],
    "a BMP with a negative height": BMP[:22] + struct.pack("<i", -48) + BMP[26:],
    "an AVIF that claims a huge size": avif_of_another_size(2**31 - 1, 2**31 - 1),
    "a WebP that claims a huge size": encode(FACE, "WEBP")[:4] + b"\xff\xff\xff\xff" + encode(FACE, "WEBP")[8:],
}
NOT_PICTURES = {
    "no bytes": b"",
    "a byte": b"\x89",
    "a TIFF": encode(FACE, "TIFF"),
    "an ICO": encode(FACE, "ICO"),
    "an EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 48\n",
    "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "a playlist": b"#EXTM3U\nfile:///etc/passwd\n",
    "an HTML page": b"<html><script>alert(1)</script></html>",
    "a ZIP": b"PK\x03\x04" + bytes(100),
    "HTML before a JPEG": b"<script>alert(1)</script>" + encode(FACE, "JPEG"),
}


def segment(marker: int, payload: bytes = b"") -> bytes:
    """A segment of a JPEG file."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def progressive_jpeg(width: int, height: int, scans: int) -> bytes:
    """A grey JPEG file of few bytes, whose scans after the first refine no coefficient of any block."""
    blocks = -(-width // 8) * -(-height // 8)
    tables = segment(0xDB, bytes([0]) + bytes([1] * 64))
    tables += segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + bytes([1, 0x11, 0]))
    tables += segment(0xC4, bytes([0x00, 1, *[0] * 15, 0]))
    # One code for each length of a run of empty blocks: 1 to 2 ** 14.
    tables += segment(0xC4, bytes([0x10, 0, 0, 0, 15, *[0] * 12, *range(0, 0xF0, 0x10)]))
    first = segment(0xDA, bytes([1, 1, 0, 0, 0, 1])) + bytes(blocks // 8 + 1)
    bits = "".join(_empty_run(blocks))
    bits += "1" * (-len(bits) % 8)
    run = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return b"\xff\xd8" + tables + first + (segment(0xDA, bytes([1, 1, 0, 1, 63, 0x10])) + run) * scans + b"\xff\xd9"


def _empty_run(blocks: int) -> Iterator[str]:
    while blocks:
        size = min(14, blocks.bit_length() - 1)
        run = min(blocks, 2 ** (size + 1) - 1)
        yield f"{size:04b}" + (f"{run - 2**size:0{size}b}" if size else "")
        blocks -= run


def run_length_bmp(width: int, height: int, data: bytes) -> bytes:
    """A BMP file of 8 bits a pixel, compressed as RLE8."""
    palette = b"".join(bytes([grey, grey, grey, 0]) for grey in range(256))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(data), 0, 0, 54 + 1024) + header + palette + data


def exif_of_many_entries(count: int) -> bytes:
    """EXIF whose entries each claim nearly all of its bytes."""
    size = 12 * count
    entries = b"".join(struct.pack("<HHII", 1 + tag, 7, size, 8) for tag in range(count))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count) + entries + bytes(4)


def avif_with_exif(exif: bytes) -> bytes:
    """The face as AVIF with this EXIF, which Pillow would read before it writes the file."""
    empty = exif[:8] + bytes(len(exif) - 8)
    return encode(FACE, "AVIF", exif=empty).replace(empty, exif)


def empty_deflate_blocks(count: int) -> bytes:
    """Compressed data with the tables of 8 * `count` blocks and without a byte of content."""
    # Three bits "not the last, with tables"; 257 codes, 1 distance, 18 code lengths, of which those of 1 and 18 are
    # used; 138 and 118 times no code, the code of the end, no distance; then the end.
    lengths = "".join("100" if symbol in (18, 1) else "000" for symbol in (16, 17, 18, *[0] * 14, 1))
    block = "001" + "00000" + "00000" + "0111" + lengths + "1" + "1111111" + "1" + "1101011" + "0" + "0" + "0"
    bits = block * 8
    unit = bytes(int(bits[place : place + 8][::-1], 2) for place in range(0, len(bits), 8))
    return b"\x78\x01" + unit * count


def gif_with(extra: bytes) -> bytes:
    """The face as GIF, with `extra` before its image."""
    content = encode(FACE, "GIF")
    place = 13 + (3 << (content[10] & 7) + 1 if content[10] & 0x80 else 0)
    return content[:place] + extra + content[place:]


PLAIN = {name: encode(FACE, name) for name in ("JPEG", "PNG", "GIF")}
JPEG = PLAIN["JPEG"]
SCAN = JPEG.index(b"\xff\xda")
COMPRESSED = zlib.compress(b"".join(b"\0" + FACE.tobytes()[row * 48 : row * 48 + 48] for row in range(48)))

# Each is a file of PLAIN, with much that is not its pixels: thousands of what an attacker sends by the million.
PADDED = {
    "a JPEG of many comments": JPEG[:2] + segment(0xFE) * 5_000 + JPEG[2:],
    "a JPEG of many EXIF segments": JPEG[:2] + segment(0xE1, b"Exif\0\0" + bytes(10)) * 5_000 + JPEG[2:],
    "a JPEG of many profiles": JPEG[:2] + segment(0xE2, b"ICC_PROFILE\0\1\1") * 5_000 + JPEG[2:],
    "a JPEG of fill bytes": JPEG[:2] + b"\xff" * 500_000 + JPEG[2:],
    "a JPEG of other bytes": JPEG[:SCAN] + bytes(500_000) + JPEG[SCAN:],
    "a JPEG of restart markers": JPEG[:SCAN] + b"\xff\xd0" * 250_000 + JPEG[SCAN:],
    "a JPEG with fill bytes before its end": JPEG[:-2] + b"\xff" * 500_000 + b"\xff\xd9",
    "a JPEG with an index of further pictures": JPEG[:2]
    + segment(0xE2, b"MPF\0" + exif_of_many_entries(5_000))
    + JPEG[2:],
    "a JPEG with bytes after its end": JPEG + bytes(500_000),
    "a PNG of many chunks": png(48, 48, COMPRESSED, extra=chunk(b"teST") * 40_000),
    "a PNG of large texts": png(
        48, 48, COMPRESSED, extra=chunk(b"zTXt", b"Title\0\0" + zlib.compress(bytes(10**6))) * 60
    ),
    "a PNG with more chunks after its pixels": png(48, 48, COMPRESSED)[:-12] + chunk(b"teST") * 40_000 + chunk(b"IEND"),
    "a PNG whose pixel data go on": png(48, 48, COMPRESSED + bytes(500_000)),
    "a GIF of many comments": gif_with(b"!\xfe\1a\0" * 40_000),
    "a GIF of a long comment": gif_with(b"!\xfe" + b"\1a" * 90_000 + b"\0"),
    "a GIF of many control blocks": gif_with(b"!\xf9\4" + bytes(5) + b"!\xf9\4" + bytes(5)),
    "a GIF of other bytes": gif_with(bytes(500_000)),
}
TOO_COMPLEX = {
    "a JPEG of a hundred scans of 49 megapixels": progressive_jpeg(7000, 7000, 100),
    "a JPEG of a thousand scans of few pixels": progressive_jpeg(8, 8, 1_000),
    "a JPEG of many segments": JPEG[:2] + segment(0xFE) * 20_000 + JPEG[2:],
    "a JPEG of many tables": JPEG[:2] + segment(0xDB, bytes([0] + [1] * 64) * 1_000) * 5 + JPEG[2:],
    "a PNG of very many chunks": png(48, 48, COMPRESSED, extra=chunk(b"teST") * 110_000),
    "a PNG of empty pixel data": png(48, 48, COMPRESSED, extra=chunk(b"IDAT") * 110_000),
    "a GIF of very many comments": gif_with(b"!\xfe\1a\0" * 60_000),
    "a GIF of a very long comment": gif_with(b"!\xfe" + b"\1a" * 110_000 + b"\0"),
    "a PNG of one column": png(1, 70_000, zlib.compress(bytes(140_000))),
    "a BMP of few runs": run_length_bmp(49_999_999, 1, b"\1\1\0\0"),
    "a BMP of few runs, from top to bottom": run_length_bmp(49_999_999, -1, b"\1\1\0\0"),
    "an AVIF of more pixels than it claims": avif_of_another_size(64, 64),
    "an AVIF of many frames": avif_of_many_frames(50),
    "a BMP of many runs": run_length_bmp(1000, 1000, b"\0\2\0\0" * 650_000),
}
# Small slow pictures, for the fuzzer to change.
SLOW = {
    "a progressive JPEG": progressive_jpeg(2000, 2000, 30),
    "a JPEG of many EXIF segments": JPEG[:2] + segment(0xE1, b"Exif\0\0" + bytes(10)) * 500 + JPEG[2:],
    "a PNG of many chunks": png(48, 48, COMPRESSED, extra=chunk(b"teST") * 500),
    "a PNG of empty compressed blocks": png(48, 48, empty_deflate_blocks(500)),
    "a GIF of many comments": gif_with(b"!\xfe\1a\0" * 500),
    "a GIF of a large screen": b"GIF89a" + struct.pack("<HHBBB", 2000, 2000, 0, 0, 0) + encode(FACE, "GIF")[13:],
    "a BMP of runs": run_length_bmp(2000, 1000, b"\0\0" * 1_000),
    "an AVIF of some frames": avif_of_many_frames(5),
    "an AVIF of large EXIF": avif_with_exif(exif_of_many_entries(5_000)),
    "a WebP of large EXIF": encode(FACE, "WEBP", exif=exif_of_many_entries(5_000)),
}
