"""Tracks: the same number for the same face from frame to frame.

Boxes are paired by their overlap, the largest first, with where each track is expected at a steady speed. Time counts
in seconds, not frames, so that any frame rate gives the same tracks. `docs/films.md` compares it with a library.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dexpression.faces import overlap
from dexpression.picture import Box

MIN_OVERLAP = 0.2  # intersection over union of a face and the place where its track is expected
# Until a track that is not seen ends. It covers a gap of half a second, and the frames around it at 10 a second.
MAX_GAP_SECONDS = 0.75
SPEED_SECONDS = 0.2  # the time constant over which the speed of a track is averaged


class Track:
    """The face of one person, as it was last seen."""

    def __init__(self, number: int, time: float, corners: np.ndarray) -> None:
        self.number, self.time, self._corners = number, time, corners
        self._speed = np.zeros(4)  # of the corners, in pixels a second; the size of a face counts as steady

    def expect(self, time: float) -> np.ndarray:
        """The corners (4,) at a time, if the face moves on as it did."""
        return self._corners + self._speed * (time - self.time)

    def follow(self, time: float, corners: np.ndarray) -> None:
        """Move to where the face is seen now."""
        seconds = time - self.time
        share = 1 - math.exp(-seconds / SPEED_SECONDS)
        moved = np.tile((corners - self._corners).reshape(2, 2).mean(axis=0), 2)  # of the centre
        self._speed += share * (moved / seconds - self._speed)
        self.time, self._corners = time, corners


class Tracker:
    """Gives each face of a frame the number of its track; numbers count from 1 and are never used again."""

    def __init__(self) -> None:
        self._tracks: list[Track] = []
        self._count = 0
        self._last_time = -math.inf

    @property
    def numbers(self) -> set[int]:
        """The tracks that are followed: in sight, or only just out of it."""
        return {track.number for track in self._tracks}

    def expect(self, time: float) -> list[Box]:
        """Where the faces of the last frame are expected in a frame of this time."""
        return [Box(*track.expect(time).tolist()) for track in self._tracks if track.time == self._last_time]

    def update(self, time: float, boxes: Sequence[Box]) -> list[int]:
        """The track of each box in the frame of this time, which is later than the one before."""
        # A track of the frame before may continue, however long ago that frame was.
        oldest = min(time - MAX_GAP_SECONDS, self._last_time)
        self._tracks = [track for track in self._tracks if track.time >= oldest]
        self._last_time = time
        corners = corners_of(boxes)
        pairs = self._pair(time, corners)
        return [self._follow(pairs.get(index), time, corners[index]) for index in range(len(boxes))]

    def _pair(self, time: float, corners: np.ndarray) -> dict[int, Track]:
        """The track of each box that overlaps with one: by index of the box, the best pairs first."""
        overlaps = [
            (share, index, track)
            for track in self._tracks
            for index, share in enumerate(overlap(track.expect(time), corners).tolist())
            if share >= MIN_OVERLAP
        ]
        pairs: dict[int, Track] = {}
        for _, index, track in sorted(overlaps, key=lambda pair: -pair[0]):
            if index not in pairs and track not in pairs.values():
                pairs[index] = track
        return pairs

    def _follow(self, track: Track | None, time: float, corners: np.ndarray) -> int:
        if track:
            track.follow(time, corners)
            return track.number
        self._count += 1
        self._tracks.append(Track(self._count, time, corners))
        return self._count


def corners_of(boxes: Sequence[Box]) -> np.ndarray:
    """The boxes as an array (N, 4): left, top, right and bottom of each."""
    return np.array([[box.left, box.top, box.right, box.bottom] for box in boxes], float).reshape(-1, 4)
