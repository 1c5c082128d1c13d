"""The FER+ majority of a face, and what the report of a source says of its faces and of what is not used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dexpression.errors import DataError
from dexpression.training.face_set import Face, FaceSet, Remark
from dexpression.training.tables import VOTE_COLUMNS
from tests.support.faces import draw_face

FACE = Face("0.png", "SAD", None, draw_face("SAD", 0))


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
    assert replace(FACE, votes=counts).majority == majority


def test_faces_without_a_majority_vote_are_left_out_and_the_others_labelled_by_it():
    seen = [replace(FACE, votes=votes) for votes in ({"anger": 8, "fear": 1}, {"anger": 5, "fear": 5}, None)]
    assert [kept.label for kept in FaceSet("drawn", seen).by_majority().faces] == ["ANGRY"]


def test_the_report_counts_the_faces_of_each_split():
    faces = [replace(FACE, split=split) for split in ("train", "train", "valid", None)]
    assert FaceSet("drawn", faces).report() == "drawn: 4 faces (2 train, 1 valid, 1 unsplit)"


def test_the_report_has_a_line_a_reason_with_its_number_and_five_names():
    left_out = [Remark(f"{number}.png", "broken") for number in range(7)] + [Remark("x", "a link")]
    found = FaceSet("drawn", [FACE], left_out, [Remark("two.png", "two faces")])
    assert found.report().splitlines()[1:] == [
        "7 left out (broken): 0.png, 1.png, 2.png, 3.png, 4.png and 2 more",
        "1 left out (a link): x",
        "1 uncertain (two faces): two.png",
    ]


def test_the_report_says_for_which_label_each_name_was_taken_and_which_labels_are_not_ours():
    faces = [replace(FACE, label=label) for label in ("SAD", "HAPPY", "BORED", "AT EASE")]
    folders = {"sadness": "SAD", "Happy": "HAPPY", "bored": "BORED", "at ease": "AT EASE"}
    assert FaceSet("drawn", faces, labels_of_folders=folders).report().splitlines()[1:] == [
        "Folders taken for labels: sadness for SAD",
        "Labels of your own: AT EASE, BORED",
    ]


def test_a_name_that_would_break_a_line_is_escaped():
    found = FaceSet("a\nb", [FACE], [Remark("c\x1bd.png", "a link")], labels_of_folders={"e\nf": "SAD"})
    assert found.report().splitlines() == [
        r"a\nb: 1 faces (1 unsplit)",
        r"Folders taken for labels: e\nf for SAD",
        r"1 left out (a link): c\x1bd.png",
    ]


def test_faces_of_other_labels_are_left_out_by_name():
    faces = [replace(FACE, name=f"{label}.png", label=label) for label in ("SAD", "BORED", "HAPPY")]
    found = FaceSet("drawn", faces, [Remark("x", "a link")]).of_labels(["SAD", "ANGRY"])
    assert [face.label for face in found.faces] == ["SAD"]
    assert found.left_out == [
        Remark("x", "a link"),
        Remark("BORED.png", "BORED is not a chosen label"),
        Remark("HAPPY.png", "HAPPY is not a chosen label"),
    ]


def test_no_face_at_all_is_refused_with_the_reason_and_the_expected_layout():
    with pytest.raises(
        DataError, match=r"No faces in drawn\. 1 left out \(a link\): x\. Expected one folder per class"
    ):
        FaceSet("drawn", [], [Remark("x", "a link")])


def test_labels_come_in_our_order_and_then_by_the_alphabet():
    faces = [replace(FACE, label=label) for label in ("BORED", "SAD", "AT EASE", "ANGRY", "BORED")]
    assert FaceSet("drawn", faces).labels() == ["ANGRY", "SAD", "AT EASE", "BORED"]


@pytest.mark.parametrize(
    ("name", "row"),
    [("happy/00012.png", 12), ("happy/fer0000012.png", 12), ("row 12", 12), ("S005_001.png", None), ("12a.png", None)],
)
def test_the_row_in_fer2013_csv_is_read_from_the_name(name, row):
    assert replace(FACE, name=name).row == row
