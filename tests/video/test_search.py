"""Faces of a film are searched near where they were, and in the whole frame now and then."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from dexpression.faces import FaceDetector, FoundFace
from dexpression.picture import Box
from dexpression.video.search import MAX_PLACES, WHOLE_SECONDS, FilmSearch
from dexpression.video.tracking import Tracker
from tests.support.films import draw_frame, portrait

SIZE = (640, 480)
STEP = 0.1  # seconds from frame to frame


@pytest.fixture
def wholes(detector: FaceDetector, monkeypatch: pytest.MonkeyPatch) -> list[Image.Image]:
    """The frames that were searched as a whole."""
    frames: list[Image.Image] = []
    search = detector.find_faces

    def counted(frame: Image.Image) -> list[FoundFace]:
        frames.append(frame)
        return search(frame)

    monkeypatch.setattr(detector, "find_faces", counted)
    return frames


@pytest.fixture
def detector() -> FaceDetector:
    return FaceDetector.load(threads=1)


def frame(*places: tuple[float, float]) -> Image.Image:
    return draw_frame(*places, size=SIZE, face=portrait(140))


def numbers(search: FilmSearch, frames: Sequence[Image.Image]) -> list[list[int]]:
    return [[number for number, _ in search.find(STEP * index, frame)] for index, frame in enumerate(frames)]


def test_a_whole_frame_is_searched_twice_a_second(detector, wholes):
    frames = [frame((100 + 3 * index, 50), (380, 220)) for index in range(11)]
    assert [sorted(row) for row in numbers(FilmSearch(detector), frames)] == [[1, 2]] * 11
    assert [frames.index(whole) for whole in wholes] == [0, 5, 10]


@pytest.mark.parametrize("places", [[(100, 50)], [(100, 50), (250, 60), (400, 200)]])
def test_the_boxes_are_those_of_the_whole_frame(detector, places):
    frames = [frame(*((x + 4 * index, y) for x, y in places)) for index in range(5)]
    search, tracker = FilmSearch(detector), Tracker()
    for index, image in enumerate(frames):
        near, whole = search.find(STEP * index, image), detector.find_faces(image)
        assert sorted(number for number, _ in near) == sorted(tracker.update(STEP * index, [one.box for one in whole]))
        assert np.allclose(corners(face for _, face in near), corners(whole), atol=8)


def corners(faces) -> np.ndarray:
    return np.array(sorted((face.box.left, face.box.top, face.box.right, face.box.bottom) for face in faces))


def test_a_face_that_comes_is_seen_within_half_a_second(detector):
    frames = [frame((100, 50)), *[frame((100, 50), (380, 220))] * 6]
    seen = [len(found) for found in numbers(FilmSearch(detector), frames)]
    assert seen[0] == 1
    assert seen[round(WHOLE_SECONDS / STEP)] == 2


@pytest.mark.parametrize(
    "after",
    [lambda: frame((420, 250)), lambda: frame((100, 50), (420, 250)), lambda: frame()],
    ids=["jump", "", "none"],
)
def test_a_frame_in_which_a_face_is_not_where_it_was_is_searched_as_a_whole(detector, wholes, after):
    search = FilmSearch(detector)
    search.find(0.0, frame((100, 50), (380, 50)))
    assert len(search.find(0.1, last := after())) == len(detector.find_faces(last))
    assert wholes[1] is last


def test_more_faces_than_pay_are_searched_in_the_whole_frame(detector, wholes):
    crowd = frame(*((130 * column, 160 * row) for row in range(2) for column in range(MAX_PLACES)))
    search = FilmSearch(detector)
    assert len(search.find(0.0, crowd)) > MAX_PLACES
    search.find(0.1, crowd)
    assert len(wholes) == 2


def test_only_the_largest_faces_are_followed(detector, wholes):
    frames = [frame((100, 50), (380, 220))] * 3
    assert [len(found) for found in numbers(FilmSearch(detector, max_faces=1), frames)] == [1, 1, 1]
    assert len(wholes) == 1


@pytest.mark.parametrize("left", [-60, 0, 600, 700])
def test_a_place_at_the_edge_or_outside_of_the_frame_is_searched_as_far_as_it_lies_inside(detector, left):
    assert detector.find_near(frame(), [Box(left, 440, left + 60, 500), Box(5, 5, 5.1, 5.1)]) == []
