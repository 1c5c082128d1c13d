"""Write an export into a folder, and load the learner of an export from data alone."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
import pickle
import platform
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dexpression.artifact.golden import golden_faces
from dexpression.artifact.manifest import (
    MAX_WEIGHTS_BYTES,
    Manifest,
    export_paths,
    files_in,
    load_onnx_model,
    read_checked,
)
from dexpression.artifact.weights import encode_weights, fill_weights
from dexpression.errors import BrokenManifest, BrokenWeights, UnwritableArtifact
from dexpression.extras import LEARNER, require_extra
from dexpression.labels import ReadingName

if TYPE_CHECKING:
    from fastai.learner import Learner

    from dexpression.network.architecture import DeXpression
    from dexpression.network.loss import EmotionLoss, Readout


def export_learner(
    learner: Learner, directory: Path, image_size: int, facts: Mapping[str, Any], onnx_model: bytes | None = None
) -> Manifest:
    """Write weights, pickle, manifest and, if there is one, the ONNX model of a learner into `directory`.

    `facts` are the manifest's fields that describe the training. Raises BrokenWeights, or UnwritableArtifact; the files
    of an earlier export are then still complete.
    """
    from dexpression.network.inference import torch_backend
    from dexpression.network.transforms import MEAN, STD

    stripped = strip_for_inference(learner, image_size)
    golden = torch_backend(stripped)(golden_faces(image_size))
    if not all(np.isfinite(rows).all() for rows in golden.values()):
        raise BrokenWeights("The learner gives probabilities that are no numbers. Train at a lower learning rate.")
    manifest = Manifest(
        labels=list(learner.dls.vocab),
        image_size=image_size,
        digests={},
        normalisation={"mean": MEAN, "std": STD},
        versions={"python": platform.python_version()} | {name: version(name) for name in ("torch", "fastai")},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        network=_describe_network(stripped.model, image_size),
        calibration=_describe_calibration(stripped.loss_func, list(learner.dls.vocab)),
        golden={reading: golden[reading].tolist() for reading in stripped.loss_func.readouts},
        **facts,
    )
    try:
        return _write_all(directory, stripped, onnx_model, manifest)
    except (OSError, RuntimeError) as error:  # the latter is torch's, for a full disk
        reason = getattr(error, "strerror", None) or "a file could not be written"
        raise UnwritableArtifact(
            f"Cannot export to {directory} ({reason}). Make room there, or choose another folder."
        ) from error


def _write_all(directory: Path, learner: Learner, onnx_model: bytes | None, manifest: Manifest) -> Manifest:
    """Write all files completely before any replaces an old one, so that a reader never sees half of a file.

    Returns the manifest with the digests of the files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=directory) as folder:
        partial = files_in(Path(folder))
        partial.weights.write_bytes(encode_weights(learner.model))
        # By plain pickle, so that the file holds the names of classes and no bytecode.
        learner.export(partial.learner.resolve(), pickle_module=pickle, pickle_protocol=4)
        if onnx_model:
            partial.onnx.write_bytes(onnx_model)
        written = [path for path in partial if path.exists()]
        digests = {path.suffix[1:]: hashlib.sha256(path.read_bytes()).hexdigest() for path in written}
        manifest = dataclasses.replace(manifest, digests=digests)
        partial.manifest.write_text(json.dumps(dataclasses.asdict(manifest), indent=2, allow_nan=False) + "\n")
        Manifest.read(partial.manifest)  # an export that could not be loaded must not replace one that can
        for new, old in zip(partial, files_in(directory), strict=True):
            if new.exists():
                new.replace(old)
            else:
                old.unlink(missing_ok=True)
    return manifest


def load_exported(model: str | os.PathLike[str]) -> tuple[Learner, Manifest]:
    """Load the learner of an export, given by its folder or by one of its files, on the CPU.

    The network that the manifest names is built and filled from the safetensors file; nothing is unpickled. Raises
    MissingArtifact, BrokenManifest, DigestMismatch, BrokenWeights or, without PyTorch and fastai, MissingExtra.
    """
    require_extra("train", "The learner of an export", LEARNER)
    paths = export_paths(model)
    manifest = Manifest.read(paths.manifest)
    content = read_checked(paths.weights, manifest, MAX_WEIGHTS_BYTES)
    from dexpression.network.architecture import build_network

    try:
        network = build_network(
            manifest.network["name"], len(manifest.labels), manifest.network["heads"], manifest.image_size
        )
    except ValueError as error:
        raise BrokenManifest(f"{paths.manifest.name} does not fit a network ({error}). Export again.") from error
    fill_weights(network, content)
    return _inference_learner(network, _read_calibration(manifest), manifest.labels, manifest.image_size), manifest


