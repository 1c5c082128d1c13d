"""Pipfile, its lock and pyproject.toml name the same packages in the same versions."""

from __future__ import annotations

import json
import re
import tomllib

import pytest
from packaging.specifiers import SpecifierSet

from dexpression.extras import LIBRARIES
from tests.support.server import ROOT

PIPFILE = tomllib.loads((ROOT / "Pipfile").read_text())
LOCK = json.loads((ROOT / "Pipfile.lock").read_text())
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
MISSION = {"flask", "flask-cors", "fastai", "torch", "torchvision", "pillow"}
IMPORT_NAMES = {"scikit-learn": "sklearn", "opencv-python-headless": "cv2", "pillow-heif": "pillow_heif"}


def versions(requirements: list[str]) -> dict[str, str]:
    """Split requirements such as `flask~=3.1` into names and versions."""
    return dict(re.fullmatch(r"([\w-]+)(?:\[\w+\])?([~=<>].+)", requirement).groups() for requirement in requirements)


SERVE = versions(PROJECT["dependencies"])
TRAIN = versions(PROJECT["optional-dependencies"]["train"])
VIDEO = versions(PROJECT["optional-dependencies"]["video"])
CLUSTER = versions(PROJECT["optional-dependencies"]["cluster"])
HEIC = versions(PROJECT["optional-dependencies"]["heic"])


def test_the_category_serve_has_the_dependencies_of_the_package():
    assert PIPFILE["serve"] == SERVE


def test_the_packages_are_those_of_serving_and_of_the_extra_for_training():
    assert PIPFILE["packages"] == SERVE | TRAIN
    assert PIPFILE["packages"].keys() >= MISSION


def test_opencv_is_installed_for_development_in_a_version_of_the_extra_for_films():
    assert VIDEO.keys() == {"matplotlib", "opencv-python-headless"}
    assert VIDEO["matplotlib"] == TRAIN["matplotlib"]
    locked = LOCK["develop"]["opencv-python-headless"]["version"].removeprefix("==")
    assert locked in SpecifierSet(VIDEO["opencv-python-headless"])


@pytest.mark.parametrize(("name", "allowed"), (CLUSTER | HEIC).items())
def test_the_other_extras_are_installed_for_development_in_their_versions(name, allowed):
    assert LOCK["develop"][name]["version"].removeprefix("==") in SpecifierSet(allowed)


def test_the_category_build_has_what_builds_the_wheel():
    assert PIPFILE["build"] == versions(PYPROJECT["build-system"]["requires"])


@pytest.mark.parametrize(
    ("extra", "packages"), [("train", TRAIN), ("video", VIDEO), ("cluster", CLUSTER), ("heic", HEIC)]
)
def test_an_extra_is_missing_if_any_of_its_packages_is(extra, packages):
    assert set(LIBRARIES[extra]) == {IMPORT_NAMES.get(name, name) for name in packages}


@pytest.mark.parametrize("category", ["serve", "build"])
def test_a_category_is_locked_at_the_versions_of_all_packages(category):
    installed = LOCK["develop"] | LOCK["default"]
    assert PIPFILE[category].keys() <= LOCK[category].keys()
    assert LOCK[category] == {name: installed[name] for name in LOCK[category]}


def test_no_file_names_an_address_of_a_package_index():
    assert "source" not in PIPFILE
    assert LOCK["_meta"]["sources"] == []
