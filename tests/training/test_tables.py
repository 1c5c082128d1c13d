"""fer2013.csv and the FER+ votes: the forms in which they come, and rows that are left out or refused."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dexpression.errors import DataError
from dexpression.labels import SEVEN
from dexpression.training.crops import FaceCropper
from dexpression.training.face_set import Remark
from dexpression.training.sources import read_faces
from dexpression.training.tables import MAX_LINE, VOTE_COLUMNS, add_votes, find_votes, read_table, read_votes
from tests.support.faces import draw_face, write_class_folders, write_votes

PIXELS = np.asarray(draw_face("HAPPY", 0)).ravel().tolist()
SPACED = " ".join(map(str, PIXELS))


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Write lines into fer2013.csv."""

    def write_lines(*lines: str) -> Path:
        table = tmp_path / "fer2013.csv"
        table.write_text("\n".join(lines) + "\n")
        return table

    return write_lines


def test_usage_says_the_split(write_table):
    counts = Counter((face.split, face.label) for face in read_table(write_table(), 48).faces)
    assert counts == {("train", label): 8 for label in SEVEN} | {("valid", label): 2 for label in SEVEN}


def test_without_usage_faces_have_no_split(write_table):
    assert read_table(write_table(usage=False), 48).splits() == {None}


@pytest.mark.parametrize(
    ("usage", "split"),
    [("Training", "train"), ("PublicTest", "valid"), ("PrivateTest", "test"), (" validation ", "valid"), ("", None)],
)
def test_a_usage_is_known_in_any_case(write, usage, split):
    [face] = read_table(write("emotion,pixels,Usage", f"3,{SPACED},{usage.upper()}"), 48).faces
    assert face.split == split


@pytest.mark.parametrize("usage", ["Trainig", "2", "9" * 1000])
def test_an_unknown_usage_is_refused_with_its_row(write, usage):
    table = write("emotion,pixels,Usage", f"3,{SPACED},Training", f"3,{SPACED},{usage}")
    with pytest.raises(
        DataError, match=f"Row 1 has the Usage '{usage[:100]}.*Expected Training, PublicTest"
    ) as refused:
        read_table(table, 48)
    assert len(str(refused.value)) < 400


def test_a_row_has_the_pixels_of_its_face(write_table):
    first = read_table(write_table(), 48).faces[0]
    assert (first.name, first.label, first.image.tobytes()) == ("row 0", "ANGRY", draw_face("ANGRY", 0).tobytes())


@pytest.mark.parametrize(
    "pixels",
    [SPACED, f'"{SPACED}"', f'"{SPACED.replace(" ", ",")}"', f'"{PIXELS}"', f"[{SPACED}]"],
    ids=["spaces", "quotes", "commas", "a list of Python", "an array of NumPy"],
)
def test_pixels_may_have_commas_or_brackets(write, pixels):
    [face] = read_table(write("emotion,pixels", f"3,{pixels}"), 48).faces
    assert face.image.tobytes() == draw_face("HAPPY", 0).tobytes()


@pytest.mark.parametrize("rest", [",Training", ""], ids=["with Usage", "without"])
def test_a_file_without_a_line_of_column_names_is_read(write, rest):
    found = read_table(write(f"3,{SPACED}{rest}", f"4,{SPACED}{rest}"), 48)
    assert [(face.name, face.label, face.split) for face in found.faces] == [
        ("row 0", "HAPPY", "train" if rest else None),
        ("row 1", "SAD", "train" if rest else None),
    ]


