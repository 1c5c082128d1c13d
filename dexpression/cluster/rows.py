"""The rows of a file: what is read in it, or why it is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from dexpression.artifact.manifest import OnnxModel
from dexpression.batch import kind_of_other
from dexpression.cluster.films import CHUNK_BYTES, Alive, film_obstacle, on_disk, read_film
from dexpression.cluster.source import Entry, Source
from dexpression.errors import PictureError, UnreadableFilm, UnreadableImage
from dexpression.files import MAX_PICTURE_BYTES, BinaryFile, is_leftover, printable
from dexpression.kinds import FILM, HEAD_BYTES, is_film, name_kind
from dexpression.labels import ReadingName
from dexpression.prediction import Predictor
from dexpression.reading import Detect

# The codes of errors, besides those of `PictureError`.
LEFT_OUT = "left_out"  # a link, a pipe, or a folder that cannot be listed
OTHER_KIND = "other_kind"  # neither is nor claims to be a picture
LEFTOVER = "leftover"  # likewise, and a system made it for itself, or its name hides it
UNREADABLE = "unreadable_file"
UNDECODABLE_FILM = "undecodable_film"
WORKER_DIED, WORKER_HUNG = "worker_died", "worker_hung"
INTERNAL = "internal_error"


class Job(NamedTuple):
    """What a worker needs to know, once for all files."""

    source: Source
    model: OnnxModel
    reading: ReadingName
    detect: Detect


class Problem(NamedTuple):
    """Why a file is not read; the message may be reworded."""

    code: str
    message: str


class Row(NamedTuple):
    """The row of a picture, of a minute of a film, or of an error.

    `faces` of a picture are in the form of `FaceReading.to_dict`, and `tracks` of a film in that of `Minute.tracks`.
    """

    path: str
    kind: str | None = None  # what the file is, such as "a JPEG picture"; None if it cannot be opened
    width: int | None = None
    height: int | None = None
    faces: list[dict[str, Any]] | None = None
    error: Problem | None = None
    start: float | None = None  # of the minute, in seconds of the film
    seconds: float | None = None  # of the minute that the film has
    tracks: list[dict[str, Any]] | None = None


def label_file(entry: Entry, job: Job, predictor: Predictor, alive: Alive = lambda: None) -> Iterator[Row]:
    """Read a file and predict its faces: one row or, of a film, one for each minute of it and for an error.

    `alive` is called now and then while a film is read. Raises DataError if the source itself cannot be read any more.
    """
    with ExitStack() as opened:
        try:
            rows = _open(entry, job, predictor, alive, opened)
        except (OSError, ValueError) as error:
            job.source.check()  # or all files of a drive that is gone would be labelled as errors
            reason = getattr(error, "strerror", None) or error
            rows = iter([failed_row(entry, UNREADABLE, f"The file cannot be read ({reason}).")])
        yield from rows


def failed_row(entry: Entry, code: str, message: str, kind: str | None = None) -> Row:
    """The row of a file that is not read."""
    return Row(entry.path, kind, error=Problem(code, printable(message)))


def _open(entry: Entry, job: Job, predictor: Predictor, alive: Alive, opened: ExitStack) -> Iterator[Row]:
    """Read a file, or the beginning of a film, which stays open; its rows are made when they are taken."""
    if entry.left_out:
        return iter([failed_row(entry, LEFT_OUT, f"It is {entry.left_out}.")])
    file = opened.enter_context(job.source.open(entry.path))
    head = file.read(HEAD_BYTES)
    if is_film(head) and film_obstacle() is None:
        film = opened.enter_context(on_disk(file, head, alive))
        return _rows_of_film(entry, film, job, predictor, alive)
    if kind_of_other(Path(entry.path), head):
        return iter([_other(entry, name_kind(head))])
    return _rows_of_picture(entry, head + _read_rest(file), job, predictor)


def _rows_of_picture(entry: Entry, content: bytes, job: Job, predictor: Predictor) -> Iterator[Row]:
    kind = name_kind(content)
    try:
        if len(content) > MAX_PICTURE_BYTES:
            raise UnreadableImage(f"The file has more than {MAX_PICTURE_BYTES} bytes.")
        found = predictor.predict(content, job.detect, reading=job.reading)
        yield Row(entry.path, kind, found.width, found.height, [face.to_dict() for face in found.faces])
    except PictureError as error:
        yield failed_row(entry, error.code, str(error), kind)


def _rows_of_film(entry: Entry, film: BinaryIO, job: Job, predictor: Predictor, alive: Alive) -> Iterator[Row]:
    try:
        for minute in read_film(film, predictor, job.reading, alive):
            row = Row(entry.path, FILM, minute.width, minute.height)
            yield row._replace(start=minute.start, seconds=minute.seconds, tracks=minute.tracks)
    except UnreadableFilm as error:
        job.source.check()
        yield failed_row(entry, UNDECODABLE_FILM, str(error), FILM)


def _other(entry: Entry, kind: str) -> Row:
    code = LEFTOVER if is_leftover(PurePosixPath(entry.path)) else OTHER_KIND
    reason = film_obstacle() if kind == FILM else None
    message = f"The file is {kind}. {reason}" if reason else f"The file is {kind}, not a picture that can be read."
    return failed_row(entry, code, message, kind)


def _read_rest(file: BinaryFile) -> bytes:
    """The rest of a file, or a little more than is allowed; its size may have changed since it was listed."""
    content = bytearray()
    while len(content) <= MAX_PICTURE_BYTES and (chunk := file.read(CHUNK_BYTES)):
        content += chunk
    return bytes(content)
