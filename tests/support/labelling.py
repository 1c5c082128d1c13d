"""What runs in the process of a `Worker` or of Ray in tests, instead of reading pictures. It imports nothing slow."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray import ObjectRef

    from dexpression.cluster.rows import Job, Row
    from dexpression.cluster.source import Entry


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


def hang_on_other_nodes(job: Sequence[ObjectRef[Job]], entries: Sequence[Entry], version: str) -> list[Row]:
    """`label_block`, but on other nodes than the head of the cluster, it notes that it was called and hangs."""
    import ray

    from dexpression.cluster.on_ray import label_block

    [node] = [node for node in ray.nodes() if node["NodeID"] == ray.get_runtime_context().get_node_id()]
    if "node:__internal_head__" not in node["Resources"]:
        Path(ray.get(job[0]).source.name).with_name("hung").touch()
        time.sleep(600)
    return label_block(job, entries, version)