def test_columns_may_have_any_order_case_and_a_byte_order_mark(tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text(f"Usage,Pixels, EMOTION\nTraining,{SPACED},3\n", encoding="utf-8-sig")
    [face] = read_table(table, 48).faces
    assert (face.label, face.split) == ("HAPPY", "train")


@pytest.mark.parametrize("side", [24, 100, 224])
def test_faces_of_any_side_are_scaled(write, side):
    large = draw_face("HAPPY", 0, side)
    pixels = " ".join(map(str, np.asarray(large).ravel()))
    [face] = read_table(write("emotion,pixels", f"3,{pixels}"), 224).faces
    assert face.image.size == (224, 224)
    expected = np.asarray(large.resize((224, 224), Image.Resampling.BILINEAR), float)
    assert np.abs(np.asarray(face.image, float) - expected).mean() < 2


def test_rows_without_a_square_of_pixels_are_left_out_and_named(write):
    pixels = ("1 2 3", "1 2 300 4", "1 2 x 4", "1 -2 3 4", "", "1 2 1e1 4")
    found = read_table(write("emotion,pixels", f"3,{SPACED}", *(f"3,{text}" for text in pixels), "3"), 48)
    assert len(found.faces) == 1
    reason = "its pixels are not a square of numbers 0 to 255"
    assert found.left_out == [Remark(f"row {number}", reason) for number in range(1, 8)]


def test_blank_lines_are_skipped(write_table):
    table = write_table(count=1)
    table.write_text(table.read_text().replace("\n", "\n\n"))
    assert len(read_table(table, 48).faces) == 7


@pytest.mark.parametrize(("emotion", "shown"), [("7", "'7'"), ("", "''"), ("happy", "'happy'"), ("-1", "'-1'")])
def test_an_emotion_outside_0_to_6_is_refused_with_its_row(write_table, emotion, shown):
    table = write_table(count=1)
    table.write_text(table.read_text() + f"{emotion},1 2 3 4,Training\n")
    with pytest.raises(DataError, match=f"Row 7 has the emotion {shown}. Expected 0 to 6"):
        read_table(table, 48)


def test_a_row_with_too_many_values_is_refused_with_its_number(write):
    """Else the first of its pixels, which have commas, would be taken for all of them."""
    table = write("emotion,pixels,Usage", f"3,{SPACED},Training", "3," + ",".join(map(str, PIXELS)) + ",Training")
    with pytest.raises(
        DataError, match=r"Row 1 of fer2013\.csv has 2306 values for 3 columns\. Put a value that has commas"
    ):
        read_table(table, 48)


def test_empty_values_at_the_end_of_a_row_do_no_harm(write):
    assert len(read_table(write("emotion,pixels,Usage", f"3,{SPACED},Training,,,"), 48).faces) == 1


@pytest.mark.parametrize("content", ["label,image\n1,2\n", "", "\n", f"{'x' * 100_000},2\n"], ids=lambda text: text[:9])
def test_a_csv_file_with_other_columns_is_refused(tmp_path, content):
    (tmp_path / "fer2013.csv").write_text(content)
    with pytest.raises(DataError, match="It needs emotion, pixels") as refused:
        read_table(tmp_path / "fer2013.csv", 48)
    assert len(str(refused.value)) < 400


def test_a_file_that_is_not_csv_is_refused(tmp_path):
    draw_face("HAPPY", 0).save(tmp_path / "face.png")
    with pytest.raises(DataError, match=r"face\.png cannot be read as CSV"):
        read_table(tmp_path / "face.png", 48)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path):
    with (tmp_path / "fer2013.csv").open("wb") as file:
        file.truncate(10**10)  # without content, so that it takes no room on the disk
    with pytest.raises(
        DataError, match=r"Line 1 of fer2013.csv has 1,000,000 characters or more. Expected one face a line"
    ):
        read_table(tmp_path / "fer2013.csv", 48)


