"""Where the files lie that are labelled: a folder, or a bucket of S3 or Google Cloud Storage."""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, Protocol

from dexpression.errors import DataError
from dexpression.files import BinaryFile, file_status, find_files, is_folder, is_leftover, open_file, printable

URI = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # a drive of Windows has one letter
NOT_UTF8 = "a file whose name is not UTF-8. Rename it"


class Entry(NamedTuple):
    """A file as it was listed."""

    path: str  # below the source, with / between folders
    size: int | None = None  # bytes
    time: datetime | None = None  # of the last change, if it is known
    left_out: str | None = None  # what it is instead of a file to read, such as "not a regular file"


class Source(Protocol):
    """A folder or the like, which other processes can read too: it can be pickled."""

    name: str  # for messages and for the record; never with a password

    def check(self) -> None:
        """Raise DataError if the source is not there, is empty, or cannot be read."""
        ...

    def list_entries(self) -> list[Entry]:
        """All files, ordered by path; raises DataError."""
        ...

    def open(self, path: str) -> AbstractContextManager[BinaryFile]:
        """Open a file; raises OSError or ValueError, now or when it is read."""
        ...


class FolderSource:
    """A folder of this machine, listed as `predict` lists it."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.path.realpath(folder))
        self.name = str(self._folder)

    def check(self) -> None:
        """Raise DataError unless the folder is there and has something in it: a drive may be gone."""
        if not is_folder(self._folder):
            raise DataError(f"{self.name} is not a folder. Give a folder of pictures, or a URI such as s3://bucket/.")
        try:
            with os.scandir(self._folder) as entries:
                is_empty = next(entries, None) is None
        except OSError as error:
            raise DataError(f"The folder {self.name} cannot be listed ({error.strerror}).") from error
        if is_empty:
            raise nothing_in(self.name)

    def list_entries(self) -> list[Entry]:
        """All files in order; links and the like are left out, and those that a system made are not listed then."""
        files, left_out = find_files(self._folder, None)
        entries = [self._entry(path) for path in files]
        entries += [self._entry(path, reason) for path, reason in left_out if not is_leftover(self._below(path))]
        return sorted(entries, key=attrgetter("path"))

    def open(self, path: str) -> AbstractContextManager[BinaryFile]:
        """Open a file; one that became a link since it was listed is refused."""
        return open_file(self._folder / path, follow_links=False)

    def _below(self, path: Path) -> Path:
        return path.relative_to(self._folder)

    def _entry(self, path: Path, reason: str | None = None) -> Entry:
        name, status = self._below(path).as_posix(), file_status(path, follow_links=False)
        if not _is_utf8(name):
            name, reason = printable(name), NOT_UTF8
        if status is None:
            return Entry(name, left_out=reason)
        return Entry(name, status.st_size, _moment(status.st_mtime), reason)


def find_source(given: str) -> Source:
    """The source for a path, or for a URI that pyarrow knows, such as s3://bucket/folder; raises DataError."""
    if not URI.match(given):
        return FolderSource(Path(given))
    from dexpression.cluster.remote import open_uri

    return open_uri(given)


def nothing_in(name: str) -> DataError:
    """The error for a source without any file."""
    return DataError(f"There is no file in {name}. Give a folder or a URI with pictures below it.")


def _moment(seconds: float) -> datetime | None:
    """The time, so many seconds after 1970; None for one outside of the years 1 to 9999, which a file may have."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
