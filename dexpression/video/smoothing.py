"""Calm labels: what is shown for a track, so that a label does not flicker from frame to frame."""

from __future__ import annotations

import math
from collections.abc import Mapping

SMOOTHING_SECONDS = 0.5  # the time constant of the average
MIN_LEAD = 0.1  # probability by which another label leads before it takes the place of the shown one


class CalmLabel:
    """The label that is shown for one track: of probabilities that are averaged over time.

    The average forgets by seconds, not frames. The label changes only to one that leads by `MIN_LEAD`.
    """

    def __init__(self, seconds: float = SMOOTHING_SECONDS) -> None:
        self._seconds = seconds
        self._time = -math.inf
        self._average: dict[str, float] = {}
        self.label = ""

    @property
    def confidence(self) -> float:
        """The averaged probability of the label, 0..1."""
        return self._average[self.label]

    def update(self, time: float, probabilities: Mapping[str, float]) -> None:
        """Take in the probabilities of a frame, which is later than the one before."""
        share = 1 - math.exp((self._time - time) / self._seconds)  # 1 for the first frame
        self._time = time
        self._average = {
            label: share * new + (1 - share) * self._average.get(label, 0.0) for label, new in probabilities.items()
        }
        best = max(self._average, key=self._average.__getitem__)
        if self._average[best] >= self._average.get(self.label, -1.0) + MIN_LEAD:
            self.label = best
