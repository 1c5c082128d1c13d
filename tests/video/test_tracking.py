"""Track numbers: the same for the same face, by where it is and how it moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dexpression.picture import Box
from dexpression.video.tracking import Tracker

Place = Callable[[float], float]  # the left edge of a face at a time


def box(left: float, size: float = 60) -> Box:
    return Box(left, 50, left + size, 50 + 1.2 * size)


def follow(
    *places: Place, seconds: float = 4, every: float = 0.1, hidden: Callable[[float], int | None] = lambda _: None
):
    """The numbers of the faces, in a set for each of them; `hidden` says which of them is not seen at a time."""
    tracker, numbers = Tracker(), [set() for _ in places]
    for moment in (every * count for count in range(round(seconds / every))):
        seen = [index for index in range(len(places)) if index != hidden(moment)]
        found = tracker.update(moment, [box(places[index](moment)) for index in seen])
        for index, number in zip(seen, found, strict=True):
            numbers[index].add(number)
    return numbers


def right(time: float) -> float:
    return 100 * time


def left(time: float) -> float:
    return 310 - 100 * time


@pytest.mark.parametrize("every", [0.02, 0.04, 0.1, 0.2])
@pytest.mark.parametrize("behind", [0, 1])
def test_faces_that_cross_keep_their_numbers_at_any_frame_rate(every, behind):
    def hidden(moment: float) -> int | None:
        return behind if abs(right(moment) - left(moment)) < 40 else None

    assert follow(right, left, every=every, hidden=hidden) == [{1}, {2}]


@pytest.mark.parametrize("place", [right, lambda _: 100.0])
def test_a_number_survives_a_gap_of_nearly_half_a_second(place):
    assert follow(place, hidden=lambda moment: 0 if 1 < moment < 1.49 else None) == [{1}]


def test_a_face_that_leaves_and_returns_gets_a_new_number():
    assert follow(lambda _: 100.0, hidden=lambda moment: 0 if 1 < moment < 2.5 else None) == [{1, 2}]


def test_a_fast_face_keeps_its_number():
    assert follow(lambda time: 400 * time) == [{1}]


def test_a_number_lasts_from_frame_to_frame_however_far_apart_these_are():
    assert follow(lambda _: 100.0, left, seconds=40, every=10)[0] == {1}


def test_a_frame_without_faces_has_no_numbers_and_numbers_are_never_used_again():
    tracker = Tracker()
    assert tracker.update(0, []) == []
    assert tracker.update(1, [box(0), box(300)]) == [1, 2]
    assert tracker.update(2, []) == []
    assert tracker.update(5, [box(0)]) == [3]
    assert tracker.numbers == {3}


def test_the_better_of_two_boxes_follows_a_track():
    tracker = Tracker()
    tracker.update(0, [box(0)])
    assert tracker.update(0.1, [box(20), box(2)]) == [2, 1]
