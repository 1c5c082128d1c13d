"""Cut a HEIC file down to what its picture needs, count what its decoder will work on, and let Pillow decode it.

HEIC is a tree of boxes with HEVC streams: of one picture or, as iPhones write it, of many tiles. libheif, which
pillow-heif brings along, decodes no frame that is larger than its box claims. But a few bytes can claim many frames, or
name one tile many times. It turns pictures as their boxes say; as the standard demands, the orientation in EXIF is not
used, which says the same again. Names of boxes are those of the standards.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from dexpression.boxes import Item, Meta, Parts, check_effort, strip_boxes
from dexpression.errors import MissingDecoder, UnreadableImage
from dexpression.extras import install_command
from dexpression.jpeg import Effort
from dexpression.kinds import READABLE

HEVC, GRID = b"hvc1", b"grid"  # kinds of items: a stream, and a picture of tiles
ALPHA = (b"urn:mpeg:hevc:2015:auxid:1", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha")
TURNS = (b"irot", b"imir", b"clap")  # each takes a copy of the picture
SLICES = range(32)  # kinds of units (NAL) that have pixels
LEAST_FRAME = 65_536  # pixels; libheif decodes frames of that size whatever the boxes claim


def register_decoder() -> None:
    """Let Pillow decode HEIC, under the name HEIF; raises MissingDecoder without the extra `heic`."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:  # also of an installed one, which may lack a library of the system
        raise MissingDecoder(
            f"The file is a HEIC picture, which this installation does not read. Send {READABLE}, or install the "
            f"decoder: {install_command('heic')}"
        ) from error
    register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)


def strip_heic(content: bytes, effort: Effort) -> bytes:
    """Leave out all but the picture, its tiles and its transparency; add what decoding costs to `effort`.

    All bytes stay at their places. A damaged file loses its kind, so that no decoder tries what could not be counted.
    Raises TooComplex if the decoder would work on far more pixels than the picture has, and UnreadableImage for streams
    of other kinds than HEVC.
    """
    return strip_boxes(content, partial(_find_unneeded, effort=effort))


def _find_unneeded(meta: Meta, effort: Effort) -> list[Item]:
    decoded = _list_decoded(meta)
    distinct = set(decoded)
    meta.check_sharing(number for number in distinct if meta.items[number].kind == HEVC)
    pixels = {number: _decoded_pixels(meta, number) for number in distinct}
    total = sum(pixels[number] for number in decoded)
    check_effort(total, meta.pixels(meta.primary))
    effort.pixels += total
    return [item for number, item in meta.items.items() if number not in distinct]


def _list_decoded(meta: Meta) -> list[int]:
    """The items that are decoded, as often as they are: the picture and its transparency, each with its tiles."""
    tiles = meta.references(b"dimg")
    shown = _with_tiles(meta, meta.primary, tiles)
    alphas: dict[int, list[int]] = {}
    for number, targets in meta.references(b"auxl").items():
        if number in meta.items and _is_alpha(meta, number):
            if number in shown:
                raise ValueError("The picture is the transparency of another one.")
            for target in targets:
                alphas.setdefault(target, []).append(number)
    found = _take(meta, (alpha for number in shown for alpha in alphas.get(number, ())))
    return shown + _take(meta, (part for alpha in found for part in _with_tiles(meta, alpha, tiles)))


def _with_tiles(meta: Meta, number: int, tiles: dict[int, list[int]]) -> list[int]:
    """A picture and, if it is a grid, its tiles."""
    parts = tiles.get(number, []) if meta.items[number].kind == GRID else []
    if meta.items[number].kind not in (HEVC, GRID) or any(meta.items[part].kind != HEVC for part in parts):
        raise UnreadableImage(f"This kind of HEIC is not supported. Save the picture anew, as one of {READABLE}.")
    if meta.items[number].kind == GRID:
        _check_grid(meta, number, len(parts))
    return [number, *parts]


def _check_grid(meta: Meta, number: int, tiles: int) -> None:
    """Raise ValueError for a grid of another size, or of another number of tiles, than its item claims."""
    _, flags, rows, columns, *_ = data = meta.data(number)
    size = 4 if flags & 1 else 2  # bytes
    width, height = (int.from_bytes(data[begin : begin + size]) for begin in (4, 4 + size))
    if (width * height, (rows + 1) * (columns + 1)) != (meta.pixels(number), tiles):
        raise ValueError("A grid has another size than it claims.")


def _take(meta: Meta, numbers: Iterable[int]) -> list[int]:
    """The numbers as a list; raises TooComplex if they are too many."""
    taken = []
    for number in numbers:
        meta.parts.take()
        taken.append(number)
    return taken


def _is_alpha(meta: Meta, number: int) -> bool:
    return any(box.kind == b"auxC" and meta.text(box.begin + 4, box.end) in ALPHA for box in meta.properties(number))


def _decoded_pixels(meta: Meta, number: int) -> int:
    """The pixels of an item itself, without its tiles."""
    kinds = [box.kind for box in meta.properties(number)]
    if any(kinds.count(kind) > 1 for kind in TURNS):
        raise ValueError("An item is turned twice.")
    if meta.items[number].kind == HEVC:
        return count_frames(meta.data(number), meta.parts) * max(meta.pixels(number), LEAST_FRAME)
    return 0 if number == meta.primary else meta.pixels(number)  # those of the picture count anyway


def count_frames(stream: bytes, parts: Parts) -> int:
    """The frames of an HEVC stream: each begins with a slice that says so; at least 1."""
    frames = position = 0
    while position + 7 <= len(stream):
        parts.take()
        size = int.from_bytes(stream[position : position + 4])
        kind, is_first = stream[position + 4] >> 1 & 63, stream[position + 6] >> 7
        frames += kind in SLICES and is_first
        position += 4 + size
    return max(1, frames)
