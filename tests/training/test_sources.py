"""A source of labelled faces is a folder of class folders, fer2013.csv, or a folder that has it."""

from __future__ import annotations

import pytest

from dexpression.errors import DataError
from dexpression.training.crops import FaceCropper
from dexpression.training.sources import read_faces

CROPPER = FaceCropper(48)


def test_fer2013_csv_is_read_from_its_path_or_from_its_folder(write_table):
    table = write_table(count=1)
    by_path, by_folder = (read_faces(source, CROPPER) for source in (table, table.parent))
    assert by_path == by_folder
    assert (by_path.name, len(by_path.faces)) == ("fer2013.csv", 7)


def test_a_table_in_a_folder_of_class_folders_is_read_instead_of_these(class_folders, write_table):
    write_table(count=1).rename(class_folders / "fer2013.csv")
    assert read_faces(class_folders, CROPPER).name == "fer2013.csv"


def test_a_name_of_a_folder_becomes_the_label_that_the_caller_says(class_folders):
    assert read_faces(class_folders, CROPPER, lambda name: f"{name}!").labels()[0] == "angry!"


@pytest.mark.parametrize("name", ["missing", "x" * 5000, "a\0b"], ids=["missing", "too long", "a zero byte"])
def test_a_source_that_does_not_exist_is_refused(tmp_path, name):
    with pytest.raises(DataError, match=r"does not exist\. Give a folder of class folders, or fer2013.csv"):
        read_faces(tmp_path / name, CROPPER)
