"""Labelling by Ray gives the table that one machine gives, whatever dies meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from pyarrow import parquet

from dexpression import __version__, extras
from dexpression.cluster import on_ray
from dexpression.cluster.manifest import Block
from dexpression.cluster.rows import Row
from dexpression.cluster.table import Table
from tests.cluster.conftest import FACE
from tests.cluster.test_label import ALONE, contents, label, refusal, rows, start_to_label
from tests.support import labelling
from tests.support.ray_server import TOO_BUSY, TOO_SLOW, leave_out_slow_module
from tests.support.server import ROOT, free_port, wait_until

if TYPE_CHECKING:
    from ray._private.node import Node
    from ray.cluster_utils import Cluster

NO_RAY = "Ray is not installed, which has no wheels for some systems"
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason=NO_RAY)
WARNINGS = (
    "ignore:.*will no longer override accelerator visible devices:FutureWarning",
    "ignore:unclosed file:ResourceWarning",  # Ray's logs of the processes that it starts
    "ignore:subprocess .* is still running:ResourceWarning",  # Ray's processes, which a reaper ends
)


@pytest.fixture(scope="module")
def light_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """See `leave_out_slow_module`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", leave_out_slow_module(tmp_path_factory.mktemp("modules")))
        yield


@pytest.fixture(scope="module")
def cluster(light_ray: None) -> Iterator[Cluster]:
    """A cluster with one node of one processor, on this machine. It asks for a token."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True))
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0" * 64)
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # listen on loopback
        patch.chdir(ROOT)
        from ray.cluster_utils import Cluster

        cluster = Cluster()
        stack.callback(cluster.shutdown)
        add_node(cluster, no_monitor=True)
        yield cluster


def add_node(cluster: Cluster, **options: object) -> Node:
    """Add a node of one processor, or skip the test. It knows its ports, or its processes had 15 seconds to start."""
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    ports = {name: free_port() for name in names}
    options |= {"num_cpus": 1, "object_store_memory": 80_000_000} | ports
    try:
        return cluster.add_node(include_dashboard=False, include_log_monitor=False, **options)
    except Exception as error:
        if TOO_SLOW in str(error):
            pytest.skip(TOO_BUSY)
        raise


@pytest.fixture
def address(cluster: Cluster) -> str:
    """The value of --on for the cluster."""
    return f"ray:{cluster.address}"


def before_the_first_row_is_written(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Act once a block is labelled, and before it is in the table."""
    write, written = Table.write, list[Block]()

    def act_and_write(table: Table, block: Block, rows: list[Row]) -> None:
        if not written:
            act()
        written.append(block)
        write(table, block, rows)

    monkeypatch.setattr(Table, "write", act_and_write)


