"""The wheel: what it holds, and that it serves and predicts from a fresh virtual environment without PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import dexpression
from dexpression.artifact.manifest import export_paths
from dexpression.settings import Settings
from tests.support.faces import encode
from tests.support.server import ROOT, Server, ask
from tests.support.tools import INSTALL_SECONDS, create_environment

pytestmark = pytest.mark.slow

MODEL = ("model/README.md", "model/dexpression.json", "model/dexpression.onnx")
DATA = {
    "dexpression/py.typed",
    "dexpression/web/examples.json",
    "dexpression/yunet/LICENSE",
    "dexpression/yunet/face_detection_yunet_2023mar.onnx",
    *(f"dexpression/web/static/{path.name}" for path in (ROOT / "dexpression" / "web" / "static").iterdir()),
}
INFORMATION = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"} | {
    "licenses/dexpression/yunet/LICENSE"
}
TOP_LEVEL = {"CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml", ".gitignore"}  # of the sdist


@pytest.fixture(scope="module", autouse=True)
def outside_the_checkout() -> Iterator[None]:
    """Let the installed package be found, not the checkout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH", raising=False)
        yield


def build(folder: Path, *options: str) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), *options, str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("distributions")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    [wheel] = distributions.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of a fresh virtual environment with the wheel."""
    return create_environment(tmp_path_factory.mktemp("installed"), wheel)


def run(installed: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the installed command `dexpression` in a folder where the checkout is not found."""
    command = [installed / "dexpression", *arguments]
    return subprocess.run(command, cwd=installed, capture_output=True, text=True, timeout=INSTALL_SECONDS)


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def committed_files() -> set[str]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines())


def test_the_wheel_holds_the_package_the_model_and_nothing_else(wheel):
    modules = {name for name in committed_files() if name.startswith("dexpression/") and name.endswith(".py")}
    information = {f"dexpression-{dexpression.__version__}.dist-info/{name}" for name in INFORMATION}
    model = {f"dexpression/{name}" for name in MODEL}
    assert contents(wheel).keys() == modules | DATA | model | information
    assert wheel.stat().st_size < 5_000_000


def test_the_sdist_makes_the_same_wheel_as_the_checkout(distributions, wheel, tmp_path):
    build(tmp_path, "--wheel")
    [direct] = tmp_path.glob("*.whl")
    assert contents(direct) == contents(wheel)
    [sdist] = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {name for name in names if not name.startswith("dexpression/")} == TOP_LEVEL | set(MODEL)


def test_an_index_accepts_the_distributions(distributions):
    command = [sys.executable, "-m", "twine", "check", "--strict", *distributions.iterdir()]
    subprocess.run(command, check=True, capture_output=True)


def test_the_environment_is_small_and_has_no_torch(installed):
    importing = subprocess.run([installed / "python", "-c", "import torch"], capture_output=True, text=True)
    assert "No module named 'torch'" in importing.stderr
    files = (path.lstat() for path in installed.parent.rglob("*"))
    assert sum(getattr(status, "st_blocks", 0) * 512 for status in files) < 260_000_000


def test_the_installed_server_answers_with_the_bytes_of_the_checkout(installed, portrait):
    answers = []
    photo = encode(portrait)
    for command in ([str(installed / "dexpression"), "serve"], [sys.executable, "server.py"]):
        with Server(command=command, DEXPRESSION_WORKERS="1") as server:
            answers.append([ask(server.url, photo), ask(f"{server.url}/v1/model"), ask(f"{server.url}/client.js")])
            assert "has its digests and gives its recorded answers" in server.log
            assert ("is not compared with it, because torch is not installed" in server.log) == (len(answers) == 1)
    assert answers[0] == answers[1]
    assert answers[0][0] == (200, b'{"result": "HAPPY"}')


def test_the_installed_command_predicts_as_the_checkout_does(installed, portrait, shipped, tmp_path):
    portrait.save(tmp_path / "photo.png")
    done = run(installed, "predict", tmp_path / "photo.png", "--json")
    read = shipped.predict(tmp_path / "photo.png").to_dict()
    assert json.loads(done.stdout) == {"path": str(tmp_path / "photo.png")} | read


def test_the_installed_command_evaluates_another_export(installed, class_folders, exported_learner):
    done = run(installed, "evaluate", class_folders, "--model", exported_learner.parent, "--json")
    assert json.loads(done.stdout)["n"] == 70


def test_the_installed_command_names_its_version(installed):
    assert run(installed, "--version").stdout == f"dexpression {dexpression.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "needs", "extra"),
    [
        (["video", "clip.mp4"], "Reading films needs more packages, such as cv2.", "video"),
        (["label", "in", "out"], "Labelling files into a table needs more packages, such as pyarrow.", "cluster"),
    ],
)
def test_a_command_for_films_or_many_files_says_in_one_line_what_to_install(installed, arguments, needs, extra):
    done = run(installed, *arguments)
    assert done.stderr == f"dexpression: {needs} Install: python3 -m pip install 'dexpression[{extra}]'\n"


@pytest.mark.parametrize(
    ("arguments", "purpose"),
    [
        (["train", "faces"], "Training"),
        (["crossvalidate", "faces"], "Cross-validation"),
        (["predict", "photo.png", "--model", export_paths(Settings.model_path).weights], "The learner of an export"),
    ],
)
def test_a_command_whose_extra_is_missing_says_in_one_line_what_to_install(installed, arguments, purpose):
    done = run(installed, *arguments)
    assert done.returncode == 1
    install = "Install: python3 -m pip install 'dexpression[train]'"
    assert done.stderr == f"dexpression: {purpose} needs more packages, such as torch. {install}\n"
