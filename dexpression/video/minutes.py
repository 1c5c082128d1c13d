"""The minutes of a film, each with a summary of the tracks that were seen in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from dexpression.errors import UnreadableFilm
from dexpression.video.frames import Frame, TrackedFace
from dexpression.video.summary import TrackSummary

MINUTE_SECONDS = 60.0


class Minute:
    """What was seen in a minute of a film.

    `start` is its time in seconds: 0, 60 and so on. `seconds` is how much of it the film has, until its last frame.
    """

    def __init__(self, frame: Frame) -> None:
        """Begin with the first frame of the minute."""
        self.start, self.seconds = start_of_minute(frame), 0.0
        self.width, self.height = frame.image.size
        self._tracks: dict[int, _TrackInMinute] = {}

    @property
    def tracks(self) -> list[dict[str, Any]]:
        """The tracks in the order of their numbers, for JSON."""
        return [track.to_dict() for _, track in sorted(self._tracks.items())]

    def add(self, frame: Frame) -> None:
        """Take in a frame."""
        self.seconds = round(frame.time - self.start, 3)
        for face in frame.faces:
            self._tracks.setdefault(face.track, _TrackInMinute(face.track, frame.time)).add_face(frame.time, face)


class _TrackInMinute(TrackSummary):
    """What was seen of one track, with the means of its probabilities."""

    def __init__(self, number: int, first: float) -> None:
        super().__init__(number, first)
        self._sums: Counter[str] = Counter()  # of the probabilities, by label
        self._frames = 0

    def add_face(self, time: float, face: TrackedFace) -> None:
        """Take in the face of a frame."""
        self.add(time, face.result)
        self._frames += 1
        self._sums.update(face.reading.prediction.probabilities)

    def to_dict(self) -> dict[str, Any]:
        """The summary for JSON, with the label of the largest share, and a share for each label."""
        result = {"result": next(iter(self.shares))}
        shares = {label: self.shares.get(label, 0.0) for label in self._sums}
        means = {label: total / self._frames for label, total in self._sums.items()}
        return super().to_dict() | result | {"shares": shares, "probabilities": means}


def read_minutes(frames: Iterable[Frame]) -> Iterator[Minute]:
    """The minutes of a film, each once it is complete. There is none for a minute without a frame.

    Raises what `frames` raises, after the minute before.
    """
    minute: Minute | None = None
    failure = None
    try:
        for frame in frames:
            if minute and start_of_minute(frame) > minute.start:
                minute.seconds = MINUTE_SECONDS
                yield minute
                minute = None
            minute = minute or Minute(frame)
            minute.add(frame)
    except UnreadableFilm as error:
        failure = error
    if minute:
        yield minute
    if failure:
        raise failure


def start_of_minute(frame: Frame) -> float:
    """The time of the minute that a frame lies in; its own time counts in milliseconds, as in `Frame.to_dict`."""
    return round(frame.time, 3) // MINUTE_SECONDS * MINUTE_SECONDS
