"""The extras of the package: optional libraries, which some commands need and serving does not."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from typing import Literal

from dexpression.errors import MissingExtra

Extra = Literal["train", "video", "cluster", "heic"]

# By the names under which the libraries are imported; pyproject.toml has those under which they are installed.
LEARNER = ("torch", "torchvision", "fastai", "safetensors")  # what loads the learner of an export
LIBRARIES: dict[Extra, tuple[str, ...]] = {
    "train": (*LEARNER, "onnx", "onnxscript", "sklearn", "matplotlib"),
    "video": ("cv2", "matplotlib"),
    "cluster": ("a2wsgi", "pyarrow", "ray"),
    "heic": ("pillow_heif",),
}
IN_A_CHECKOUT: dict[Extra, str] = {
    "train": "pipenv sync",
    "video": "pipenv sync --dev",
    "cluster": "pipenv sync --dev",
    "heic": "pipenv sync --dev",
}


def missing_libraries(names: Sequence[str]) -> list[str]:
    """Those of the libraries that are not installed; looks for them without importing any."""
    return [name for name in names if find_spec(name) is None]


def require_extra(extra: Extra, purpose: str, libraries: Sequence[str] = ()) -> None:
    """Raise MissingExtra, which says what to install, unless all libraries of an extra, or these, are installed.

    `purpose` is the subject of that sentence, such as "Training".
    """
    missing = missing_libraries(libraries or LIBRARIES[extra])
    if missing:
        raise MissingExtra(f"{purpose} needs more packages, such as {missing[0]}. Install: {install_command(extra)}")


def install_command(extra: Extra) -> str:
    """The command that adds an extra: to an installed package, or to the environment of a checkout."""
    try:
        distribution("dexpression")
    except PackageNotFoundError:
        return IN_A_CHECKOUT[extra]
    # The package is installed, so that pip asks the index for the libraries alone.
    return f"python3 -m pip install 'dexpression[{extra}]'"
