"""The folder of a run: what the run is of, and that one run writes there at a time."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from dexpression.errors import DataError
from dexpression.files import PARTIAL, is_leftover, make_output_folder, replace_file

MANIFEST = "_manifest"  # a reader of a table of several files leaves out names that begin with _
WORDS = {
    "source": "the source",
    "model": "the model",
    "onnx": "the ONNX model",
    "reading": "--reading",
    "detect": "--detect",
}


@contextlib.contextmanager
def claim_output(folder: Path, facts: Mapping[str, str]) -> Iterator[Path]:
    """Make the folder of a run, or take up that of an earlier one of the same facts; gives the folder of its manifest.

    Raises DataError if the folder has anything else, or is written by another process now.
    """
    own = folder / MANIFEST
    make_output_folder(folder)
    if not own.is_dir() and not all(is_leftover(Path(path.name)) for path in folder.iterdir()):
        raise DataError(f"{folder} has other files. Give a new or an empty folder.")
    make_output_folder(own)
    with (own / "lock").open("a") as lock:
        _lock(lock, folder)
        for partial in folder.rglob(f"{PARTIAL}*"):  # of a run that was killed
            partial.unlink(missing_ok=True)
        _compare(folder, own / "job.json", facts)
        yield own


def write_output(path: Path, content: bytes) -> None:
    """Write a file aside and rename it, so that its name stands for the whole; raises DataError."""
    try:
        replace_file(path, content, durable=True)
    except OSError as error:
        reason = f"{path} cannot be written ({error.strerror})"
        raise DataError(f"{reason}. Make room, and run the command again.") from error


def _lock(file: IO[str], folder: Path) -> None:
    """Lock a file until it is closed, where the system can."""
    try:
        import fcntl
    except ImportError:  # on Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise DataError(f"Another process labels into {folder}. Wait for it, or give another folder.") from error


def _compare(folder: Path, record: Path, facts: Mapping[str, str]) -> None:
    """Raise DataError if the folder was begun with other facts; otherwise, write them down."""
    if not record.exists():
        write_output(record, json.dumps(facts, indent=1).encode())
    try:
        begun = json.loads(record.read_bytes())
        changed = [name for name in WORDS if begun[name] != facts[name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{record} is damaged. Label into another folder.") from error
    for name in changed:
        raise DataError(
            f"{folder} was begun with {WORDS[name]} {begun[name]}, not {facts[name]}. "
            "Give the same as then, or another folder."
        )
