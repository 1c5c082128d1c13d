"""Pictures -> readings: find the faces, crop them, ask the network once for all. Knows no HTTP.

Any number of threads may ask at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dexpression.artifact.manifest import LEARNER_FILE, Manifest, load_engine
from dexpression.engine import Engine, onnx_engine
from dexpression.faces import FaceDetector, crop_face
from dexpression.picture import Box, Picture, Source, frame_face, load_picture
from dexpression.reading import Detect, FaceReading, Prediction, Reading

LARGEST_CROP = 64  # pixels a side; cutting a face out of so small a picture changes answers and betters none


class FaceClassifier:
    """Faces that are cut out already -> predictions."""

    def __init__(self, engine: Engine, labels: Sequence[str], image_size: int) -> None:
        self.labels = tuple(labels)
        self.image_size = image_size
        self._engine = engine

    def predict(self, crops: Sequence[Image.Image]) -> list[Prediction]:
        """One prediction a crop, in one batch; an empty list for none."""
        if not crops:
            return []
        faces = [np.asarray(frame_face(crop, self.image_size)) for crop in crops]
        return name_probabilities(self.labels, self._engine(np.stack(faces)[:, None]))


def load_classifier(model: str | os.PathLike[str]) -> tuple[FaceClassifier, Manifest]:
    """From the folder of an export, or its dexpression.pkl or dexpression.onnx; raises ArtifactError."""
    path = Path(model)
    path = path / LEARNER_FILE if path.is_dir() else path
    if path.suffix == ".onnx":
        content, manifest = load_engine(path)
        engine = onnx_engine(content)
    else:
        from dexpression.artifact.export import load_exported  # seconds of torch, which an ONNX file does not need
        from dexpression.network.inference import torch_engine

        learner, manifest = load_exported(path)
        engine = torch_engine(learner)
    return FaceClassifier(engine, manifest.labels, manifest.image_size), manifest


class Predictor:
    """Whole pictures -> readings."""

    def __init__(self, classifier: FaceClassifier, detector: FaceDetector, manifest: Manifest) -> None:
        self.classifier = classifier
        self.manifest = manifest
        self._detector = detector

    @classmethod
    def load(cls, model: str | os.PathLike[str]) -> Predictor:
        """From the folder of an export, or its dexpression.pkl or dexpression.onnx; raises ArtifactError."""
        classifier, manifest = load_classifier(model)
        return cls(classifier, FaceDetector.load(), manifest)

    @classmethod
    def of_engine(cls, content: bytes, manifest: Manifest, detector: FaceDetector) -> Predictor:
        """From an ONNX file that was checked; a call uses one thread, for whoever makes many calls at once."""
        engine = onnx_engine(content, threads=1)
        return cls(FaceClassifier(engine, manifest.labels, manifest.image_size), detector, manifest)

    def card(self) -> dict[str, Any]:
        """What the model is and how well it does; see `Manifest.card`."""
        return self.manifest.card()

    def predict(self, picture: Source | Image.Image | Picture, detect: Detect = "auto", whole: bool = False) -> Reading:
        """Every face of a picture (bytes, a path, a PIL image, or one loaded already), at most 64, largest first.

        With "auto" a picture of at most 64x64 pixels is one face, as with "never" any picture is: its middle square.
        With `whole`, a picture without a face has a prediction all the same. Raises RequestError for what is no
        picture.
        """
        loaded = _load(picture)
        image, size = loaded.image, (loaded.width, loaded.height)
        if detect == "never" or (detect == "auto" and max(size) <= LARGEST_CROP):
            return Reading(*size, [FaceReading(loaded.own(_middle_square(image)), None, self._read_whole(image))])
        faces = self._read_faces(loaded)
        return Reading(*size, faces, self._read_whole(image) if whole and not faces else None)

    def _read_faces(self, picture: Picture) -> list[FaceReading]:
        found, size = self._detector.find_faces(picture.image), self.classifier.image_size
        predictions = self.classifier.predict([crop_face(picture.image, face.box, size) for face in found])
        return [
            FaceReading(picture.own(face.box), face.confidence, prediction)
            for face, prediction in zip(found, predictions, strict=True)
        ]

    def _read_whole(self, image: Image.Image) -> Prediction:
        [prediction] = self.classifier.predict([image])
        return prediction


def name_probabilities(labels: Sequence[str], probabilities: np.ndarray) -> list[Prediction]:
    """(N, labels) -> one prediction a row."""
    return [Prediction(dict(zip(labels, row, strict=True))) for row in probabilities.tolist()]


def _load(picture: Source | Image.Image | Picture) -> Picture:
    if isinstance(picture, Picture):
        return picture
    return Picture.of(picture) if isinstance(picture, Image.Image) else load_picture(picture)


def _middle_square(image: Image.Image) -> Box:
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return Box(left, top, left + side, top + side)