def load_network(model: str | os.PathLike[str]) -> tuple[DeXpression, Manifest]:
    """Load the network of an export, to train it further; raises what `load_exported` raises.

    An installed package has no weights in float32: there, they are read from its ONNX model, whose answers they give
    while the statistics of normalisation stay fixed.
    """
    if export_paths(model).weights.exists():
        learner, manifest = load_exported(model)
        return learner.model, manifest
    require_extra("train", "The network of an export", LEARNER)
    content, manifest = load_onnx_model(model)
    import torch

    from dexpression.artifact.quantisation import read_int8
    from dexpression.network.architecture import build_network

    network = build_network(
        manifest.network["name"], len(manifest.labels), manifest.network["heads"], manifest.image_size
    )
    try:
        network.load_folded({name: torch.from_numpy(values) for name, values in read_int8(content).items()})
    except (AttributeError, KeyError, RuntimeError) as error:  # of another network, or of one that was not folded
        raise BrokenWeights("The weights cannot be read from the ONNX model. Give an export with weights.") from error
    return network.eval(), manifest


def strip_for_inference(learner: Learner, image_size: int) -> Learner:
    """Copy a learner to the CPU with its weights and transforms alone: no image, optimizer or training state."""
    import torch

    from dexpression.network.loss import EmotionLoss

    network = copy.deepcopy(learner.model).cpu().to(memory_format=torch.contiguous_format)
    stripped_loss = EmotionLoss(readouts=copy.deepcopy(dict(learner.loss_func.readouts.items())))
    return _inference_learner(network, stripped_loss.cpu(), list(learner.dls.vocab), image_size)


def _inference_learner(network: DeXpression, loss: EmotionLoss, labels: list[str], image_size: int) -> Learner:
    from fastai.callback.core import TrainEvalCallback
    from fastai.learner import CastToTensor, Learner
    from fastcore.foundation import noop

    from dexpression.network.transforms import inference_dataloaders

    learner = Learner(
        inference_dataloaders(labels, image_size),
        network.eval(),
        loss_func=loss,
        cbs=[TrainEvalCallback(), CastToTensor()],
        default_cbs=False,
        path=Path(),
        model_dir=Path(),
    )
    learner.logger = noop
    return learner


def _describe_network(network: DeXpression, image_size: int) -> dict[str, Any]:
    import torch

    from dexpression.network.architecture import count_multiply_adds

    facts = {
        "name": network.name,
        "heads": network.heads,
        "weights": sum(weight.numel() for weight in network.parameters()),
        "multiply_adds": count_multiply_adds(network, image_size),
    }
    if not network.has_evidence:
        return facts
    with torch.no_grad():
        return facts | {"evidence_side": network.evidence(torch.zeros(1, 1, image_size, image_size)).shape[-1]}


def _describe_calibration(loss: EmotionLoss, labels: list[str]) -> dict[str, Any]:
    return {reading: _describe_readout(readout, labels) for reading, readout in loss.readouts.items()}


def _describe_readout(readout: Any, labels: list[str]) -> dict[str, Any]:
    factors = [] if readout.class_factors is None else zip(labels, readout.class_factors.tolist(), strict=True)
    return {"vote_share": readout.vote_share, "temperature": readout.temperature, "factors": dict(factors)}


def _read_calibration(manifest: Manifest) -> EmotionLoss:
    from dexpression.network.loss import EmotionLoss

    return EmotionLoss(readouts={name: _read_readout(manifest, name) for name in manifest.readings})


def _read_readout(manifest: Manifest, reading: ReadingName) -> Readout:
    import torch

    from dexpression.network.loss import Readout

    facts = manifest.calibration[reading]
    factors = [facts["factors"][label] for label in manifest.labels] if facts["factors"] else None
    return Readout(facts["vote_share"], facts["temperature"], None if factors is None else torch.tensor(factors))
