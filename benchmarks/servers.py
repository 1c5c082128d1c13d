"""The measured servers: how each is started, when it is ready, and how much memory it uses."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import sysconfig
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
SAME_APP = "same app"  # how the names of the servers begin that serve our app and network


@dataclass(frozen=True)
class Server:
    """How to start a server. `{port}` in the command becomes the port; `variables` are added to the environment."""

    name: str
    command: tuple[str, ...]
    ready: str  # a path that answers 200 as soon as the server is ready
    path: str = "/"
    variables: Mapping[str, str] = field(default_factory=dict)
    is_ours: bool = False  # whether it answers with our pipeline and the int8 network, not with the float32 one


@dataclass(frozen=True)
class Running:
    """A started server, and its processes."""

    port: int
    seconds: float  # from its start until it was ready
    pid: int

    def processes(self) -> list[Path]:
        """The /proc folder of each process of the server, the main process first; empty if the system has no /proc."""
        parents = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # the process has ended meanwhile
                parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        family = []
        found = [self.pid] if self.pid in parents else []
        while found:  # by parent, because BentoML's workers have sessions of their own
            family += found
            found = [pid for pid, parent in parents.items() if parent in found]
        return [Path("/proc", str(pid)) for pid in family]

    def memory(self) -> list[int]:
        """The resident memory of each process of the server in MB, largest first."""
        page = os.sysconf("SC_PAGESIZE")
        pages = (int((process / "statm").read_text().split()[1]) for process in self.processes())
        return sorted((count * page // 10**6 for count in pages), reverse=True)


def servers(model: Path, network: Path) -> list[Server]:
    """List our server first, then our app in other servers, then the peers.

    Our server and our app have `model`, the folder of an export; the student project has the learner in it. The other
    peers have `network`, a float32 ONNX model.
    """
    cores = str(os.cpu_count())
    peer = {"PEER_NETWORK": str(network), "PEER_CORES": cores, "BENTOML_HOME": str(network.parent)}
    peer |= {"BENTOML_DO_NOT_TRACK": "true", "PEER_MODEL_FOLDER": str(model)}
    batch = peer | {"PEER_BATCH": "1"}
    uvicorn = (str(BIN / "uvicorn"), "with_fastapi:app", "--app-dir", str(PEERS), "--port", "{port}")
    litserve = (str(BIN / "python"), str(PEERS / "with_litserve.py"))
    service = ("with_bentoml:Service", "--working-dir", str(PEERS))
    bentoml = (str(BIN / "bentoml"), "serve", *service, "--host", "127.0.0.1", "--port", "{port}")
    student = (sys.executable, str(PEERS / "with_flask.py"))
    return [
        *our_servers(model),
        Server("FastAPI", (*uvicorn, "--workers", cores, "--no-access-log"), "/ready", variables=peer),
        Server("LitServe", litserve, "/health", "/predict", peer),
        Server("LitServe, batches", litserve, "/health", "/predict", batch),
        Server("BentoML", bentoml, "/readyz", variables=peer),
        Server("BentoML, batches", bentoml, "/readyz", variables=batch),
        Server("student project", student, "/ready", variables=peer | {"PYTHONPATH": "."}),
    ]


def our_servers(model: Path) -> list[Server]:
    """List our server first, then our app in other servers; all of them have `model`, the folder of an export."""
    cores, app = str(os.cpu_count()), "dexpression.wsgi:app"
    ours = {"DEXPRESSION_MODEL_PATH": str(model)}
    # The peers' environment has the servers; the app's libraries are those of the running environment.
    same = ours | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), sysconfig.get_path("purelib")])}
    granian = (str(BIN / "granian"), "--interface", "wsgi", "--workers", cores, "--port", "{port}", app)
    one_thread = (*granian, "--blocking-threads", "1")
    threads = ("--worker-class", "gthread", "--threads", "4", "--no-control-socket")
    gunicorn = (str(BIN / "gunicorn"), "--workers", cores, *threads, "--bind", "127.0.0.1:{port}", app)
    waitress = (sys.executable, "-m", "waitress", "--listen", "127.0.0.1:{port}", app)
    ready = "/health/ready"
    return [
        Server("DeXpression", (sys.executable, "server.py"), ready, variables=ours, is_ours=True),
        Server(f"{SAME_APP}, granian", granian, ready, variables=same, is_ours=True),
        Server(f"{SAME_APP}, granian, 1 thread", one_thread, ready, variables=same, is_ours=True),
        Server(f"{SAME_APP}, gunicorn", gunicorn, ready, variables=same, is_ours=True),
        Server(f"{SAME_APP}, waitress", waitress, ready, variables=same, is_ours=True),
    ]


def install_peers() -> None:
    """Install the peers into their own virtual environment, again whenever their requirements change."""
    required, installed = PEERS / "requirements.txt", ENVIRONMENT / "requirements.txt"
    if installed.exists() and installed.read_text() == required.read_text():
        return
    venv.create(ENVIRONMENT, with_pip=True)
    pip = [str(BIN / "python"), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "-r", str(required)]
    subprocess.run(pip, check=True)  # noqa: S603  # the command is fixed
    installed.write_text(required.read_text())


@contextmanager
def started(server: Server, folder: Path, stop_seconds: float = 15.0) -> Iterator[Running]:
    """Start a server, wait until it is ready, and stop it at the end; kill it if that takes `stop_seconds`.

    Its log is written into `folder`. Raises RuntimeError, with the end of the log, if it does not become ready.
    """
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    command = [word.format(port=port) for word in server.command]
    variables = os.environ | {"DEXPRESSION_PORT": str(port), "PEER_PORT": str(port)} | dict(server.variables)
    log = folder / f"{server.name}.log"
    start = time.perf_counter()
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603  # the command is fixed
            command, env=variables, stdout=out, stderr=out, start_new_session=True
        )
    try:
        while not _is_ready(port, server.ready):
            if process.poll() is not None or time.perf_counter() > start + START_LIMIT:
                raise RuntimeError(f"{server.name} did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)
        yield Running(port, time.perf_counter() - start, process.pid)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(stop_seconds)
        with suppress(ProcessLookupError):  # processes that are still running
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _is_ready(port: int, path: str) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
