"""The minutes of a film: which there are, and what each says of its tracks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from PIL import Image

from dexpression.errors import UnreadableFilm
from dexpression.picture import Box
from dexpression.reading import FaceReading, Prediction
from dexpression.video.frames import Frame, TrackedFace
from dexpression.video.minutes import Minute, read_minutes

IMAGE = Image.new("RGB", (64, 48))


def frame(time: float, **happy: float) -> Frame:
    """A frame with one face for each track, such as t1=0.9: the probability of HAPPY."""
    return Frame(time, IMAGE, [tracked(int(name[1:]), share) for name, share in happy.items()])


def tracked(number: int, happy: float) -> TrackedFace:
    prediction = Prediction({"HAPPY": happy, "SAD": 1 - happy})
    reading = FaceReading(Box(0, 0, 9, 9), 0.9, prediction)
    return TrackedFace(number, reading, prediction.emotion, prediction.confidence)


def places(minutes: Sequence[Minute]) -> list[tuple[float, float]]:
    return [(minute.start, minute.seconds) for minute in minutes]


def test_a_minute_is_complete_when_a_later_one_has_a_frame():
    minutes = list(read_minutes(map(frame, (0.0, 59.9, 59.9999, 60.1, 75.25))))
    assert places(minutes) == [(0, 60), (60, 15.25)]
    assert (minutes[0].width, minutes[0].height, minutes[0].tracks) == (64, 48, [])


def test_a_minute_without_a_frame_is_left_out_however_many_there_are():
    assert places(list(read_minutes(map(frame, (0.0, 1e9))))) == [(0, 60), (999_999_960, 40)]


def test_a_track_has_its_times_shares_changes_and_the_mean_of_its_probabilities_in_the_minute():
    frames = [frame(58, t1=0.9), frame(59, t1=0.9), frame(60, t2=0.5, t1=0.9), frame(61, t1=0.6), frame(64, t1=0.3)]
    first, second = (minute.tracks for minute in read_minutes(frames))
    assert [(track["track"], track["first"], track["last"]) for track in first] == [(1, 58, 59)]
    track, other = second
    assert {name: track[name] for name in ("track", "first", "last", "result", "changes")} == {
        "track": 1, "first": 60, "last": 64, "result": "HAPPY", "changes": 1
    }  # fmt: skip
    assert track["shares"] == {"HAPPY": 1.0, "SAD": 0.0}
    assert track["probabilities"] == pytest.approx({"HAPPY": 0.6, "SAD": 0.4})
    assert (other["track"], other["shares"]) == (2, {"HAPPY": 1.0, "SAD": 0.0})


def test_an_error_follows_what_was_read_before_it():
    def cut_off() -> Iterator[Frame]:
        yield frame(0)
        yield frame(2)
        raise UnreadableFilm("cut off")

    minutes = read_minutes(cut_off())
    assert next(minutes).seconds == 2
    with pytest.raises(UnreadableFilm):
        next(minutes)
