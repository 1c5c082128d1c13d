"""Tell what a file is by its first bytes: a picture that can be read, or what people send in its place."""

from __future__ import annotations

import codecs
import re

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF")  # an allow-list: Pillow tries no other decoder
READABLE = "JPEG, PNG, WebP, BMP, GIF or AVIF"
HEIC = "HEIF"  # Pillow's name for it; an extra decodes it, see dexpression.heic
HEAD_BYTES = 2048  # of a file, which tell its kind

# Regular expressions for the first bytes. The first that fits decides.
FORMAT_PATTERNS = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF....WEBP",
    "BMP": rb"BM",
    "GIF": rb"GIF8[79]a",
    "AVIF": rb"....ftypavi[fs]|....ftypm[is]f1.{4}(?:.{4}){0,8}avi[fs]",
    HEIC: rb"....ftyp(?:hei[cmsx]|hev[cmsx])|....ftypm[is]f1",
}
NAMES = {"WEBP": "a WebP picture", "AVIF": "an AVIF picture", HEIC: "a HEIC picture"}
FILM = "a film"
CONTAINER_PATTERNS = {  # of films that dexpression.video reads
    "MP4": rb"....(?:ftyp|moov|mdat|wide)",  # and MOV, 3GP
    "Matroska": rb"\x1aE\xdf\xa3",  # and WebM
    "AVI": rb"RIFF....AVI ",
}
OTHER_CONTAINERS = rb"FLV\x01|\0\0\x01[\xb3\xba]|G.{187}G|0&\xb2u"
OTHER_PATTERNS = {
    "a camera's raw picture": rb"....ftypcrx |II.{6}CR|FUJIFILMCCD-RAW|FOVb",
    "sound": rb"....ftypM4[AB] |ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]|OggS|fLaC|RIFF....WAVE|FORM....AIF|#!AMR",
    FILM: b"|".join([*CONTAINER_PATTERNS.values(), OTHER_CONTAINERS]),
    "a TIFF picture": rb"II[*+]\0|MM\0[*+]",
    "a JPEG XL picture": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "a JPEG 2000 picture": rb"\0\0\0\x0cjP  |\xffO\xffQ",
    "an icon": rb"\0\0[\x01\x02]\0[^\0]\0|icns",
    "a Photoshop document": rb"8BPS",
    "a GIMP document": rb"gimp xcf",
    "a Netpbm picture": rb"P[1-7][\s#]",
    "a DICOM picture": rb".{128}DICM",
    "a PDF document": rb"\s*%PDF-",
    "a PostScript document": rb"%!PS|\xc5\xd0\xd3\xc6",
    "a ZIP archive, or a document in one": rb"PK(?:\x03\x04|\x05\x06|\x07\x08)",
    "an archive": rb"\x1f\x8b|BZh\d|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd|.{257}ustar",
    "an Office document": rb"\xd0\xcf\x11\xe0",
    "a NumPy array": rb"\x93NUMPY",
    "a program": rb"\x7fELF|MZ|\xca\xfe\xba\xbe|[\xcf\xce]\xfa\xed\xfe",
    "an SVG drawing": rb"(?i:\s*<(?:svg[\s>]|(?:\?xml|!doctype svg|!--).{0,1800}?<svg[\s>]))",
    "a web page (HTML)": rb"(?i:\s*<(?:!doctype html|html|head|body|script|title|div|p|h1)\b)",
    "XML": rb"\s*<[?!a-zA-Z]",
    "a picture in base64, as text": rb"\s*(?:data:image/|/9j/|iVBORw0KGgo|R0lGOD|UklGR)",
    "JSON": rb'\s*(?:\{\s*["}]|\[\s*["{\[\d\]])',
}
UTF8_START = b"\xef\xbb\xbf"
UTF16_STARTS = (b"\xff\xfe", b"\xfe\xff")
ZEROS = re.compile(rb"\0+")
CONTROLS = re.compile("[\0-\x08\x0e-\x1a\x1c-\x1f]")  # which text has not


def find_format(content: bytes) -> str | None:
    """The one of `FORMATS`, or HEIC, that the file begins as; None for anything else."""
    return next((name for name, pattern in FORMAT_PATTERNS.items() if re.match(pattern, content, re.DOTALL)), None)


def name_kind(content: bytes) -> str:
    """What a file is, as a noun for a message, such as `a JPEG picture`, `a film` or `a file of an unknown kind`."""
    head = content[:HEAD_BYTES].removeprefix(UTF8_START)
    if found := find_format(head):
        return NAMES.get(found, f"a {found} picture")
    if not head:
        return "an empty file"
    if ZEROS.fullmatch(head):
        return "a file of zeros"
    for kind, pattern in OTHER_PATTERNS.items():
        if re.match(pattern, head, re.DOTALL):
            return kind
    return "text" if _is_text(head) else "a file of an unknown kind"


def is_film(content: bytes) -> bool:
    """Whether a file is a film, also one in a container that is not read."""
    return find_format(content) is None and name_kind(content) == FILM


def _is_text(head: bytes) -> bool:
    """Whether the bytes are the beginning of a text in UTF-16 with its mark, or in UTF-8."""
    if head.startswith(UTF16_STARTS):
        return True
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut off
    except UnicodeDecodeError:
        return False
    return not CONTROLS.search(text)
