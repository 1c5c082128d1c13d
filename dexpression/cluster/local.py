"""Labelling on this machine: processes, each with a thread that hands it blocks and writes their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import groupby
from operator import attrgetter
from threading import Lock

from dexpression.cluster.manifest import Block
from dexpression.cluster.rows import Job, Row
from dexpression.cluster.table import Table
from dexpression.cluster.worker import Worker


def label_locally(job: Job, blocks: Sequence[Block], table: Table, workers: int, advance: Callable[[], object]) -> None:
    """Label blocks into a table with so many processes, and call `advance` after each file, whatever rows it has.

    Whatever ends this early, the blocks that are complete are in the table. Raises DataError and StartError.
    """
    waiting, lock = iter(blocks), Lock()
    crew = [Worker(job) for _ in range(min(workers, len(blocks)))]

    def counted(rows: Iterator[Row]) -> Iterator[Row]:
        for _, rows_of_file in groupby(rows, attrgetter("path")):
            yield from rows_of_file
            with lock:
                advance()

    def work(worker: Worker) -> None:
        while block := next(waiting, None):
            table.write(block, counted(worker.label(block.read())))

    with ThreadPoolExecutor(len(crew) or 1) as pool:
        try:
            for done in as_completed([pool.submit(work, worker) for worker in crew]):
                done.result()
        finally:
            for worker in crew:
                worker.stop()
