"""Predict pictures: detect the faces, crop them, and classify all crops in one batch.

Any number of threads may call a classifier or a predictor at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from dexpression.engine import Backend, onnx_backend
from dexpression.errors import BrokenWeights, UnreadableImage
from dexpression.faces import FaceDetector, crop_face
from dexpression.picture import Box, Picture, Source, frame_face, load_picture
from dexpression.reading import Detect, FaceReading, Prediction, Reading
from dexpression.shipped import default_model_path

if TYPE_CHECKING:
    from dexpression.artifact.manifest import Manifest, OnnxModel

LARGEST_CROP = 64  # pixels a side; cropping a face out of a picture this small changes answers and improves none


class FaceClassifier:
    """Classifies faces that are cropped already."""

    def __init__(self, backend: Backend, labels: Sequence[str], image_size: int) -> None:
        self.labels = tuple(labels)
        self.image_size = image_size
        self._backend = backend

    def predict(self, crops: Sequence[Image.Image]) -> list[Prediction]:
        """Predict all crops in one batch; one prediction per crop, an empty list for none."""
        if not crops:
            return []
        faces = [np.asarray(frame_face(crop, self.image_size)) for crop in crops]
        return name_probabilities(self.labels, self._backend(np.stack(faces)[:, None]))


def load_classifier(model: str | os.PathLike[str]) -> tuple[FaceClassifier, Manifest]:
    """Load the ONNX model of an export, given by its folder or its .onnx file; raises ArtifactError.

    If `model` is an export's .safetensors or .pkl file, PyTorch runs the learner instead, from the .safetensors file;
    raises MissingExtra too.
    """
    from dexpression.artifact.manifest import load_onnx_model, names_learner

    if names_learner(model):
        from dexpression.artifact.export import load_exported

        learner, manifest = load_exported(model)
        from dexpression.network.inference import torch_backend  # seconds of torch, which a missing file does not cost

        return FaceClassifier(torch_backend(learner), manifest.labels, manifest.image_size), manifest
    content, manifest = load_onnx_model(model)
    return FaceClassifier(onnx_backend(content), manifest.labels, manifest.image_size), manifest


class Predictor:
    """Predicts the emotions of all faces in whole pictures."""

    def __init__(self, classifier: FaceClassifier, detector: FaceDetector, manifest: Manifest) -> None:
        self.classifier = classifier
        self.manifest = manifest
        self._detector = detector

    @classmethod
    def load(cls, model: str | os.PathLike[str] | None = None) -> Predictor:
        """Load an export as `load_classifier` does, and the face detector; raises ArtifactError.

        Without `model`, the export that comes with the package is loaded.
        """
        classifier, manifest = load_classifier(default_model_path() if model is None else model)
        return cls(classifier, FaceDetector.load(), manifest)

    @classmethod
    def from_onnx_model(cls, model: OnnxModel, detector: FaceDetector) -> Predictor:
        """Make a predictor whose calls use one thread each, for a process that is called many times at once."""
        content, manifest = model
        classifier = FaceClassifier(onnx_backend(content, threads=1), manifest.labels, manifest.image_size)
        return cls(classifier, detector, manifest)

    def public_facts(self) -> dict[str, Any]:
        """What a caller may know about the model; see `Manifest.public_facts`."""
        return self.manifest.public_facts()

    def predict(self, picture: Source | Image.Image | Picture, detect: Detect = "auto", whole: bool = False) -> Reading:
        """Return the reading of a picture (bytes, a path, a PIL image or a Picture): at most 64 faces, largest first.

        `detect`: "always" detects faces; "auto" too, but treats a picture of at most 64x64 pixels as one face; "never"
        treats the centred square of any picture as one face. `whole`: if no face is found, predict the centred square.
        Raises PictureError.
        """
        loaded = _load(picture)
        image, size = loaded.image, (loaded.width, loaded.height)
        if detect == "never" or (detect == "auto" and max(size) <= LARGEST_CROP):
            face = FaceReading(loaded.to_original(_centred_square(image)), None, self._predict_whole(image))
            return Reading(*size, [face])
        faces = self._read_faces(loaded)
        return Reading(*size, faces, self._predict_whole(image) if whole and not faces else None)

    def _read_faces(self, picture: Picture) -> list[FaceReading]:
        found, size = self._detector.find_faces(picture.image), self.classifier.image_size
        predictions = self.classifier.predict([crop_face(picture.image, face.box, size) for face in found])
        return [
            FaceReading(picture.to_original(face.box), face.confidence, prediction)
            for face, prediction in zip(found, predictions, strict=True)
        ]

    def _predict_whole(self, image: Image.Image) -> Prediction:
        [prediction] = self.classifier.predict([image])
        return prediction


def name_probabilities(labels: Sequence[str], probabilities: np.ndarray) -> list[Prediction]:
    """Turn probabilities (N, labels) into N predictions; raises BrokenWeights if some are not numbers."""
    if not np.isfinite(probabilities).all():
        raise BrokenWeights("The model gives probabilities that are not numbers. Train it again, at a lower rate.")
    return [Prediction(dict(zip(labels, row, strict=True))) for row in probabilities.tolist()]


def _load(picture: Source | Image.Image | Picture) -> Picture:
    if isinstance(picture, Picture):
        return picture
    if isinstance(picture, Image.Image):
        return _of_image(picture)
    return load_picture(picture)


def _of_image(image: Image.Image) -> Picture:
    """Take over a PIL image, which Pillow may not have decoded yet, or which may be empty; raises UnreadableImage."""
    try:
        if 0 in image.size:
            raise ValueError("no pixels")
        image.load()
        return Picture.of(image)
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise UnreadableImage("The image has no pixels, or they cannot be decoded. Convert it to RGB.") from error


def _centred_square(image: Image.Image) -> Box:
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return Box(left, top, left + side, top + side)
