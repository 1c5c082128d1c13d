"""The five points that the detector finds in a face, and the roll of the head, which follows from the eyes.

YuNet sees turned faces too upright, in OpenCV as well: the roll of a face that is turned by 30 degrees is about 10 to
30 if the face has 200 pixels in the detector's search, and 3 to 10 if it has 100.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from dexpression.picture import Point


class Landmarks(NamedTuple):
    """Five points of a face, in pixels of the upright picture; of a face at its edge, some may lie outside.

    Right and left are the person's own: the right eye of a face that looks at the camera is left in the picture.
    """

    right_eye: Point
    left_eye: Point
    nose: Point  # the tip
    mouth_right: Point  # the corners
    mouth_left: Point

    @property
    def roll(self) -> float:
        """How far the face is turned in the picture, in degrees, -180..180: 0 with level eyes, positive clockwise."""
        return math.degrees(math.atan2(self.left_eye.y - self.right_eye.y, self.left_eye.x - self.right_eye.x))

    def move(self, to: Callable[[Point], Point]) -> Landmarks:
        """The landmarks with each point where `to` moves it."""
        return Landmarks(*map(to, self))

    def to_dict(self) -> dict[str, dict[str, float]]:
        """The points for JSON, each with x and y."""
        return {name: {"x": round(x, 1), "y": round(y, 1)} for name, (x, y) in self._asdict().items()}
