"""The facts about an exported learner, as they stand in its JSON file; and the files that they vouch for. No torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dexpression.errors import BrokenManifest, DigestMismatch, MissingArtifact

LEARNER_FILE, ENGINE_FILE = "dexpression.pkl", "dexpression.onnx"


@dataclass(frozen=True)
class Manifest:
    """Of one export."""

    labels: list[str]
    image_size: int  # pixels a side
    sha256: str
    normalisation: dict[str, float]  # of pixels in 0..1
    versions: dict[str, str]
    created: str  # ISO 8601, UTC
    network: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)  # the ONNX form of the same learner
    history: dict[str, Any] = field(default_factory=dict)  # losses and accuracy by epoch
    results: dict[str, Any] = field(default_factory=dict)
    golden: list[list[float]] = field(default_factory=list)  # what it answers to `golden_faces`

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Raises MissingArtifact or BrokenManifest."""
        try:
            facts = json.loads(_read(path))
            manifest = cls(**facts)
        except (ValueError, TypeError) as error:
            raise BrokenManifest(f"{path.name} is no manifest of ours ({error}). Export the learner again.") from error
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

    def card(self) -> dict[str, Any]:
        """The facts that a caller is told: what answers, of what it was made, how well it does."""
        told = ("labels", "created", "versions", "network", "data", "calibration")
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
        } | {name: getattr(self, name) for name in told}


Model = tuple[bytes, Manifest]  # an ONNX form that was checked, and the facts about the learner that it is of


def manifest_path(learner_path: Path) -> Path:
    """dexpression.pkl -> dexpression.json beside it."""
    return learner_path.with_suffix(".json")


def load_engine(path: Path) -> Model:
    """The ONNX form of a learner, its digest checked, and the manifest as of this file.

    Raises MissingArtifact or DigestMismatch.
    """
    manifest = Manifest.read(manifest_path(path))
    sha256 = manifest.engine.get("sha256", "")
    return read_checked(path, sha256), dataclasses.replace(manifest, sha256=sha256)


def read_checked(path: Path, sha256: str) -> bytes:
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DigestMismatch(
            f"{path.name} is not the file that {manifest_path(path).name} describes (SHA-256 differs). "
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