def ray_test(function: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that starts Ray."""
    for warning in WARNINGS:
        function = pytest.mark.filterwarnings(warning)(function)
    return needs_ray(pytest.mark.slow(function))


@ray_test
def test_a_cluster_gives_the_table_of_one_machine_and_a_complete_run_needs_no_cluster(
    source, output, tmp_path, address, capsys
):
    (source / "cut.png").write_bytes(FACE[:-40])
    (source / "notes.txt").write_text("text")
    label(source, tmp_path / "local", *ALONE)
    expected = capsys.readouterr().out.replace(str(tmp_path / "local"), str(output))
    label(source, output, "--on", address)
    printed = capsys.readouterr()
    assert printed.out == expected
    assert f"Joining the Ray cluster at {address[4:]} ...\n" in printed.err
    assert parquet.read_table(output) == parquet.read_table(tmp_path / "local")
    written = contents(output)
    label(source, output, "--on", "ray:127.0.0.1:1")
    assert contents(output) == written


@ray_test
def test_a_node_that_dies_in_the_middle_costs_nothing(source, output, tmp_path, cluster, address, monkeypatch, capsys):
    node = add_node(cluster)
    hung = source.parent / "hung"

    def kill_node() -> None:
        wait_until(hung.exists)
        cluster.remove_node(node, allow_graceful=False)

    with monkeypatch.context() as patch:
        patch.setattr(on_ray, "label_block", labelling.hang_on_other_nodes)
        before_the_first_row_is_written(patch, kill_node)
        label(source, output, "--on", address)
    assert capsys.readouterr().out == f"{output}: files 25, faces 25, errors 0.\n"
    label(source, tmp_path / "local", *ALONE)
    assert parquet.read_table(output) == parquet.read_table(tmp_path / "local")


@ray_test
def test_a_run_that_is_killed_goes_on_and_what_it_left_half_written_is_removed(source, output, tmp_path, address):
    running = start_to_label(source, output, 1, "--on", address)
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=60)
    partial = output / ".dexpression-0123"  # as of a death between the data and the name
    partial.write_bytes(b"PAR1")
    first = output / "part-00000-000000.parquet"
    before = first.stat().st_mtime_ns
    label(source, output, "--on", address)
    label(source, tmp_path / "local", *ALONE)
    assert parquet.read_table(output) == parquet.read_table(tmp_path / "local")
    assert (first.stat().st_mtime_ns, partial.exists()) == (before, False)


@ray_test
def test_ctrl_c_keeps_what_is_done(source, output, address, monkeypatch, capsys):
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tqdm.tqdm.update", lambda _bar, files: interrupt(files))
    with pytest.raises(SystemExit) as stopped:
        label(source, output, "--on", address)
    assert stopped.value.code == 130
    assert "10 of 25 files are labelled. The same command goes on.\n" in capsys.readouterr().err
    assert len(rows(output)) == 10


@ray_test
def test_a_folder_that_vanishes_ends_the_run_with_one_line_that_names_the_node(source, output, address, monkeypatch):
    before_the_first_row_is_written(monkeypatch, lambda: source.rename(source.with_name("away")))
    message = refusal(source, output, "--on", address)
    assert f"{source} is not a folder." in message
    assert message.endswith(" (Node 127.0.0.1 of the Ray cluster.)")
    assert len(rows(output)) == 10


@ray_test
def test_a_node_with_another_version_or_without_dexpression_is_one_line(source, output, tmp_path, address, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(on_ray, "__version__", "0.0")
        message = f"DeXpression is 0.0 here and {__version__} there. Install one version on all. (Node "
        assert message in refusal(source, output, "--on", address)
    (tmp_path / "on_this_machine_only.py").write_text("def label_block(job, entries, version): ...")
    monkeypatch.syspath_prepend(tmp_path)
    import on_this_machine_only

    monkeypatch.setattr(on_ray, "label_block", on_this_machine_only.label_block)
    message = refusal(source, output, "--on", address)
    assert "A node of the Ray cluster cannot label (" in message
    assert f"Install DeXpression {__version__} on all nodes" in message


@ray_test
@pytest.mark.parametrize("options", [(), ("--workers", "2")])
def test_a_cluster_without_processors_is_refused(source, output, address, monkeypatch, options):
    import ray

    nodes = [{"Alive": False, "Resources": {"CPU": 8.0}}, {"Alive": True, "Resources": {"CPU": 0.5}}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    message = "No node of the Ray cluster has a processor for tasks. Start nodes, and run the command again."
    assert message in refusal(source, output, "--on", address, *options)


@ray_test
@pytest.mark.usefixtures("light_ray")
def test_ray_is_started_for_a_run_and_leaves_nothing_behind(source, output, tmp_path, capsys):
    """Nor does it import what lies among the pictures, or print anything of its own."""
    for module in ("numpy", "PIL", "pyarrow", "dexpression"):
        (source / f"{module}.py").write_text("raise SystemExit")
    command = [sys.executable, "-P", "-m", "dexpression", "label", ".", output, "--on", "ray", *ALONE]
    environ = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=source, env=environ, capture_output=True, text=True, timeout=300)
    if TOO_SLOW in done.stderr:
        pytest.skip(TOO_BUSY)
    label(source, tmp_path / "local", *ALONE)
    expected = capsys.readouterr()
    assert done.stdout == expected.out.replace(str(tmp_path / "local"), str(output))
    assert done.stderr == expected.err.replace("New files: 29.\n", "New files: 29.\nStarting Ray ...\n")
    assert parquet.read_table(output) == parquet.read_table(tmp_path / "local")
    assert not (tmp_path / ".ray").exists()


@pytest.mark.parametrize(
    ("on", "message"),
    [
        ("ray:127.0.0.1:1", "The Ray cluster at 127.0.0.1:1 cannot be joined (Connection refused). Give the address"),
        ("ray:127.0.0.1:99999", "The Ray cluster at 127.0.0.1:99999 cannot be joined ("),
        ("ray:a..b:6379", "The Ray cluster at a..b:6379 cannot be joined ("),
        ("ray:host", "host is no address of a Ray cluster. Give HOST:PORT, as `ray start --head` prints it."),
        ("ray:ray://host:10001", "ray://host:10001 is no address of a Ray cluster."),
    ],
)
def test_an_address_that_cannot_be_joined_is_one_line(source, output, on, message):
    assert message in refusal(source, output, "--on", on)


def test_another_engine_is_refused(source, output, capsys):
    with pytest.raises(SystemExit):
        label(source, output, "--on", "spark")
    assert "argument --on: 'spark' is not local, ray or ray:HOST:PORT" in capsys.readouterr().err


@pytest.mark.usefixtures("in_process")
def test_other_options_than_those_of_the_table_are_refused_before_ray_starts(source, output):
    label(source, output, *ALONE)
    assert "was begun with --reading people" in refusal(source, output, "--on", "ray", "--reading", "labels")


@pytest.mark.usefixtures("in_process")
def test_only_labelling_on_ray_needs_ray(source, output, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "ray" else True)
    label(source, output, *ALONE)
    assert len(rows(output)) == 25
    assert "needs more packages, such as ray. Install: " in refusal(source, output, "--on", "ray")
