"""The row of a file: what is read in it, or why it is not."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dexpression.artifact.manifest import OnnxModel
from dexpression.batch import kind_of_other
from dexpression.cluster.source import Entry, Source
from dexpression.errors import PictureError, UnreadableImage
from dexpression.files import MAX_PICTURE_BYTES, BinaryFile, is_leftover, printable
from dexpression.kinds import HEAD_BYTES, name_kind
from dexpression.labels import ReadingName
from dexpression.prediction import Predictor
from dexpression.reading import Detect

CHUNK_BYTES = 1_000_000

# The codes of errors, besides those of `PictureError`.
LEFT_OUT = "left_out"  # a link, a pipe, or a folder that cannot be listed
OTHER_KIND = "other_kind"  # neither is nor claims to be a picture
LEFTOVER = "leftover"  # likewise, and a system made it for itself, or its name hides it
UNREADABLE = "unreadable_file"
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
    """The row of a file. `faces` are in the form of `FaceReading.to_dict`; without a picture there are none."""

    path: str
    kind: str | None = None  # what the file is, such as "a JPEG picture"; None if it cannot be opened
    width: int | None = None
    height: int | None = None
    faces: list[dict[str, Any]] | None = None
    error: Problem | None = None


def label_file(entry: Entry, job: Job, predictor: Predictor) -> Row:
    """Read a file and predict its faces; raises DataError if the source itself cannot be read any more."""
    if entry.left_out:
        return failed_row(entry, LEFT_OUT, f"It is {entry.left_out}.")
    try:
        with job.source.open(entry.path) as file:
            head = file.read(HEAD_BYTES)
            kind = name_kind(head)
            if kind_of_other(Path(entry.path), head):
                return _other(entry, kind)
            content = head + _read_rest(file)
    except (OSError, ValueError) as error:
        job.source.check()  # or all files of a drive that is gone would be labelled as errors
        return failed_row(entry, UNREADABLE, f"The file cannot be read ({getattr(error, 'strerror', None) or error}).")
    return _predict(entry, kind, content, job, predictor)


def failed_row(entry: Entry, code: str, message: str, kind: str | None = None) -> Row:
    """The row of a file that is not read."""
    return Row(entry.path, kind, error=Problem(code, printable(message)))


def _predict(entry: Entry, kind: str, content: bytes, job: Job, predictor: Predictor) -> Row:
    try:
        if len(content) > MAX_PICTURE_BYTES:
            raise UnreadableImage(f"The file has more than {MAX_PICTURE_BYTES} bytes.")
        found = predictor.predict(content, job.detect, reading=job.reading)
    except PictureError as error:
        return failed_row(entry, error.code, str(error), kind)
    return Row(entry.path, kind, found.width, found.height, [face.to_dict() for face in found.faces])


def _other(entry: Entry, kind: str) -> Row:
    code = LEFTOVER if is_leftover(PurePosixPath(entry.path)) else OTHER_KIND
    return failed_row(entry, code, f"The file is {kind}, not a picture that can be read.", kind)


def _read_rest(file: BinaryFile) -> bytes:
    """The rest of a file, or a little more than is allowed; its size may have changed since it was listed."""
    content = bytearray()
    while len(content) <= MAX_PICTURE_BYTES and (chunk := file.read(CHUNK_BYTES)):
        content += chunk
    return bytes(content)
