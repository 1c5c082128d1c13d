"""A folder of pictures and other files, and labelling without other processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dexpression import Predictor
from tests.support.faces import draw_face, encode

FACE = encode(draw_face("HAPPY", 0))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with 25 faces, which are three blocks."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for number in range(25):
        (folder / "below" / f"{number:02}.png").write_bytes(encode(draw_face("HAPPY", number)))
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "table"


@pytest.fixture
def in_process(shipped: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Label in this process, because a test need not wait for another one to start."""
    from dexpression.cluster import local
    from dexpression.cluster.rows import Job, Row, label_file
    from dexpression.cluster.source import Entry

    class InProcess:
        def __init__(self, job: Job) -> None:
            self.job = job

        def label(self, entries: Sequence[Entry]) -> Iterator[Row]:
            return (row for entry in entries for row in label_file(entry, self.job, shipped))

        def stop(self) -> None:
            pass

    monkeypatch.setattr(local, "Worker", InProcess)
