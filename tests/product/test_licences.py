"""What is installed may be used by everybody, and is listed."""

from __future__ import annotations

import json
import re

from tests.support import licences


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_licence_is_one_that_somebody_has_looked_at(capfd):
    assert licences.main() == 0, capfd.readouterr().err


def test_what_is_locked_is_listed_in_its_version():
    rows = re.findall(r"^\| (\S+) +\| (\d\S*) ", (licences.LOCK.parent / "LICENCES.md").read_text(), re.MULTILINE)
    listed = {(canonical(name), version) for name, version in rows}
    locked = json.loads(licences.LOCK.read_text())["default"]
    wanted = {(name, entry["version"].removeprefix("==")) for name, entry in locked.items()}
    assert wanted == listed, "Give the command: pipenv run licences > LICENCES.md"