def test_a_very_long_line_is_refused_with_its_number(write):
    table = write("emotion,pixels", f"3,{SPACED}", "3," + "1 " * (MAX_LINE // 2))
    with pytest.raises(DataError, match=r"Line 3 of fer2013\.csv has 1,000,000 characters or more"):
        read_table(table, 48)


def test_a_message_repeats_only_the_start_of_a_long_value(write):
    table = write("emotion,pixels,Usage", "9" * 100_000 + ",1 2 3 4,Training")
    with pytest.raises(DataError) as refused:
        read_table(table, 48)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("name", ["ferplus.csv", "fer2013new.csv"])
@pytest.mark.parametrize("kind", ["folders", "table"])
def test_either_file_of_votes_fits_folders_and_fer2013_csv(kind, name, class_folders, write_table):
    source = class_folders if kind == "folders" else write_table()
    beside = source if kind == "folders" else source.parent
    files = [f"happy/{row:05}.png" for row in range(70)] if name == "ferplus.csv" else None
    votes = write_votes(beside / name, files, 70)
    assert find_votes(source) == votes
    faces = add_votes(read_faces(source, FaceCropper(48)), votes).faces
    assert {face.votes["happiness"] for face in faces} == {8}


def test_votes_fit_the_rows_of_a_file_without_column_names(write, tmp_path):
    votes = write_votes(tmp_path / "fer2013new.csv", None, 2)
    found = add_votes(read_table(write(f"3,{SPACED}", f"4,{SPACED}"), 48), votes)
    assert [face.majority for face in found.faces] == ["HAPPY", "HAPPY"]


def test_votes_that_lack_a_face_are_refused_with_its_name(class_folders):
    votes = write_votes(class_folders / "fer2013new.csv", None, 60)
    with pytest.raises(DataError, match=r"10 of 70 faces have none, such as surprise/00060.png"):
        add_votes(read_faces(class_folders, FaceCropper(48)), votes)


def test_faces_whose_names_have_no_row_are_refused_with_how_they_are_found(tmp_path):
    folder = write_class_folders(tmp_path / "faces", 1)
    draw_face("HAPPY", 9).save(folder / "happy" / "anna.png")
    faces = read_faces(folder, FaceCropper(48))
    with pytest.raises(DataError, match=r"such as happy/anna.png. Expected a line for each face, found by its row"):
        add_votes(faces, write_votes(tmp_path / "ferplus.csv", None, 70))


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("file,neutral\na,1\n", "has the columns"),
        (f"file,{','.join(VOTE_COLUMNS)}\n00000.png,1,2,x,0,0,0,0,0,0,0\n", "ten numbers"),
        (f"file,{','.join(VOTE_COLUMNS)}\n00000.png,1\n", "ten numbers"),
        (f"file,{','.join(VOTE_COLUMNS)}\n00000.png,1,2,-1,0,0,0,0,0,0,0\n", "ten numbers"),
        (f"file,{','.join(VOTE_COLUMNS)}\n00000.png,1,2,1{'0' * 400},0,0,0,0,0,0,0\n", "ten numbers"),
        (f"file,{','.join(VOTE_COLUMNS)}\n00000.png,0,1,2,3,4,5,6,7,8,9,10\n", "12 values for 11 columns"),
        (f"{','.join(VOTE_COLUMNS)}\n,,,,,,,,,\n", "ten numbers"),
        ("1,2,3,4,5,6,7,8,9,10\n", "has the columns"),  # without names, the order of votes is not known
    ],
    ids=["a missing column", "no number", "too short", "negative", "too large", "too many", "empty", "no names"],
)
def test_an_invalid_file_of_votes_is_refused(tmp_path, content, wanted):
    (tmp_path / "ferplus.csv").write_text(content)
    with pytest.raises(DataError, match=wanted):
        read_votes(tmp_path / "ferplus.csv")


def test_a_file_of_votes_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"does not exist\. Give ferplus.csv or fer2013new.csv"):
        read_votes(tmp_path / "nowhere.csv")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["fer2013.csv", "ferplus.csv", "fer2013new.csv"])
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_table_that_is_a_pipe_or_a_link_is_used_only_if_a_link_is_named(class_folders, write_table, name, kind):
    path = class_folders / name
    os.mkfifo(path) if kind == "pipe" else path.symlink_to(write_table(count=1))
    with pytest.raises(DataError, match=r"csv is not a regular file"):
        read_faces(class_folders, FaceCropper(48)) if name == "fer2013.csv" else find_votes(class_folders)
    if kind == "link":
        assert len(read_table(path, 48).faces) == 7
    else:
        with pytest.raises(DataError, match=r"csv cannot be read \(.*csv is not a regular file"):
            read_votes(path) if name != "fer2013.csv" else read_table(path, 48)
