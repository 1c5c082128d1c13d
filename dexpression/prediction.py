"""Predict pictures: detect the faces, crop them, and classify all crops in one batch.

Any number of threads may call a classifier or a predictor at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from dexpression.engine import Backend, onnx_backend
from dexpression.errors import BrokenWeights, NoEvidence, UnknownReading
from dexpression.evidence import evidence_maps
from dexpression.extras import require_extra
from dexpression.faces import MAX_FACES, FaceDetector, FoundFace, crop_face, face_square
from dexpression.inputs import AnyPicture, to_picture
from dexpression.labels import EVIDENCE, ReadingName
from dexpression.picture import Box, Picture, frame_face
from dexpression.reading import EVERY_SECONDS, Detect, FaceReading, Prediction, Reading, min_short_side
from dexpression.shipped import default_model_path

if TYPE_CHECKING:
    from dexpression.artifact.manifest import Manifest, OnnxModel
    from dexpression.video.frames import Frame

LARGEST_CROP = 64  # pixels a side; cropping a face out of a picture this small changes answers and improves none


class FaceClassifier:
    """Classifies faces that are cropped already."""

    def __init__(
        self,
        backend: Backend,
        labels: Sequence[str],
        image_size: int,
        readings: Sequence[ReadingName],
        readouts: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """`readouts`: the manifest's calibration of each reading, for a model that gives evidence."""
        self.labels, self.image_size, self.readings = tuple(labels), image_size, list(readings)
        self._backend, self._readouts = backend, readouts

    @classmethod
    def of_export(cls, backend: Backend, manifest: Manifest) -> FaceClassifier:
        """Make a classifier of the backend and the manifest of an export."""
        return cls(backend, manifest.labels, manifest.image_size, manifest.readings, manifest.readouts)

    def choose(self, reading: ReadingName | None) -> ReadingName:
        """The reading itself or, for None, the default of the model; raises UnknownReading."""
        chosen = reading or self.readings[0]
        if chosen not in self.readings:
            raise UnknownReading(
                f"The model has no reading '{chosen}', because it was trained without FER+ votes. "
                f"It has: {', '.join(self.readings)}."
            )
        return chosen

    def predict(
        self, crops: Sequence[Image.Image], reading: ReadingName | None = None, explain: bool = False
    ) -> list[Prediction]:
        """Predict all crops, 64 at once; one prediction per crop, an empty list for none.

        `explain`: with the evidence of each prediction. Raises UnknownReading, or NoEvidence.
        """
        chosen = self.choose(reading)
        if explain:
            self.require_evidence()
        predictions: list[Prediction] = []
        for first in range(0, len(crops), MAX_FACES):
            faces = [np.asarray(frame_face(crop, self.image_size)) for crop in crops[first : first + MAX_FACES]]
            given = self._backend(np.stack(faces)[:, None])
            found = name_probabilities(self.labels, given[chosen])
            predictions += self._explain(found, given, chosen) if explain else found
        return predictions

    def require_evidence(self) -> None:
        """Raise NoEvidence if the model cannot explain its answers."""
        if self._readouts is None:
            raise NoEvidence

    def _explain(
        self, predictions: Sequence[Prediction], given: Mapping[str, np.ndarray], reading: ReadingName
    ) -> list[Prediction]:
        assert self._readouts is not None  # noqa: S101  # for the type checker
        maps = evidence_maps(given[EVIDENCE], given[reading], self._readouts[reading])
        if not np.isfinite(maps).all():
            raise BrokenWeights("The model gives evidence that is not numbers. Train it again, at a lower rate.")
        return [
            replace(prediction, evidence=dict(zip(self.labels, rows, strict=True)))
            for prediction, rows in zip(predictions, maps.tolist(), strict=True)
        ]


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

        return FaceClassifier.of_export(torch_backend(learner), manifest), manifest
    content, manifest = load_onnx_model(model)
    return FaceClassifier.of_export(onnx_backend(content), manifest), manifest


