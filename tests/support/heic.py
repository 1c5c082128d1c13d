"""HEIC pictures as pillow-heif writes them, and files that are made of their parts."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from dexpression.boxes import Meta, Parts, read_boxes
from dexpression.heic import ALPHA, register_decoder
from tests.support.faces import TURNS, draw_face, encode

FACE = draw_face("HAPPY", 0, size=96)
COLOUR = Image.merge("RGB", [draw_face(label, 0, size=96) for label in ("HAPPY", "SAD", "FEAR")])


class Item(NamedTuple):
    """An item of a file: its kind, its data, and its properties, which are boxes."""

    kind: bytes
    data: bytes
    properties: Sequence[bytes] = ()


def encode_heic(image: Image.Image, **options: object) -> bytes:
    """Encode an image; `options` are those of pillow-heif."""
    register_decoder()
    return encode(image, "HEIF", **options)


def encode_turned_heic(image: Image.Image, orientation: int) -> bytes:
    """Encode an upright picture as a turned iPhone stores it: its boxes and its EXIF say the orientation 1..8."""
    stored = image.transpose(TURNS[orientation]) if orientation in TURNS else image
    # pillow-heif moves the orientation into the boxes, and writes 1 into the EXIF.
    content = encode_heic(stored, exif=orientation_exif(orientation))
    return content.replace(orientation_exif(1), orientation_exif(orientation))


def orientation_exif(orientation: int) -> bytes:
    """EXIF with an orientation, 1..8, and nothing else."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def box(kind: bytes, *content: bytes) -> bytes:
    """A box."""
    return struct.pack(">I", 8 + sum(map(len, content))) + kind + b"".join(content)


def size(width: int, height: int) -> bytes:
    """The property that claims a size."""
    return box(b"ispe", struct.pack(">III", 0, width, height))


def picture_item(content: bytes) -> Item:
    """The first picture of a file, with its decoder's configuration as the only property."""
    found = {each.kind: each for each in read_boxes(content, 0, len(content), Parts())}
    meta = Meta(content, found[b"meta"], Parts())
    number = next(number for number, item in meta.items.items() if item.kind == b"hvc1")
    [hvcc] = [content[each.place - 4 : each.end] for each in meta.properties(number) if each.kind == b"hvcC"]
    return Item(b"hvc1", meta.data(number), [hvcc])


def grid_item(columns: int, rows: int, width: int, height: int) -> Item:
    """A grid of tiles."""
    data = struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, width, height)
    return Item(b"grid", data, [size(width, height)])


def alpha(item: Item) -> Item:
    """The same picture as the transparency of another one."""
    return item._replace(properties=[*item.properties, box(b"auxC", bytes(4), ALPHA[0], b"\0")])


def write_heic(
    items: Sequence[Item], references: Sequence[tuple[bytes, int, Sequence[int]]] = (), brand: bytes = b"heic"
) -> bytes:
    """A file of items, which are numbered from 1; the first one is the picture."""
    numbers = range(1, len(items) + 1)
    listed = [each for item in items for each in item.properties]
    infe = [
        box(b"infe", struct.pack(">IHH", 2 << 24, number, 0), item.kind, b"\0")
        for number, item in zip(numbers, items, strict=True)
    ]
    refs = [box(kind, struct.pack(f">HH{len(to)}H", source, len(to), *to)) for kind, source, to in references]
    owned, index = [], 0
    for number, item in zip(numbers, items, strict=True):
        indices = range(index + 1, index + 1 + len(item.properties))
        owned.append(struct.pack(f">HB{len(indices)}H", number, len(indices), *indices))
        index += len(indices)

    def head(begin: int) -> bytes:
        places = b""
        for number, item in zip(numbers, items, strict=True):
            places += struct.pack(">HHHII", number, 0, 1, begin, len(item.data))
            begin += len(item.data)
        return box(b"ftyp", brand, bytes(4), b"mif1heic") + box(
            b"meta",
            bytes(4),
            box(b"hdlr", bytes(8), b"pict", bytes(13)),
            box(b"pitm", struct.pack(">IH", 0, 1)),
            box(b"iinf", struct.pack(">IH", 0, len(items)), *infe),
            box(b"iprp", box(b"ipco", *listed), box(b"ipma", struct.pack(">II", 1, len(items)), *owned)),
            box(b"iloc", struct.pack(">IBBH", 0, 0x44, 0, len(items)), places),
            box(b"iref", bytes(4), *refs),
        )

    return head(len(head(0)) + 8) + box(b"mdat", *(item.data for item in items))


def one_tile_many_times(columns: int, rows: int, side: int = 256, claimed: int | None = None) -> bytes:
    """A grid that names one tile again and again; it claims the size of all tiles, or a square of another side."""
    tile = picture_item(encode_heic(Image.new("RGB", (side, side))))
    tile = tile._replace(properties=[*tile.properties, size(side, side)])
    shown = (claimed, claimed) if claimed else (columns * side, rows * side)
    return write_heic([grid_item(columns, rows, *shown), tile], [(b"dimg", 1, [2] * (columns * rows))])


def many_frames(count: int, side: int = 1024) -> bytes:
    """A picture whose stream holds itself many times."""
    item = picture_item(encode_heic(Image.new("RGB", (side, side))))
    return write_heic([Item(item.kind, item.data * count, [*item.properties, size(side, side)])])


def of_another_size(width: int, height: int) -> bytes:
    """A picture of 600x600 pixels that claims another size."""
    item = picture_item(encode_heic(Image.new("L", (600, 600))))
    return write_heic([item._replace(properties=[*item.properties, size(width, height)])])


def seeds() -> list[bytes]:
    """Small pictures, for the fuzzer to change."""
    return [
        encode_heic(FACE),
        encode_heic(COLOUR.convert("RGBA")),
        encode_heic(COLOUR, tile_size=64),
        encode_turned_heic(COLOUR, 6),
        one_tile_many_times(4, 4),
        many_frames(5),
    ]
