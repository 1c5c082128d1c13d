"""Write an export into a folder, and load the learner of an export safely."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import json
import os
import pickle
import platform
import tempfile
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dexpression.artifact.golden import golden_faces
from dexpression.artifact.manifest import Manifest, export_paths, files_in, read_checked
from dexpression.artifact.unpickling import unpickle_learner
from dexpression.errors import (
    BrokenLearner,
    BrokenManifest,
    ForeignClass,
    IncompatibleVersion,
    UnwritableArtifact,
)

if TYPE_CHECKING:
    from fastai.learner import Learner


def strip_for_inference(learner: Learner, image_size: int) -> Learner:
    """Copy a learner to the CPU with its weights and transforms alone: no image, path, optimizer or training state."""
    import torch
    from fastai.callback.core import TrainEvalCallback
    from fastai.learner import CastToTensor, Learner
    from fastcore.foundation import noop

    from dexpression.network.loss import EmotionLoss
    from dexpression.network.transforms import inference_dataloaders

    loss = learner.loss_func
    stripped = Learner(
        inference_dataloaders(list(learner.dls.vocab), image_size),
        copy.deepcopy(learner.model).cpu().to(memory_format=torch.contiguous_format).eval(),
        loss_func=EmotionLoss(blend=loss.blend, temperature=loss.temperature, class_factors=loss.class_factors).cpu(),
        cbs=[TrainEvalCallback(), CastToTensor()],
        default_cbs=False,
    )
    stripped.logger = noop
    # A pickled Path loads only on the operating system that wrote it.
    stripped.path = stripped.model_dir = stripped.dls.path = "."
    return stripped


def export_learner(
    learner: Learner, directory: Path, image_size: int, facts: Mapping[str, Any], onnx_model: bytes | None = None
) -> Manifest:
    """Write the stripped learner, its ONNX model if there is one, and their manifest into `directory`.

    `facts` are the manifest's fields that describe the training. Raises UnwritableArtifact; the files of an earlier
    export are then still complete.
    """
    from dexpression.network.inference import torch_backend
    from dexpression.network.transforms import MEAN, STD

    files = files_in(directory)
    stripped = strip_for_inference(learner, image_size)
    content = _pickle_learner(stripped)
    manifest = Manifest(
        labels=list(learner.dls.vocab),
        image_size=image_size,
        sha256=hashlib.sha256(content).hexdigest(),
        normalisation={"mean": MEAN, "std": STD},
        versions=_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        engine={"file": files.onnx.name, "sha256": hashlib.sha256(onnx_model).hexdigest()} if onnx_model else {},
        golden=torch_backend(stripped)(golden_faces(image_size)).tolist(),
        **facts,
    )
    text = json.dumps(dataclasses.asdict(manifest), indent=2) + "\n"
    _write_all(
        directory, {files.learner.name: content, files.onnx.name: onnx_model, files.manifest.name: text.encode()}
    )
    return manifest


def load_exported(model: str | os.PathLike[str]) -> tuple[Learner, Manifest]:
    """Load the learner of an export, given by its folder or by one of its files, on the CPU.

    Before any of its pickle runs, its digest, its fastai version and every class that it names are checked. Raises
    MissingArtifact, BrokenManifest, DigestMismatch, IncompatibleVersion, ForeignClass or BrokenLearner.
    """
    paths = export_paths(model)
    manifest = Manifest.read(paths.manifest)
    content = read_checked(paths.learner, manifest.sha256)
    _check_fastai(manifest)
    learner = _unpickle(content, paths.learner.name, manifest)
    made_for = list(learner.dls.vocab), learner.dls.valid_ds.tls[0].tfms.read_face.size
    if made_for != (manifest.labels, manifest.image_size):
        raise BrokenManifest(f"{paths.learner.name} has other labels or another size than its manifest. Export again.")
    return learner, manifest


def _unpickle(content: bytes, name: str, manifest: Manifest) -> Learner:
    try:
        learner = unpickle_learner(content)
    except ForeignClass as error:
        raise ForeignClass(f"{error} Nothing of {name} was run. Load only what this project exported.") from None
    except Exception as error:  # torch raises nearly anything on an archive that is damaged or of another version
        theirs, ours = _format_versions(manifest.versions), _format_versions(_versions())
        differ = f"It was exported with {theirs}; this is {ours}: install those, or export"
        remedy = "It is damaged: export" if theirs == ours else differ
        raise BrokenLearner(f"{name} cannot be loaded ({type(error).__name__}). {remedy} the learner again.") from error
    if not _is_ours(learner):
        raise BrokenLearner(f"{name} holds no learner of a DeXpression network. Export the learner again.")
    return learner


def _is_ours(learner: Any) -> bool:
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner

    from dexpression.network.architecture import DeXpression

    parts = vars(learner) if type(learner) is Learner else {}
    return type(parts.get("model")) is DeXpression and type(parts.get("dls")) is DataLoaders


def _check_fastai(manifest: Manifest) -> None:
    theirs, ours = manifest.versions.get("fastai", "unknown"), version("fastai")
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        raise IncompatibleVersion(
            f"The learner was exported with fastai {theirs}; this is fastai {ours}. "
            f"Install fastai {theirs}, or train and export again."
        )


def _pickle_learner(learner: Learner) -> bytes:
    import torch

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as fastai does: torch warns about classes whose source it cannot find
        torch.save(learner, buffer, pickle_module=pickle, pickle_protocol=4)
    return buffer.getvalue()


def _write_all(directory: Path, files: Mapping[str, bytes | None]) -> None:
    """Write each file completely before any replaces an old one; a name with None is removed.

    A full disk leaves the old files, and a reader never sees half of a file.
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


def _format_versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
