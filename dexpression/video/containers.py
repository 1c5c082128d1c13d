"""The containers of films that are decoded: which one a file is, and whether its end is missing."""

from __future__ import annotations

import os
import re
from typing import BinaryIO

from dexpression.kinds import CONTAINER_PATTERNS, FILM, name_kind

READABLE_FILMS = "MP4, MOV, WebM, MKV or AVI"

MAX_CHUNKS = 100_000  # that are looked at; an hour in fragments of a second has 7,200 boxes
CHUNK_HEAD = 16  # bytes: the longest head of a box in MP4


def find_container(head: bytes) -> str | None:
    """The name of the container that a file begins as; None if it is no film, or one that is not read."""
    if name_kind(head) != FILM:  # pictures and sound may lie in the same containers
        return None
    return next((name for name, pattern in CONTAINER_PATTERNS.items() if re.match(pattern, head, re.DOTALL)), None)


def is_cut_off(film: BinaryIO, container: str) -> bool:
    """Whether the file ends before its last chunk does; looks only at the lengths that the outer chunks name."""
    size = film.seek(0, os.SEEK_END)
    position = 0
    for _ in range(MAX_CHUNKS):
        if position >= size:
            break
        film.seek(position)
        length = LENGTHS[container](film.read(CHUNK_HEAD))
        if length is None:
            return False
        position += length
    return position > size


def _mp4_length(head: bytes) -> int | None:
    """The length of a box, in bytes with its head; None if it reaches to the end of the file, or is damaged."""
    length = int.from_bytes(head[:4])
    if length == 1:
        length = int.from_bytes(head[8:16])
    return length if length >= 8 else None


def _avi_length(head: bytes) -> int | None:
    """The length of a chunk; None for what follows the last one, and for a recording that did not end properly."""
    length = int.from_bytes(head[4:8], "little")
    return 8 + length if head.startswith(b"RIFF") and length else None


def _matroska_length(head: bytes) -> int | None:
    """The length of an element, whose identifier and length have 1 to 8 bytes each; None if it is not known."""
    start = _vint_bytes(head[:1])
    count = _vint_bytes(head[start : start + 1])
    if start + count > len(head) or not (start and count):
        return None
    length = int.from_bytes(head[start : start + count]) & ((1 << 7 * count) - 1)
    is_known = length < (1 << 7 * count) - 1
    return start + count + length if is_known else None


def _vint_bytes(first: bytes) -> int:
    """How many bytes a number of variable length has, by its first byte: the count of leading zeros, and one."""
    return 9 - first[0].bit_length() if first and first[0] else 0


LENGTHS = {"MP4": _mp4_length, "AVI": _avi_length, "Matroska": _matroska_length}
