"""Every knob of the server, read once from DEXPRESSION_* variables."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dexpression.errors import SettingError
from dexpression.picture import MAX_PIXELS

PREFIX = "DEXPRESSION_"
HIGHEST = {PREFIX + "PORT": 65535, PREFIX + "THREADS": 256}


@dataclass(frozen=True)
class Settings:
    """The defaults serve this machine alone, on the port of the contract."""

    host: str = "127.0.0.1"
    port: int = 9874
    model_path: Path = Path(__file__).parent.parent / "model" / "dexpression.pkl"
    max_upload_bytes: int = 20_000_000  # of a whole request
    max_pixels: int = MAX_PIXELS  # of a picture, checked before it is decoded
    threads: int = 4  # requests worked on at once

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Raises SettingError, which names the variable, for a value that cannot be used or a name nobody knows."""
        given = {key: text for key, text in environ.items() if key.startswith(PREFIX)}
        names = {PREFIX + field.name.upper(): field for field in fields(cls)}
        unknown = sorted(given.keys() - names.keys())
        if unknown:
            raise SettingError(f"There is no setting {unknown[0]}. Known: {', '.join(names)}.")
        return cls(**{names[key].name: _value(key, text, names[key].default) for key, text in given.items()})


def _value(key: str, text: str, default: Any) -> Any:
    if not text.strip():
        raise SettingError(f"{key} is empty. Give it a value, or unset it for {default}.")
    if not isinstance(default, int):
        return text if isinstance(default, str) else Path(text)
    try:
        number = int(text)
    except ValueError:
        raise SettingError(f"{key} is {text!r}. It takes a whole number, such as {default}.") from None
    highest = HIGHEST.get(key, sys.maxsize)
    if not 1 <= number <= highest:
        raise SettingError(f"{key} is {number}. It takes 1 {'or more' if highest == sys.maxsize else f'to {highest}'}.")
    return number
