"""The emotion labels, the names that data sets give them, own labels, and the readings of a model."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

LabelSet = Literal["five", "seven", "eight"]
ReadingName = Literal["people", "labels"]

# What a model was fitted to: the FER+ votes, which say what people see in a face, or the labels of a data set.
PEOPLE_READING: ReadingName = "people"
LABELS_READING: ReadingName = "labels"
READINGS = (PEOPLE_READING, LABELS_READING)  # the first that a model has is its default
EVIDENCE = "evidence"  # the output of a model beside its readings

FIVE = ("ANGRY", "DISGUST", "FEAR", "HAPPY", "NEUTRAL")  # of POST /
SEVEN = (*FIVE, "SAD", "SURPRISE")  # of FER2013
EIGHT = (*SEVEN, "CONTEMPT")  # of FER+ and CK+
LABEL_SETS: dict[LabelSet, tuple[str, ...]] = {"five": FIVE, "seven": SEVEN, "eight": EIGHT}
OWN = "own"  # the name of all labels of a model whose labels are none of these sets

UNKNOWN = "UNKNOWN"  # the result for a confidence below the caller's minimum; no label has this name
MAX_LABEL = 40  # characters
IN_NO_FILE_NAME = frozenset('/\\:*?"<>|')  # on one system or another

# By the number in the column `emotion` of fer2013.csv, from 0.
FER2013_ORDER = ("ANGRY", "DISGUST", "FEAR", "HAPPY", "SAD", "SURPRISE", "NEUTRAL")

_SYNONYMS = {
    "ANGER": "ANGRY",
    "DISGUSTED": "DISGUST",
    "FEARFUL": "FEAR",
    "HAPPINESS": "HAPPY",
    "SADNESS": "SAD",
    "SURPRISED": "SURPRISE",
}


def find_label(name: str, labels: Collection[str] = EIGHT) -> str | None:
    """The one of `labels` for a name such as `Angry` or `anger`, in upper or lower case; None for an unknown name."""
    label = to_label(name)
    if label in labels:
        return label
    return next((known for known in labels if _SYNONYMS.get(known, known) == _SYNONYMS.get(label, label)), None)


def to_label(name: str) -> str:
    """The name in the form of a label: in upper case, and without spaces around it."""
    return unicodedata.normalize("NFC", name.strip().upper())


def is_label(text: str) -> bool:
    """Whether a model may have this label: upper-case text of 1 to 40 printable characters, in any script.

    It may have spaces, as folders have that are named after two words. It begins with a letter or a digit and has no
    character that some system forbids in names of files, because faces are sorted into folders of its name.
    """
    return (
        0 < len(text) <= MAX_LABEL
        and text == to_label(text) != UNKNOWN
        and text.isprintable()
        and text[0].isalnum()
        and not text.endswith(".")
        and IN_NO_FILE_NAME.isdisjoint(text)
    )


def name_label(name: str) -> str | None:
    """The label for the name of a class folder: ours for a known name, or else the name itself in upper case.

    None for a name that cannot be a label.
    """
    return find_label(name) or own_label(name)


def own_label(name: str) -> str | None:
    """The name itself in upper case; None for a name that cannot be a label."""
    label = to_label(name)
    return label if is_label(label) else None


def sort_labels(labels: Iterable[str]) -> list[str]:
    """The labels in our order, and then those that are not ours in the order of the alphabet."""
    return sorted(labels, key=lambda label: (EIGHT.index(label) if label in EIGHT else len(EIGHT), label))


def label_sets(labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The label sets that a model of these labels knows; `own` has all labels of a model that is of no other set."""
    known: dict[str, tuple[str, ...]] = {
        name: members for name, members in LABEL_SETS.items() if set(members) <= set(labels)
    }
    is_own = all(set(members) != set(labels) for members in known.values())
    return known | ({OWN: tuple(labels)} if is_own else {})


def list_labels(labels: Sequence[str]) -> str:
    """The first ten labels, for a message, and how many more there are."""
    more = f" and {len(labels) - 10} more" if len(labels) > 10 else ""
    return ", ".join(labels[:10]) + more
