"""The servers that are measured: how each is started, when it is ready, and the memory that it takes."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
PEERS = HERE / "peers"
ENVIRONMENT = HERE / ".peers"
BIN = ENVIRONMENT / "bin"
START_LIMIT = 120.0  # seconds


@dataclass(frozen=True)
class Server:
    """`{port}` in the command is the port; the variables are added to those of the shell."""

    name: str
    command: tuple[str, ...]
    ready: str  # the path that is 200 from then on
    path: str = "/"
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    port: int
    seconds: float  # until it was ready
    pid: int

    def processes(self) -> list[Path]:
        """/proc/1234 of each process of the server, its own first; empty where there is no /proc."""
        parents = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # one that has ended since
                parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        family = []
        found = [self.pid] if self.pid in parents else []
        while found:  # a generation at a time: BentoML's workers are in sessions of their own
            family += found
            found = [pid for pid, parent in parents.items() if parent in found]
        return [Path("/proc", str(pid)) for pid in family]

    def memory(self) -> list[int]:
        """Resident MB of every process of the server, largest first."""
        page = os.sysconf("SC_PAGESIZE")
        pages = (int((process / "statm").read_text().split()[1]) for process in self.processes())
        return sorted((count * page // 10**6 for count in pages), reverse=True)


def servers(learner: Path, network: Path) -> list[Server]:
    """Ours and the peers, which serve `network`, a float32 ONNX file; the student project's way serves `learner`."""
    cores = str(os.cpu_count())
    peer = {"PEER_MODEL": str(network), "PEER_CORES": cores, "BENTOML_HOME": str(network.parent)}
    peer |= {"BENTOML_DO_NOT_TRACK": "true", "PEER_LEARNER": str(learner)}
    batch = peer | {"PEER_BATCH": "1"}
    ours = {"DEXPRESSION_MODEL_PATH": str(learner)}
    uvicorn = (str(BIN / "uvicorn"), "with_fastapi:app", "--app-dir", str(PEERS), "--port", "{port}")
    lit = (str(BIN / "python"), str(PEERS / "with_litserve.py"))
    serve = (str(BIN / "bentoml"), "serve", "with_bentoml:Service", "--working-dir", str(PEERS))
    bento = (*serve, "--host", "127.0.0.1", "--port", "{port}")
    student = (sys.executable, str(PEERS / "with_flask.py"))
    return [
        Server("DeXpression", (sys.executable, "server.py"), "/health/ready", variables=ours),
        Server("FastAPI", (*uvicorn, "--workers", cores, "--no-access-log"), "/ready", variables=peer),
        Server("LitServe", lit, "/health", "/predict", peer),
        Server("LitServe, batches", lit, "/health", "/predict", batch),
        Server("BentoML", bento, "/readyz", variables=peer),
        Server("BentoML, batches", bento, "/readyz", variables=batch),
        Server("student project", student, "/ready", variables=peer | {"PYTHONPATH": "."}),
    ]


def install_peers() -> None:
    """Into an environment of their own, once for each version of the requirements."""
    wanted, installed = PEERS / "requirements.txt", ENVIRONMENT / "requirements.txt"
    if installed.exists() and installed.read_text() == wanted.read_text():
        return
    venv.create(ENVIRONMENT, with_pip=True)
    pip = [str(BIN / "python"), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "-r", str(wanted)]
    subprocess.run(pip, check=True)  # noqa: S603  # our own words
    installed.write_text(wanted.read_text())


@contextmanager
def started(server: Server, folder: Path) -> Iterator[Running]:
    """Its log is written into `folder`; raises RuntimeError with the log's end where it does not become ready."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = [word.format(port=port) for word in server.command]
    variables = os.environ | {"DEXPRESSION_PORT": str(port), "PEER_PORT": str(port)} | dict(server.variables)
    log = folder / f"{server.name}.log"
    began = time.perf_counter()
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603  # our own words
            command, env=variables, stdout=out, stderr=out, start_new_session=True
        )
    try:
        while not _is_ready(port, server.ready):
            if process.poll() is not None or time.perf_counter() > began + START_LIMIT:
                raise RuntimeError(f"{server.name} did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)
        yield Running(port, time.perf_counter() - began, process.pid)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)
        with suppress(ProcessLookupError):  # whatever it left behind
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _is_ready(port: int, path: str) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
