"""The summary of each track: when it was seen, the share of that time for each label, and how often that changed."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dexpression.batch import Format
from dexpression.files import printable
from dexpression.video.frames import Frame

logger = logging.getLogger(__name__)


class TrackSummary:
    """What was seen of one track, by its calm labels."""

    def __init__(self, number: int, first: float) -> None:
        self.number, self.first, self.last = number, first, first
        self.changes = 0
        self._label = ""
        self._seconds: Counter[str] = Counter()  # by label; each lasts until the next frame of the track

    def add(self, time: float, label: str) -> None:
        """Take in the label of a frame."""
        if self._label:
            self._seconds[self._label] += time - self.last  # type: ignore[assignment] # seconds, not counts
            self.changes += label != self._label
        self._label, self.last = label, time

    @property
    def shares(self) -> dict[str, float]:
        """The share of the time of each label, 0..1, the largest first."""
        total = self.last - self.first
        if not total:
            return {self._label: 1.0}
        return {label: seconds / total for label, seconds in self._seconds.most_common()}

    def to_dict(self) -> dict[str, Any]:
        """The summary for JSON; times in seconds."""
        shares = {label: round(share, 6) for label, share in self.shares.items()}
        times = {"first": round(self.first, 3), "last": round(self.last, 3)}
        return {"track": self.number} | times | {"shares": shares, "changes": self.changes}

    def __str__(self) -> str:
        labels = ", ".join(f"{label.lower()} {share:.0%}" for label, share in self.shares.items())
        changes = f"{self.changes} change{'' if self.changes == 1 else 's'}"
        return f"track {self.number}, {self.first:.2f} to {self.last:.2f} s: {labels}; {changes}"


class Summaries:
    """The summaries of the tracks of one film: the last line of JSON on standard output, or lines of the log."""

    def __init__(self, path: Path, output_format: Format) -> None:
        self._path, self._format = path, output_format
        self._tracks: dict[int, TrackSummary] = {}

    def add(self, frame: Frame) -> None:
        """Add each face of a frame to its track."""
        for face in frame.faces:
            self._tracks.setdefault(face.track, TrackSummary(face.track, frame.time)).add(frame.time, face.result)

    def close(self) -> None:
        """Write the summaries."""
        tracks = list(self._tracks.values())
        if self._format == "json":
            tqdm.write(json.dumps({"path": str(self._path), "tracks": [track.to_dict() for track in tracks]}))
            return
        for text in map(str, tracks) if tracks else ["no face was found"]:
            logger.info("%s", printable(f"{self._path}: {text}."))
