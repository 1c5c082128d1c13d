"""Inputs that nobody thought of, guided by what they reach: `pipenv run fuzz [--inputs 100000] [--seconds 900]`.

Each target is a process of its own (atheris, libFuzzer). It ends with what broke a promise, and leaves the input in
the folder that it names; put it, made small, into a test. Nothing of a run is kept otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARES = {"picture": 0.4, "body": 0.35, "learner": 0.15, "manifest": 0.1}  # of the inputs and of the time
KINDS = [b"multipart/form-data; boundary=cut", b"image/png", b"application/json", b"application/x-www-form-urlencoded"]
PATHS = ["/", "/v1/predict", "/?detail=full", "/?on_no_face=error&labels=seven"]
# What loading a file must not lead to, as the interpreter itself reports it.
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.", "socket.connect", "shutil.")

Target = Callable[[bytes], None]


def target_picture() -> Target:
    """A picture within the limits, or an error of ours."""
    from dexpression.errors import RequestError
    from dexpression.picture import load_picture

    def check(data: bytes) -> None:
        with contextlib.suppress(RequestError):
            picture = load_picture(data, 1_000_000)
            assert picture.image.mode in ("L", "RGB")
            assert 0 < picture.width * picture.height <= 1_000_000

    return check


def target_body() -> Target:
    """200, or a problem of ours that is the caller's fault."""
    from dexpression.web import create_app
    from dexpression.web.service import Service
    from tests.support.web import LIMITS, PROBLEM_MEMBERS, StubPredictor

    client = create_app(Service(StubPredictor()), LIMITS).test_client()

    def check(data: bytes) -> None:
        kind, path = (data[0] if data else 0) % len(KINDS), (data[1] if len(data) > 1 else 0) % len(PATHS)
        response = client.post(PATHS[path], data=data[2:], content_type=KINDS[kind].decode())
        if response.status_code != 200:
            assert response.status_code < 500, response.text
            assert response.get_json(force=True).keys() == PROBLEM_MEMBERS

    return check


def target_learner() -> Target:
    """Nothing happens but the making of a learner, whatever its pickle says."""
    import dexpression.artifact.export  # noqa: F401  # brings in all that a learner names: what imports do is not the file's doing
    from dexpression.artifact.unpickling import unpickle_learner
    from tests.support.archives import archive_of

    watching = False

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        evaluated = (
            event == "exec" and getattr(arguments[0], "co_filename", "") == "<string>"
        )  # of an import, it is a file
        if watching and (evaluated or event.startswith(FORBIDDEN)):
            raise SystemExit(f"Loading led to {event}: {arguments}")

    sys.addaudithook(watch)

    def check(data: bytes) -> None:
        nonlocal watching
        content = archive_of(data)
        watching = True
        try:
            unpickle_learner(content)
        except Exception:  # damaged: the loader makes one error of ours of all of them
            pass
        finally:
            watching = False

    return check


def target_manifest() -> Target:
    """A manifest, or an error of ours."""
    from dexpression.artifact.manifest import Manifest
    from dexpression.errors import ArtifactError

    path = Path(tempfile.mkdtemp(), "dexpression.json")

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(ArtifactError):
            Manifest.read(path).public_facts()

    return check


def seeds(name: str) -> Iterator[bytes]:
    """What is right, for the fuzzer to spoil."""
    from tests.support.faces import encode
    from tests.support.hostile import FACE, PICTURES
    from tests.support.web import multipart

    if name == "picture":
        yield from PICTURES.values()
    elif name == "body":
        content = encode(FACE)
        yield b"\0\0" + multipart(content)
        yield b"\0\1" + multipart(content, content)
        yield b"\1\2" + content
        yield b'\2\3{"image": "data:image/png;base64,iVBORw0KGgo="}'
        yield b"\3\0file=x"
    elif name == "manifest":
        yield (ROOT / "model" / "dexpression.json").read_bytes()
        yield b'{"labels": ["A", "B"], "image_size": 48, "sha256": "", "versions": {}, "results": {"seven": {"n": 1}}}'
    else:
        with zipfile.ZipFile(ROOT / "model" / "dexpression.pkl") as shipped:
            yield shipped.read(next(entry for entry in shipped.namelist() if entry.endswith("data.pkl")))
        yield b"ccollections\nOrderedDict\n)R."
        yield b"cfastai.callback.core\nTrainEvalCallback\n)\x81}b."


def run_target(name: str, options: list[str]) -> None:
    """In this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=["dexpression", "werkzeug", "PIL", "pickle"]):
        check = globals()[f"target_{name}"]()
    atheris.Setup([sys.argv[0], *options], check)
    atheris.Fuzz()


def fuzz(inputs: int, seconds: int) -> list[str]:
    """A line a target: how many inputs, and what came of them; raises SystemExit for one that was not withstood."""
    lines = []
    for name, share in SHARES.items():
        with tempfile.TemporaryDirectory() as folder:
            corpus = Path(folder, "corpus")
            corpus.mkdir()
            for number, seed in enumerate(seeds(name)):
                (corpus / str(number)).write_bytes(seed)
            found = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
            limits = {"runs": int(inputs * share), "max_total_time": max(1, int(seconds * share)), "timeout": 10}
            limits |= {"rss_limit_mb": 4096, "max_len": 65536, "seed": 1}
            options = [f"-{key}={value}" for key, value in limits.items()] + [f"-artifact_prefix={found}/", str(corpus)]
            command = [sys.executable, "-W", "ignore", "-m", "tests.support.fuzz", "--target", name, *options]
            done = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=ROOT)
            if done.returncode:
                sys.exit(f"{done.stderr[-4000:]}\n{name}: not withstood; the input lies in {found}")
            found.rmdir()
            last = next(line for line in reversed(done.stderr.splitlines()) if line.startswith("Done"))
            lines.append(f"{name}: {last}")
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Run all targets, or be one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=900)
    parser.add_argument("--target", choices=SHARES, help=argparse.SUPPRESS)
    options, others = parser.parse_known_args()
    if options.target:
        run_target(options.target, others)
    else:
        fuzz(options.inputs, options.seconds)


if __name__ == "__main__":
    main()
