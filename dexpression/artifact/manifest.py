"""The manifest of an export: its facts, and the files whose digests it records. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dexpression.artifact.onnx_model import check_onnx_model
from dexpression.artifact.validation import find_fault
from dexpression.errors import BrokenManifest, DataError, DigestMismatch, MissingArtifact
from dexpression.extras import LEARNER, missing_libraries
from dexpression.files import is_folder, read_regular_file
from dexpression.labels import READINGS, ReadingName

STEM = "dexpression"
MAX_MANIFEST_BYTES = 8_000_000  # the shipped one has 160,000, and a million training faces take 5.3 million
MAX_ONNX_BYTES = 64_000_000  # the shipped one has 2.4 million, in float32 it would have 9 million
MAX_WEIGHTS_BYTES = 400_000_000  # the shipped ones have 9 million


class ExportPaths(NamedTuple):
    """The files of one export. They lie in one folder and differ by suffix alone."""

    manifest: Path  # the facts, as JSON
    onnx: Path  # the ONNX model, which answers
    weights: Path  # the weights of the learner, as safetensors
    learner: Path  # the learner as fastai pickles it, for `fastai.load_learner`; no code of ours opens it


SUFFIXES = (".json", ".onnx", ".safetensors", ".pkl")  # in the order of ExportPaths
LEARNER_SUFFIXES = (".safetensors", ".pkl")


def export_paths(model: str | os.PathLike[str]) -> ExportPaths:
    """Find the files of an export from its folder, or from any one of the files; nothing has to exist."""
    path = Path(model)
    return _named(path) if _names_a_file(path) else files_in(path)


def files_in(folder: Path) -> ExportPaths:
    """The files of an export in a folder, under the names that an export gives them."""
    return _named(folder / STEM)


def names_learner(model: str | os.PathLike[str]) -> bool:
    """Whether a path names the learner of an export (its weights or its pickle), not its folder or another file."""
    return _names_a_file(Path(model)) and Path(model).suffix in LEARNER_SUFFIXES


def learner_obstacle(model: str | os.PathLike[str]) -> str | None:
    """Say in words why the learner of an export cannot be loaded here, such as "torch is not installed"; else None."""
    missing = missing_libraries(LEARNER)
    if missing:
        return f"{missing[0]} is not installed"
    weights = export_paths(model).weights
    return None if weights.exists() else f"{weights.name} is not there"


def _names_a_file(path: Path) -> bool:
    return path.suffix in SUFFIXES and not is_folder(path)


def _named(stem: Path) -> ExportPaths:
    return ExportPaths(*(stem.with_suffix(suffix) for suffix in SUFFIXES))


@dataclass(frozen=True)
class Manifest:
    """The facts about one export, as its JSON file holds them."""

    labels: list[str]
    image_size: int  # pixels a side
    digests: dict[str, str]  # SHA-256 by suffix: `safetensors`, `pkl` and, if there is one, `onnx`
    normalisation: dict[str, float]  # mean and std of pixels in 0..1
    versions: dict[str, str]
    created: str  # ISO 8601, UTC
    network: dict[str, Any]  # name, heads, weights, multiply_adds and, if the model gives evidence, evidence_side
    calibration: dict[str, dict[str, Any]]  # vote_share, temperature and factors of each reading
    golden: dict[str, list[list[float]]]  # the learner's probabilities of each reading for `golden_faces`
    recipe: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    history: dict[str, Any] = field(default_factory=dict)  # losses and accuracy by epoch
    results: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read and check the JSON file; raises MissingArtifact or BrokenManifest."""
        content = _read_file(path, MAX_MANIFEST_BYTES)
        try:
            facts = json.loads(content, parse_constant=_refuse_constant, parse_float=_parse_finite)
        except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, NaN, or nested too deeply
            reason = "nested too deeply" if isinstance(error, RecursionError) else error
            raise BrokenManifest(f"{path.name} is not a valid manifest ({reason}). Export the learner again.") from None
        fault = find_fault(facts)
        if fault:
            raise BrokenManifest(f"{path.name} is not a valid manifest ({fault}). Export the learner again.")
        return cls(**facts)

    @classmethod
    def of_export(cls, model: str | os.PathLike[str]) -> Manifest:
        """Read the manifest of an export, given by its folder or by one of its files; raises what `read` raises."""
        return cls.read(export_paths(model).manifest)

    @property
    def sha256(self) -> str:
        """The digest of the weights, which identifies the model."""
        return self.digests["safetensors"]

    @property
    def readings(self) -> list[ReadingName]:
        """The readings of the model; the first one is its default."""
        return [name for name in READINGS if name in self.calibration]

    @property
    def readouts(self) -> dict[str, Any] | None:
        """The calibration of each reading, from which its evidence follows; None for a model that gives none."""
        return self.calibration if self.evidence_side else None

    @property
    def evidence_side(self) -> int | None:
        """The places along a side of the square grid of evidence; None for a model that gives none."""
        return self.network.get("evidence_side")

    def public_facts(self) -> dict[str, Any]:
        """The facts that a caller may see: digest, labels, input, data and scores of the model."""
        public = ("labels", "created", "versions", "network", "calibration")
        scores = ("n", "accuracy", "balanced_accuracy", "ece", "recall")
        split = self.results.get("split", "unknown")
        return {
            "name": "dexpression",
            "sha256": self.sha256,
            "input": {"width": self.image_size, "height": self.image_size, "mode": "grey"} | self.normalisation,
            "readings": self.readings,
            "results": {
                reading: {
                    name: {"split": split} | {score: result[score] for score in scores if score in result}
                    for name, result in self.results.get(reading, {}).items()
                }
                for reading in self.readings
            },
            "conditions": self.results.get("conditions"),
            "data": {name: value for name, value in self.data.items() if name != "digests"},
        } | {name: getattr(self, name) for name in public}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _parse_finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError("it has a number that is too large")
    return value


