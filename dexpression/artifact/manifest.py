"""The manifest of an export: its facts, and the files whose digests it records. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dexpression.errors import BrokenManifest, DigestMismatch, MissingArtifact

STEM = "dexpression"
LEARNER_SUFFIX, ONNX_SUFFIX, MANIFEST_SUFFIX = ".pkl", ".onnx", ".json"


class ExportPaths(NamedTuple):
    """The three files of one export. They lie in one folder and differ by suffix alone."""

    learner: Path
    onnx: Path
    manifest: Path


def export_paths(model: str | os.PathLike[str]) -> ExportPaths:
    """Find the files of an export from its folder, or from any one of the files; nothing has to exist."""
    path = Path(model)
    names_a_file = path.suffix in (LEARNER_SUFFIX, ONNX_SUFFIX, MANIFEST_SUFFIX) and not path.is_dir()
    return _named(path) if names_a_file else files_in(path)


def files_in(folder: Path) -> ExportPaths:
    """The files of an export in a folder, under the names that an export gives them."""
    return _named(folder / STEM)


def _named(stem: Path) -> ExportPaths:
    return ExportPaths(*(stem.with_suffix(suffix) for suffix in (LEARNER_SUFFIX, ONNX_SUFFIX, MANIFEST_SUFFIX)))


def names_learner(model: str | os.PathLike[str]) -> bool:
    """Whether a path names the learner's file of an export, not its folder or another file."""
    return Path(model) == export_paths(model).learner


@dataclass(frozen=True)
class Manifest:
    """The facts about one export, as its JSON file holds them."""

    labels: list[str]
    image_size: int  # pixels a side
    sha256: str  # of the learner's file
    normalisation: dict[str, float]  # mean and std of pixels in 0..1
    versions: dict[str, str]
    created: str  # ISO 8601, UTC
    network: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)  # name and digest of the ONNX model; empty if there is none
    history: dict[str, Any] = field(default_factory=dict)  # losses and accuracy by epoch
    results: dict[str, Any] = field(default_factory=dict)
    golden: list[list[float]] = field(default_factory=list)  # the learner's probabilities for `golden_faces`

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read and check the JSON file; raises MissingArtifact or BrokenManifest."""
        try:
            facts = json.loads(_read(path))
            manifest = cls(**facts)
        except (ValueError, TypeError) as error:
            raise BrokenManifest(f"{path.name} is not a valid manifest ({error}). Export the learner again.") from error
        manifest._check(path)
        return manifest

    def _check(self, path: Path) -> None:
        fits = (
            isinstance(self.labels, list)
            and len(self.labels) >= 2
            and all(isinstance(label, str) for label in self.labels)
            and isinstance(self.image_size, int)
            and isinstance(self.sha256, str)
            and isinstance(self.versions, dict)
            and isinstance(self.results, dict)
        )
        if not fits:
            raise BrokenManifest(f"{path.name} lacks its labels, size, digest, versions or results. Export again.")

    def public_facts(self) -> dict[str, Any]:
        """The facts that a caller may see: digest, labels, input, data and scores of the model."""
        public = ("labels", "created", "versions", "network", "data", "calibration")
        scores = ("n", "accuracy", "balanced_accuracy", "ece", "recall")
        split = self.results.get("split", "unknown")
        return {
            "name": "dexpression",
            "sha256": self.sha256,
            "input": {"width": self.image_size, "height": self.image_size, "mode": "grey"} | self.normalisation,
            "results": {
                name: {"split": split} | {score: result[score] for score in scores if score in result}
                for name, result in self.results.items()
                if isinstance(result, dict)
            },
        } | {name: getattr(self, name) for name in public}


class OnnxModel(NamedTuple):
    """An ONNX model whose digest was checked, and the manifest of its export."""

    content: bytes
    manifest: Manifest


def load_onnx_model(model: str | os.PathLike[str]) -> OnnxModel:
    """Read the ONNX model of an export, given by its folder or by one of its files.

    Raises MissingArtifact, BrokenManifest or DigestMismatch.
    """
    paths = export_paths(model)
    manifest = Manifest.read(paths.manifest)
    if not manifest.engine:
        raise MissingArtifact(
            f"The export in {paths.onnx.parent} has no ONNX model. Train and export again, "
            f"or name the learner: {paths.learner}"
        )
    return OnnxModel(read_checked(paths.onnx, manifest.engine.get("sha256", "")), manifest)


def read_checked(path: Path, sha256: str) -> bytes:
    """Read a file of an export whose SHA-256 has to be `sha256`; raises MissingArtifact or DigestMismatch."""
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DigestMismatch(
            f"{path.name} is not the file that {path.with_suffix(MANIFEST_SUFFIX).name} describes (SHA-256 differs). "
            "Copy all files again from one export."
        )
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingArtifact(
            f"Cannot read {path} ({error.strerror}). Put an exported model there, or train one: "
            f"python -m dexpression train FOLDER --output {path.parent}"
        ) from error
