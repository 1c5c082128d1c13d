"""The number of workers, from control groups that the tests draw as folders, and from the affinity of this process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dexpression.serving import capacity
from dexpression.serving.capacity import Memory, WorkerChoice, choose_workers, count_fitting, find_cores, find_memory
from dexpression.settings import MAX_WORKERS, Settings
from tests.support.server import ROOT

GIB = 2**30
UNLIMITED = 9223372036854771712  # as version 1 writes it
CGROUP = "/sys/fs/cgroup"
UNIFIED = {"proc/self/mountinfo": f"30 24 0:26 / {CGROUP} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"}


@pytest.fixture(autouse=True)
def machine_of_32_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "allowed_cores", lambda: 32)


def draw(root: Path, files: dict[str, str], memory: int = 64 * GIB) -> Path:
    """Write the files of a machine, by their paths below `root`."""
    for name, text in ({"proc/meminfo": f"MemTotal: {memory // 1024} kB\n"} | files).items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def draw_version1(root: Path, group: str, top: str, files: dict[str, str]) -> Path:
    """Draw a machine with version 1, and beside it version 2 without controllers, as systemd mounts them."""
    mounts = [
        f"35 31 0:32 {top} {CGROUP}/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct",
        f"36 31 0:33 {top} {CGROUP}/memory rw - cgroup cgroup rw,memory",
        f"37 31 0:34 / {CGROUP}/systemd rw - cgroup cgroup rw,xattr,name=systemd",
        f"38 31 0:35 / {CGROUP}/unified rw - cgroup2 cgroup2 rw",
        "39 31 0:36 / / rw - ext4 /dev/root rw",
    ]
    lines = [f"4:memory:{group}", f"3:cpuacct,cpu:{group}", f"1:name=systemd:{group}", f"0::{group}"]
    return draw(
        root, {"proc/self/mountinfo": "\n".join(mounts), "proc/self/cgroup": "\n".join(lines)} | files, memory=64 * GIB
    )


@pytest.mark.parametrize(
    ("quota", "count"),
    [
        ("max 100000", 32),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("1000 100000", 1),
        ("6400000 100000", 32),
        ("30000 10000", 3),
        ("-1 100000", 32),
        ("0 100000", 32),
        ("100000 0", 32),
        ("100000", 32),
        ("", 32),
        ("\0\xff many", 32),
    ],
)
def test_a_quota_limits_the_cores_and_is_rounded_up(tmp_path, quota, count):
    draw(tmp_path, UNIFIED | {"proc/self/cgroup": "0::/\n", f"{CGROUP}/cpu.max": quota})
    assert find_cores(tmp_path) == count


@pytest.mark.parametrize(
    ("folder", "cores"), [("a.slice/b.service", 2), ("a.slice", 2), ("", 2), ("other.slice", 32), ("a.slice/b", 32)]
)
def test_the_quotas_of_all_ancestors_count_and_no_others(tmp_path, folder, cores):
    draw(tmp_path, UNIFIED | {"proc/self/cgroup": "0::/a.slice/b.service\n"})
    draw(tmp_path, {f"{CGROUP}/a.slice/b.service/cpu.max": "400000 100000" if folder == "a.slice" else "max 100000"})
    draw(tmp_path, {f"{CGROUP}/{folder}/cpu.max": "200000 100000"})
    assert find_cores(tmp_path) == cores


@pytest.mark.parametrize("name", ["memory.max", "memory.high", "memory.limit_in_bytes"])
@pytest.mark.parametrize("folder", ["a/b", "a", ""])
def test_the_smallest_memory_limit_of_all_ancestors_counts(tmp_path, name, folder):
    draw(tmp_path, UNIFIED | {"proc/self/cgroup": "0::/a/b\n", f"{CGROUP}/a/b/memory.max": str(8 * GIB)})
    draw(tmp_path, {f"{CGROUP}/{folder}/{name}": f"{2 * GIB}\n"})
    assert find_memory(tmp_path) == Memory(2 * GIB, is_limited=True)


@pytest.mark.parametrize("text", ["max", str(UNLIMITED), "-1", "0", "", "2 GB", "1e9", "9" * 5000])
def test_without_a_readable_memory_limit_that_of_the_machine_counts(tmp_path, text):
    draw(tmp_path, UNIFIED | {"proc/self/cgroup": "0::/\n", f"{CGROUP}/memory.max": text}, memory=4 * GIB)
    assert find_memory(tmp_path) == Memory(4 * GIB, is_limited=False)


@pytest.mark.parametrize(
    ("group", "top", "folder"),
    [
        ("/docker/abc", "/", "docker/abc"),  # on the host, or in a container that sees all of its groups
        ("/docker/abc", "/", "docker"),
        ("/docker/abc", "/docker/abc", ""),  # in a container, whose own group is mounted
        ("/docker/abc/inner", "/docker/abc", "inner"),
        ("/docker/abc/inner", "/docker/abc", ""),
        ("/", "/docker/abc", ""),  # with a namespace that is younger than the mount
        ("/", "/../..", ""),
        ("/../other", "/", ""),
        (r"/a\x2db c", r"/a\134x2db\040c", ""),
    ],
)
def test_version_1_is_read_wherever_the_group_of_the_process_is_mounted(tmp_path, group, top, folder):
    limits = {
        f"{CGROUP}/cpu,cpuacct/cpu.cfs_quota_us": "-1",
        f"{CGROUP}/memory/memory.limit_in_bytes": str(UNLIMITED),
        f"{CGROUP}/cpu,cpuacct/{folder}/cpu.cfs_quota_us": "150000\n",
        f"{CGROUP}/cpu,cpuacct/{folder}/cpu.cfs_period_us": "50000\n",
        f"{CGROUP}/memory/{folder}/memory.limit_in_bytes": f"{GIB}\n",
    }
    draw_version1(tmp_path, group, top, limits)
    assert (find_cores(tmp_path), find_memory(tmp_path)) == (3, Memory(GIB, is_limited=True))


def test_hierarchies_of_both_versions_count_together(tmp_path):
    limits = {
        f"{CGROUP}/memory/a/memory.limit_in_bytes": str(GIB),
        f"{CGROUP}/unified/a/cpu.max": "100000 100000",
        f"{CGROUP}/systemd/a/cpu.max": "50000 100000",  # there, this file means nothing
    }
    draw_version1(tmp_path, "/a", "/", limits)
    assert choose_workers(Settings(), tmp_path).reason == (
        "1 worker: 1 usable core; the memory limit of 1.0 GiB can hold none. "
        "Lower DEXPRESSION_MAX_PIXELS, or the system may kill a worker that decodes a large picture."
    )


@pytest.mark.parametrize("mounts", ["", "\n- cgroup2\nnonsense - cgroup2 x y\n1 2 3 4 - cgroup\n", "- -\n - \n"])
@pytest.mark.parametrize("groups", ["", "nonsense\n::\n0:\n0::\n", "0::/\n"])
def test_nonsense_in_the_lists_of_groups_and_mounts_is_no_limit(tmp_path, mounts, groups):
    draw(tmp_path, {"proc/self/mountinfo": mounts, "proc/self/cgroup": groups, f"{CGROUP}/cpu.max": "100000 100000"})
    assert (find_cores(tmp_path), find_memory(tmp_path)) == (32, Memory(64 * GIB, is_limited=False))


def test_a_system_without_control_groups_has_its_cores_and_its_memory(tmp_path):
    assert find_cores(tmp_path) == 32
    memory = find_memory(tmp_path)
    assert memory is None if sys.platform == "win32" else memory.size > 100_000_000
    assert choose_workers(Settings(max_pixels=1), tmp_path).count >= 1


def test_where_the_memory_is_unknown_the_cores_alone_decide(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sysconf", raising=False)
    choice = choose_workers(Settings(), tmp_path)
    assert (choice.count, choice.reason, choice.fits_memory) == (32, "32 workers: 32 usable cores.", True)


def choose(root: Path, memory: int, cpu_max: str = "max 100000", **settings: int) -> WorkerChoice:
    files = {"proc/self/cgroup": "0::/\n", f"{CGROUP}/memory.max": str(memory), f"{CGROUP}/cpu.max": cpu_max}
    return choose_workers(Settings(**settings), draw(root, UNIFIED | files))


@pytest.mark.parametrize(
    ("memory", "cores", "count", "fits"),
    [
        (2 * GIB, 2, 2, True),
        (2 * GIB, 1, 1, True),
        (2 * GIB, 32, 2, True),
        (GIB // 2, 4, 1, False),
        (4096, 4, 1, False),
    ],
)
def test_as_many_workers_start_as_cores_and_memory_allow(tmp_path, memory, cores, count, fits):
    choice = choose(tmp_path, memory, f"{cores}00000 100000")
    assert (choice.count, choice.fits_memory) == (count, fits)


def test_the_reason_names_cores_and_memory(tmp_path):
    choice = choose(tmp_path, 2 * GIB, "150000 100000")
    assert choice.reason == "2 workers: 2 usable cores; the memory limit of 2.0 GiB can hold 2."


def test_a_machine_with_little_memory_for_each_core_has_fewer_workers(tmp_path):
    choice = choose_workers(Settings(), draw(tmp_path, {}, memory=8 * GIB))
    assert choice.reason == "8 workers: 32 usable cores; the memory of 8.0 GiB can hold 8."


def test_there_are_at_most_256_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(capacity, "allowed_cores", lambda: 1000)
    assert choose_workers(Settings(), draw(tmp_path, {}, memory=2000 * GIB)).count == MAX_WORKERS == 256


def test_a_setting_decides_and_the_reason_warns_if_the_memory_cannot_hold_that_many(tmp_path):
    assert choose(tmp_path, 2 * GIB, workers=2) == WorkerChoice(2, "2 workers: set by DEXPRESSION_WORKERS.", True)
    many = choose(tmp_path, 2 * GIB, workers=8)
    assert (many.count, many.fits_memory) == (8, False)
    assert many.reason.startswith(
        "8 workers: set by DEXPRESSION_WORKERS; the memory limit of 2.0 GiB can hold 2. Lower"
    )


def test_smaller_pictures_let_more_workers_fit():
    counts = [count_fitting(2 * GIB, Settings(max_pixels=pixels)) for pixels in (10**12, 50_000_000, 12_000_000, 1)]
    assert counts[:2] == [0, 2]
    assert counts == sorted(set(counts))


def test_of_pictures_below_4_megapixels_two_are_decoded_at_once():
    large, small = (count_fitting(64 * GIB, Settings(max_pixels=pixels)) for pixels in (8_000_000, 4_000_000))
    assert large == small


def test_one_worker_fits_even_where_the_learner_cannot_be_compared_beside_it():
    assert count_fitting(GIB // 2, Settings(max_pixels=4_000_000)) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="The system has no affinity")
def test_the_affinity_of_the_process_limits_its_cores():
    program = (
        "import os; os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1]); "
        "from dexpression.serving.capacity import find_cores; print(find_cores())"
    )
    assert subprocess.check_output([sys.executable, "-c", program], cwd=ROOT) == b"1\n"
