"""Read labelled faces from class folders or fer2013.csv."""

from __future__ import annotations

from pathlib import Path

from dexpression.errors import DataError
from dexpression.files import file_status, is_folder
from dexpression.labels import name_label
from dexpression.training.crops import FaceCropper
from dexpression.training.face_set import FaceSet
from dexpression.training.folders import ToLabel, read_folder
from dexpression.training.tables import TABLE, has_file, read_table


def read_faces(source: Path, cropper: FaceCropper, to_label: ToLabel = name_label) -> FaceSet:
    """Read every face of a folder or of a CSV file; raises DataError if there is none, or for a bad name or row.

    Links below the folder are not followed.
    """
    if file_status(source) is None:
        raise DataError(f"{source} does not exist. Give a folder of class folders, or fer2013.csv.")
    if not is_folder(source):
        return read_table(source, cropper.size)
    table = source / TABLE
    return read_table(table, cropper.size) if has_file(table) else read_folder(source, cropper, to_label)
