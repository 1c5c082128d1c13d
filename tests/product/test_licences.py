"""The licences of the installed packages are accepted, and LICENCES.md is up to date."""

from __future__ import annotations

import json
import re

import pytest

from tests.support import licences


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.slow
def test_every_licence_is_an_accepted_one(capfd):
    assert licences.main() == 0, capfd.readouterr().err


def test_every_locked_package_is_listed_with_its_version():
    rows = re.findall(r"^\| (\S+) +\| (\d\S*) ", (licences.LOCK.parent / "LICENCES.md").read_text(), re.MULTILINE)
    listed = {(canonical(name), version) for name, version in rows}
    locked = json.loads(licences.LOCK.read_text())["default"]
    expected = {(name, entry["version"].removeprefix("==")) for name, entry in locked.items()}
    assert expected == listed, "Write the list again: pipenv run licences > LICENCES.md"
