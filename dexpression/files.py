"""Files and folders of unknown content: regular files alone are read, and links below a folder are not followed."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePath
from secrets import token_hex
from typing import Any, BinaryIO, NamedTuple, Protocol

from dexpression.errors import DataError, UnreadableImage

MAX_PICTURE_BYTES = 1_000_000_000  # 50 megapixels have 400 million bytes at most, uncompressed
OPEN_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)  # opening a pipe must not block
# Control characters, separators of lines, marks that change the direction of text, and bytes that are no UTF-8.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
PARTIAL = ".dexpression-"  # how the name of a file begins that is not complete
LINK = "a link, which is not followed"
# What systems and file managers make for themselves, besides names that begin with a dot.
LEFTOVERS = {
    "thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information", "@eadir",
    "lost+found",
}  # fmt: skip

StrPath = str | os.PathLike[str]
Identity = tuple[int, int]  # device and inode, which no other name of the same file changes


class BinaryFile(Protocol):
    """An open file, or anything else that has bytes to read, such as io.BytesIO or an upload."""

    def read(self, size: int, /) -> Any:
        """At most so many bytes."""
        ...


class LeftOut(NamedTuple):
    """A file or folder that was found and is not read, and what it is instead of a file to read."""

    path: Path
    reason: str  # such as "not a regular file"


def printable(text: object) -> str:
    r"""The text on one line of visible characters; others, such as line breaks, become escapes like \n or \x1b."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


def file_status(path: StrPath, follow_links: bool = True) -> os.stat_result | None:
    """What `os.stat` says of a file; None if it does not exist or cannot be looked at, such as by too long a name."""
    try:
        return Path(path).stat(follow_symlinks=follow_links)
    except (OSError, ValueError):  # the latter for a name with a zero byte
        return None


def is_folder(path: StrPath, follow_links: bool = True) -> bool:
    """Whether the path is a folder or, with `follow_links`, a link to one."""
    status = file_status(path, follow_links)
    return status is not None and stat.S_ISDIR(status.st_mode)


def identities(path: StrPath, follow_links: Iterable[bool] = (False, True)) -> set[Identity]:
    """Identify a file; if it is a link, both the link and its target. An empty set if there is no such file."""
    found = (file_status(path, follow) for follow in follow_links)
    return {(status.st_dev, status.st_ino) for status in found if status}


def lies_in(path: Path, folder: Path) -> bool:
    """Whether a path, which need not exist, is a folder or lies in it, by whatever names."""
    real = Path(os.path.realpath(path))
    return any(not identities(folder).isdisjoint(identities(place)) for place in (real, *real.parents))


