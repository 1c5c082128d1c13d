"""Files that pyarrow reads, such as those of S3 and Google Cloud Storage."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from operator import attrgetter
from pathlib import Path

from pyarrow import fs

from dexpression.cluster.source import Entry, FolderSource, Source, nothing_in
from dexpression.errors import DataError
from dexpression.files import BinaryFile

BUFFER_BYTES = 1_000_000  # of one request, which has the whole of most pictures
SECRETS = re.compile(r"(?<=://)[^/?@]*@")  # a key, or a name and a password


class RemoteSource:
    """The files below a folder of a file system of pyarrow; `root` begins with the name of the bucket."""

    def __init__(self, filesystem: fs.FileSystem, root: str, name: str) -> None:
        self._filesystem, self._root, self.name = filesystem, root.rstrip("/"), name

    def check(self) -> None:
        """Raise DataError unless there is a folder or a bucket that can be read."""
        try:
            found = self._filesystem.get_file_info(self._root)
        except OSError as error:
            raise self._failure(error) from error
        if found.type != fs.FileType.Directory:
            raise nothing_in(self.name)

    def list_entries(self) -> list[Entry]:
        """All files, ordered by path."""
        try:
            found = self._filesystem.get_file_info(fs.FileSelector(self._root, recursive=True))
        except (OSError, UnicodeDecodeError) as error:
            raise self._failure(error) from error
        files = [one for one in found if one.type == fs.FileType.File]
        entries = [Entry(one.path[len(self._root) + 1 :], one.size, one.mtime) for one in files]
        return sorted(entries, key=attrgetter("path"))

    def open(self, path: str) -> AbstractContextManager[BinaryFile]:
        """Open a file, of which one request reads a megabyte."""
        opened: AbstractContextManager[BinaryFile] = self._filesystem.open_input_stream(
            f"{self._root}/{path}", compression=None, buffer_size=BUFFER_BYTES
        )
        return opened

    def _failure(self, error: Exception) -> DataError:
        return DataError(f"{self.name} cannot be read ({error}). Check the address, the network and the credentials.")


def open_uri(uri: str) -> Source:
    """The source for a URI; one of this machine's files is an ordinary folder. Raises DataError."""
    name = SECRETS.sub("", uri)
    try:
        filesystem, root = fs.FileSystem.from_uri(uri)
    except (ValueError, OSError, NotImplementedError) as error:
        reason = str(error).replace(uri, name)
        raise DataError(f"{name} cannot be read ({reason}). Give a folder, or a URI such as s3://bucket/.") from error
    if not root.strip("/"):
        raise DataError(f"{name} names no bucket. Give a URI such as s3://bucket/.")
    if isinstance(filesystem, fs.LocalFileSystem):
        return FolderSource(Path(root))
    return RemoteSource(filesystem, root, name)
