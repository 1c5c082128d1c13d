"""The folder of files through which prometheus_client adds up the metrics of all workers."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

PREFIX = "dexpression-metrics-"  # of the folder's name


@contextlib.contextmanager
def shared_metrics() -> Iterator[None]:
    """Make the folder, in shared memory if the system has it, and tell prometheus_client where it is."""
    memory = Path("/dev/shm")  # noqa: S108  # the name of the folder in it cannot be guessed
    has_memory = os.access(memory, os.W_OK)
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, dir=memory if has_memory else None) as folder,
        Path(folder, "lock").open("w") as lock,
    ):
        if has_memory:
            _lock(lock)
            _remove_leftovers(memory)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        yield


def name_process(name: str) -> None:
    """Let this process keep its metrics under a name; call it before any metric is made.

    A name that was used by a process before takes no more space, and its counters go on.
    """
    from prometheus_client import values

    values.ValueClass = values.MultiProcessValue(lambda: name)  # type: ignore[no-untyped-call]


def forget_process(name: str) -> None:
    """Drop the gauges of a process that died."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(name)  # type: ignore[no-untyped-call]


def _lock(file: IO[str]) -> None:
    """Lock a file until this process ends; raises OSError if another running process has locked it."""
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_leftovers(memory: Path) -> None:
    """Remove the folders of servers that were killed, because nothing else frees that memory."""
    for path in memory.glob(f"{PREFIX}*/lock"):
        with contextlib.suppress(OSError), path.open("w") as lock:
            _lock(lock)
            shutil.rmtree(path.parent)
