"""From labelled faces to fastai DataLoaders: splits without repeated images, batches, vote distributions."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

import numpy as np
from fastai.data.all import (
    CategoryBlock,
    DataBlock,
    DataLoaders,
    IndexSplitter,
    RegressionBlock,
    ToTensor,
    TransformBlock,
)
from fastai.torch_core import default_device

from dexpression.errors import DataError
from dexpression.labels import LABEL_SETS, LabelSet, find_label, list_labels, name_label, own_label, sort_labels
from dexpression.network.transforms import ReadFace, batch_transforms
from dexpression.training.crops import FaceCropper
from dexpression.training.digests import digest_face
from dexpression.training.face_set import Face, FaceSet, Split
from dexpression.training.recipe import Vocabulary
from dexpression.training.sources import read_faces
from dexpression.training.tables import add_votes, find_votes

MAX_LABELS = 100  # as many as a manifest may have
VALID_FRACTION = 0.1  # of train, where there is no valid split

logger = logging.getLogger(__name__)


def read_labelled(
    source: Path,
    labels: Vocabulary,
    cropper: FaceCropper,
    votes: Path | None = None,
) -> FaceSet:
    """Read the faces of `source` that have one of these labels, with the FER+ votes in `votes` or beside the faces.

    With `own`, the name of a folder is its label, whatever it is; with `auto`, known names become our labels. Raises
    DataError.
    """
    found = read_faces(source, cropper, own_label if labels == "own" else name_label)
    chosen = () if labels in ("auto", "own") else LABEL_SETS[cast(LabelSet, labels)]
    if chosen:
        found = found.of_labels(chosen)
    missing = [label for label in chosen if label not in found.labels()]
    if missing:
        logger.warning("No picture has the label %s, so the model will not know it.", ", ".join(missing))
    votes = votes or find_votes(source)
    if votes:
        found = add_votes(found, votes)
    logger.info(found.report())
    return found


def make_dataloaders(
    train: Sequence[Face],
    valid: Sequence[Face],
    *,
    with_votes: bool = False,
    batch_size: int = 128,
    augmentations: Sequence[Any] = (),
) -> DataLoaders:
    """Make DataLoaders, whose labels are those of the faces in train, in our order.

    A batch is faces (N, 1, size, size) and labels (N,). With `with_votes`, and if the faces have FER+ votes, a third
    part is the vote distribution (N, labels): each label's share of the votes for the labels, all 0 if there is no such
    vote.
    """
    vocabulary, size = sort_labels({face.label for face in train}), train[0].image.width
    blocks: list[Any] = [
        TransformBlock(type_tfms=ReadFace(size), item_tfms=ToTensor),
        CategoryBlock(vocabulary, sort=False),
    ]
    getters: list[Any] = [attrgetter("label")]
    if with_votes and train[0].votes:
        blocks.append(RegressionBlock(len(vocabulary)))
        getters.append(VoteDistribution(vocabulary))
    block = DataBlock(
        blocks=blocks,
        n_inp=1,
        get_x=attrgetter("image"),
        get_y=getters,
        splitter=IndexSplitter(range(len(train), len(train) + len(valid))),
        batch_tfms=[*batch_transforms(on_gpu=default_device().type != "cpu"), *augmentations],
    )
    return block.dataloaders([*train, *valid], bs=batch_size, drop_last=len(train) >= batch_size, num_workers=0)


def split_faces(
    faces: Sequence[Face], seed: int, valid_fraction: float = VALID_FRACTION
) -> tuple[list[Face], list[Face]]:
    """Split faces into (train, valid), no image twice; a missing valid split is taken from train, stratified.

    Images that most annotators called "not a face" are left out of train, and labels that train lacks out of valid.
    Raises DataError if train has fewer than two labels, or too few faces to take some for valid.
    """
    parts: dict[Split | None, list[Face]] = {"test": [], "valid": [], "train": []}
    for face in faces:
        parts[face.split or "train"].append(face)
    seen = {digest_face(face) for face in parts["test"]}
    # An image of both splits is dropped from train, so that valid does not depend on train.
    valid = _unseen(parts["valid"], seen)
    train = [face for face in _unseen(parts["train"], seen) if not _is_not_a_face(face)]
    _require_classes(train)
    known = {face.label for face in train}
    strange = sorted({face.label for face in valid} - known)
    if strange:
        logger.warning("No training face has the label %s, so the model will not know it.", ", ".join(strange))
    valid = [face for face in valid if face.label in known]
    if not valid:
        train, valid = _split_off(train, valid_fraction, seed)
    logger.info("After repeats and non-faces were dropped: %d train, %d valid", len(train), len(valid))
    return train, valid


def stack_pixels(faces: Sequence[Face]) -> np.ndarray:
    """Stack the pixels of faces: (N, 1, size, size) in 0..255."""
    return np.stack([np.asarray(face.image) for face in faces])[:, None]


def has_votes(dataloaders: DataLoaders) -> bool:
    """Whether batches have a third part, the vote distribution."""
    return len(dataloaders.train_ds.tls) == 3


def distinct_faces(faces: Sequence[Face]) -> list[Face]:
    """Drop repeated images, and images that most annotators called "not a face"."""
    return [face for face in _unseen(faces, set()) if not _is_not_a_face(face)]


def images_per_label(dataloaders: DataLoaders) -> dict[str, dict[str, int]]:
    """Count the images of each label in each split."""
    return {
        name: dict(sorted(Counter(face.label for face in part.items).items()))
        for name, part in (("train", dataloaders.train_ds), ("valid", dataloaders.valid_ds))
    }


def fingerprint(dataloaders: DataLoaders) -> str:
    """Digest the images, labels, votes and splits of both datasets with SHA-256: equal only for equal data."""
    digest = hashlib.sha256()
    for part in (dataloaders.train_ds, dataloaders.valid_ds):
        for face in part.items:
            digest.update(digest_face(face) + face.label.encode() + b"|")
            if face.votes:
                digest.update(repr(sorted(face.votes.items())).encode())
        digest.update(b"||")
    return digest.hexdigest()


class VoteDistribution:
    """Turn the votes on a face into each label's share of the votes for the vocabulary, all 0 if there are none."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = vocabulary

    def __call__(self, face: Face) -> list[float]:
        counts = {find_label(column): count for column, count in (face.votes or {}).items()}
        total = sum(counts.get(label, 0) for label in self.vocabulary)
        return [counts.get(label, 0) / max(total, 1) for label in self.vocabulary]


