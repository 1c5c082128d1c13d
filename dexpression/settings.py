"""The settings of the server, read once from DEXPRESSION_* environment variables."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any

from dexpression.errors import SettingError, UnknownLabels, UnknownReading
from dexpression.labels import READINGS, ReadingName, label_sets, list_labels
from dexpression.options import allowed_values, is_allowed, option, plain_meaning
from dexpression.picture import MAX_PIXELS
from dexpression.reading import MIN_FACE_CONFIDENCE
from dexpression.service_links import find_service_links
from dexpression.shipped import default_model_path

PREFIX = "DEXPRESSION_"
ANY = "*"
HOST_NAME = re.compile(r"[\w.-]+", re.ASCII)
ORIGIN = re.compile(r"([a-z][a-z\d+.-]*)://(?:[\w.-]+|\[[\da-f:.]+\])(:\d{1,5})?", re.ASCII | re.IGNORECASE)
USUAL_PORTS = {"http": ":80", "https": ":443"}  # browsers leave them out
MAX_WORKERS = 256


@dataclass(frozen=True)
class Settings:
    """The settings of the server; the defaults serve this machine alone, on port 9874."""

    host: str = option("127.0.0.1", "address to listen on; `0.0.0.0` serves other machines too")
    port: int = option(9874, "port to listen on", between=(1, 65535))
    model_path: Path = option(default_model_path(), "folder of the export, or one of its files")
    labels: str | None = option(
        None,
        "labels of `POST /`, `five` or `seven`, unless the request chooses; by default all labels of a model that has "
        "labels of its own, and `five` of any other",
        choices=("five", "seven"),
        parse=str,
    )
    reading: ReadingName | None = option(
        None,
        "what answers follow unless the request chooses: `people` (what most people see in a face) or `labels` (of the "
        "training data); by default the first that the model has",
        choices=READINGS,
        parse=str,
    )
    face_confidence: float = option(
        MIN_FACE_CONFIDENCE, "lowest detection confidence that counts as a face", between=(0.1, 1)
    )
    max_upload_bytes: int = option(20_000_000, "largest request", between=(1, math.inf))
    max_pixels: int = option(MAX_PIXELS, "largest picture, checked before it is decoded", between=(1, math.inf))
    workers: int | None = option(
        None,
        "processes, each of which answers one request at a time; by default fewer where the memory cannot hold them",
        between=(1, MAX_WORKERS),
        parse=int,
    )
    max_queue: int = option(
        256, "pictures that may wait in one worker; more are refused with `overloaded`", between=(1, 1_000)
    )
    queue_timeout_seconds: float = option(10.0, "longest wait of a request in the queue", between=(0.1, 3_600))
    graceful_timeout_seconds: float = option(
        20.0, "longest wait for open requests when the server stops", between=(0.1, 3_600)
    )
    request_timeout_seconds: float = option(
        10.0, "longest time that one request may take; then it is answered with `too_complex`", between=(0.1, 3_600)
    )
    cors_origins: str = option(
        ANY, "web pages that may call, such as `https://app.example`, separated by spaces; `*` allows any"
    )
    hosts: str = option(
        "",
        "names by which the server may be called besides localhost and addresses, separated by spaces; `*` allows any, "
        "which is the default with a `DEXPRESSION_HOST` that serves other machines",
    )
    token: str = option("", "callers must send it as `Authorization: Bearer TOKEN`")
    log: str = option("text", "`text`, or `json` for one JSON object per line", choices=("text", "json"))
    log_level: str = option(
        "INFO",
        "lowest level that is logged; requests of health checks, metrics and files of the page are `DEBUG`",
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
    )

    def __post_init__(self) -> None:
        origins, hosts = self.cors_origins.split(), self.hosts.split()
        if origins != [ANY] and (bad := [origin for origin in origins if not _is_origin(origin)]):
            raise SettingError(
                f"DEXPRESSION_CORS_ORIGINS has {bad[0]!r}. It takes * alone, or origins like https://app.example and "
                "http://localhost:8000, with neither a path nor the usual port."
            )
        if bad := [host for host in hosts if host != ANY and not HOST_NAME.fullmatch(host)]:
            raise SettingError(f"DEXPRESSION_HOSTS has {bad[0]!r}. It takes names such as app.example, without a port.")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read DEXPRESSION_* variables, except service links of Kubernetes.

        Raises SettingError, which names an unknown variable or a bad value.
        """
        links = find_service_links(environ)
        given = {key: text for key, text in environ.items() if key.startswith(PREFIX) and key not in links}
        names = {variable(setting): setting for setting in fields(cls)}
        unknown = sorted(given.keys() - names.keys())
        if unknown:
            raise SettingError(f"There is no setting {unknown[0]}. Known: {', '.join(names)}.")
        return cls(**{names[key].name: _parse(key, text, names[key]) for key, text in given.items()})


def require_choices(labels: Sequence[str], readings: Sequence[str], settings: Settings) -> None:
    """Raise UnknownLabels or UnknownReading if a model lacks the labels or the reading that the settings ask for."""
    if settings.labels and settings.labels not in label_sets(labels):
        raise UnknownLabels(
            f"DEXPRESSION_LABELS is {settings.labels}, but the model has only {list_labels(labels)}. Unset it."
        )
    if settings.reading and settings.reading not in readings:
        raise UnknownReading(
            f"DEXPRESSION_READING is {settings.reading}, but the model has only {', '.join(readings)}. Unset it."
        )


def variable(setting: Field[Any]) -> str:
    """The environment variable of a setting: port -> DEXPRESSION_PORT."""
    return PREFIX + setting.name.upper()


def shown_default(setting: Field[Any]) -> str:
    """The default in words, which are the same on every machine."""
    shown = {
        "model_path": "shipped model",
        "workers": "one per usable core",
        "token": "none",
        "hosts": "none",
        "labels": "five",
        "reading": "people",
    }
    return shown.get(setting.name, str(setting.default))


def describe_settings() -> str:
    """One line per setting: its variable, its default and its meaning."""
    return "\n".join(
        f"  {variable(setting):<38}{shown_default(setting):<21}{plain_meaning(setting)}" for setting in fields(Settings)
    )


def _is_origin(text: str) -> bool:
    """Whether this is an origin as browsers send it (RFC 6454)."""
    found = ORIGIN.fullmatch(text)
    return found is not None and found[2] != USUAL_PORTS.get(found[1].lower(), "")


def _parse(key: str, text: str, setting: Field[Any]) -> Any:
    kind = setting.metadata["parse"]
    if not text.strip():
        raise SettingError(f"{key} is empty. Give it a value, or unset it (default: {shown_default(setting)}).")
    value: Any = text
    if kind in (int, float):
        value = _parse_number(key, text, setting)
    elif issubclass(kind, Path):
        value = Path(text)
    if not is_allowed(setting, value):
        shown = repr(value) if isinstance(value, str) else value
        raise SettingError(f"{key} is {shown}. It takes {allowed_values(setting)}.")
    return value


def _parse_number(key: str, text: str, setting: Field[Any]) -> int | float:
    kind: type[int] | type[float] = setting.metadata["parse"]
    try:
        return kind(text)
    except ValueError:
        words = "whole number" if kind is int else "number"
        example = setting.metadata["between"][0] if setting.default is None else setting.default
        raise SettingError(f"{key} is {text!r}. It takes a {words}, such as {example}.") from None
