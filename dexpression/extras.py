"""The extras of the package: optional libraries, which some commands need and serving does not."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from typing import Literal

from dexpression.errors import MissingExtra

Extra = Literal["train"]

# By the names under which the libraries are imported; pyproject.toml has those under which they are installed.
LIBRARIES: dict[Extra, tuple[str, ...]] = {
    "train": ("torch", "torchvision", "fastai", "safetensors", "onnx", "onnxscript", "sklearn", "matplotlib"),
}


def missing_libraries(extra: Extra) -> list[str]:
    """The libraries of an extra that are not installed; looks for them without importing any."""
    return [name for name in LIBRARIES[extra] if find_spec(name) is None]


def require_extra(extra: Extra, purpose: str) -> None:
    """Raise MissingExtra, which says what to install, unless all libraries of an extra are installed.

    `purpose` is the subject of that sentence, such as "Training".
    """
    missing = missing_libraries(extra)
    if missing:
        raise MissingExtra(f"{purpose} needs {', '.join(missing)}. Install: {_install_command(extra)}")


def _install_command(extra: Extra) -> str:
    """The command that adds an extra: to an installed package, or to the environment of a checkout."""
    try:
        distribution("dexpression")
    except PackageNotFoundError:
        return "pipenv sync"
    # The package is installed, so that pip asks the index for the libraries alone.
    return f"python3 -m pip install 'dexpression[{extra}]'"
