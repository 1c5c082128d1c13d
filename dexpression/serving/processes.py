"""What the server's processes run. Each imports what it needs itself, so that none carries another's libraries."""

from __future__ import annotations

import os
import signal
import socket
import warnings
from collections.abc import MutableSequence
from multiprocessing.connection import Connection
from pathlib import Path

from dexpression.artifact.manifest import Model
from dexpression.settings import Settings


def check(learner_path: Path, nice: int) -> Model:
    """`verify_export`; `nice` leaves the processor to others, where the system knows of that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the one that started them decides
    if nice and hasattr(os, "nice"):
        os.nice(nice)
    warnings.simplefilter("ignore")  # of what fastai imports
    from dexpression.artifact.verification import verify_export

    return verify_export(learner_path)


def answer(
    listener: socket.socket, orders: Connection, settings: Settings, loads: MutableSequence[int], number: int
) -> None:
    """See `dexpression.serving.worker.work`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from dexpression.serving.worker import work

    work(listener, orders, settings, loads, number)
