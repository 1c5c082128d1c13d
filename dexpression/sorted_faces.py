"""Faces in a folder for each label: a person moves those with a wrong label, and the folder is data for training."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image

from dexpression.errors import DataError
from dexpression.faces import face_square
from dexpression.files import (
    LINK,
    UNPRINTABLE,
    file_status,
    find_files,
    is_folder,
    lies_in,
    make_folders,
    make_output_folder,
    read_regular_file,
)
from dexpression.picture import PICTURE_SUFFIXES
from dexpression.reading import FaceReading, Prediction

MAX_PNG_SIDE = 256  # pixels; a larger face as JPEG takes a tenth of the time and room, and networks see 224 at most
MAX_NAME_BYTES = 180  # of a picture's name in that of a face; file systems allow 255 for the whole


class SortedFaces:
    """Writes faces into a folder for each label, below one folder; a file that is there is never replaced.

    A face whose file lies there already, in whichever folder, is not written again: what a person moved stays moved.
    """

    def __init__(self, folder: Path, labels: Sequence[str], pictured_folders: Sequence[Path]) -> None:
        """Prepare to sort by these labels the faces of pictures that lie, among others, in `pictured_folders`.

        Raises DataError if the folder cannot be used, or if sorted faces would lie in a pictured folder.
        """
        self._folder = folder
        self._written: Counter[str] = Counter()  # faces by label
        self._repeated = self._faceless = 0
        targets = [folder / label.lower() for label in labels]
        for pictured in pictured_folders:
            if any(lies_in(target, pictured) for target in targets):
                raise DataError(
                    f"Faces that are sorted into {folder} would lie in {pictured}, whose pictures are read. "
                    "Choose another folder."
                )
        make_output_folder(folder)
        for target in targets:
            if file_status(target, follow_links=False) and not is_folder(target, follow_links=False):
                reason = LINK if target.is_symlink() else "not a folder"
                raise DataError(f"{target} is {reason}. Rename it, or choose another folder.")
        self._earlier = _files_by_size(folder)

    def write(self, name: Path, picture: Image.Image, faces: Sequence[FaceReading]) -> None:
        """Write the faces of a picture, which is upright and in its original size; raises DataError.

        The names of the files begin with the confidence, so that the least sure face is listed first.
        """
        self._faceless += not faces
        stem = _name_in_one_part(name)
        for number, face in enumerate(faces, 1):
            content, suffix = _encode(crop_original(picture, face))
            if self._lies_there(content):
                self._repeated += 1
            else:
                self._write_face(f"{stem}_face{number}", suffix, content, face.prediction)

    def summary(self) -> str:
        """How many faces were written for each label, and what was not written, in one line."""
        labels = ", ".join(f"{count} {label.lower()}" for label, count in self._written.most_common())
        parts = [f"Faces sorted into {self._folder}: {self._written.total()}{f' ({labels})' if labels else ''}"]
        parts += [f"there already: {self._repeated}"] if self._repeated else []
        parts += [f"pictures without a face: {self._faceless}"] if self._faceless else []
        return "; ".join(parts) + "."

    def _write_face(self, stem: str, suffix: str, content: bytes, prediction: Prediction) -> None:
        folder = self._folder / prediction.emotion.lower()
        try:
            make_folders(self._folder, folder)
            _write_new_file(folder, f"{prediction.confidence:.3f}_{stem}", suffix, content)
        except OSError as error:
            raise DataError(f"A face cannot be written into {folder} ({error.strerror}).") from error
        self._written[prediction.emotion] += 1

    def _lies_there(self, content: bytes) -> bool:
        return any(_has_content(path, content) for path in self._earlier.get(len(content), ()))


def crop_original(picture: Image.Image, face: FaceReading) -> Image.Image:
    """Crop the square that the network saw of a face, in the resolution and the colours of the original picture."""
    # Where no face was detected, the box is that square.
    square = face.box if face.detection_confidence is None else face_square(face.box, *picture.size)
    side = min(max(1, round(square.right - square.left)), *picture.size)
    left, top = min(round(square.left), picture.width - side), min(round(square.top), picture.height - side)
    return picture.crop((left, top, left + side, top + side))


def _encode(face: Image.Image) -> tuple[bytes, str]:
    """Encode a face; returns the content of its file, and the suffix of its name."""
    buffer = io.BytesIO()
    face.info.clear()  # where and when the picture was taken
    if face.width <= MAX_PNG_SIDE:
        face.save(buffer, "PNG")
        return buffer.getvalue(), ".png"
    face.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue(), ".jpg"


def _name_in_one_part(name: Path) -> str:
    """The path of a picture below its folder, without the suffix, as part of the name of a file."""
    text = UNPRINTABLE.sub("_", "_".join(name.with_suffix("").parts))
    return text.encode()[-MAX_NAME_BYTES:].decode(errors="ignore")


def _files_by_size(folder: Path) -> dict[int, list[Path]]:
    """The pictures in a folder and below by their size in bytes: files of different sizes need not be compared."""
    found: dict[int, list[Path]] = {}
    for path in find_files(folder, PICTURE_SUFFIXES)[0]:
        if status := file_status(path, follow_links=False):
            found.setdefault(status.st_size, []).append(path)
    return found


def _has_content(path: Path, content: bytes) -> bool:
    try:
        return read_regular_file(path, len(content), follow_links=False) == content
    except OSError:  # it was moved or changed since it was found
        return False


def _write_new_file(folder: Path, stem: str, suffix: str, content: bytes) -> None:
    """Write a file under the first name that is free: with a number after it, if there must be one."""
    for number in itertools.count(1):
        target = folder / f"{stem}{f'_{number}' if number > 1 else ''}{suffix}"
        with suppress(FileExistsError):
            file = target.open("xb")  # refuses any name that is taken, also by a link
            break
    try:
        with file:
            file.write(content)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
