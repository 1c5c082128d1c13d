"""What lies in model/: the exported learner and its manifest; how they are written, and how they are loaded safely."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import json
import pickle
import platform
import tempfile
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from fastai.callback.core import TrainEvalCallback
from fastai.data.core import DataLoaders
from fastai.learner import CastToTensor, Learner
from fastcore.foundation import noop

from dexpression.artifact.golden import golden_faces
from dexpression.artifact.manifest import ENGINE_FILE, LEARNER_FILE, Manifest, manifest_path, read_checked
from dexpression.artifact.unpickling import unpickle_learner
from dexpression.errors import (
    BrokenLearner,
    BrokenManifest,
    ForeignClass,
    IncompatibleVersion,
    UnwritableArtifact,
)
from dexpression.network.architecture import DeXpression
from dexpression.network.inference import torch_engine
from dexpression.network.loss import EmotionLoss
from dexpression.training.data import MEAN, STD, inference_dataloaders


def lean_learner(learner: Learner, image_size: int) -> Learner:
    """The weights and the road from a picture to a label alone, on the CPU: no image, path or training state."""
    network = copy.deepcopy(learner.model).cpu().to(memory_format=torch.contiguous_format).eval()
    loss = learner.loss_func
    answer = EmotionLoss(blend=loss.blend, temperature=loss.temperature, factors=loss.factors)
    lean = Learner(
        inference_dataloaders(list(learner.dls.vocab), image_size),
        network,
        loss_func=answer.cpu(),
        cbs=[TrainEvalCallback(), CastToTensor()],
        default_cbs=False,
    )
    lean.logger = noop
    # A pickled Path loads on the operating system alone that wrote it.
    lean.path = lean.model_dir = lean.dls.path = "."
    return lean


def export_learner(
    learner: Learner, directory: Path, image_size: int, facts: Mapping[str, Any], engine: bytes | None = None
) -> Manifest:
    """Write the lean learner, its ONNX form if there is one, and their manifest into `directory`.

    `facts` are the manifest's fields that describe the training. Raises UnwritableArtifact; where there is no room,
    what lay there before is still there.
    """
    labels = list(learner.dls.vocab)
    lean = lean_learner(learner, image_size)
    content = _pickled(lean)
    manifest = Manifest(
        labels=labels,
        image_size=image_size,
        sha256=hashlib.sha256(content).hexdigest(),
        normalisation={"mean": MEAN, "std": STD},
        versions=_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        engine={"file": ENGINE_FILE, "sha256": hashlib.sha256(engine).hexdigest()} if engine else {},
        golden=torch_engine(lean)(golden_faces(image_size)).tolist(),
        **facts,
    )
    told = json.dumps(dataclasses.asdict(manifest), indent=2) + "\n"
    _write_all(
        directory, {LEARNER_FILE: content, ENGINE_FILE: engine, manifest_path(Path(LEARNER_FILE)).name: told.encode()}
    )
    return manifest


def load_exported(learner_path: Path) -> tuple[Learner, Manifest]:
    """The learner, on the CPU, after its digest, its fastai and every class that it names were checked.

    Raises MissingArtifact, BrokenManifest, DigestMismatch, IncompatibleVersion, ForeignClass or BrokenLearner.
    """
    manifest = Manifest.read(manifest_path(learner_path))
    content = read_checked(learner_path, manifest.sha256)
    _check_fastai(manifest)
    learner = _unpickled(content, learner_path.name, manifest)
    made_for = list(learner.dls.vocab), learner.dls.valid_ds.tls[0].tfms.read_face.size
    if made_for != (manifest.labels, manifest.image_size):
        raise BrokenManifest(f"{learner_path.name} has other labels or another size than its manifest. Export again.")
    return learner, manifest


def _unpickled(content: bytes, name: str, manifest: Manifest) -> Learner:
    try:
        learner = unpickle_learner(content)
    except ForeignClass as error:
        raise ForeignClass(f"{error} Nothing of {name} was run. Load only what this project exported.") from None
    except Exception as error:  # whatever a damaged archive, or one of other versions, makes torch raise
        theirs, ours = _spell(manifest.versions), _spell(_versions())
        differ = f"It is of {theirs}; this is {ours}: install those, or export"
        way_out = "It is damaged: export" if theirs == ours else differ
        raise BrokenLearner(
            f"{name} cannot be loaded ({type(error).__name__}). {way_out} the learner again."
        ) from error
    if not _is_ours(learner):
        raise BrokenLearner(f"{name} holds no learner of a DeXpression network. Export the learner again.")
    return learner


def _is_ours(learner: Any) -> bool:
    parts = vars(learner) if type(learner) is Learner else {}
    return type(parts.get("model")) is DeXpression and type(parts.get("dls")) is DataLoaders


def _check_fastai(manifest: Manifest) -> None:
    theirs, ours = manifest.versions.get("fastai", "unknown"), version("fastai")
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        raise IncompatibleVersion(
            f"The learner was exported with fastai {theirs}; this is fastai {ours}. "
            f"Install fastai {theirs}, or train and export again."
        )


def _pickled(learner: Learner) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fastai does the same: torch warns of classes whose source it cannot find
        torch.save(learner, buffer, pickle_module=pickle, pickle_protocol=4)
    return buffer.getvalue()


def _write_all(directory: Path, files: Mapping[str, bytes | None]) -> None:
    """Every one in full before any takes its place: no room leaves the old ones, a reader sees no half of one.

    What is None is removed.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=directory) as folder:
            for name, content in files.items():
                if content is not None:
                    Path(folder, name).write_bytes(content)
            for name, content in files.items():
                if content is None:
                    (directory / name).unlink(missing_ok=True)
                else:
                    Path(folder, name).replace(directory / name)
    except OSError as error:
        raise UnwritableArtifact(
            f"Cannot export to {directory} ({error.strerror}). Make room there, or choose another folder."
        ) from error


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in ("torch", "fastai")}


def _spell(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
