"""Films that are drawn: the portrait of scikit-image in motion, written by OpenCV, and MP4 files changed by hand."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage.data import astronaut

RATE = 10.0
CODES = {".avi": "MJPG", ".mp4": "mp4v", ".webm": "VP80"}
SIZE = (240, 160)
FACE_SIDE = 80  # pixels of the square that `draw_frame` pastes; the face in it is half as wide


@cache
def portrait(side: int = FACE_SIDE, serious: bool = False) -> Image.Image:
    """A square with the head of the portrait, HAPPY; a serious one has its mouth upside down, and is NEUTRAL."""
    image = Image.fromarray(astronaut())
    if serious:
        mouth = (198, 132, 254, 166)
        image.paste(image.crop(mouth).transpose(Image.Transpose.FLIP_TOP_BOTTOM), mouth[:2])
    return image.crop((110, 10, 340, 240)).resize((side, side))


def draw_frame(
    *places: tuple[float, float], size: tuple[int, int] = SIZE, face: Image.Image | None = None
) -> Image.Image:
    """A grey frame with the head at each place, by its upper left corner; the last one is in front."""
    frame = Image.new("RGB", size, "grey")
    for left, top in places:
        frame.paste(face or portrait(), (round(left), round(top)))
    return frame


def write_film(path: Path, frames: Iterable[Image.Image], rate: float = RATE, code: str | None = None) -> Path:
    """Write a film in the container of the file's suffix."""
    writer = None
    for frame in frames:
        if writer is None:
            fourcc = cv2.VideoWriter.fourcc(*(code or CODES[path.suffix]))
            writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, rate, frame.size)
        writer.write(np.ascontiguousarray(np.asarray(frame)[:, :, ::-1]))
    writer.release()
    return path


def walk(count: int) -> Iterator[Image.Image]:
    """Frames in which one head moves to the right."""
    return (draw_frame((10 + 3 * number, 40)) for number in range(count))


def turn(film: bytes, degrees: int) -> bytes:
    """An MP4 film with a flag that says how far its frames are to be turned clockwise."""
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix = struct.pack(">9i", cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30)
    start = film.index(b"tkhd") + 44
    return film[:start] + matrix + film[start + len(matrix) :]


def change_durations(film: bytes, seconds: Sequence[float]) -> bytes:
    """An MP4 film, whose index stands at its end, with a new duration for each frame."""
    film = film.replace(b"edts", b"free")  # which ends the film at its first length
    start = film.index(b"mdhd") + 16
    scale = int.from_bytes(film[start : start + 4])  # ticks a second
    runs = [(len(list(run)), ticks) for ticks, run in groupby(round(scale * duration) for duration in seconds)]
    content = struct.pack(">II", 0, len(runs)) + b"".join(struct.pack(">II", *run) for run in runs)
    return _replace_box(film, [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"], content)


def _replace_box(content: bytes, path: Sequence[bytes], new: bytes) -> bytes:
    """Boxes in which the content of the one at a path of names is another."""

    def change(inner: bytes) -> bytes:
        return _replace_box(inner, path[1:], new) if len(path) > 1 else new

    return b"".join(_box(name, change(inner) if name == path[0] else inner) for name, inner in _boxes(content))


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    while content:
        length = int.from_bytes(content[:4])
        yield content[4:8], content[8:length]
        content = content[length:]


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def damage(film: bytes, seed: int) -> bytes:
    """The film with some random damage: changed bytes, a repeated, missing or blank stretch, or a missing end."""
    random = np.random.default_rng(seed)
    content = bytearray(film)
    for _ in range(random.integers(1, 5)):
        start = int(random.integers(len(content)) ** random.uniform(0.4, 1))  # the head is hit more often
        end = start + int(random.integers(1, 200))
        kind = random.integers(5)
        if kind == 0:
            content[start] = random.integers(256)
        elif kind == 1:
            content[start:end] = content[start:end] * 2
        elif kind == 2:
            del content[start:end]
        elif kind == 3:
            content[start:end] = bytes([random.choice([0, 255])]) * (end - start)
        else:
            content[start : start + 4] = random.bytes(4)
    return bytes(content[: random.integers(len(content))] if random.random() < 0.2 else content)