class OnnxModel(NamedTuple):
    """An ONNX model whose digest and operators were checked, and the manifest of its export."""

    content: bytes
    manifest: Manifest


def load_onnx_model_only(model: str | os.PathLike[str], purpose: str) -> OnnxModel:
    """Load as `load_onnx_model`, for a purpose that runs no learner; raises DataError if `model` names one."""
    if names_learner(model):
        folder = Path(model).parent
        raise DataError(f"{model} is the learner, and {purpose} runs the ONNX model. Give its folder: {folder}")
    return load_onnx_model(model)


def load_onnx_model(model: str | os.PathLike[str]) -> OnnxModel:
    """Read and check the ONNX model of an export, given by its folder or by one of its files.

    Raises MissingArtifact, BrokenManifest, DigestMismatch or BrokenOnnxModel.
    """
    paths = export_paths(model)
    manifest = Manifest.read(paths.manifest)
    if "onnx" not in manifest.digests:
        raise MissingArtifact(
            f"The export in {paths.onnx.parent} has no ONNX model. Train and export again, "
            f"or name the learner: {paths.weights}"
        )
    return read_onnx_model(paths.onnx, manifest)


def read_onnx_model(path: Path, manifest: Manifest) -> OnnxModel:
    """Read and check the ONNX model that a manifest describes; raises what `load_onnx_model` does."""
    content = read_checked(path, manifest, MAX_ONNX_BYTES)
    checked = check_onnx_model(
        content, manifest.readings, len(manifest.labels), manifest.image_size, manifest.evidence_side
    )
    return OnnxModel(checked, manifest)


def read_checked(path: Path, manifest: Manifest, max_bytes: int) -> bytes:
    """Read a file of an export, whose digest the manifest records; raises MissingArtifact or DigestMismatch."""
    content = _read_file(path, max_bytes)
    if hashlib.sha256(content).hexdigest() != manifest.digests.get(path.suffix.removeprefix(".")):
        raise DigestMismatch(
            f"{path.name} is not the file that {path.with_suffix('.json').name} describes (SHA-256 differs). "
            "Copy all files again from one export."
        )
    return content


def _read_file(path: Path, max_bytes: int) -> bytes:
    try:
        return read_regular_file(path, max_bytes)
    except (OSError, ValueError) as error:  # the latter for a name with a zero byte
        raise MissingArtifact(
            f"Cannot read {path} ({getattr(error, 'strerror', None) or error}). Put an exported model there, or train "
            f"one: dexpression train FOLDER --output {path.parent}"
        ) from error
