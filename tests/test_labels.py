"""Names that data sets give labels, labels that a model may have, and the label sets that it knows."""

from __future__ import annotations

import pytest

from dexpression.labels import (
    EIGHT,
    FIVE,
    SEVEN,
    find_label,
    is_label,
    label_sets,
    list_labels,
    name_label,
    own_label,
    sort_labels,
)


@pytest.mark.parametrize(
    ("name", "labels", "label"),
    [
        (" Happy ", EIGHT, "HAPPY"),
        ("happiness", EIGHT, "HAPPY"),
        ("bored", EIGHT, None),
        ("Very attentive", ["BORED", "VERY ATTENTIVE"], "VERY ATTENTIVE"),
        ("happy", ["BORED", "VERY ATTENTIVE"], None),
        ("happy", ["HAPPINESS", "SADNESS"], "HAPPINESS"),
        ("anger", ["ANGRY", "ANGER"], "ANGER"),
        ("mu\u0308de", ["M\u00dcDE", "WACH"], "M\u00dcDE"),  # as macOS writes the umlaut
    ],
)
def test_a_label_is_found_by_its_name_or_a_synonym_in_upper_or_lower_case(name, labels, label):
    assert find_label(name, labels) == label


@pytest.mark.parametrize(
    "text", ["BORED", "1", "VERY ATTENTIVE", "A" * 40, "M\u00dcDE", "\u9000\u5c48", "R2-D2_(X)", "A'B"]
)
def test_upper_case_text_in_any_script_may_be_a_label(text):
    assert is_label(text)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "bored", "Bored", " BORED", "BORED ", "A" * 41, "A\nB", "A\tB", "A\u200bB", "A\u202eB", "A\udcff",
        "UNKNOWN", "..", ".GIT", "A.", "A/B", "A\\B", "A:B", "<B>", "=A1", "-REC", "MU\u0308DE",
    ],
    ids=ascii,
)  # fmt: skip
def test_text_that_would_break_a_line_a_file_name_or_an_answer_is_no_label(text):
    assert not is_label(text)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (FIVE, ["five"]),
        (SEVEN, ["five", "seven"]),
        (EIGHT, ["five", "seven", "eight"]),
        (EIGHT[::-1], ["five", "seven", "eight"]),
        (["HAPPY", "SAD"], ["own"]),
        ([*FIVE, "BORED"], ["five", "own"]),
    ],
)
def test_a_model_knows_the_label_sets_that_it_has_all_labels_of_and_own_is_all_of_another_vocabulary(labels, names):
    sets = label_sets(labels)
    assert list(sets) == names
    assert sets.get("own", tuple(labels)) == tuple(labels)


def test_a_message_lists_ten_labels_and_the_number_of_others():
    assert list_labels(["A", "B"]) == "A, B"
    assert list_labels([str(number) for number in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


@pytest.mark.parametrize(
    ("name", "label", "own"),
    [
        ("happiness", "HAPPY", "HAPPINESS"),
        ("Angry", "ANGRY", "ANGRY"),
        (" bored ", "BORED", "BORED"),
        ("mu\u0308de", "M\u00dcDE", "M\u00dcDE"),
        ("unknown", None, None),
        ("-", None, None),
        ("x" * 41, None, None),
    ],
)
def test_the_name_of_a_folder_becomes_our_label_or_one_of_its_own_or_none(name, label, own):
    assert (name_label(name), own_label(name)) == (label, own)


def test_our_labels_come_first_in_our_order_and_then_others_by_the_alphabet():
    assert sort_labels({"CONTEMPT", "ZEN", "SURPRISE", "BORED", "ANGRY"}) == [
        "ANGRY", "SURPRISE", "CONTEMPT", "BORED", "ZEN"
    ]  # fmt: skip
