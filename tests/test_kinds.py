"""What a file is, by its first bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dexpression.kinds import FORMATS, HEAD_BYTES, HEIC, find_format, name_kind
from tests.support.faces import draw_face, encode

FACE = draw_face("HAPPY", 0)


def array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


KINDS = {
    "a camera's raw picture": [b"II*\0\x10\0\0\0CR\x02\0", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom"],
    "a film": [
        b"\0\0\0\x18ftypmp42\0\0\0\0isommp42",
        b"\0\0\0\x14ftypqt  ",
        b"\x1aE\xdf\xa3\x9f",
        b"RIFF\0\0\0\0AVI LIST",
        b"\0\0\1\xba!",
        b"G" + bytes(187) + b"G",
    ],
    "sound": [b"ID3\4", b"\xff\xfb\x90", b"RIFF\0\0\0\0WAVEfmt ", b"OggS"],
    "a TIFF picture": [encode(FACE, "TIFF"), b"MM\0*\0\0\0\x08"],
    "an icon": [encode(FACE, "ICO")],
    "a JPEG 2000 picture": [encode(FACE, "JPEG2000")],
    "a Netpbm picture": [encode(FACE, "PPM")],
    "a PDF document": [b"%PDF-1.7", b"\n%PDF-1.4"],
    "a PostScript document": [b"%!PS-Adobe-3.0 EPSF-3.0\n"],
    "a ZIP archive, or a document in one": [b"PK\3\4" + bytes(100)],
    "an archive": [b"\x1f\x8b\x08", b"7z\xbc\xaf", bytes(257) + b"ustar"],
    "a program": [b"\x7fELF", b"MZ\x90"],
    "a NumPy array": [array()],
    "an SVG drawing": [
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- by hand -->\n<svg width="1"/>',
    ],
    "a web page (HTML)": [b"<!DOCTYPE html><title>502", b"\n<html><svg></svg>", b"<HTML>"],
    "XML": [b'<?xml version="1.0"?><note/>'],
    "JSON": [b'{"error": "not found"}', b"[1, 2]"],
    "a picture in base64, as text": [b"/9j/4AAQSkZJRg", b"data:image/png;base64,iVBORw0KGgo="],
    "text": [b"no picture\n", "Gr\u00fc\u00dfe".encode(), "x\u00fc".encode() * HEAD_BYTES, "text".encode("utf-16")],
    "a file of zeros": [bytes(9_000)],
    "an empty file": [b""],
    "a file of an unknown kind": [b"\x80\x81\x82", b"\x01\x02\x03"],
}


@pytest.mark.parametrize(("kind", "content"), [(kind, content) for kind, all_ in KINDS.items() for content in all_])
def test_a_file_is_named_by_its_content(kind, content):
    assert (name_kind(content), find_format(content)) == (kind, None)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1", b"msf1"])
def test_heic_is_found_by_any_of_its_brands(brand):
    content = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic"
    assert (name_kind(content), find_format(content)) == ("a HEIC picture", HEIC)


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_that_is_read_is_found_by_its_first_bytes(file_format):
    assert find_format(encode(FACE, file_format)[:HEAD_BYTES]) == file_format


def test_an_animation_in_avif_and_one_under_the_general_brand_are_avif():
    frames = [FACE, Image.new("L", FACE.size)]
    animation = encode(FACE, "AVIF", save_all=True, append_images=frames)
    assert find_format(animation) == find_format(animation.replace(b"ftypavis", b"ftypmif1")) == "AVIF"
