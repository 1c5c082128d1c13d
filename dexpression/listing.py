"""Readings of many pictures as lines: for people, as CSV, as JSON Lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from dexpression.reading import Reading

Form = Literal["text", "csv", "json"]

COLUMNS = ("path", "face", "x", "y", "width", "height", "detection_confidence", "result", "confidence")


def header(form: Form, labels: Sequence[str]) -> list[str]:
    """What stands above all lines; nothing but for CSV."""
    return [_csv_line([*COLUMNS, *labels])] if form == "csv" else []


def list_reading(path: Path, reading: Reading, form: Form, labels: Sequence[str]) -> list[str]:
    """A line a face, or a line that says that there is none; for JSON, one line with all of `Reading.to_dict`."""
    if form == "json":
        return [json.dumps({"path": str(path)} | reading.to_dict())]
    faces = [face.to_dict() for face in reading.faces]
    if form == "text":
        return [f"{path}\t{face['result']}\t{face['confidence']:.2f}" for face in faces] or [f"{path}\tno face\t"]
    blank = [""] * (len(COLUMNS) - 1 + len(labels))
    rows = [_row(number, face, labels) for number, face in enumerate(faces, 1)]
    return [_csv_line([path, *row]) for row in rows or [blank]]


def _row(number: int, face: dict[str, Any], labels: Sequence[str]) -> list[Any]:
    box = face["box"]
    place = [box[side] for side in ("x", "y", "width", "height")]
    answer = [face[name] for name in ("detection_confidence", "result", "confidence")]
    return [number, *place, *answer, *(face["probabilities"][label] for label in labels)]


def _csv_line(values: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()
