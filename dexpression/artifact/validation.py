"""Checks of a manifest's facts: a manifest from others may hold anything that JSON can hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from dexpression.artifact.golden import COUNT
from dexpression.labels import LABELS_READING, READINGS, is_label

NETWORKS = ("compact", "paper")
MAX_DEPTH = 12
TEMPERATURES, FACTORS = (1e-3, 1e3), (1e-6, 1e6)  # fits to very few faces would leave these ranges
REQUIRED = (
    "labels", "image_size", "digests", "normalisation", "versions", "created", "network", "calibration", "golden",
)  # fmt: skip
OPTIONAL = ("recipe", "data", "history", "results")  # dictionaries that no answer is computed from


def find_fault(facts: Any) -> str | None:
    """Say in words what is wrong with the parsed facts of a manifest; None if nothing is."""
    if not isinstance(facts, dict):
        return "it is not an object"
    unknown = sorted(facts.keys() - {*REQUIRED, *OPTIONAL})
    missing = [name for name in REQUIRED if name not in facts]
    if unknown or missing:
        return f"it has the unknown member {unknown[0][:40]!r}" if unknown else f"it lacks {missing[0]}"
    if not _is_shallow(facts, MAX_DEPTH):
        return "it is nested too deeply"
    # In this order, because calibration and golden answers are compared with the labels.
    checked = (name for name in (*REQUIRED, *OPTIONAL) if name in facts and not _is_valid(name, facts[name], facts))
    wrong = next(checked, None)
    return f"its {wrong} cannot be used" if wrong else None


def _is_shallow(value: Any, levels: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_shallow(child, levels - 1) for child in children)


def _is_valid(name: str, value: Any, facts: dict[str, Any]) -> bool:
    check = _CHECKS.get(name)
    return bool(check(value, facts)) if check else isinstance(value, dict)


def _are_labels(value: Any, _facts: dict[str, Any]) -> bool:
    return (
        isinstance(value, list)
        and 2 <= len(value) <= 100
        and all(isinstance(label, str) and is_label(label) for label in value)
        and len(set(value)) == len(value)
    )


def _are_digests(value: Any, _facts: dict[str, Any]) -> bool:
    is_digest = _is_dict(value, lambda text: isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text))
    return is_digest and {"safetensors"} <= value.keys() <= {"safetensors", "onnx", "pkl"}


def _is_normalisation(value: Any, _facts: dict[str, Any]) -> bool:
    is_number = _is_dict(value, lambda number: _is_number(number, 1e-6, 1e3))
    return is_number and value.keys() == {"mean", "std"}


def _is_network(value: Any, facts: dict[str, Any]) -> bool:
    return (
        isinstance(value, dict)
        and value.get("name") in NETWORKS
        and _is_int(value.get("heads"), 1, 2)
        and ("evidence_side" not in value or _is_int(value["evidence_side"], 1, facts["image_size"]))
    )


def _is_calibration(value: Any, facts: dict[str, Any]) -> bool:
    readings = set(READINGS) if facts["network"]["heads"] == 2 else {LABELS_READING}
    return _is_dict(value, lambda readout: _is_readout(readout, facts)) and value.keys() == readings


def _is_readout(value: Any, facts: dict[str, Any]) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"vote_share", "temperature", "factors"}
        and _is_number(value["temperature"], *TEMPERATURES)
        and _is_number(value["vote_share"], 0, 1)
        and _is_dict(value["factors"], lambda factor: _is_number(factor, *FACTORS))
        and set(value["factors"]) in (set(), set(map(str, facts["labels"])))
    )


def _are_golden_answers(value: Any, facts: dict[str, Any]) -> bool:
    return _is_dict(value, lambda rows: _are_answers(rows, facts)) and value.keys() == facts["calibration"].keys()


def _are_answers(value: Any, facts: dict[str, Any]) -> bool:
    return (
        isinstance(value, list)
        and len(value) == COUNT
        and all(isinstance(row, list) and len(row) == len(facts["labels"]) for row in value)
        and all(_is_number(probability, 0, 1.001) for row in value for probability in row)
    )


def _are_results(value: Any, facts: dict[str, Any]) -> bool:
    """The scores of each reading by label set, and other results, which `public_facts` leaves out."""
    return isinstance(value, dict) and all(
        _is_dict(value.get(reading, {}), lambda scores: isinstance(scores, dict)) for reading in facts["calibration"]
    )


_CHECKS: dict[str, Callable[[Any, dict[str, Any]], bool]] = {
    "labels": _are_labels,
    "image_size": lambda value, _: _is_int(value, 8, 224),
    "digests": _are_digests,
    "normalisation": _is_normalisation,
    "versions": lambda value, _: _is_dict(value, lambda text: isinstance(text, str)),
    "created": lambda value, _: isinstance(value, str),
    "network": _is_network,
    "calibration": _is_calibration,
    "golden": _are_golden_answers,
    "results": _are_results,
}


def _is_int(value: Any, lowest: int, highest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def _is_number(value: Any, lowest: float, highest: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and lowest <= value <= highest


def _is_dict(value: Any, is_member: Callable[[Any], Any]) -> bool:
    return isinstance(value, dict) and all(is_member(member) for member in value.values())
