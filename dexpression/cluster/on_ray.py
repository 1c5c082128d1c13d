"""Labelling by Ray, on one machine or several: a task for each block, whose rows this process writes into the table.

Not by Ray Data, although it has checkpoints: it writes none before a block of its own is full, and reads them by an
actor that takes a processor, for which nodes of one processor waited for ever. Here, a block is a checkpoint as soon as
its file is in the table, as on one machine.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import secrets
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dexpression import __version__
from dexpression.cluster.manifest import Block
from dexpression.cluster.rows import Job, Row
from dexpression.cluster.source import Entry
from dexpression.cluster.table import Table
from dexpression.cluster.worker import Worker
from dexpression.errors import DeXpressionError, StartError
from dexpression.serving.capacity import choose_workers
from dexpression.settings import Settings

# Functions import Ray, because it reads the variables that `start_cluster` sets when it is imported.
if TYPE_CHECKING:
    from ray import ObjectRef

CONNECT_SECONDS = 10.0  # until a cluster has accepted a connection
MAX_DEATHS = 10  # of nodes or processes with one block; with more, something is wrong with the nodes
POLL_SECONDS = 5.0  # between two looks at the nodes, while no block is complete
STORE_BYTES = 200_000_000  # of the memory through which processes of Ray hand over rows; a block has about 200 kB
SHORT_FOLDER = "/tmp" if os.name == "posix" else None  # noqa: S108 - tempfile makes a private folder in it
PACKAGE_ROOT = Path(__file__).parents[2]


def label_on_ray(
    job: Job,
    blocks: Sequence[Block],
    table: Table,
    workers: int | None,
    advance: Callable[[int], object],
    address: str | None = None,
) -> None:
    """Label blocks into a table by tasks of Ray, and call `advance` with the files of each block that is complete.

    The tasks run on the cluster at `address`, HOST:PORT, or on this machine, where Ray is started for them. At most
    `workers` run at a time; by default, as many as there are processors. Whatever ends this early, the blocks that are
    complete are in the table. Raises DataError and StartError.
    """
    with join_cluster(address) if address else start_cluster(workers or choose_workers(Settings()).count):
        _run_tasks(job, blocks, table, workers, advance)


@contextlib.contextmanager
def join_cluster(address: str) -> Iterator[None]:
    """Join the running cluster at HOST:PORT until the context ends; raises StartError."""
    failure = f"The Ray cluster at {address} cannot be joined"
    remedy = (
        "Give the address that `ray start --head` prints, run `ray start --address` on this machine, too, "
        "and set RAY_AUTH_MODE=token if the cluster asks for a token."
    )
    try:
        socket.create_connection(_split_address(address), CONNECT_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:  # the latter for ports and names that there cannot be
        raise StartError(f"{failure} ({getattr(error, 'strerror', None) or error}). {remedy}") from error
    os.environ["RAY_gcs_server_port_wait_time_s"] = "1"  # noqa: SIM112 - try once, for 40 s, and not twenty times
    with _connected(failure, remedy, address=address):
        yield


@contextlib.contextmanager
def start_cluster(processors: int) -> Iterator[None]:
    """Start Ray on this machine until the context ends; raises StartError.

    It listens on the loopback interface alone, and asks for a token that only its own processes know.
    """
    os.environ |= {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listen on loopback, as Ray does on those systems
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),  # or Ray would write one into the home folder
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    options = {"num_cpus": processors, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    failure = "Ray cannot start on this machine"
    remedy = "It needs free memory, and processors that are not all busy. Try again, or label without `--on ray`."
    # Other programs look for clusters in Ray's own folder, and it keeps logs there. Paths of sockets must be short.
    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir=SHORT_FOLDER, ignore_cleanup_errors=True) as folder,
        _connected(failure, remedy, address="local", _temp_dir=folder, **options),
    ):
        yield


def _split_address(address: str) -> tuple[str, int]:
    if found := re.fullmatch(r"\[?([^/]+?)\]?:(\d{1,5})", address):
        return found[1], int(found[2])
    raise StartError(f"{address} is no address of a Ray cluster. Give HOST:PORT, as `ray start --head` prints it.")


@contextlib.contextmanager
def _connected(failure: str, remedy: str, **options: Any) -> Iterator[None]:
    """Be connected with Ray until the context ends; raises StartError, which says failure, reason and remedy."""
    import ray

    try:
        # The processes of Ray look for modules in the folder in which this one works, which may be full of pictures.
        with contextlib.chdir(PACKAGE_ROOT):
            ray.init(logging_level=logging.CRITICAL, log_to_driver=False, **options)
    except Exception as error:  # Ray raises many types, and also Exception itself
        ray.shutdown()
        raise StartError(f"{failure} ({_last_line(error)}). {remedy}") from error
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints there that a process or a node has died
        try:
            yield
        finally:
            ray.shutdown()


def _run_tasks(
    job: Job, blocks: Sequence[Block], table: Table, workers: int | None, advance: Callable[[int], object]
) -> None:
    import ray

    label_remotely = ray.remote(num_cpus=1, max_retries=MAX_DEATHS)(label_block)
    reference = ray.put(job)
    waiting = deque(blocks)
    running: dict[ObjectRef[list[Row]], Block] = {}
    while waiting or running:
        processors = _count_processors()  # each time, because nodes come and go
        for _ in range(min(len(waiting), (workers or processors) - len(running))):
            block = waiting.popleft()
            running[label_remotely.remote([reference], block.read(), __version__)] = block
        done, _ = ray.wait(list(running), timeout=POLL_SECONDS)
        for result in done:
            block = running.pop(result)
            table.write(block, _receive(result))
            advance(block.files)


def _count_processors() -> int:
    """The processors of the nodes that are alive, at least one; raises StartError."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    if count := sum(int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]):
        return count
    raise StartError("No node of the Ray cluster has a processor for tasks. Start nodes, and run the command again.")


def _receive(result: ObjectRef[list[Row]]) -> list[Row]:
    """The rows of a block; raises the error of ours that ended its task, or StartError for one of Ray."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(result)
    except RayTaskError as error:
        if isinstance(error.cause, DeXpressionError):
            raise error.cause from None
        raise StartError(
            f"A node of the Ray cluster cannot label ({_last_line(error)}). Install DeXpression {__version__} on all "
            "nodes, with its extra [cluster], in the Python that runs Ray there."
        ) from error
    except RayError as error:
        raise StartError(f"The Ray cluster has failed ({_last_line(error)}). Run the command again.") from error


def _last_line(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2].strip()


def label_block(job: Sequence[ObjectRef[Job]], entries: Sequence[Entry], version: str) -> list[Row]:
    """Label the files of a block, in a task on a node; raises DataError and StartError.

    The reference to the job is in a list, so that Ray does not fetch the job for each task.
    """
    import ray

    address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    node = f"(Node {address} of the Ray cluster.)"
    if version != __version__:
        raise StartError(f"DeXpression is {version} here and {__version__} there. Install one version on all. {node}")
    try:
        return list(_worker(job[0]).label(entries))
    except DeXpressionError as error:
        raise type(error)(f"{error} {node}") from error


@functools.cache  # a process of Ray works for one run, and keeps the loaded model from task to task
def _worker(job: ObjectRef[Job]) -> Worker:
    import ray

    vars(sys.modules["__main__"]).pop("__file__", None)  # Ray's program, which the new process would import
    return Worker(ray.get(job))
