"""Pictures in every format and mode, damaged copies of them, decompression bombs, and files that are not pictures."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from dexpression.picture import FORMATS
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
    for name in ("GIF", "WEBP", "PNG"):
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


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG file whose header claims this size, whatever its compressed `data` holds."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part)) for kind, part in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def gif_of_many_frames() -> bytes:
    """A small GIF file with about 60 frames of 900x900 pixels."""
    frame = Image.new("P", (900, 900))
    return encode(frame, "GIF", save_all=True, append_images=[Image.new("P", (900, 900), n) for n in range(60)])


BOMBS = {
    "many pixels in few bytes": encode(Image.new("1", (1001, 1000))),
    "a PNG that claims the largest size": png(2**31 - 1, 2**31 - 1),
    "a PNG without width": png(0, 10),
    "a PNG whose data is larger than its size": png(10, 10, zlib.compress(bytes(50_000_000))),
    "a GIF of many frames": gif_of_many_frames(),
    "a BMP that claims a huge size": BMP[:18] + struct.pack("<ii", 2**30, 2**30) + BMP[26:],
    "a BMP with a negative height": BMP[:22] + struct.pack("<i", -48) + BMP[26:],
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
