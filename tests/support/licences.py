"""List the licences of the locked packages, and fail at a licence that is not accepted: `pipenv run licences`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parents[2] / "Pipfile.lock"
HEAD = """# Licences of the installed packages

Each licence is the one that the package itself names. The list is what `pipenv sync` installs on Linux; other systems
get no CUDA packages. Made by `pipenv run licences > LICENCES.md`.

Two files in the package are not ours: the face detector's weights, YuNet (MIT, `dexpression/yunet/LICENSE`), and the
page's sample picture, `dexpression/web/static/sample.jpg`: scikit-image's `astronaut`, a portrait of Eileen Collins by
NASA, in the public domain.

The extra `[video]` adds OpenCV (Apache-2.0), whose wheel has FFmpeg (LGPL-2.1-or-later, without its GPL parts).
The extra `[cluster]` adds pyarrow, Ray and a2wsgi (Apache-2.0). The extra `[heic]` adds pillow-heif (BSD-3-Clause),
whose wheels have libheif (LGPL-3.0) and x265 (GPL-2.0): whoever distributes them has the duties of these licences.
"""
# Licences of software that anyone may run for any purpose; changed copies have duties.
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
# The CUDA packages that torch requires are free to use, but not all of them name their licence.
NVIDIA = ["LicenseRef-NVIDIA-Proprietary", "NVIDIA Proprietary Software", "Other/Proprietary License", "UNKNOWN"]


def main() -> int:
    """Print LICENCES.md; the status is not 0 if a package has a licence that is not accepted."""
    names = list(json.loads(LOCK.read_text())["default"])
    cuda = {name for name in names if name.startswith(("cuda-", "nvidia-"))}
    open_source = _list(["--packages", *(name for name in names if name not in cuda)], ACCEPTED)
    proprietary = _list(["--packages", *cuda], [*ACCEPTED, *NVIDIA])
    print("\n".join([HEAD, open_source.stdout, proprietary.stdout]), end="")
    return open_source.returncode or proprietary.returncode


def _list(packages: list[str], accepted: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "piplicenses", "--with-system", "--format=markdown"]
    return subprocess.run(
        [*command, f"--allow-only={';'.join(accepted)}", *packages], stdout=subprocess.PIPE, text=True, check=False
    )


if __name__ == "__main__":
    sys.exit(main())
