"""Stripped files: the pixels and the orientation stay, and what keeps a decoder busy goes or is refused."""

from __future__ import annotations

import contextlib
import io
import warnings
import zlib

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dexpression.containers import strip_metadata
from dexpression.errors import PictureError, TooComplex, UnreadableImage
from dexpression.kinds import FORMATS
from dexpression.picture import read_picture, turn_upright
from tests.support.faces import draw_face, encode, encode_turned
from tests.support.hostile import (
    COMPRESSED,
    FACE,
    JPEG,
    PADDED,
    PICTURES,
    PLAIN,
    SLOW,
    TOO_COMPLEX,
    chunk,
    damage,
    empty_deflate_blocks,
    exif_of_many_entries,
    png,
    progressive_jpeg,
    run_length_bmp,
)

COLOUR = Image.merge("RGB", [draw_face(label, 0, size=96) for label in ("HAPPY", "SAD", "FEAR")])
PALETTE = COLOUR.convert("P")
XMP = b'<x tiff:Orientation="6"/>'


def png_profile() -> PngInfo:
    """The orientation as ImageMagick stores it in PNG, and another text."""
    exif, texts = Image.Exif(), PngInfo()
    exif[0x0112] = 6
    texts.add_text("Title", "a face")
    texts.add_text("Raw profile type exif", "\nexif\n  26\n" + exif.tobytes().hex(), zip=True)
    return texts


def png_xmp() -> PngInfo:
    """The orientation as Adobe's programs store it in PNG."""
    texts = PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return texts


ENCODED = PICTURES | {
    f"JPEG quality {quality}, subsampling {subsampling}, progressive {progressive}": encode(
        COLOUR, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive
    )
    for quality in (10, 95)
    for subsampling in (0, 1, 2)
    for progressive in (False, True)
}
ENCODED |= {
    f"{kind} {turn}": encode_turned(COLOUR, turn, kind) for kind in ("JPEG", "PNG", "WEBP", "AVIF") for turn in range(9)
}
ENCODED |= {
    "JPEG progressive CMYK": encode(COLOUR.convert("CMYK"), "JPEG", progressive=True),
    "JPEG with restarts": encode(COLOUR, "JPEG", restart_marker_blocks=1),
    "JPEG in RGB": encode(COLOUR, "JPEG", keep_rgb=True),
    "JPEG with everything": encode(
        COLOUR, "JPEG", comment=b"a face", xmp=XMP, dpi=(72, 72), icc_profile=bytes(200_000)
    ),
    "MPO": encode(COLOUR, "MPO", save_all=True, append_images=[COLOUR.rotate(90)]),
    "PNG with a profile": encode(COLOUR, pnginfo=png_profile()),
    "PNG with XMP": encode(COLOUR, pnginfo=png_xmp()),
    "PNG with a transparent colour": encode(COLOUR, transparency=(20, 20, 20)),
    "PNG with half-transparent colours": encode(PALETTE, transparency=bytes(range(256))),
    "PNG animated from its second picture": encode(COLOUR, save_all=True, append_images=[COLOUR], default_image=True),
    "GIF interlaced, transparent": encode(PALETTE, "GIF", interlace=True, transparency=3, comment=b"a face" * 99),
    "AVIF with transparency": encode(COLOUR.convert("RGBA"), "AVIF"),
    "AVIF with everything": encode(COLOUR, "AVIF", exif=b"II*\0\x08" + bytes(9), icc_profile=bytes(999)),
    "WebP lossless with everything": encode(COLOUR, "WEBP", lossless=True, xmp=XMP, icc_profile=b"profile"),
}


def decode(content: bytes) -> Image.Image:
    """Decode the bytes as they are, turned upright."""
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return turn_upright(image)


@pytest.mark.parametrize("name", ENCODED)
def test_a_stripped_picture_has_the_same_pixels_and_orientation(name):
    plain, stripped = decode(ENCODED[name]), decode(strip_metadata(ENCODED[name]))
    assert (stripped.mode, stripped.size, stripped.tobytes()) == (plain.mode, plain.size, plain.tobytes())


@pytest.mark.parametrize("name", PADDED)
def test_a_padded_picture_is_stripped_of_nearly_everything_but_its_pixels(name):
    plain = PLAIN[name.split()[1]]
    assert len(strip_metadata(PADDED[name])) < len(plain) + 70_000
    assert read_picture(PADDED[name]).tobytes() == read_picture(plain).tobytes()


@pytest.mark.parametrize("name", TOO_COMPLEX)
def test_a_picture_that_would_keep_a_decoder_busy_is_refused(name):
    with pytest.raises(TooComplex, match="Save the picture anew"):
        read_picture(TOO_COMPLEX[name])


