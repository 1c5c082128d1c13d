"""`pipenv run licences`: what `pipenv sync` installs and under which licence; fails where one asks for more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parent.parent / "Pipfile.lock"
# None of them asks more of those who run the server than to leave its name in. CUDA, which the registry's torch for
# Linux brings along, is NVIDIA's own, free to use; cuda-toolkit, which is but a list of its parts, names none.
ALLOWED = (
    "MIT",
    "BSD",
    "Apache",
    "PSF",
    "Python Software Foundation",
    "ISC",
    "MPL",
    "Mozilla",
    "Zope",
    "NVIDIA",
    "Proprietary",
)


def main() -> int:
    """Print the table; the status of pip-licenses."""
    names = list(json.loads(LOCK.read_text())["default"])
    allowed = ["--partial-match", f"--allow-only={';'.join(ALLOWED)}"]
    command = [
        sys.executable,
        "-m",
        "piplicenses",
        "--with-system",
        "--format=markdown",
        "--ignore-packages=cuda-toolkit",
    ]
    return subprocess.run([*command, *allowed, "--packages", *names], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
