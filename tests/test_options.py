"""Dataclass fields with a meaning and allowed values, of which settings and recipe consist."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import pytest

from dexpression.options import allowed_values, is_allowed, option, plain_meaning


@dataclass
class Example:
    count: int = option(4, "number of `faces`", between=(1, 10))
    size: int = option(4, "pixels a side", between=(8, math.inf))
    share: float = option(0.5, "share of faces", between=(0.0, 1.0))
    name: str = option("five", "labels", choices=("five", "seven"))
    text: str = option("", "any text")
    limit: int | None = option(None, "largest number of faces", between=(1, 10), parse=int)
    rate: float | None = option(None, "rate of learning", between=(0.0, 1.0), parse=float)
    quiet: bool = option(False, "print nothing")


FIELDS = {field.name: field for field in fields(Example)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", 1),
        ("count", 10),
        ("size", 10**9),
        ("share", 0.0),
        ("share", 1),
        ("name", "seven"),
        ("text", "x y"),
        ("limit", 10),
        ("limit", None),
        ("rate", None),
        ("rate", 1),
        ("quiet", True),
        ("quiet", False),
    ],
)
def test_values_in_the_range_or_among_the_choices_are_allowed(name, value):
    assert is_allowed(FIELDS[name], value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", 0),
        ("count", 11),
        ("count", 2.5),
        ("count", "2"),
        ("count", None),
        ("size", 7),
        ("share", -0.1),
        ("share", math.nan),
        ("share", math.inf),
        ("share", "0.5"),
        ("name", "nine"),
        ("name", 5),
        ("text", None),
        ("limit", 0),
        ("limit", 2.5),
        ("limit", True),
        ("rate", 1.5),
        ("rate", math.nan),
        ("quiet", None),
        ("quiet", 1),
        ("quiet", "yes"),
    ],
)
def test_other_values_nan_and_other_types_are_not_allowed(name, value):
    assert not is_allowed(FIELDS[name], value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("count", "1 to 10"),
        ("size", "8 or more"),
        ("share", "0.0 to 1.0"),
        ("name", "five or seven"),
        ("text", ""),
        ("limit", "1 to 10"),
        ("quiet", "False or True"),
    ],
)
def test_allowed_values_are_described_in_words(name, words):
    assert allowed_values(FIELDS[name]) == words


def test_the_plain_meaning_has_no_markdown():
    assert plain_meaning(FIELDS["count"]) == "number of faces"
