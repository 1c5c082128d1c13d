"""Decoding a film in a process of its own (`dexpression.video.decoder`), whose frames arrive through a pipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import IO, Any, BinaryIO, NamedTuple, cast

from PIL import Image

from dexpression.errors import UnreadableFilm
from dexpression.files import StrPath, open_file
from dexpression.kinds import FILM, HEAD_BYTES, name_kind
from dexpression.video.containers import READABLE_FILMS, find_container
from dexpression.video.decoder import MAX_FRAME_PIXELS, MAX_MEMORY_BYTES, MAX_SECONDS

MAX_RECORD_BYTES = 1_000
NOTHING = "Nothing"
CUT_OFF = "The film is cut off: its last part is missing."
REASONS = {
    "cut off": f"{CUT_OFF} Nothing can be read without it. Copy the whole file.",
    "damaged": "The film is damaged, or has no pictures in a form that is known. Save it anew, as MP4 or WebM.",
    "too many pixels": f"A frame has more than {MAX_FRAME_PIXELS} pixels. Scale the film down.",
}


class DecodedFrame(NamedTuple):
    """A frame of a film: its time in seconds from the start, and its upright picture in RGB."""

    time: float
    image: Image.Image


class Film:
    """A film that is decoded while its frames are taken; leaving the context ends the process.

    `seconds` is the length and `rate` the frames a second, as the container names them; 0 for an unknown length.
    """

    def __init__(self, film: StrPath | BinaryIO, every: float) -> None:
        """Start to decode a frame every so many seconds, or all for 0; raises UnreadableFilm.

        `film` is a path, or an open file of this machine, which stays open.
        """
        self._process = _start_decoder(film, every)
        self._records = cast(IO[bytes], self._process.stdout)  # it is a pipe
        self._reached = NOTHING
        try:
            facts = self._read_record()
            self.rate, self.seconds = float(facts["rate"]), float(facts["seconds"])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Film:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._records.close()
        self._process.wait()

    def __iter__(self) -> Iterator[DecodedFrame]:
        """The frames, with times that rise; raises UnreadableFilm after the last one of a film that is not complete."""
        while "time" in (record := self._read_record()):
            image = self._read_image(record["width"], record["height"])
            self._reached = f"The part up to {record['time']:.2f} s"
            yield DecodedFrame(record["time"], image)
        if record["end"] == "cut off":
            raise UnreadableFilm(f"{CUT_OFF} {self._reached} was read. Copy the whole file.")
        if self._reached == NOTHING:
            raise UnreadableFilm(REASONS["damaged"])

    def _read_record(self) -> dict[str, Any]:
        line = self._records.readline(MAX_RECORD_BYTES)
        if not line.endswith(b"\n"):
            raise self._failure()
        record: dict[str, Any] = json.loads(line)
        if "error" in record:
            raise UnreadableFilm(REASONS[record["error"]])
        return record

    def _read_image(self, width: int, height: int) -> Image.Image:
        pixels = self._records.read(3 * width * height) if width * height <= MAX_FRAME_PIXELS else b""
        if len(pixels) != 3 * width * height:
            raise self._failure()
        return Image.frombytes("RGB", (width, height), pixels)

    def _failure(self) -> UnreadableFilm:
        """The error for a process that ended too soon: by a limit, or by a fault of the decoder."""
        limits = f"{MAX_SECONDS} s for a frame, or {MAX_MEMORY_BYTES >> 30} GB of memory"
        return UnreadableFilm(
            f"The film is damaged, or decoding it takes more than {limits}. {self._reached} was read. "
            "Save it anew, as MP4 or WebM."
        )


def _start_decoder(film: StrPath | BinaryIO, every: float) -> subprocess.Popen[bytes]:
    """Start the process that reads a film, which it gets as an open file; raises UnreadableFilm."""
    with _open_film(film) as file:
        _check_container(file)
        return subprocess.Popen(  # noqa: S603 - the command is our own, and has no text from outside
            # Without -P, a module in the current folder could take the place of a library.
            [sys.executable, "-P", "-m", "dexpression.video.decoder", str(every)],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            start_new_session=True,  # Ctrl-C does not end it, but `Film.close` does
        )


def _open_film(film: StrPath | BinaryIO) -> AbstractContextManager[BinaryIO]:
    """Open a regular file, unless it is open already; raises UnreadableFilm."""
    if not isinstance(film, (str, os.PathLike)):
        return nullcontext(film)
    try:
        return open_file(film)
    except (OSError, ValueError) as error:  # the latter for a name with a zero byte
        raise _cannot_be_read(error) from error


def _check_container(film: BinaryIO) -> None:
    """Raise UnreadableFilm unless the file begins as a film."""
    try:
        film.seek(0)
        head = film.read(HEAD_BYTES)
    except OSError as error:
        raise _cannot_be_read(error) from error
    if not find_container(head):
        raise UnreadableFilm(_describe_other(name_kind(head)))


def _cannot_be_read(error: Exception) -> UnreadableFilm:
    return UnreadableFilm(f"The file cannot be read ({getattr(error, 'strerror', None) or error}).")


def _describe_other(kind: str) -> str:
    if kind == FILM:
        return f"The film is in a container that is not read. Save it anew, as {READABLE_FILMS}."
    return f"The file is {kind}, not a film that can be read. Give {READABLE_FILMS}."
