"""Dataclass fields that carry their meaning, default and allowed values: `Settings` and `Recipe` consist of them.

Help texts, checks, tables and command-line options are made from these fields.
"""

from __future__ import annotations

import math
from dataclasses import Field, field
from pathlib import Path
from typing import Any


def option(
    default: Any,
    meaning: str,
    *,
    between: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    parse: type | None = None,
) -> Any:
    """A dataclass field with a default, a meaning in Markdown, and a range or a list of the values that it allows.

    `parse` makes a value of a text; without it, the type of the default does. A default of None, which means that
    nothing was chosen, needs it.
    """
    metadata = {"meaning": meaning, "between": between, "choices": choices, "parse": parse or type(default)}
    return field(default=default, metadata=metadata)


def is_allowed(field: Field[Any], value: Any) -> bool:
    """Whether a value is one of the field's choices or lies in its range; NaN lies in none.

    None is allowed where it is the default.
    """
    choices, between = field.metadata["choices"], field.metadata["between"]
    if value is None:
        return field.default is None
    if choices:
        return value in choices
    if between is None:
        return field.metadata["parse"] is not bool or isinstance(value, bool)
    kind = int if field.metadata["parse"] is int else (int, float)
    return isinstance(value, kind) and not isinstance(value, bool) and bool(between[0] <= value <= between[1])


def allowed_values(field: Field[Any]) -> str:
    """The allowed values in words, such as `1 to 65535`, `five or seven` or `False or True`; empty for any text."""
    choices, between = field.metadata["choices"], field.metadata["between"]
    if choices:
        return " or ".join(choices)
    if between is None:
        return {bool: "False or True", Path: "path"}.get(field.metadata["parse"], "")
    lowest, highest = between
    return f"{lowest} or more" if highest == math.inf else f"{lowest} to {highest}"


def plain_meaning(field: Field[Any]) -> str:
    """The meaning without Markdown, for a terminal."""
    return str(field.metadata["meaning"]).replace("`", "")
