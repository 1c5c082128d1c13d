"""The number of workers: as many as the cores, the CPU quota and the memory of this process allow.

On Linux, the limits of containers and systemd are read from control groups (cgroups) of version 1 and 2; loky's
`cpu_count` reads neither memory limits nor those of ancestors. `root` is the root folder of the file system.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dexpression.artifact.manifest import learner_obstacle
from dexpression.picture import LARGE_PIXELS
from dexpression.settings import MAX_WORKERS, Settings

# Measured peaks of resident memory.
SUPERVISOR_BYTES = 80_000_000
WORKER_BYTES = 140_000_000  # besides pictures and uploads
PIXEL_BYTES = 17  # of a WebP picture with transparency; AVIF in 8 bits needs up to 15, PNG 13, JPEG 10
COMPARISON_BYTES = 460_000_000  # of the process that compares a new model with its learner

ROOT = Path("/")


@dataclass(frozen=True)
class WorkerChoice:
    """The number of workers, and one line for the log that says why."""

    count: int
    reason: str
    fits_memory: bool  # even if all workers decode a picture of the largest size at once


class Memory(NamedTuple):
    """The memory that all processes of the server may use together."""

    size: int  # bytes
    is_limited: bool  # by a control group; otherwise it is the memory of the machine

    def __str__(self) -> str:
        return f"the {'memory limit' if self.is_limited else 'memory'} of {self.size / 2**30:.1f} GiB"


def choose_workers(settings: Settings, root: Path = ROOT) -> WorkerChoice:
    """Choose the number of workers, at least one; `settings.workers` decides if it is set."""
    cores, memory = find_cores(root), find_memory(root)
    fitting = MAX_WORKERS if memory is None else count_fitting(memory.size, settings)
    count = settings.workers or max(1, min(cores, fitting, MAX_WORKERS))
    reasons = ["set by DEXPRESSION_WORKERS" if settings.workers else _count(cores, "usable core")]
    if memory and (count > fitting or not settings.workers):
        reasons.append(f"{memory} can hold {fitting or 'none'}")
    line = f"{_count(count, 'worker')}: {'; '.join(reasons)}."
    if count > fitting:
        remedy = "DEXPRESSION_WORKERS or DEXPRESSION_MAX_PIXELS" if settings.workers else "DEXPRESSION_MAX_PIXELS"
        line += f" Lower {remedy}, or the system may kill a worker that decodes a large picture."
    return WorkerChoice(count, line, count <= fitting)


def count_fitting(memory_bytes: int, settings: Settings) -> int:
    """How many workers fit into this memory while all of them decode a picture of the largest size; may be 0."""
    pixels = max(settings.max_pixels, 2 * min(settings.max_pixels, LARGE_PIXELS))  # only large ones are decoded alone
    usual = WORKER_BYTES + settings.max_upload_bytes
    free = memory_bytes - SUPERVISOR_BYTES
    with_pictures = free // (usual + PIXEL_BYTES * pixels)
    if learner_obstacle(settings.model_path):
        return max(0, with_pictures)
    # For some seconds, a comparison may use what large pictures leave. One worker serves even if it does not fit.
    with_comparison = max(1, (free - COMPARISON_BYTES) // usual)
    return max(0, min(with_pictures, with_comparison))


def find_cores(root: Path = ROOT) -> int:
    """The cores that this process may use, by its affinity and by the CPU quotas of its groups; at least 1.

    A quota is rounded up: each worker uses one core, so one worker would leave a third of 1.5 cores idle.
    """
    quotas = [quota for group in find_groups(root) if (quota := _cpu_quota(group))]
    return min([allowed_cores(), *(-(-microseconds // period) for microseconds, period in quotas)])


def allowed_cores() -> int:
    """The cores on which the system may run this process: its affinity, where the system has one."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def find_memory(root: Path = ROOT) -> Memory | None:
    """The smallest memory limit of the groups of this process, or the memory of the machine; None if unknown."""
    physical = _physical_memory(root)
    # Above `memory.high`, a group is slowed down so much that requests would take too long.
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")
    limits = [limit for group in find_groups(root) for name in names for limit in _read_numbers(group / name)[:1]]
    smallest = min((limit for limit in limits if limit > 0), default=None)
    if smallest is None or (physical and physical <= smallest):  # version 1 writes "no limit" as a huge number
        return Memory(physical, is_limited=False) if physical else None
    return Memory(smallest, is_limited=True)


def find_groups(root: Path = ROOT) -> Iterator[Path]:
    """The folders of the control groups of this process and of all their ancestors that can be seen.

    A folder need not exist: inside a container, the path of a group may be that of the host.
    """
    paths = dict(_group_paths(root))
    for mount in _group_mounts(root):
        for controllers, path in paths.items():
            if mount.controllers >= controllers and bool(mount.controllers) == bool(controllers):
                yield from mount.folders(path)


class _Mount(NamedTuple):
    """A mounted hierarchy of control groups."""

    folder: Path  # where it is mounted
    top: PurePosixPath  # the path of the group that is mounted there
    controllers: frozenset[str]  # and other options of the mount; empty for version 2

    def folders(self, path: PurePosixPath) -> Iterator[Path]:
        """The folders of a group and of its ancestors; the topmost one alone if the group is not below it."""
        below = path.relative_to(self.top) if path.is_relative_to(self.top) else PurePosixPath()
        yield self.folder / below
        yield from (self.folder / parent for parent in below.parents)


def _group_paths(root: Path) -> Iterator[tuple[frozenset[str], PurePosixPath]]:
    """The controllers of each hierarchy, empty for version 2, and the path of this process's group in it."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        if line.count(":") >= 2:
            _, controllers, path = line.split(":", 2)
            yield frozenset(controllers.split(",")) - {""}, PurePosixPath(path)


def _group_mounts(root: Path) -> Iterator[_Mount]:
    """The mounted hierarchies, from lines such as `35 31 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu`."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        mount, _, system = line.partition(" - ")
        places, (kind, *_), options = mount.split(" "), system.split(" "), system.rpartition(" ")[2]
        if len(places) > 4 and kind in ("cgroup", "cgroup2"):
            top, folder = (_unescape(place) for place in places[3:5])
            controllers = frozenset(options.split(",")) if kind == "cgroup" else frozenset[str]()
            yield _Mount(root / folder.lstrip("/"), PurePosixPath(top), controllers)


def _unescape(text: str) -> str:
    r"""Replace what mountinfo writes for spaces and backslashes, such as \040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _cpu_quota(group: Path) -> tuple[int, int] | None:
    """The microseconds of CPU time that a group may use in each period of so many microseconds."""
    version1 = _read_numbers(group / "cpu.cfs_quota_us") + _read_numbers(group / "cpu.cfs_period_us")
    for numbers in (_read_numbers(group / "cpu.max"), version1):
        if len(numbers) == 2 and min(numbers) > 0:
            return numbers[0], numbers[1]
    return None


def _physical_memory(root: Path) -> int | None:
    """The bytes of memory of the machine, or None where the system does not tell, as on Windows."""
    if found := re.search(r"^MemTotal:\s+(\d+) kB$", _read(root / "proc/meminfo"), re.MULTILINE):
        return 1024 * int(found[1])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _read(path: Path) -> str:
    """The text of a file; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except (OSError, ValueError):
        return ""


def _read_numbers(path: Path) -> list[int]:
    """The whole numbers of a file; none if it cannot be read or has anything else, such as `max` for no limit."""
    try:
        return [int(word) for word in _read(path).split()]
    except ValueError:
        return []


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
