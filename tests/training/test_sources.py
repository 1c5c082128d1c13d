"""Labelled faces are read from class folders and fer2013.csv; a source that cannot be used is refused with a reason."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dexpression.errors import DataError
from dexpression.labels import SEVEN
from dexpression.training.sources import (
    VOTE_COLUMNS,
    Face,
    FaceSet,
    add_votes,
    find_votes,
    move_to_label,
    read_faces,
    read_votes,
)
from tests.support.faces import draw_face, write_class_folders, write_votes


def counts(source: Path) -> Counter[tuple[str | None, str]]:
    """The number of faces by split and label."""
    return Counter((face.split, face.label) for face in read_faces(source, 48).faces)


def test_class_folders_are_read(class_folders):
    assert counts(class_folders) == {(None, label): 10 for label in SEVEN}


def test_split_folders_above_class_folders_are_read(split_folders):
    assert counts(split_folders) == {("train", label): 6 for label in SEVEN} | {("valid", label): 2 for label in SEVEN}


def test_fer2013_csv_is_read_from_its_path_or_from_its_folder(write_table):
    table = write_table()
    assert counts(table) == {("train", label): 8 for label in SEVEN} | {("valid", label): 2 for label in SEVEN}
    assert counts(table.parent) == counts(table)


def test_a_row_of_fer2013_csv_has_the_pixels_of_its_face(write_table):
    first = read_faces(write_table(), 48).faces[0]
    assert (first.label, first.image.tobytes()) == ("ANGRY", draw_face("ANGRY", 0).tobytes())


@pytest.mark.parametrize("names", [("Happy", "SAD"), ("happiness", "Sadness"), ("HAPPY", "sad")])
def test_class_folders_may_have_any_case_and_common_synonyms(tmp_path, names):
    for name, label in zip(names, ("HAPPY", "SAD"), strict=True):
        (tmp_path / name).mkdir()
        draw_face(label, 0).save(tmp_path / name / "a.PNG")
    assert counts(tmp_path) == {(None, "HAPPY"): 1, (None, "SAD"): 1}


def test_a_colour_picture_of_any_size_becomes_a_grey_face_of_the_requested_size(tmp_path):
    (tmp_path / "happy").mkdir()
    draw_face("HAPPY", 0, size=200).convert("RGB").crop((0, 0, 200, 150)).save(tmp_path / "happy" / "a.jpg")
    [face] = read_faces(tmp_path, 48).faces
    assert (face.image.mode, face.image.size) == ("L", (48, 48))


def test_a_grey_face_of_the_requested_size_keeps_its_pixels(tmp_path):
    (tmp_path / "happy").mkdir()
    draw_face("HAPPY", 3).save(tmp_path / "happy" / "a.png")
    [face] = read_faces(tmp_path, 48).faces
    assert np.array_equal(np.asarray(face.image), np.asarray(draw_face("HAPPY", 3)))


def test_unreadable_files_are_skipped_and_reported_by_name(class_folders):
    (class_folders / "happy" / "broken.png").write_bytes(b"no picture")
    (class_folders / "happy" / "empty.jpg").write_bytes(b"")
    found = read_faces(class_folders, 48)
    assert len(found.faces) == 70
    assert "2 unreadable, skipped: happy/broken.png, happy/empty.jpg" in found.report()


def test_unreadable_rows_are_skipped_and_reported_by_number(write_table):
    table = write_table()
    table.write_text(table.read_text() + "3,1 2 3,Training\n3,1 2 300 4,Training\n3,,Training\n3\n")
    assert read_faces(table, 48).unreadable == ["row 70", "row 71", "row 72", "row 73"]


def test_hidden_folders_and_blank_lines_are_skipped(split_folders, write_table):
    (split_folders / "train" / ".cache").mkdir()
    assert len(read_faces(split_folders, 48).faces) == 56
    table = write_table()
    table.write_text(table.read_text() + "\n\n")
    assert len(read_faces(table, 48).faces) == 70


@pytest.mark.parametrize("labels", [[], ["happy"]])
def test_a_source_without_images_is_refused_with_the_expected_layout(tmp_path, labels):
    for label in labels:
        (tmp_path / label).mkdir()
    with pytest.raises(DataError, match=r"No faces in .* Expected one folder per class"):
        read_faces(tmp_path, 48)


def test_a_source_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(DataError, match="missing does not exist"):
        read_faces(tmp_path / "missing", 48)


def test_a_folder_with_an_unknown_name_is_refused_with_the_known_labels(class_folders):
    write_class_folders(class_folders / "bored", 1, labels=("HAPPY",))
    with pytest.raises(DataError, match=r"folder bored is not named after a label: angry, disgust"):
        read_faces(class_folders, 48)


@pytest.mark.parametrize(("emotion", "shown"), [("7", "'7'"), ("", "''"), ("happy", "'happy'")])
def test_an_emotion_outside_0_to_6_is_refused_with_its_row(write_table, emotion, shown):
    table = write_table(count=1)
    table.write_text(table.read_text() + f"{emotion},1 2 3 4,Training\n")
    with pytest.raises(DataError, match=f"Row 7 has the emotion {shown}. Expected 0 to 6"):
        read_faces(table, 48)


def test_a_csv_file_with_other_columns_is_refused(tmp_path):
    (tmp_path / "fer2013.csv").write_text("label,image\n1,2\n")
    with pytest.raises(DataError, match="It needs emotion, pixels"):
        read_faces(tmp_path, 48)


def test_a_file_that_is_not_csv_is_refused(tmp_path):
    draw_face("HAPPY", 0).save(tmp_path / "face.png")
    with pytest.raises(DataError, match=r"face\.png cannot be read as CSV"):
        read_faces(tmp_path / "face.png", 48)


@pytest.mark.parametrize("name", ["ferplus.csv", "fer2013new.csv"])
@pytest.mark.parametrize("kind", ["folders", "table"])
def test_either_file_of_votes_fits_folders_and_fer2013_csv(kind, name, class_folders, write_table):
    source = class_folders if kind == "folders" else write_table()
    beside = source if kind == "folders" else source.parent
    files = [f"happy/{row:05}.png" for row in range(70)] if name == "ferplus.csv" else None
    votes = write_votes(beside / name, files, 70)
    assert find_votes(source) == votes
    faces = add_votes(read_faces(source, 48), votes).faces
    assert {face.votes["happiness"] for face in faces} == {8}


@pytest.mark.parametrize(
    ("votes", "majority"),
    [
        ({"happiness": 6, "sadness": 4}, "HAPPY"),
        ({"happiness": 5, "sadness": 5}, None),  # a tie
        ({"happiness": 4, "sadness": 3, "fear": 3}, None),  # the most votes are no majority
        ({"happiness": 4, "sadness": 3, "fear": 1, "anger": 1, "disgust": 1}, "HAPPY"),  # single votes do not count
        ({"happiness": 3, "sadness": 2, "unknown": 1, "NF": 1}, "HAPPY"),
        ({"happiness": 4, "unknown": 4, "sadness": 2}, None),  # unknown and NF count among all votes
        ({"happiness": 5, "NF": 5}, None),
        ({"unknown": 8, "happiness": 2}, None),  # a majority for what is no label of ours
        ({"NF": 8, "happiness": 2}, None),
        ({"contempt": 6, "neutral": 4}, "CONTEMPT"),
        ({"happiness": 1}, None),
        (dict.fromkeys(VOTE_COLUMNS, 1), None),
        (dict.fromkeys(VOTE_COLUMNS, 0), None),
        (None, None),
    ],
    ids=str,
)
def test_the_majority_vote_is_that_of_barsoum_et_al_2016(votes, majority):
    counts = None if votes is None else dict.fromkeys(VOTE_COLUMNS, 0) | votes
    face = Face("0.png", "SAD", None, draw_face("SAD", 0), votes=counts)
    assert face.majority == majority


def test_faces_without_a_majority_vote_are_left_out_and_the_others_labelled_by_it():
    face = Face("0.png", "SAD", None, draw_face("SAD", 0))
    seen = [replace(face, votes=votes) for votes in ({"anger": 8, "fear": 1}, {"anger": 5, "fear": 5}, None)]
    assert [kept.label for kept in FaceSet("drawn", seen).by_majority().faces] == ["ANGRY"]


def test_votes_that_lack_a_face_are_refused_with_its_name(class_folders):
    votes = write_votes(class_folders / "fer2013new.csv", None, 60)
    with pytest.raises(DataError, match=r"10 of 70 faces have none, such as surprise/00060.png"):
        add_votes(read_faces(class_folders, 48), votes)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("file,neutral\na,1\n", "has the columns"),
        (f"file,{','.join(VOTE_COLUMNS)}\n00000.png,1,2,x,0,0,0,0,0,0,0\n", "ten numbers"),
        (f"file,{','.join(VOTE_COLUMNS)}\n00000.png,1\n", "ten numbers"),
    ],
    ids=["a missing column", "a vote that is not a number", "a row that is too short"],
)
def test_an_invalid_file_of_votes_is_refused(class_folders, content, wanted):
    (class_folders / "ferplus.csv").write_text(content)
    with pytest.raises(DataError, match=wanted):
        add_votes(read_faces(class_folders, 48), class_folders / "ferplus.csv")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_links_pipes_and_odd_names_in_class_folders_are_skipped_and_reported(class_folders, tmp_path):
    outside = write_class_folders(tmp_path / "outside", 1, labels=("SAD",), seed=5)
    (class_folders / "surprised").symlink_to(outside / "sad")
    (class_folders / "sad" / "folder").symlink_to(outside / "sad")
    (class_folders / "sad" / "up").symlink_to("..")
    (class_folders / "sad" / "link.png").symlink_to(outside / "sad" / "05000.png")
    os.mkfifo(class_folders / "happy" / "pipe.png")
    (class_folders / "happy" / "line\nbreak.png").write_bytes(b"no picture")
    found = read_faces(class_folders, 48)
    assert len(found.faces) == 70
    assert found.unreadable == [
        "happy/line\nbreak.png",
        "surprised (a link, which is not followed)",
        "happy/pipe.png (not a regular file)",
        *(f"sad/{name} (a link, which is not followed)" for name in ("folder", "link.png", "up")),
    ]
    assert "6 unreadable, skipped: happy/line\\nbreak.png, surprised (a link" in found.report()


def test_a_link_to_a_split_folder_is_skipped_and_a_link_that_is_named_is_followed(split_folders, tmp_path):
    (split_folders / "test").symlink_to(split_folders / "valid")
    (tmp_path / "link").symlink_to(split_folders)
    found = read_faces(tmp_path / "link", 48)
    assert (len(found.faces), found.unreadable) == (56, ["test (a link, which is not followed)"])


def test_a_source_of_links_alone_is_refused_with_the_reason(class_folders, tmp_path):
    (tmp_path / "links" / "happy").mkdir(parents=True)
    (tmp_path / "links" / "happy" / "a.png").symlink_to(class_folders / "happy" / "00030.png")
    with pytest.raises(DataError, match=r"1 files could not be read, such as happy/a\.png \(a link"):
        read_faces(tmp_path / "links", 48)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["fer2013.csv", "ferplus.csv", "fer2013new.csv"])
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_table_that_is_a_pipe_or_a_link_is_used_only_if_a_link_is_named(class_folders, write_table, name, kind):
    path = class_folders / name
    os.mkfifo(path) if kind == "pipe" else path.symlink_to(write_table(count=1))
    with pytest.raises(DataError, match=r"csv is not a regular file"):
        read_faces(class_folders, 48) if name == "fer2013.csv" else find_votes(class_folders)
    if kind == "link":
        assert len(read_faces(path, 48).faces) == 7
    else:
        with pytest.raises(DataError, match=r"csv cannot be read \(.*csv is not a regular file"):
            read_votes(path) if name != "fer2013.csv" else read_faces(path, 48)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path):
    with (tmp_path / "fer2013.csv").open("wb") as file:
        file.truncate(10**10)  # without content, so that it takes no room on the disk
    with pytest.raises(DataError, match="cannot be read as CSV"):
        read_faces(tmp_path, 48)


def test_a_message_repeats_only_the_start_of_a_long_value(write_table):
    table = write_table(count=1)
    table.write_text(table.read_text() + "9" * 100_000 + ",1 2 3 4,Training\n")
    with pytest.raises(DataError) as refused:
        read_faces(table, 48)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("votes", ["-1", "1" + "0" * 400])
def test_votes_that_are_no_counts_are_refused(class_folders, votes):
    columns = ",".join(VOTE_COLUMNS)
    (class_folders / "ferplus.csv").write_text(f"file,{columns}\n00000.png,1,2,{votes},0,0,0,0,0,0,0\n")
    with pytest.raises(DataError, match="ten numbers"):
        read_votes(class_folders / "ferplus.csv")


def test_a_relabelled_picture_stays_in_its_folder_tree_and_replaces_no_link(tmp_path):
    for folder in ("faces/sad", "faces/happy", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    draw_face("HAPPY", 0).save(tmp_path / "faces" / "sad" / "1.png")
    (tmp_path / "faces" / "glad").symlink_to(tmp_path / "outside")
    (tmp_path / "faces" / "happy" / "1.png").symlink_to("nowhere")
    assert move_to_label(tmp_path / "faces" / "sad" / "1.png", "HAPPY") == tmp_path / "faces" / "happy" / "1_.png"
    assert (tmp_path / "faces" / "happy" / "1.png").is_symlink()


def test_a_relabelled_picture_moves_to_the_folder_of_its_label_and_overwrites_no_other(tmp_path):
    for folder, seed in (("Happy", 1), ("SAD", 2)):
        (tmp_path / folder).mkdir()
        draw_face("HAPPY", seed).save(tmp_path / folder / "1.png")
    moved = move_to_label(tmp_path / "SAD" / "1.png", "HAPPY")
    assert moved == tmp_path / "Happy" / "1_.png"
    assert counts(tmp_path) == {(None, "HAPPY"): 2}
