"""Ray Serve on two nodes of this machine, as a user starts it, and clients that keep it busy."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support.server import EXIT_SECONDS, ROOT, Server, free_port, read_file

BIN = Path(sys.executable).parent
COMMAND_SECONDS = 300.0  # for `serve run`, which waits until the app is deployed
STARTED, TOO_SLOW = "Ray runtime started", "timed out during startup"
TOO_BUSY = "Ray gives its processes 30 seconds to start, and this machine is too busy for that"
PORTS = ("dashboard-agent-grpc", "dashboard-agent-listen", "runtime-env-agent", "metrics-export", "ray-client-server")


def leave_out_slow_module(folder: Path) -> str:
    """The PYTHONPATH with which Ray's processes start in half the time; Ray does without rfc3987_syntax."""
    (folder / "rfc3987_syntax.py").write_text("raise ImportError")
    return os.pathsep.join([str(folder), str(ROOT)])


class RayServer(Server):
    """A Ray cluster of two nodes with a core each, and our app on it, which has up to two replicas.

    It starts on entry of a `with` block, or skips the test, and stops on exit. `settings` are DEXPRESSION_* variables.
    """

    def __init__(self, model: Path, **settings: str) -> None:
        super().__init__(model, **settings)
        self._folder = Path(tempfile.mkdtemp(prefix="ray"))  # with a short path, because sockets are in it
        self._address = f"127.0.0.1:{free_port()}"
        self._token = secrets.token_hex(32)
        self._modules = leave_out_slow_module(self._folder)
        self._nodes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start both nodes, Ray Serve and the app, and wait until the app is ready."""
        self.port = free_port()
        head = (f"--port={self._address.split(':')[1]}", f"--temp-dir={self._folder}", "--include-dashboard=false")
        try:
            self._start_node("--head", "--no-monitor", *head)
            self._start_node(f"--address={self._address}")
            self._run(
                "start", "--address", self._address, "--http-port", str(self.port), "--proxy-location", "HeadOnly"
            )
            self.deploy()
        except BaseException:
            self.stop()
            raise

    def deploy(self, **settings: str) -> None:
        """Deploy the app, with other settings than before, and wait until all replicas have them."""
        self._settings |= settings
        self._run("run", "dexpression.cluster:app", "--address", self._address, "--non-blocking")

    def replicas_of_nodes(self) -> list[int]:
        """The number of replicas that run on each node, the head first."""
        found = [pid for pid in self._processes() if "ServeReplica" in read_file(Path(f"/proc/{pid}/cmdline"))]
        return [sum(self._session(pid) == node.pid for pid in found) for node in self._nodes]

    def remove_node(self) -> None:
        """Kill all processes of the node that is not the head, as when its machine fails."""
        node = self._nodes.pop()
        self._kill(pid for pid in self._processes() if self._session(pid) == node.pid)
        node.wait(EXIT_SECONDS)

    def stop(self) -> None:
        """Kill Ray, which takes half a minute to stop, until none of its processes is left."""
        while processes := self._processes():
            self._kill(processes)
        for node in self._nodes:
            node.wait(EXIT_SECONDS)
        shutil.rmtree(self._folder)

    @property
    def log(self) -> str:
        """The log of Ray Serve and of the app so far."""
        return "".join(path.read_text(errors="replace") for path in self._folder.glob("session_2*/logs/serve/*.log"))

    def _start_node(self, *options: str) -> None:
        command = [str(BIN / "ray"), "start", "--block", "--num-cpus=1", "--object-store-memory=100000000", *options]
        command += ["--min-worker-port=0", "--max-worker-port=0", *(f"--{name}-port={free_port()}" for name in PORTS)]
        path = self._folder / f"node{len(self._nodes)}.log"
        with path.open("wb") as log:
            node = subprocess.Popen(
                command, cwd=ROOT, env=self._variables, stdout=log, stderr=log, start_new_session=True
            )
        self._nodes.append(node)
        self.wait(lambda: STARTED in path.read_text() or node.poll() is not None)
        if TOO_SLOW in path.read_text():
            pytest.skip(TOO_BUSY)
        assert node.poll() is None, path.read_text()

    def _run(self, *arguments: str) -> None:
        command, variables = [str(BIN / "serve"), *arguments], self._variables | self._settings
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=COMMAND_SECONDS)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"

    def _session(self, pid: int) -> int | None:
        """The session of a process, which is that of the command that started its node; None if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            return os.getsid(pid)

    def _kill(self, processes: Iterable[int]) -> None:
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _processes(self) -> list[int]:
        """Ids of all processes of Ray: they have its folder in their environment."""
        found = (path.parent for path in Path("/proc").glob("[0-9]*/environ") if str(self._folder) in read_file(path))
        return [int(folder.name) for folder in found if read_file(folder / "cmdline")]

    @property
    def _variables(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("DEXPRESSION_", "RAY_"))}
        ray = {"RAY_TMPDIR": str(self._folder), "RAY_USAGE_STATS_ENABLED": "0"}
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token}
        return kept | ray | token | {"PYTHONPATH": self._modules}
