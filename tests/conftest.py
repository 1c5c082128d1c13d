"""Fixtures for all tests: pictures, folders of faces, and models. Only the fixtures that need torch import it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from dexpression.artifact.manifest import export_paths
from dexpression.labels import FER2013_ORDER
from dexpression.prediction import Predictor
from dexpression.settings import Settings
from tests.support.faces import OWN_LABELS, draw_face, write_class_folders

if TYPE_CHECKING:
    from tests.support.server import Server

# `pipenv run test` starts two processes; each with as many threads as there are processors would be slower.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell makes what it runs in the background ignore Ctrl-C, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def exported_learner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The learner's file of an export with random weights, which answers differently to different faces."""
    from tests.support.exports import export_random_learner

    return export_random_learner(tmp_path_factory.mktemp("model"), seed=0)


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The learner's file of another export, with other weights."""
    from tests.support.exports import export_random_learner

    return export_random_learner(tmp_path_factory.mktemp("other"), seed=1)


@pytest.fixture(scope="session")
def own_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The learner's file of an export with labels of its own, BORED and VERY ATTENTIVE."""
    from tests.support.exports import export_random_learner

    return export_random_learner(tmp_path_factory.mktemp("own"), seed=2, labels=OWN_LABELS)


@pytest.fixture(scope="session")
def two_readings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The learner's file of an export with two heads, so with both readings, which differ."""
    from tests.support.exports import export_random_learner

    return export_random_learner(tmp_path_factory.mktemp("two"), seed=0, heads=2)


@pytest.fixture
def model(exported_learner: Path, tmp_path: Path) -> Path:
    """A copy of `exported_learner` that a test may change."""
    return Path(shutil.copytree(exported_learner.parent, tmp_path / "model")) / exported_learner.name


@pytest.fixture(scope="session")
def shipped() -> Predictor:
    """The shipped model, by its ONNX model."""
    return Predictor.load(Settings.model_path)


@pytest.fixture(scope="session")
def light_export(exported_learner: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX model of `exported_learner`, beside its manifest alone: its server starts without PyTorch."""
    from tests.support.server import copy_without_learner

    return copy_without_learner(exported_learner, tmp_path_factory.mktemp("light"))


@pytest.fixture(scope="session")
def light_shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped ONNX model, beside its manifest alone: its server starts without PyTorch."""
    from tests.support.server import copy_without_learner

    return copy_without_learner(Settings.model_path, tmp_path_factory.mktemp("shipped"))


@pytest.fixture
def light_model(model: Path) -> Path:
    """The copy `model` without its learner, also for a `server` after this fixture, which starts without PyTorch."""
    paths = export_paths(model)
    paths.weights.unlink()
    paths.learner.unlink()
    return model


@pytest.fixture
def server(model: Path) -> Iterator[Server]:
    """A running server with the copy `model`, for one test."""
    from tests.support.server import Server

    with Server(model) as server:
        yield server


@pytest.fixture(scope="session")
def portrait() -> Image.Image:
    """Eileen Collins, NASA, public domain: 512x512 pixels, one face, HAPPY, at (178, 63) to (268, 176)."""
    return Image.fromarray(astronaut())


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """A folder a class, with ten faces each."""
    return write_class_folders(tmp_path / "faces", 10)


@pytest.fixture
def split_folders(tmp_path: Path) -> Path:
    """train/ with six faces a class and valid/ with two."""
    write_class_folders(tmp_path / "faces" / "train", 6)
    write_class_folders(tmp_path / "faces" / "valid", 2, seed=1)
    return tmp_path / "faces"


@pytest.fixture
def write_table(tmp_path: Path) -> Callable[..., Path]:
    """Write fer2013.csv with `count` faces a label, every fifth of them in PublicTest."""

    def write(count: int = 10, usage: bool = True) -> Path:
        lines = ["emotion,pixels,Usage" if usage else "emotion,pixels"]
        for number, label in enumerate(FER2013_ORDER):
            for seed in range(count):
                pixels = " ".join(map(str, np.asarray(draw_face(label, seed)).ravel()))
                end = f",{'PublicTest' if seed % 5 == 0 else 'Training'}" if usage else ""
                lines.append(f"{number},{pixels}{end}")
        table = tmp_path / "fer2013.csv"
        table.write_text("\n".join(lines) + "\n")
        return table

    return write
