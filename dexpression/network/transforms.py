"""Transforms from any picture to the network's input, a normalised grey face, as a fastai export stores them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fastai.data.all import DataLoaders, Datasets, IntToFloatTensor, Normalize, ToTensor
from fastai.data.transforms import Categorize
from fastai.vision.core import PILImageBW
from fasttransform import Pipeline, Transform
from PIL import Image

from dexpression.picture import frame_face, read_picture

MEAN, STD = 0.5, 0.25  # of pixels in 0..1; FER2013's own are 0.507 and 0.255


class ReadFace(Transform):
    """Turn a path, bytes, an array or a PIL picture into an upright grey face of `size` x `size` pixels."""

    input_types = object  # without it, fastai skips this transform for test items that look transformed already

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def encodes(self, source: Any) -> Any:  # fastai dispatches on these hints, so they stay wide
        if isinstance(source, np.ndarray):
            source = Image.fromarray(source)
        picture = source if isinstance(source, Image.Image) else read_picture(source)
        return PILImageBW(frame_face(picture, self.size))


class PlaceholderLabel(Transform):
    """Give every picture the first label, because fastai sets a dataset up on an item that has one."""

    input_types = object

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__()
        self.label = labels[0]

    def encodes(self, source: Any) -> Any:
        return self.label


def batch_transforms(on_gpu: bool) -> list[Any]:
    """Transforms of a whole batch: pixels in 0..255 -> normalised floats."""
    return [IntToFloatTensor(), Normalize.from_stats([MEAN], [STD], cuda=on_gpu)]


def inference_dataloaders(labels: Sequence[str], size: int) -> DataLoaders:
    """Make empty DataLoaders whose transforms turn any picture into a batch: those of an exported learner.

    They are made of classes alone, so that plain pickle can store them. A function would need cloudpickle, whose
    bytecode runs only on the same Python and which a loader could not tell from an attack.
    """
    blank = Image.new("L", (size, size))  # fastai sets its transforms up on an item
    label_transforms = [PlaceholderLabel(labels), Categorize(list(labels), sort=False)]
    datasets = Datasets([blank], tfms=[[ReadFace(size)], label_transforms])
    full = datasets.dataloaders(
        bs=1,
        device=torch.device("cpu"),
        after_item=[ToTensor()],
        before_batch=Pipeline([]),
        after_batch=batch_transforms(on_gpu=False),
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
