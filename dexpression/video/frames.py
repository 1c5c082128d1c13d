"""The frames of a film with their faces, each with the number of its track, its prediction and its calm label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from dexpression.errors import UnreadableFilm
from dexpression.labels import ReadingName
from dexpression.picture import Picture
from dexpression.reading import FaceReading
from dexpression.video.decoding import DecodedFrame
from dexpression.video.search import FilmSearch
from dexpression.video.smoothing import CalmLabel

if TYPE_CHECKING:
    from dexpression.prediction import Predictor

# Frames whose faces are predicted together; large ones, in memory at once, are fewer.
BATCH_FRAMES = 16
BATCH_PIXELS = 20_000_000


@dataclass(frozen=True)
class TrackedFace:
    """A face in a frame.

    `reading` is what the frame alone says. `result` and `confidence` are calm: of probabilities that are averaged over
    the last half second of the track.
    """

    track: int
    reading: FaceReading
    result: str
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """Track, box, calm result, and the probabilities in this frame, for JSON."""
        calm = {"result": self.result, "confidence": round(self.confidence, 6)}
        return {"track": self.track} | self.reading.to_dict() | calm


@dataclass(frozen=True)
class Frame:
    """A frame of a film: its time in seconds from the start, its upright picture in RGB, its faces, largest first."""

    time: float
    image: Image.Image
    faces: list[TrackedFace]

    def to_dict(self) -> dict[str, Any]:
        """Time and faces for JSON."""
        return {"time": round(self.time, 3), "faces": [face.to_dict() for face in self.faces]}


def read_frames(
    predictor: Predictor, decoded: Iterable[DecodedFrame], reading: ReadingName, max_faces: int | None = None
) -> Iterator[Frame]:
    """Find, predict and follow the faces of decoded frames: of each, the `max_faces` largest.

    Raises what `decoded` raises, after the frames before.
    """
    search = FilmSearch(predictor.detector, max_faces)
    labels: dict[int, CalmLabel] = {}
    for batch in _batches(decoded):
        pictures = [Picture.of(frame.image) for frame in batch]
        found = [search.find(frame.time, picture.image) for frame, picture in zip(batch, pictures, strict=True)]
        read = predictor.predict_faces(pictures, [[face for _, face in faces] for faces in found], reading)
        for frame, faces, readings in zip(batch, found, read, strict=True):
            tracked = [
                _follow(number, face, frame.time, labels.setdefault(number, CalmLabel()))
                for (number, _), face in zip(faces, readings, strict=True)
            ]
            yield Frame(frame.time, frame.image, tracked)
        labels = {number: label for number, label in labels.items() if number in search.tracker.numbers}


def _follow(number: int, face: FaceReading, time: float, label: CalmLabel) -> TrackedFace:
    label.update(time, face.prediction.probabilities)
    return TrackedFace(number, face, label.label, label.confidence)


def _batches(frames: Iterable[DecodedFrame]) -> Iterator[list[DecodedFrame]]:
    """The frames in lists; an error follows the frames before it."""
    batch: list[DecodedFrame] = []
    failure = None
    try:
        for frame in frames:
            batch.append(frame)
            pixels = frame.image.width * frame.image.height
            if len(batch) == BATCH_FRAMES or (len(batch) + 1) * pixels > BATCH_PIXELS:
                yield batch
                batch = []
    except UnreadableFilm as error:
        failure = error
    if batch:
        yield batch
    if failure:
        raise failure
