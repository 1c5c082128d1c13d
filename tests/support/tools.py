"""Tools that a test installs for itself: Python packages in an environment of their own, and packages of Node."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

INSTALL_SECONDS = 300


def create_environment(folder: Path, *packages: str | Path) -> Path:
    """Create a virtual environment with these packages; returns the folder of its commands.

    Raises CalledProcessError or TimeoutExpired if a package cannot be installed.
    """
    venv.create(folder)  # without a pip of its own, which takes longer to install than many packages
    commands = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", commands / "python"]
    # Compiling all modules takes twice as long as the rest, and a program imports few of them.
    _install([*pip, "install", "--quiet", "--no-compile", *packages], folder)
    return commands


def install_node_packages(folder: Path, *packages: str) -> None:
    """Install packages of Node into a folder. Raises FileNotFoundError without npm, and as `create_environment`."""
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    _install([npm, "install", "--silent", "--no-audit", "--no-fund", *packages], folder)


def _install(command: list[str | Path], folder: Path) -> None:
    subprocess.run(command, check=True, cwd=folder, capture_output=True, timeout=INSTALL_SECONDS)
