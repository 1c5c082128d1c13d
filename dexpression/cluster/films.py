"""Films of a source: read minute by minute, from files of this machine, or from copies of those of a bucket."""

from __future__ import annotations

import errno
import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO, BinaryIO, cast

from dexpression.errors import DataError, MissingExtra, UnreadableFilm
from dexpression.extras import require_extra
from dexpression.files import BinaryFile
from dexpression.labels import ReadingName
from dexpression.prediction import Predictor
from dexpression.reading import EVERY_SECONDS
from dexpression.video.decoding import DecodedFrame, Film
from dexpression.video.frames import read_frames
from dexpression.video.minutes import Minute, read_minutes

MAX_MINUTES = 24 * 60  # of a film; a small file can claim to last for years
MAX_COPIED_BYTES = 20_000_000_000  # of a film in a bucket
CHUNK_BYTES = 1_000_000

Alive = Callable[[], object]  # called now and then by what takes long, to show that it goes on


def film_obstacle() -> str | None:
    """The reason why films are not read here, and what to do; None where they are."""
    try:
        require_extra("video", "Reading a film", ["cv2"])
    except MissingExtra as error:
        return str(error)
    return None


def read_film(film: BinaryIO, predictor: Predictor, reading: ReadingName, alive: Alive) -> Iterator[Minute]:
    """Read the minutes of an open film, and call `alive` at each frame.

    Raises UnreadableFilm, also after the minutes of a film that is cut off or too long.
    """
    with Film(film, EVERY_SECONDS) as decoded:
        frames = read_frames(predictor, _show_life(decoded, alive), reading)
        for count, minute in enumerate(read_minutes(frames)):
            if count == MAX_MINUTES:
                raise UnreadableFilm(f"Only {MAX_MINUTES} minutes of the film were read. Cut it into shorter ones.")
            yield minute


def _show_life(frames: Iterable[DecodedFrame], alive: Alive) -> Iterator[DecodedFrame]:
    for frame in frames:
        alive()
        yield frame


@contextmanager
def on_disk(file: BinaryFile, head: bytes, alive: Alive) -> Iterator[BinaryIO]:
    """An open file, of which `head` is read, if it is one of this machine; otherwise, a copy for this context.

    The decoder goes back and forth in a film, which it cannot in the stream of a bucket. Calls `alive` at each piece.
    Raises what reading raises, OSError for too many bytes, and DataError if there is no room for the copy.
    """
    if isinstance(file, io.BufferedReader):
        yield cast(BinaryIO, file)
        return
    with _needs_room():
        # Without a buffer, because closing a full one would fail again on a full disk.
        copy = TemporaryFile(buffering=0)  # noqa: SIM115 - it is closed below
    with copy:
        _copy(itertools.chain([head], iter(lambda: file.read(CHUNK_BYTES), b"")), copy, alive)
        yield cast(BinaryIO, copy)


def _copy(chunks: Iterable[bytes], copy: IO[bytes], alive: Alive) -> None:
    for chunk in chunks:
        if copy.tell() + len(chunk) > MAX_COPIED_BYTES:
            limit = f"a film of a bucket may have {MAX_COPIED_BYTES} bytes; copy it to a folder, and label that"
            raise OSError(errno.EFBIG, limit)
        with _needs_room():
            rest = memoryview(chunk)
            while rest:
                rest = rest[copy.write(rest) :]
        alive()


@contextmanager
def _needs_room() -> Iterator[None]:
    """Raise DataError where the block fails to write: a full disk is no fault of the film."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"A film cannot be copied to the temporary folder ({error.strerror}). Make room there, or set TMPDIR to "
            "another folder, and run the command again."
        ) from error
