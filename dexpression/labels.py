"""The emotions we know, and the names that data sets give them."""

from __future__ import annotations

from typing import Literal

LabelSet = Literal["five", "seven", "eight"]

FIVE = ("ANGRY", "DISGUST", "FEAR", "HAPPY", "NEUTRAL")  # what POST / answers
SEVEN = (*FIVE, "SAD", "SURPRISE")  # all of FER2013
EIGHT = (*SEVEN, "CONTEMPT")  # of FER+ and CK+
LABEL_SETS: dict[LabelSet, tuple[str, ...]] = {"five": FIVE, "seven": SEVEN, "eight": EIGHT}

FER2013_ORDER = ("ANGRY", "DISGUST", "FEAR", "HAPPY", "SAD", "SURPRISE", "NEUTRAL")  # the number in `emotion`, from 0

_SYNONYMS = {
    "ANGER": "ANGRY",
    "DISGUSTED": "DISGUST",
    "FEARFUL": "FEAR",
    "HAPPINESS": "HAPPY",
    "SADNESS": "SAD",
    "SURPRISED": "SURPRISE",
}


def find_label(name: str) -> str | None:
    """The label that `name` stands for, in any case (`Angry`, `anger`); None when nobody knows it."""
    upper = name.strip().upper()
    label = _SYNONYMS.get(upper, upper)
    return label if label in EIGHT else None
