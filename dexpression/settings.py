"""Every knob of the server, read once from DEXPRESSION_* variables."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from dexpression.errors import SettingError
from dexpression.picture import MAX_PIXELS
from dexpression.reading import MIN_FACE_CONFIDENCE

PREFIX = "DEXPRESSION_"


def _knob(
    default: Any, meaning: str, *, between: tuple[float, float] = (1, math.inf), choices: tuple[str, ...] = ()
) -> Any:
    return field(default=default, metadata={"meaning": meaning, "between": between, "choices": choices})


@dataclass(frozen=True)
class Settings:
    """The defaults serve this machine alone, on the port of the contract."""

    host: str = _knob("127.0.0.1", "`0.0.0.0` answers other machines too")
    port: int = _knob(9874, "", between=(1, 65535))
    model_path: Path = _knob(
        Path(__file__).parent.parent / "model" / "dexpression.pkl", "its manifest and ONNX form lie beside it"
    )
    labels: str = _knob("five", "`seven` has `POST /` choose among seven unless asked", choices=("five", "seven"))
    face_confidence: float = _knob(MIN_FACE_CONFIDENCE, "how sure the detector must be of a face", between=(0.1, 1))
    max_upload_bytes: int = _knob(20_000_000, "of a whole request")
    max_pixels: int = _knob(MAX_PIXELS, "of a picture, checked before it is decoded")
    workers: int = _knob(os.cpu_count() or 1, "processes, each of one request at a time", between=(1, 256))
    queue: int = _knob(256, "pictures that may wait in a worker; more are told `overloaded`", between=(1, 1_000))
    patience_seconds: float = _knob(10.0, "how long a request may wait for its turn", between=(0.1, 3_600))
    stop_seconds: float = _knob(20.0, "how long a stop waits for requests in hand", between=(0.1, 3_600))
    origins: str = _knob("*", "of the web pages that may ask, separated by spaces; `*` is any")
    token: str = _knob("", "callers must send it: `Authorization: Bearer ...`")
    log: str = _knob("text", "`json` writes a JSON object a line", choices=("text", "json"))

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Raises SettingError, which names the variable, for a value that cannot be used or a name nobody knows."""
        given = {key: text for key, text in environ.items() if key.startswith(PREFIX)}
        names = {variable(knob): knob for knob in fields(cls)}
        unknown = sorted(given.keys() - names.keys())
        if unknown:
            raise SettingError(f"There is no setting {unknown[0]}. Known: {', '.join(names)}.")
        return cls(**{names[key].name: _value(key, text, names[key]) for key, text in given.items()})


def variable(knob: Field[Any]) -> str:
    """port -> DEXPRESSION_PORT"""
    return PREFIX + knob.name.upper()


def shown_default(knob: Field[Any]) -> str:
    """As people are told of it: the same on every machine."""
    told = {"model_path": "model/dexpression.pkl", "workers": "one a core", "token": "none"}
    return told.get(knob.name, str(knob.default))


def describe_settings() -> str:
    """A line a variable: its name, its default, what it does."""
    meanings = {knob.name: str(knob.metadata["meaning"]).replace("`", "") for knob in fields(Settings)}
    return "\n".join(
        f"  {variable(knob):<30}{shown_default(knob):<23}{meanings[knob.name]}".rstrip() for knob in fields(Settings)
    )


def _value(key: str, text: str, knob: Field[Any]) -> Any:
    default, choices = knob.default, knob.metadata["choices"]
    if not text.strip():
        raise SettingError(f"{key} is empty. Give it a value, or unset it for {shown_default(knob)}.")
    if choices and text not in choices:
        raise SettingError(f"{key} is {text!r}. It takes {' or '.join(choices)}.")
    if isinstance(default, (int, float)):
        return _number(key, text, default, *knob.metadata["between"])
    return Path(text) if isinstance(default, Path) else text


def _number(key: str, text: str, default: float, lowest: float, highest: float) -> float:
    try:
        number = type(default)(text)
    except ValueError:
        kind = "whole number" if isinstance(default, int) else "number"
        raise SettingError(f"{key} is {text!r}. It takes a {kind}, such as {default}.") from None
    if not lowest <= number <= highest:
        upwards = "or more" if highest == math.inf else f"to {highest}"
        raise SettingError(f"{key} is {number}. It takes {lowest} {upwards}.")
    return number
