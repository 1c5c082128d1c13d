"""The manifest of a run: the files of the source, listed once. A row group of it is a block, the unit of work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import parquet

from dexpression.cluster.output import write_output
from dexpression.cluster.source import Entry
from dexpression.errors import DataError

# A block is what a death costs, and a file of the table. Few files make small blocks, so that all workers take part.
MAX_BLOCK_FILES, MIN_BLOCK_FILES, BLOCKS = 500, 10, 100
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
        parquet.write_table(pa.table(dict(columns), SCHEMA), sink, row_group_size=size, compression="zstd")
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


def _open(path: Path) -> parquet.ParquetFile:
    try:
        return parquet.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} is damaged ({error}). Label into another folder.") from error
