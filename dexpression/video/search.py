"""The search for faces in a film: near where those of the last frame are expected, and everywhere now and then.

Searching a place takes a third of the time of the quick search of a whole frame, and a tenth of the thorough one, which
small faces need (benchmarks/films.py).
"""

from __future__ import annotations

import math

from PIL import Image

from dexpression.faces import FaceDetector, FoundFace, overlap
from dexpression.video.tracking import MIN_OVERLAP, Tracker, corners_of

WHOLE_SECONDS = 0.5  # from one search of a whole frame to the next: so late may a new face be seen
MAX_PLACES = 2  # more take over half as long as the two searches of a whole frame with small faces


class FilmSearch:
    """Finds the faces of frame after frame, each with the number of its track."""

    def __init__(self, detector: FaceDetector, max_faces: int | None = None) -> None:
        """Of each frame, the `max_faces` largest are followed."""
        self.tracker = Tracker()
        self._detector, self._max_faces = detector, max_faces
        self._last_whole = -math.inf

    def find(self, time: float, frame: Image.Image) -> list[tuple[int, FoundFace]]:
        """The faces in the frame of this time, which is later than the one before, largest first."""
        found = self._find_again(time, frame)
        if found is None:
            self._last_whole = time
            found = self._detector.find_faces(frame)
        shown = found[: self._max_faces]
        return list(zip(self.tracker.update(time, [face.box for face in shown]), shown, strict=True))

    def _find_again(self, time: float, frame: Image.Image) -> list[FoundFace] | None:
        """The faces of the last frame, or None if not all are found near where they are expected, or others may be."""
        places = self.tracker.expect(time)
        if not 0 < len(places) <= MAX_PLACES or time - self._last_whole >= WHOLE_SECONDS:
            return None
        found = self._detector.find_near(frame, places)
        boxes = corners_of([face.box for face in found])
        is_found = [overlap(place, boxes).max(initial=0) >= MIN_OVERLAP for place in corners_of(places)]
        return found if all(is_found) and len(found) >= len(places) else None