def make_output_folder(folder: Path) -> None:
    """Make a folder that a caller names, and those above it; it may be a link to a folder. Raises DataError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be made ({error.strerror}). Choose another folder.") from error


def make_folders(folder: Path, below: Path) -> None:
    """Make the folders from `folder` down to `below`; raises OSError if one of these is a link."""
    for part in below.relative_to(folder).parts:
        folder = folder / part
        folder.mkdir(exist_ok=True)
        if not is_folder(folder, follow_links=False):
            raise OSError(errno.ENOTDIR, f"{folder} is {LINK}")


def partial_beside(target: Path, suffix: str = "") -> Path:
    """A new name beside a file, for what is written until it is complete."""
    return target.with_name(f"{PARTIAL}{token_hex(8)}{suffix}")


def replace_file(target: Path, content: bytes, durable: bool = False) -> None:
    """Write a new file beside the target and rename it: a link is replaced itself, and no half of a file is seen.

    Raises OSError. If `durable`, the content is on the disk before the file has its name, even after a power failure.
    """
    partial = partial_beside(target)
    try:
        with partial.open("xb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def open_regular_file(path: StrPath, flags: int = os.O_RDONLY) -> int:
    """Open a file and return its descriptor: the `opener` for `open`. Raises OSError for pipes, devices and folders."""
    descriptor = os.open(path, flags | OPEN_FLAGS)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, f"{Path(path).name} is not a regular file")


def open_file(path: StrPath, follow_links: bool = True) -> BinaryIO:
    """Open a regular file for reading; raises OSError, also for a link without `follow_links`, and ValueError."""
    more_flags = 0 if follow_links else getattr(os, "O_NOFOLLOW", 0)
    return open(path, "rb", opener=lambda name, flags: open_regular_file(name, flags | more_flags))


def read_regular_file(path: StrPath, max_bytes: int, follow_links: bool = True) -> bytes:
    """Read a whole file; raises OSError if it has more than `max_bytes`, and what `open_regular_file` raises."""
    with open_file(path, follow_links) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise OSError(errno.EFBIG, f"{Path(path).name} has more than {max_bytes} bytes")
        return file.read(size)  # `read` takes memory for as many bytes as it is asked for


def read_picture_file(path: StrPath, follow_links: bool = True) -> bytes:
    """Read the bytes of a picture; raises UnreadableImage.

    Without `follow_links`, a file that became a link since it was found is refused.
    """
    try:
        return read_regular_file(path, MAX_PICTURE_BYTES, follow_links)
    except (OSError, ValueError) as error:  # the latter for a name with a zero byte
        raise UnreadableImage(f"The file cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    except MemoryError as error:
        raise UnreadableImage("The file cannot be read (it is larger than the free memory).") from error


def read_open_file(file: BinaryFile) -> bytes:
    """Read an open file from its beginning or, if it cannot go back, from where it is; raises UnreadableImage."""
    if not hasattr(file, "read"):
        raise UnreadableImage(
            f"A value of type {type(file).__name__} is not a picture. "
            "Give a path, bytes, an open binary file, a PIL image, or an array of pixels."
        )
    try:
        if getattr(file, "seekable", lambda: False)():
            file.seek(0)  # type: ignore[attr-defined] # what is seekable has it
        content = file.read(MAX_PICTURE_BYTES + 1)
    except Exception as error:  # a closed file, or whatever an object of another library raises
        raise UnreadableImage(f"The file cannot be read ({error}). Give a file that is open for reading.") from error
    if not isinstance(content, (bytes, bytearray)):
        raise UnreadableImage("The file gives text, not bytes. Open it in binary mode: open(path, 'rb').")
    if len(content) > MAX_PICTURE_BYTES:
        raise UnreadableImage(f"The file cannot be read (it has more than {MAX_PICTURE_BYTES} bytes).")
    return bytes(content)


def read_head(path: StrPath, count: int) -> bytes:
    """Read the first bytes of a regular file that is no link; raises OSError."""
    with open_file(path, follow_links=False) as file:
        return file.read(count)


def is_leftover(path: PurePath) -> bool:
    """Whether a system made the file, or a folder of its path, for itself, or a name hides it.

    The path is relative to the folder that was given by name.
    """
    return any(part.startswith(".") or part.lower() in LEFTOVERS for part in path.parts)


def find_files(folder: Path, suffixes: Collection[str] | None) -> tuple[list[Path], list[LeftOut]]:
    """Find the files with these lower-case suffixes, or all, in a folder and all folders below it, in order.

    Links are not followed. Those to folders or with such a suffix are left out, as are pipes, devices and the like with
    such a suffix, folders with such a suffix and no such file, and folders that cannot be listed.
    """
    files: list[Path] = []
    left_out: list[LeftOut] = []
    folders = [folder]
    for current in folders:  # grows while it is read: no depth is too deep
        try:
            with os.scandir(current) as entries:
                for entry in entries:
                    _sort_in(entry, suffixes, files, folders, left_out)
        except OSError as error:
            left_out.append(LeftOut(current, f"a folder that cannot be listed: {error.strerror}"))
    full = _folders_of(files)
    named = [path for path in folders[1:] if suffixes and path.suffix.lower() in suffixes and path not in full]
    left_out += [LeftOut(path, "a folder without pictures") for path in named]
    return sorted(files), sorted(left_out)


def _folders_of(files: Sequence[Path]) -> set[Path]:
    """All folders that any of the files is in or below."""
    found: set[Path] = set()
    for file in files:
        for parent in file.parents:
            if parent in found:
                break  # and all above it, too
            found.add(parent)
    return found


def find_folders(folder: Path) -> tuple[list[Path], list[LeftOut]]:
    """List the folders in a folder, without those whose name begins with a dot; links to folders are left out."""
    try:
        folders = [path for path in sorted(folder.iterdir()) if is_folder(path) and not path.name.startswith(".")]
    except OSError as error:
        return [], [LeftOut(folder, f"a folder that cannot be listed: {error.strerror}")]
    links = [LeftOut(path, LINK) for path in folders if path.is_symlink()]
    return [path for path in folders if not path.is_symlink()], links


def _sort_in(
    entry: os.DirEntry[str],
    suffixes: Collection[str] | None,
    files: list[Path],
    folders: list[Path],
    left_out: list[LeftOut],
) -> None:
    """Add one entry of a folder to the list that it belongs to, if to any."""
    path = Path(entry.path)
    wanted = suffixes is None or path.suffix.lower() in suffixes
    if entry.is_symlink():
        if wanted or is_folder(path):
            left_out.append(LeftOut(path, LINK))
    elif entry.is_dir(follow_symlinks=False):
        folders.append(path)
    elif wanted and entry.is_file(follow_symlinks=False):
        files.append(path)
    elif wanted:
        left_out.append(LeftOut(path, "not a regular file"))
