"""From labelled faces to fastai DataLoaders: splits without repeated images, batches, vote distributions."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

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
from sklearn.model_selection import train_test_split

from dexpression.errors import DataError
from dexpression.labels import LABEL_SETS, LabelSet, find_label
from dexpression.network.transforms import ReadFace, batch_transforms
from dexpression.training.sources import Face, FaceSet, Split, add_votes, find_votes, read_faces

logger = logging.getLogger(__name__)


def face_dataloaders(
    source: Path,
    *,
    labels: LabelSet = "seven",
    size: int = 48,
    votes: Path | None = None,
    with_votes: bool = False,
    batch_size: int = 128,
    valid_fraction: float = 0.1,
    seed: int = 0,
    augmentations: Sequence[Any] = (),
) -> DataLoaders:
    """Read class folders, with or without splits, or fer2013.csv into DataLoaders; raises DataError.

    A batch is faces (N, 1, size, size) and labels (N,). With `with_votes`, and if the data has FER+ votes, a third part
    is the vote distribution (N, labels): each label's share of the votes for `labels`, all 0 if there is no such vote.
    Repeated images are dropped, and images that most annotators called "not a face". If there is no valid split,
    `valid_fraction` of train becomes one.
    """
    found = read_labelled(source, labels, size, votes)
    train, valid = split_faces(found.faces, valid_fraction, seed)
    logger.info("After repeats and non-faces were dropped: %d train, %d valid", len(train), len(valid))
    return split_dataloaders(
        train, valid, labels=labels, with_votes=with_votes, batch_size=batch_size, augmentations=augmentations
    )


def read_labelled(source: Path, labels: LabelSet, size: int, votes: Path | None = None) -> FaceSet:
    """Read the faces of `source` that have one of these labels, with the FER+ votes in `votes` or beside the faces."""
    found = read_faces(source, size).of_labels(LABEL_SETS[labels])
    votes = votes or find_votes(source)
    if votes:
        found = add_votes(found, votes)
    logger.info(found.report())
    return found


def split_dataloaders(
    train: Sequence[Face],
    valid: Sequence[Face],
    *,
    labels: LabelSet = "seven",
    with_votes: bool = False,
    batch_size: int = 128,
    augmentations: Sequence[Any] = (),
) -> DataLoaders:
    """Make DataLoaders from faces that are split already; see `face_dataloaders`."""
    vocabulary, size = LABEL_SETS[labels], train[0].image.width
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


def split_faces(faces: Sequence[Face], valid_fraction: float, seed: int) -> tuple[list[Face], list[Face]]:
    """Split faces into (train, valid), no image twice; a missing valid split is taken from train, stratified."""
    parts: dict[Split | None, list[Face]] = {"test": [], "valid": [], "train": []}
    for face in faces:
        parts[face.split or "train"].append(face)
    seen = {_digest(face) for face in parts["test"]}
    # An image of both splits is dropped from train, so that valid does not depend on train.
    valid = _unseen(parts["valid"], seen)
    train = [face for face in _unseen(parts["train"], seen) if not _is_not_a_face(face)]
    _require_classes(train)
    if not valid:
        train, valid = _split_off(train, valid_fraction, seed)
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
            digest.update(_digest(face) + face.label.encode() + b"|")
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


def _digest(face: Face) -> bytes:
    return hashlib.sha256(face.image.tobytes()).digest()


def _unseen(faces: Sequence[Face], seen: set[bytes]) -> list[Face]:
    """Drop images whose digest is in `seen`, and add the digests of the others to it."""
    unseen = []
    for face in faces:
        digest = _digest(face)
        if digest not in seen:
            seen.add(digest)
            unseen.append(face)
    return unseen


def _is_not_a_face(face: Face) -> bool:
    return face.votes is not None and 2 * face.votes["NF"] > sum(face.votes.values())


def _split_off(faces: list[Face], fraction: float, seed: int) -> tuple[list[Face], list[Face]]:
    try:
        train, valid = train_test_split(
            faces, test_size=fraction, random_state=seed, stratify=[face.label for face in faces]
        )
    except ValueError as error:
        raise DataError(
            f"{len(faces)} images are too few to take {fraction:.0%} of every label for valid. "
            "Add images, or add a folder valid/."
        ) from error
    return train, valid


def _require_classes(train: Sequence[Face]) -> None:
    labels = sorted({face.label for face in train})
    if len(labels) < 2:
        raise DataError(
            f"Training needs images of at least two labels; found {len(train)} images of {labels or 'none'}."
        )
