"""Annotated copies: a path for each, and files that never replace a given picture or the target of a link."""

from __future__ import annotations

import errno
import io
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from secrets import token_hex

from PIL import Image

from dexpression.errors import DataError
from dexpression.files import file_status, is_folder
from dexpression.picture import PICTURE_SUFFIXES

MAX_JPEG_SIDE = 65_500  # pixels; for more, the library prints a line of its own

Identity = tuple[int, int]  # device and inode, which no other name of the same file changes


class AnnotatedCopies:
    """The annotated copies of some pictures in one folder."""

    def __init__(self, folder: Path, pictures: Mapping[Path, Path]) -> None:
        """Name a copy for each picture, whose path below the folder is given; a name that is taken gets a number.

        Raises DataError if the folder cannot be made, or if a copy would replace a picture.
        """
        self._folder = folder
        self._targets = _name_copies(folder, pictures)
        self._originals = {identity for picture in pictures for identity in _identities(picture)}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"The folder {folder} cannot be made ({error.strerror}). Choose another folder.") from error
        for target in self._targets.values():
            self._refuse_original(target)

    def write(self, picture: Path, image: Image.Image) -> None:
        """Write the copy of a picture; raises DataError. Another file or a link of its name is replaced."""
        target = self._targets[picture]
        content = _encode(image, target.suffix)
        try:
            _make_folders(self._folder, target.parent)
            self._refuse_original(target)
            _replace_file(target, content)
        except OSError as error:
            raise DataError(f"The copy {target} cannot be written ({error.strerror}).") from error

    def _refuse_original(self, target: Path) -> None:
        if not self._originals.isdisjoint(_identities(target, follow_links=[False])):
            raise DataError(f"A copy would replace the picture {target}. Choose another folder for the copies.")


def _name_copies(folder: Path, pictures: Mapping[Path, Path]) -> dict[Path, Path]:
    taken: set[str] = set()
    repeats: Counter[str] = Counter()  # by name, how often a number was added to it
    targets: dict[Path, Path] = {}
    for picture, name in pictures.items():
        named = folder / (name if name.suffix.lower() in PICTURE_SUFFIXES else name.with_name(f"{name.name}.png"))
        target = named
        while _key(target) in taken:
            repeats[_key(named)] += 1
            target = named.with_stem(f"{named.stem}_{repeats[_key(named)] + 1}")
        taken.add(_key(target))
        targets[picture] = target
    return targets


def _key(path: Path) -> str:
    """The same text for all names that some file system takes for the same: in upper case, or composed otherwise."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _identities(path: Path, follow_links: Iterable[bool] = (False, True)) -> set[Identity]:
    """Identify a file; if it is a link, both the link and its target. An empty set if there is no such file."""
    found = (file_status(path, follow) for follow in follow_links)
    return {(status.st_dev, status.st_ino) for status in found if status}


def _encode(image: Image.Image, suffix: str) -> bytes:
    buffer = io.BytesIO()
    name = Image.registered_extensions()[suffix.lower()]
    try:
        if name == "JPEG" and max(image.size) > MAX_JPEG_SIDE:
            raise ValueError("too long")
        image.save(buffer, name)
    except Exception as error:  # encoders raise nearly anything: ValueError, OSError, struct.error, MemoryError
        size = f"{image.width}x{image.height} pixels"
        raise DataError(f"The copy cannot be written as {name} with {size}. Convert the picture to PNG.") from error
    return buffer.getvalue()


def _make_folders(folder: Path, below: Path) -> None:
    """Make the folders from `folder` down to `below`; raises OSError if one of these is a link."""
    for part in below.relative_to(folder).parts:
        folder = folder / part
        folder.mkdir(exist_ok=True)
        if not is_folder(folder, follow_links=False):
            raise OSError(errno.ENOTDIR, f"{folder} is a link, which is not followed")


def _replace_file(target: Path, content: bytes) -> None:
    """Write a new file beside the target and rename it: a link is replaced itself, and no half of a file is seen."""
    partial = target.with_name(f".dexpression-{token_hex(8)}")
    try:
        with partial.open("xb") as file:
            file.write(content)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