def _unseen(faces: Sequence[Face], seen: set[bytes]) -> list[Face]:
    """Drop images whose digest is in `seen`, and add the digests of the others to it."""
    unseen = []
    for face in faces:
        digest = digest_face(face)
        if digest not in seen:
            seen.add(digest)
            unseen.append(face)
    return unseen


def _is_not_a_face(face: Face) -> bool:
    return face.votes is not None and 2 * face.votes["NF"] > sum(face.votes.values())


def _split_off(faces: list[Face], fraction: float, seed: int) -> tuple[list[Face], list[Face]]:
    """Take this share of every label, and at least one face, for valid.

    The digests of the faces decide, so that hardly any face changes its split when faces are added.
    """
    order = {face.name: hashlib.sha256(digest_face(face) + bytes(str(seed), "ascii")).digest() for face in faces}
    by_label: dict[str, list[Face]] = {}
    for face in sorted(faces, key=lambda face: order[face.name]):
        by_label.setdefault(face.label, []).append(face)
    rare = min(by_label, key=lambda label: len(by_label[label]))
    if len(by_label[rare]) < 2:
        raise DataError(
            f"There is only one image of {rare}, and validation needs another one. Add images, or add a folder valid/."
        )
    chosen = {face.name for some in by_label.values() for face in some[: max(1, round(fraction * len(some)))]}
    return [face for face in faces if face.name not in chosen], [face for face in faces if face.name in chosen]


def _require_classes(train: Sequence[Face]) -> None:
    labels = sorted({face.label for face in train})
    if not 2 <= len(labels) <= MAX_LABELS:
        shown = list_labels(labels) or "none"
        raise DataError(
            f"Training needs images of 2 to {MAX_LABELS} labels; found {len(train)} images of {len(labels)}: {shown}."
        )
