"""The table of a run: a folder of Parquet files, one for each block that is labelled. Each file is a checkpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import compute, dataset, parquet

from dexpression.cluster.manifest import Block
from dexpression.cluster.output import write_output
from dexpression.cluster.rows import LEFTOVER, OTHER_KIND, Job, Row
from dexpression.errors import DataError
from dexpression.landmarks import Landmarks

MAX_GROUP = 10_000  # rows and tracks of them, which are in memory at once; 500 pictures are one group


class Summary(NamedTuple):
    """What a table has."""

    files: int
    faces: int  # of pictures
    minutes: int  # of films
    errors: Counter[str]  # by code; without what is passed over
    others: Counter[str]  # files of other kinds, by what they are

    def __str__(self) -> str:
        codes = ", ".join(f"{code} ({count})" for code, count in self.errors.most_common())
        minutes = f"minutes of film {self.minutes}, " if self.minutes else ""
        return f"files {self.files}, faces {self.faces}, {minutes}errors {self.errors.total()}{codes and f': {codes}'}."


class Table:
    """The files of the table in a folder."""

    def __init__(self, folder: Path, job: Job) -> None:
        self._folder, self._job = folder, job
        self._schema = make_schema(job.model.manifest.labels)

    def write(self, block: Block, rows: Iterable[Row]) -> None:
        """Write the rows of a block while they are made; raises DataError. The file has its name when it is complete.

        The rows of long films are many, and are in memory as the compressed columns alone.
        """
        constants = {"model": self._job.model.manifest.sha256, "reading": self._job.reading}
        sink = pa.BufferOutputStream()
        with parquet.ParquetWriter(sink, self._schema, compression="zstd") as writer:
            for group in _groups(rows):
                records = [row._asdict() | {"error": row.error and row.error._asdict()} | constants for row in group]
                writer.write_table(pa.Table.from_pylist(records, self._schema))
        write_output(self._folder / block.name, sink.getvalue())

    def missing(self, blocks: Sequence[Block]) -> list[Block]:
        """Those of the blocks that are not labelled yet."""
        written = {path.name for path in self._folder.glob("part-*.parquet")}
        return [block for block in blocks if block.name not in written]

    def summarise(self, blocks: Sequence[Block]) -> Summary:
        """Count what the table has of blocks that are labelled, file by file; raises DataError."""
        summary = Summary(sum(block.files for block in blocks), 0, 0, Counter(), Counter())
        for batch in self._batches(blocks):
            codes, kinds = batch["code"].to_pylist(), batch["kind"].to_pylist()
            summary.errors.update(code for code in codes if code not in (None, OTHER_KIND, LEFTOVER))
            summary.others.update(kind for code, kind in zip(codes, kinds, strict=True) if code == OTHER_KIND)
            faces = summary.faces + (compute.sum(batch["faces"]).as_py() or 0)
            minutes = summary.minutes + batch["start"].is_valid().sum().as_py()
            summary = summary._replace(faces=faces, minutes=minutes)
        return summary

    def _batches(self, blocks: Sequence[Block]) -> Iterator[pa.RecordBatch]:
        columns = {
            "code": dataset.field("error", "code"),
            "kind": dataset.field("kind"),
            "faces": compute.list_value_length(dataset.field("faces")),
            "start": dataset.field("start"),
        }
        files = [str(self._folder / block.name) for block in blocks]
        try:
            yield from dataset.dataset(files, self._schema, format="parquet").to_batches(columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"The table is damaged ({error}). Delete that file, and run the command again.") from error


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows in lists; a crowd has many tracks in a minute."""
    group: list[Row] = []
    size = 0
    for row in rows:
        group.append(row)
        size += 1 + len(row.tracks or ())
        if size >= MAX_GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def make_schema(labels: Sequence[str]) -> pa.Schema:
    """The columns of the table for a model of these labels."""
    side = [(name, pa.int32()) for name in ("x", "y", "width", "height")]
    of_labels = pa.struct([(label, pa.float32()) for label in labels])
    point = pa.struct([("x", pa.float32()), ("y", pa.float32())])
    face = [
        ("box", pa.struct(side)),
        ("detection_confidence", pa.float32()),
        ("landmarks", pa.struct([(name, point) for name in Landmarks._fields])),
        ("roll", pa.float32()),
        ("result", pa.string()),
        ("confidence", pa.float32()),
        ("probabilities", of_labels),
    ]
    track = [
        ("track", pa.int32()),
        ("first", pa.float64()),
        ("last", pa.float64()),
        ("result", pa.string()),
        ("shares", of_labels),
        ("changes", pa.int32()),
        ("probabilities", of_labels),
    ]
    return pa.schema(
        [
            ("path", pa.string()),
            ("kind", pa.string()),
            ("start", pa.float64()),
            ("seconds", pa.float64()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("faces", pa.list_(pa.struct(face))),
            ("tracks", pa.list_(pa.struct(track))),
            ("error", pa.struct([("code", pa.string()), ("message", pa.string())])),
            ("model", pa.string()),
            ("reading", pa.string()),
        ]
    )