class Predictor:
    """Predicts the emotions of all faces in whole pictures."""

    def __init__(self, classifier: FaceClassifier, detector: FaceDetector, manifest: Manifest) -> None:
        self.classifier = classifier
        self.manifest = manifest
        self.detector = detector

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
        return cls(FaceClassifier.of_export(onnx_backend(content, threads=1), manifest), detector, manifest)

    def public_facts(self) -> dict[str, Any]:
        """What a caller may know about the model; see `Manifest.public_facts`."""
        return self.manifest.public_facts()

    def predict(
        self,
        picture: AnyPicture,
        detect: Detect = "auto",
        whole: bool = False,
        reading: ReadingName | None = None,
        explain: bool = False,
    ) -> Reading:
        """Return the reading of a picture: at most 64 faces, largest first.

        `picture`: the bytes of a file, a path, an open binary file, a PIL image, a Picture, or an array of pixels:
        (height, width) in grey or (height, width, 3) in RGB (OpenCV has BGR), in uint8 or as floats 0..1.
        `detect`: "always" detects faces; "auto" too, but treats a picture of at most 64x64 pixels as one face; "never"
        treats the centred square of any picture as one face; "thorough" detects them at 640 pixels at once, without
        the quick search that shows all faces of most pictures; "tiles" looks at each part of a large picture by itself,
        which finds smaller faces, at most 512, and takes much longer.
        `whole`: if no face is found, predict the centred square.
        `reading`: "people" follows what most people see in a face, "labels" the labels of the training data; without
        it, the model's first one is used.
        `explain`: give each prediction its evidence, which says for each label what speaks for it where in the face.

        Raises PictureError for whatever cannot be read, UnknownReading, UnknownDetection or, for a model that gives no
        evidence, NoEvidence.
        """
        reading, side = self.classifier.choose(reading), min_short_side(detect)
        if explain:
            self.classifier.require_evidence()
        loaded = to_picture(picture, side)
        image, size = loaded.image, (loaded.width, loaded.height)
        if is_one_face(loaded, detect):
            square = loaded.to_original(_centred_square(image))
            face = FaceReading(square, None, self._predict_whole(image, reading, explain), square)
            return Reading(*size, [face], reading)
        found = self.detector.find_faces(image, detect == "tiles", detect == "thorough")
        [faces] = self.predict_faces([loaded], [found], reading, explain)
        return Reading(*size, faces, reading, self._predict_whole(image, reading) if whole and not faces else None)

    def video(
        self,
        path: str | os.PathLike[str],
        every: float = EVERY_SECONDS,
        max_faces: int | None = None,
        reading: ReadingName | None = None,
    ) -> Iterator[Frame]:
        """Read a film: a frame every so many seconds, or all for 0, with the faces in it and the tracks of these.

        `max_faces`: of each frame, take so many of the largest faces. `reading`: see `predict`. Another process decodes
        the frames while they are taken.

        Raises MissingExtra, UnknownReading, or UnreadableFilm: also after the last frame of a film that is cut off.
        """
        require_extra("video", "Reading a film")
        from dexpression.video.decoding import Film
        from dexpression.video.frames import read_frames

        chosen = self.classifier.choose(reading)
        with Film(path, every) as film:
            yield from read_frames(self, film, chosen, max_faces)

    def predict_faces(
        self,
        pictures: Sequence[Picture],
        found: Sequence[Sequence[FoundFace]],
        reading: ReadingName,
        explain: bool = False,
    ) -> list[list[FaceReading]]:
        """Predict the faces that were found in each picture, those of all pictures together."""
        size = self.classifier.image_size
        crops = [
            crop_face(picture.image, face.box, size)
            for picture, faces in zip(pictures, found, strict=True)
            for face in faces
        ]
        predictions = iter(self.classifier.predict(crops, reading, explain))
        return [
            [_read_face(picture, face, next(predictions)) for face in faces]
            for picture, faces in zip(pictures, found, strict=True)
        ]

    def _predict_whole(self, image: Image.Image, reading: ReadingName, explain: bool = False) -> Prediction:
        [prediction] = self.classifier.predict([image], reading, explain)
        return prediction


def is_one_face(picture: Picture, detect: Detect) -> bool:
    """Whether the centred square of a picture is taken as the face, so that no face is detected."""
    return detect == "never" or (detect == "auto" and max(picture.width, picture.height) <= LARGEST_CROP)


def name_probabilities(labels: Sequence[str], probabilities: np.ndarray) -> list[Prediction]:
    """Turn probabilities (N, labels) into N predictions; raises BrokenWeights if some are not numbers."""
    if not np.isfinite(probabilities).all():
        raise BrokenWeights("The model gives probabilities that are not numbers. Train it again, at a lower rate.")
    return [Prediction(dict(zip(labels, row, strict=True))) for row in probabilities.tolist()]


def _read_face(picture: Picture, face: FoundFace, prediction: Prediction) -> FaceReading:
    landmarks = face.landmarks.move(picture.point_to_original)
    crop = picture.to_original(face_square(face.box, *picture.image.size))
    return FaceReading(picture.to_original(face.box), face.confidence, prediction, crop, landmarks)


def _centred_square(image: Image.Image) -> Box:
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return Box(left, top, left + side, top + side)
