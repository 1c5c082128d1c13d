"""The emotion labels, the names that data sets give them, and the readings of a model."""

from __future__ import annotations

from typing import Literal

LabelSet = Literal["five", "seven", "eight"]
ReadingName = Literal["people", "labels"]

# What a model was fitted to: the FER+ votes, which say what people see in a face, or the labels of a data set.
PEOPLE_READING: ReadingName = "people"
LABELS_READING: ReadingName = "labels"
READINGS = (PEOPLE_READING, LABELS_READING)  # the first that a model has is its default

FIVE = ("ANGRY", "DISGUST", "FEAR", "HAPPY", "NEUTRAL")  # of POST /
SEVEN = (*FIVE, "SAD", "SURPRISE")  # of FER2013
EIGHT = (*SEVEN, "CONTEMPT")  # of FER+ and CK+
LABEL_SETS: dict[LabelSet, tuple[str, ...]] = {"five": FIVE, "seven": SEVEN, "eight": EIGHT}

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


def find_label(name: str) -> str | None:
    """The label for a name such as `Angry` or `anger`, in upper or lower case; None for an unknown name."""
    upper = name.strip().upper()
    label = _SYNONYMS.get(upper, upper)
    return label if label in EIGHT else None
