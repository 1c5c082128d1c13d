"""Annotated copies: a path for each, and files that never replace a given picture or the target of a link."""

from __future__ import annotations

import io
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from dexpression.errors import DataError
from dexpression.files import identities, make_folders, make_output_folder, replace_file
from dexpression.picture import WRITTEN_SUFFIXES

MAX_JPEG_SIDE = 65_500  # pixels; for more, the library prints a line of its own


class AnnotatedCopies:
    """The annotated copies of some pictures in one folder."""

    def __init__(self, folder: Path, pictures: Mapping[Path, Path]) -> None:
        """Name a copy for each picture, whose path below the folder is given; a name that is taken gets a number.

        Raises DataError if the folder cannot be made, or if a copy would replace a picture.
        """
        self._folder = folder
        self._targets = _name_copies(folder, pictures)
        self._originals = {identity for picture in pictures for identity in identities(picture)}
        make_output_folder(folder)
        for target in self._targets.values():
            self._refuse_original(target)

    def write(self, picture: Path, image: Image.Image) -> None:
        """Write the copy of a picture; raises DataError. Another file or a link of its name is replaced."""
        target = self._targets[picture]
        content = _encode(image, target.suffix)
        try:
            make_folders(self._folder, target.parent)
            self._refuse_original(target)
            replace_file(target, content)
        except OSError as error:
            raise DataError(f"The copy {target} cannot be written ({error.strerror}).") from error

    def _refuse_original(self, target: Path) -> None:
        if not self._originals.isdisjoint(identities(target, follow_links=[False])):
            raise DataError(f"A copy would replace the picture {target}. Choose another folder for the copies.")


def _name_copies(folder: Path, pictures: Mapping[Path, Path]) -> dict[Path, Path]:
    taken: set[str] = set()
    repeats: Counter[str] = Counter()  # by name, how often a number was added to it
    targets: dict[Path, Path] = {}
    for picture, name in pictures.items():
        named = folder / (name if name.suffix.lower() in WRITTEN_SUFFIXES else name.with_name(f"{name.name}.png"))
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
