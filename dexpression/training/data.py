"""Labelled faces -> fastai DataLoaders; and the road on which any picture becomes what the network sees."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.data.all import (
    CategoryBlock,
    DataBlock,
    DataLoaders,
    Datasets,
    IndexSplitter,
    IntToFloatTensor,
    Normalize,
    RegressionBlock,
    ToTensor,
    TransformBlock,
)
from fastai.data.transforms import Categorize
from fastai.torch_core import default_device
from fastai.vision.core import PILImageBW
from fasttransform import Pipeline, Transform
from PIL import Image
from sklearn.model_selection import train_test_split

from dexpression.errors import DataError
from dexpression.labels import LABEL_SETS, LabelSet, find_label
from dexpression.picture import frame_face, read_picture
from dexpression.training.sources import Face, FaceSet, Split, add_votes, find_votes, read_faces

MEAN, STD = 0.5, 0.25  # of pixels in 0..1; FER2013's own are 0.507 and 0.255

logger = logging.getLogger(__name__)


class ReadFace(Transform):
    """A path, bytes, an array or a PIL picture -> an upright grey face of `size` x `size` pixels."""

    input_types = object  # fastai skips the transforms that a test item seems to have behind it; none has this one

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def encodes(self, source: Any) -> Any:  # fastai dispatches on these hints, so they stay wide
        if isinstance(source, np.ndarray):
            source = Image.fromarray(source)
        picture = source if isinstance(source, Image.Image) else read_picture(source)
        return PILImageBW(frame_face(picture, self.size))


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
    """Class folders (with or without splits) or fer2013.csv -> DataLoaders of (N, 1, size, size) faces and labels.

    Images that most people called "not a face" (where there are votes) and repeated images are left out; a missing
    valid split is taken from train. With `with_votes`, where there are votes, a third part is (N, labels): the share of
    votes a label, all zero where nobody chose one of `labels`. Raises DataError.
    """
    found = read_labelled(source, labels, size, votes)
    train, valid = split_faces(found.faces, valid_fraction, seed)
    logger.info("After repeats and non-faces were dropped: %d train, %d valid", len(train), len(valid))
    return split_dataloaders(
        train, valid, labels=labels, with_votes=with_votes, batch_size=batch_size, augmentations=augmentations
    )


def read_labelled(source: Path, labels: LabelSet, size: int, votes: Path | None = None) -> FaceSet:
    """The faces of `source` that carry one of these labels, with the FER+ votes if those are named or lie beside it."""
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
    """DataLoaders of faces that were split already; see `face_dataloaders`."""
    vocabulary, size = LABEL_SETS[labels], train[0].image.width
    blocks: list[Any] = [
        TransformBlock(type_tfms=ReadFace(size), item_tfms=ToTensor),
        CategoryBlock(vocabulary, sort=False),
    ]
    getters: list[Any] = [attrgetter("label")]
    if with_votes and train[0].votes:
        blocks.append(RegressionBlock(len(vocabulary)))
        getters.append(_VoteShares(vocabulary))
    block = DataBlock(
        blocks=blocks,
        n_inp=1,
        get_x=attrgetter("image"),
        get_y=getters,
        splitter=IndexSplitter(range(len(train), len(train) + len(valid))),
        batch_tfms=[*_batch_transforms(on_gpu=default_device().type != "cpu"), *augmentations],
    )
    return block.dataloaders([*train, *valid], bs=batch_size, drop_last=len(train) >= batch_size, num_workers=0)


def inference_dataloaders(labels: Sequence[str], size: int) -> DataLoaders:
    """Empty DataLoaders whose transforms make any picture a batch: what an exported learner carries.

    Made of classes alone, so that plain pickle can hold them: what fastai makes of a bare function needs cloudpickle,
    which stores bytecode that only the same Python runs, and which no loader could tell from an attack.
    """
    blank = Image.new("L", (size, size))  # fastai sets its transforms up on an item
    datasets = Datasets([blank], tfms=[[ReadFace(size)], [_AnyLabel(labels), Categorize(list(labels), sort=False)]])
    full = datasets.dataloaders(
        bs=1,
        device=torch.device("cpu"),
        after_item=[ToTensor()],
        before_batch=Pipeline([]),
        after_batch=_batch_transforms(on_gpu=False),
        num_workers=0,
    )
    empty = full.new_empty()
    for loader in empty.loaders:
        pipelines = [loader.after_item, loader.after_batch, *(part.tfms for part in loader.dataset.tls)]
        for transform in (transform for pipeline in pipelines for transform in pipeline.fs):
            vars(transform).pop("__signature__", None)
        for part in (loader.dataset, *loader.dataset.tls):
            vars(part).pop("dataloaders", None)  # a bound method with a signature, for interactive help alone
    return empty


def split_faces(faces: Sequence[Face], valid_fraction: float, seed: int) -> tuple[list[Face], list[Face]]:
    """(train, valid) without an image twice in either or on both sides; valid is split off, stratified, if missing."""
    parts: dict[Split | None, list[Face]] = {"test": [], "valid": [], "train": []}
    for face in faces:
        parts[face.split or "train"].append(face)
    seen = {_digest(face) for face in parts["test"]}
    # What stands on both sides goes from train, so that valid is the same whatever is trained on.
    valid = _unseen(parts["valid"], seen)
    train = [face for face in _unseen(parts["train"], seen) if not _is_no_face(face)]
    _require_classes(train)
    if not valid:
        train, valid = _split_off(train, valid_fraction, seed)
    return train, valid


def stack_pixels(faces: Sequence[Face]) -> np.ndarray:
    """(N, 1, size, size) in 0..255."""
    return np.stack([np.asarray(face.image) for face in faces])[:, None]


def has_votes(dataloaders: DataLoaders) -> bool:
    """Whether a batch has a third part, the votes."""
    return len(dataloaders.train_ds.tls) == 3


def distinct_faces(faces: Sequence[Face]) -> list[Face]:
    """Each image once, and without what most annotators called no face."""
    return [face for face in _unseen(faces, set()) if not _is_no_face(face)]


def images_per_label(dataloaders: DataLoaders) -> dict[str, dict[str, int]]:
    """How many images of each label stand in each split."""
    return {
        name: dict(sorted(Counter(face.label for face in part.items).items()))
        for name, part in (("train", dataloaders.train_ds), ("valid", dataloaders.valid_ds))
    }


def fingerprint(dataloaders: DataLoaders) -> str:
    """SHA-256 over every image, label, side and, where there are any, votes: equal only for the same data."""
    digest = hashlib.sha256()
    for part in (dataloaders.train_ds, dataloaders.valid_ds):
        for face in part.items:
            digest.update(_digest(face) + face.label.encode() + b"|")
            if face.votes:
                digest.update(repr(sorted(face.votes.items())).encode())
        digest.update(b"||")
    return digest.hexdigest()


class _VoteShares:
    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = vocabulary

    def __call__(self, face: Face) -> list[float]:
        counts = {find_label(column): count for column, count in (face.votes or {}).items()}
        total = sum(counts.get(label, 0) for label in self.vocabulary)
        return [counts.get(label, 0) / max(total, 1) for label in self.vocabulary]


class _AnyLabel(Transform):
    """The label of a picture that has none: fastai's datasets want one to set up on."""

    input_types = object

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__()
        self.label = labels[0]

    def encodes(self, source: Any) -> Any:
        return self.label


