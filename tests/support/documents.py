"""The code blocks of our Markdown documents, and a copy of the project in which their commands run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.faces import draw_face
from tests.support.films import walk, write_film
from tests.support.server import ROOT

# Documents that train, and so replace the model of the copied project, come after those that show its answers.
DOCUMENTS = (
    "docs/films.md",
    "docs/page.md",
    "docs/scale.md",
    "docs/http.md",
    "docs/inference-protocol.md",
    "docs/kubernetes.md",
    "docs/operations.md",
    "README.md",
    "docs/training.md",
    "model/README.md",
)
FENCE = re.compile(r"(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced code block; `reason` says why its commands are not run."""

    document: str
    language: str
    text: str
    reason: str | None

    def commands(self) -> list[tuple[str, str]]:
        """The commands of a console block, each with the output that is shown below it, or an empty text."""
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        return [(command, output.strip()) for command, _, output in (part.partition("\n") for part in parts)]


def code_blocks(document: str) -> list[Block]:
    """All fenced code blocks of a document, in order."""
    found = FENCE.finditer((ROOT / document).read_text())
    return [Block(document, match["language"], match["text"], match["reason"]) for match in found]


def copy_project(folder: Path, portrait: Image.Image) -> Path:
    """Copy what commands need, and add the files that the documents name: a photo, a film, a text, faces."""
    for name in ("dexpression", "model", "notebooks", "imgs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Pipfile", "server.py"):
        shutil.copy(ROOT / name, folder)
    (folder / "photos").mkdir()
    for name in ("photo.jpg", "photos/one.jpg"):
        portrait.save(folder / name, quality=95)
    write_film(folder / "clip.mp4", walk(10))
    (folder / "notes.txt").write_text("no picture\n")
    for label in ("ANGRY", "DISGUST", "FEAR", "HAPPY", "NEUTRAL"):
        for split, numbers in (("train", range(2)), ("valid", range(2, 3))):
            faces = folder / "path/to/faces" / split / label.lower()
            faces.mkdir(parents=True)
            for number in numbers:  # each is another person
                draw_face(label, number).save(faces / f"S{number:03}_001.png")
    write_commands(folder / "bin")
    return folder


def write_commands(folder: Path) -> None:
    """Write commands for this environment: python, dexpression, and a pipenv that runs the scripts of the Pipfile."""
    folder.mkdir()
    program = f"""#!{sys.executable}
import shlex, subprocess, sys, tomllib
_, run, name, *arguments = sys.argv
assert run == "run"
with open("Pipfile", "rb") as pipfile:
    script = tomllib.load(pipfile)["scripts"].get(name, name)
sys.exit(subprocess.run([*shlex.split(script), *arguments]).returncode)
"""
    python = shlex.quote(sys.executable)
    _write_executable(folder / "pipenv", program)
    _write_executable(folder / "python", f'#!/bin/sh\nexec {python} "$@"\n')
    _write_executable(folder / "dexpression", f'#!/bin/sh\nexec {python} -m dexpression "$@"\n')


def _write_executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(stat.S_IRWXU)


def comparable(output: str) -> Any:
    """Parse JSON and drop what differs from request to request; other text is stripped."""
    try:
        return _without_ids(json.loads(output))
    except ValueError:
        return output.strip()


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_ids(member) for name, member in value.items() if name != "request_id"}
    if isinstance(value, list):
        return [_without_ids(member) for member in value]
    return round(value, 2) if isinstance(value, float) else value