@pytest.mark.parametrize("name", PADDED | SLOW)
def test_damaged_bytes_are_stripped_or_refused(name):
    for content in damage((PADDED | SLOW)[name], seed=len(name)):
        with contextlib.suppress(PictureError):
            assert len(strip_metadata(content)) <= len(content)


@pytest.mark.parametrize("name", PICTURES)
def test_every_beginning_of_a_file_can_be_stripped(name):
    for length in range(min(len(PICTURES[name]), 1_000)):
        assert len(strip_metadata(PICTURES[name][:length])) <= length


def test_bytes_of_another_format_stay_as_they_are():
    assert strip_metadata(b"%PDF-1.4") == b"%PDF-1.4"


def test_a_progressive_picture_of_50_megapixels_may_have_the_scans_that_encoders_write():
    assert strip_metadata(progressive_jpeg(7000, 7000, 31))
    assert strip_metadata(progressive_jpeg(20_000, 20_000, 31))  # for who sets a higher limit of pixels


def test_a_damaged_restart_costs_no_more_than_its_block():
    content = encode(COLOUR, "JPEG", restart_marker_blocks=1)
    damaged = content.replace(b"\xff\xd3", b"\xff\x04", 1)
    assert decode(strip_metadata(damaged)).tobytes() == decode(damaged).tobytes()


@pytest.mark.parametrize("marker", [0xC3, 0xC9, 0xCA])
def test_a_lossless_or_arithmetic_jpeg_is_refused(marker):
    with pytest.raises(UnreadableImage, match="kind of JPEG is not supported"):
        read_picture(JPEG.replace(b"\xff\xc0", bytes([0xFF, marker])))


def test_pixel_data_of_a_png_are_cut_at_what_its_size_can_need():
    slow = png(48, 48, empty_deflate_blocks(10_000))
    assert len(strip_metadata(slow)) < 70_000 < len(slow)
    first = slow.replace(b"\r\n\x1a\n", b"\r\n\x1a\n" + chunk(b"teST", b"\xff" * 13))  # not taken for the header
    assert len(strip_metadata(first)) < 70_000


def test_run_lengths_of_a_screen_are_read():
    rows = (b"\xff\x07" * 7 + b"\x87\x07" + b"\0\0") * 1080  # 7 * 255 + 135 pixels
    assert read_picture(run_length_bmp(1920, 1080, rows)).getextrema() == (7, 7)


def test_a_large_bmp_with_the_oldest_header_is_not_taken_for_run_lengths():
    content = bytearray(b"BM" + bytes(12) + (12).to_bytes(4, "little") + bytes(3_000_000))
    content[30] = 1  # a part of the palette, where later headers have the compression
    assert strip_metadata(bytes(content)) == content


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_only_the_first_64_kb_of_exif_are_read(kind):
    exif = exif_of_many_entries(40_000)
    large = png(48, 48, COMPRESSED, chunk(b"eXIf", exif)) if kind == "PNG" else encode(FACE, "WEBP", exif=exif)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read_picture(large).size == FACE.size
    assert len(caught) < 6_000


PROFILE = b"Raw profile type exif\0"
WRONG = b"\0\0\0\0"  # in place of a checksum
ANCILLARY = {
    "a wrong checksum of a comment": chunk(b"tEXt", b"Comment\0a")[:-4] + WRONG,
    "a wrong checksum of EXIF": chunk(b"eXIf", b"II*\0\x08\0\0\0\0\0")[:-4] + WRONG,
    "a wrong checksum of a transparent shade": chunk(b"tRNS", b"\0\1")[:-4] + WRONG,
    "a large text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a note " * 300_000)),
    "a large text of EXIF": chunk(b"zTXt", PROFILE + b"\0" + zlib.compress(b"0" * 3_000_000)),
    "a large text of XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<x " * 1_000_000)),
    "a text that is not compressed": chunk(b"zTXt", PROFILE + b"\0no"),
    "a damaged profile": chunk(b"iCCP", b"profile\0\0no"),
}


@pytest.mark.parametrize("name", ANCILLARY)
def test_no_chunk_but_those_of_pixels_decides_whether_a_png_is_read(name):
    assert read_picture(png(48, 48, COMPRESSED, ANCILLARY[name])).tobytes() == FACE.tobytes()


def test_a_webp_whose_metadata_are_cut_off_is_read_and_keeps_its_orientation_otherwise():
    plain = read_picture(encode(COLOUR, "WEBP")).tobytes()
    for extra in ({"exif": b"Exif\0\0" + bytes(99)}, {"xmp": XMP}):
        assert read_picture(encode(COLOUR, "WEBP", **extra)[:-4]).tobytes() == plain
    whole = encode(COLOUR, "WEBP")
    assert read_picture(whole[:4] + b"\xff\xff\0\0" + whole[8:]).tobytes() == plain  # a wrong size of the file


def test_every_format_is_known_here():
    assert set(FORMATS) == {"JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF"}  # a new one needs a look at what makes it slow
