"""`pipenv run licences`: what `pipenv sync` installs and under which licence; fails at one that nobody looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parents[2] / "Pipfile.lock"
HEAD = """# Licences of what is installed

As each package names its own: by `pipenv sync` on Linux, which is the most; on other systems there is no CUDA.
Written by `pipenv run licences`.
"""
# Whoever runs the server may use all of these freely; who changes or sells one of them reads it.
ACCEPTED = [
    "3-Clause BSD License",
    "Apache Software License",
    "Apache-2.0",
    "Apache-2.0 AND Apache-2.0 WITH LLVM-exception AND BSD-2-Clause AND BSD-3-Clause AND BSL-1.0 AND MIT",
    "Apache-2.0 AND BSD-2-Clause",
    "Apache-2.0 OR BSD-2-Clause",
    "BSD",
    "BSD License",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0",
    "ISC License (ISCL)",
    "MIT",
    "MIT License",
    "MIT-CMU",
    "MPL-2.0 AND MIT",
    "Mozilla Public License 2.0 (MPL 2.0)",
    "PSF-2.0",
    "Python Software Foundation License",
    "Zope Public License",
]
# CUDA is NVIDIA's own, free to use; what of it the registry's torch brings along does not always say so.
NVIDIA = ["LicenseRef-NVIDIA-Proprietary", "NVIDIA Proprietary Software", "Other/Proprietary License", "UNKNOWN"]


def main() -> int:
    """Print the table; the status is not 0 where something has a licence of no list."""
    names = list(json.loads(LOCK.read_text())["default"])
    cuda = {name for name in names if name.startswith(("cuda-", "nvidia-"))}
    free = _list(["--packages", *(name for name in names if name not in cuda)], ACCEPTED)
    bound = _list(["--packages", *cuda], [*ACCEPTED, *NVIDIA])
    print("\n".join([HEAD, free.stdout, bound.stdout]), end="")
    return free.returncode or bound.returncode


def _list(packages: list[str], accepted: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "piplicenses", "--with-system", "--format=markdown"]
    return subprocess.run(
        [*command, f"--allow-only={';'.join(accepted)}", *packages], stdout=subprocess.PIPE, text=True, check=False
    )


if __name__ == "__main__":
    sys.exit(main())
