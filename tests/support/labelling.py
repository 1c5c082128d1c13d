"""What runs in the process of a `Worker` in tests, instead of reading pictures. It imports nothing slow."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from pathlib import Path


def act_by_name(pipe: Connection) -> None:
    """Send each name back; `die` ends the process, `die once` does so the first time, and `hang` takes for ever.

    A name that begins with `film` gives three rows, and the process may end after two.

    The job is a folder in which to note that a process has died.
    """
    folder: Path = pipe.recv()
    pipe.send("ready")
    while True:
        for name in (entry.path for entry in pipe.recv()):
            seen = folder / name
            if name.startswith("film"):
                for message in ("alive", "minute 1", "alive", "minute 2"):
                    pipe.send(message)
                name = name.removeprefix("film: ")
            if name == "die" or (name == "die once" and not seen.exists()):
                seen.touch()
                os._exit(9)
            if name == "hang":
                time.sleep(600)
            pipe.send(name)
            pipe.send("done")


def never_ready(pipe: Connection) -> None:
    """End at once, as for want of memory."""
