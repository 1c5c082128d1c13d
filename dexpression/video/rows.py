"""The frames of a film as text, CSV or JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from dexpression.batch import COLUMNS, Format, csv_line, face_values
from dexpression.files import printable
from dexpression.video.frames import Frame

PATH, _, *OF_A_FACE = COLUMNS


class Rows:
    """Prints the rows of a film to standard output, above a progress bar."""

    def __init__(self, path: Path, output_format: Format, labels: Sequence[str]) -> None:
        self._path, self._format, self._labels = path, output_format, labels

    def add(self, frame: Frame) -> None:
        """Print the rows of a frame."""
        for line in format_frame(self._path, frame, self._format, self._labels):
            tqdm.write(line)

    def close(self) -> None:
        """Do nothing: all rows are printed."""


def header(output_format: Format, labels: Sequence[str]) -> list[str]:
    """The line above all rows: the column names for CSV, none for other formats."""
    return [csv_line([PATH, "time", "track", *OF_A_FACE, *labels])] if output_format == "csv" else []


def format_frame(path: Path, frame: Frame, output_format: Format, labels: Sequence[str]) -> list[str]:
    """Format a frame as one line per face, none without a face; as JSON, one line with `Frame.to_dict`."""
    known = frame.to_dict()
    if output_format == "json":
        return [json.dumps({"path": str(path)} | known, allow_nan=False)]
    shown, time = printable(path), known["time"]
    if output_format == "csv":
        return [csv_line([shown, time, *face_values(face["track"], face, labels)]) for face in known["faces"]]
    return [
        f"{shown}\t{time:.3f}\t{face['track']}\t{face['result']}\t{face['confidence']:.2f}" for face in known["faces"]
    ]