def _batch_transforms(on_gpu: bool) -> list[Any]:
    return [IntToFloatTensor(), Normalize.from_stats([MEAN], [STD], cuda=on_gpu)]


def _digest(face: Face) -> bytes:
    return hashlib.sha256(face.image.tobytes()).digest()


def _unseen(faces: Sequence[Face], seen: set[bytes]) -> list[Face]:
    """The first of each image that is not in `seen`, which grows by them."""
    unseen = []
    for face in faces:
        digest = _digest(face)
        if digest not in seen:
            seen.add(digest)
            unseen.append(face)
    return unseen


def _is_no_face(face: Face) -> bool:
    return face.votes is not None and 2 * face.votes["NF"] > sum(face.votes.values())


def _split_off(faces: list[Face], fraction: float, seed: int) -> tuple[list[Face], list[Face]]:
    try:
        train, valid = train_test_split(
            faces, test_size=fraction, random_state=seed, stratify=[face.label for face in faces]
        )
    except ValueError as error:
        raise DataError(
            f"{len(faces)} images are too few to split {fraction:.0%} of every label off for valid. "
            "Add images, or give a valid/ folder."
        ) from error
    return train, valid


def _require_classes(train: Sequence[Face]) -> None:
    labels = sorted({face.label for face in train})
    if len(labels) < 2:
        raise DataError(
            f"Training needs images of at least two labels; found {len(train)} images of {labels or 'none'}."
        )
