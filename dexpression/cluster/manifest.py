"""The manifest of a run: the files of the source, listed once. A row group of it is a block, the unit of work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import parquet

from dexpression.cluster.output import write_output
from dexpression.cluster.source import Entry
from dexpression.errors import DataError

# A block is what a death costs, and a file of the table. Few files make small blocks, so that all workers take part.
MAX_BLOCK_FILES, MIN_BLOCK_FILES, BLOCKS = 500, 10, 100
MAX_BLOCK_BYTES = 1_000_000_000  # unless one file has more; a gigabyte of film may take half an hour
SCHEMA = pa.schema(
    [("path", pa.string()), ("size", pa.int64()), ("time", pa.timestamp("us", "UTC")), ("left_out", pa.string())]
)


class Block(NamedTuple):
    """Some files of the manifest, whose rows are one file of the table."""

    listing: Path  # a file of the manifest
    group: int  # of its row groups
    files: int

    @property
    def name(self) -> str:
        """The name of the file in the table: the same whenever, and by whomever, it is written."""
        return f"part-{self.listing.stem}-{self.group:06}.parquet"

    def read(self) -> list[Entry]:
        """The files of the block, in order; raises DataError."""
        with _open(self.listing) as listing:
            rows = listing.read_row_group(self.group, SCHEMA.names)
            return [Entry(**row) for row in rows.to_pylist()]


class Manifest:
    """The files of a folder that list the source: one for the start, and one for each time new files were added."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, entries: Sequence[Entry]) -> None:
        """List more files; the list is written in one piece, or not at all. Raises DataError."""
        size = min(MAX_BLOCK_FILES, max(MIN_BLOCK_FILES, -(-len(entries) // BLOCKS)))
        sink = pa.BufferOutputStream()
        columns = zip(SCHEMA.names, zip(*entries, strict=True), strict=True)
        table = pa.table(dict(columns), SCHEMA)
        with parquet.ParquetWriter(sink, SCHEMA, compression="zstd") as writer:
            for start, end in pairwise(_cut(entries, size)):
                writer.write_table(table.slice(start, end - start))
        write_output(self._folder / f"{len(self._listings()):05}.parquet", sink.getvalue())

    def blocks(self) -> list[Block]:
        """All blocks, in order; an empty list before the source is listed. Raises DataError."""
        found: list[Block] = []
        for path in self._listings():
            with _open(path) as listing:
                facts = listing.metadata
                found += [Block(path, group, facts.row_group(group).num_rows) for group in range(facts.num_row_groups)]
        return found

    def entries(self) -> list[Entry]:
        """All files; raises DataError."""
        return [entry for block in self.blocks() for entry in block.read()]

    def _listings(self) -> list[Path]:
        return sorted(self._folder.glob("*.parquet"))


def _cut(entries: Sequence[Entry], most: int) -> Iterator[int]:
    """Where blocks begin that have `most` files at most, and where the last one ends."""
    count = size = 0
    for position, entry in enumerate(entries):
        count, size = count + 1, size + (entry.size or 0)
        if position == 0 or count > most or size > MAX_BLOCK_BYTES:
            yield position
            count, size = 1, entry.size or 0
    yield len(entries)


def _open(path: Path) -> parquet.ParquetFile:
    try:
        return parquet.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} is damaged ({error}). Label into another folder.") from error
