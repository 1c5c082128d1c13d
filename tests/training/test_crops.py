"""A picture gives the same pixels in training and in serving; crops are kept; a face is found again in its picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dexpression.errors import PictureError
from dexpression.faces import FaceDetector
from dexpression.picture import Box
from dexpression.prediction import FaceClassifier, Predictor
from dexpression.settings import Settings
from dexpression.training.crops import FaceCropper, NoFace
from dexpression.training.folders import read_folder
from dexpression.web import create_app
from dexpression.web.service import Service
from tests.support.faces import draw_face, encode, encode_turned
from tests.support.web import MULTIPART, multipart

BLANK = Image.new("L", (300, 200), 128)


@pytest.fixture(scope="module")
def two_faces(portrait) -> Image.Image:
    """The same face twice, side by side."""
    twice = Image.new("RGB", (1024, 512))
    for left in (0, 512):
        twice.paste(portrait, (left, 0))
    return twice


class NotedClassifier(FaceClassifier):
    """A classifier that keeps the pixels that it is given."""

    def __init__(self, classifier: FaceClassifier) -> None:
        super().__init__(self._note, classifier.labels, classifier.image_size, classifier.readings)
        self.seen: list[np.ndarray] = []
        self._answering = classifier._backend

    def _note(self, faces: np.ndarray) -> dict[str, np.ndarray]:
        self.seen += list(faces[:, 0])
        return self._answering(faces)


def served_pixels(shipped: Predictor, content: bytes) -> np.ndarray:
    """The pixels of the largest face of a picture that `POST /` gives to the network."""
    classifier = NotedClassifier(shipped.classifier)
    predictor = Predictor(classifier, FaceDetector.load(), shipped.manifest)
    client = create_app(Service(predictor), Settings()).test_client()
    assert client.post("/", data=multipart(content), content_type=MULTIPART).status_code == 200
    return classifier.seen[0]


def trained_pixels(folder: Path, content: bytes) -> np.ndarray:
    """The pixels that a network is trained on, of a picture in a class folder."""
    (folder / "happy").mkdir()
    (folder / "happy" / "photo.jpg").write_bytes(content)
    [face] = read_folder(folder, FaceCropper(48, cache=folder / "crops")).faces
    return np.asarray(face.image)


PICTURES = {
    "a photo as PNG": encode,
    "a photo as JPEG": partial(encode, file_format="JPEG", quality=90),
    **{
        f"turned, EXIF {number}": partial(encode_turned, orientation=number, file_format="JPEG")
        for number in range(2, 9)
    },
    "a small photo": lambda photo: encode(photo.resize((90, 90))),
    "a large photo, reduced when it is decoded": lambda photo: encode(photo.resize((2048, 2048)), "JPEG"),
    "a large PNG, turned": lambda photo: encode_turned(photo.resize((2048, 2048)), 6),
    "a grey photo": lambda photo: encode(photo.convert("L")),
    "a transparent photo": lambda photo: encode(photo.convert("RGBA").rotate(5, expand=True)),
    "a wide photo": lambda photo: encode(photo.crop((0, 0, 512, 200))),
    "a face of 48x48 pixels": lambda photo: encode(photo.crop((170, 60, 270, 160)).resize((48, 48))),
    "a face of 64x50 pixels": lambda photo: encode(photo.crop((170, 60, 298, 160)).resize((64, 50))),
    "a photo without a face": lambda photo: encode(photo.crop((0, 300, 150, 512))),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_gives_the_same_pixels_in_training_and_in_serving(shipped, portrait, tmp_path, kind):
    content = PICTURES[kind](portrait)
    assert np.array_equal(trained_pixels(tmp_path, content), served_pixels(shipped, content))


def test_the_largest_of_two_faces_is_taken(shipped, portrait, tmp_path):
    both = Image.new("RGB", (800, 512))
    both.paste(portrait.resize((256, 256)), (0, 0))
    both.paste(portrait, (288, 0))
    alone = Image.new("RGB", (800, 512))
    alone.paste(portrait, (288, 0))
    crops = [np.asarray(FaceCropper(48).crop(encode(picture)).image, float) for picture in (both, alone)]
    assert np.abs(crops[0] - crops[1]).mean() < 2
    assert np.array_equal(trained_pixels(tmp_path, encode(both)), served_pixels(shipped, encode(both)))


@pytest.mark.parametrize(("smaller", "doubtful"), [(512, True), (448, True), (256, False)])
def test_another_face_of_like_size_makes_the_label_doubtful(portrait, smaller, doubtful):
    both = Image.new("RGB", (1024, 512))
    both.paste(portrait, (0, 0))
    both.paste(portrait.resize((smaller, smaller)), (512, 0))
    doubt = FaceCropper(48).crop(encode(both)).doubt
    assert (doubt == "it has several faces of like size, of which the largest was taken") is doubtful


def test_a_photo_is_cropped_to_its_face_unless_the_whole_is_asked_for(portrait):
    detected, whole = (FaceCropper(48, detect).crop(encode(portrait)) for detect in ("auto", "never"))
    assert np.array_equal(whole.image, portrait.convert("L").resize((48, 48), Image.Resampling.BILINEAR))
    assert not np.array_equal(detected.image, whole.image)
    assert (detected.doubt, whole.doubt) == (None, None)


def test_a_picture_without_a_face_is_taken_whole_and_doubtful_or_refused():
    crop = FaceCropper(48).crop(encode(BLANK))
    assert (crop.image.size, crop.doubt) == ((48, 48), "no face was found in it, so it was taken whole")
    with pytest.raises(NoFace):
        FaceCropper(48, "always").crop(encode(BLANK))


def test_a_small_picture_is_a_face_already_unless_detection_is_asked_for():
    assert FaceCropper(48).crop(encode(draw_face("HAPPY", 0))).image.tobytes() == draw_face("HAPPY", 0).tobytes()
    with pytest.raises(NoFace):
        FaceCropper(48, "always").crop(encode(Image.new("L", (48, 48))))


def test_bytes_that_are_no_picture_are_refused(tmp_path):
    with pytest.raises(PictureError):
        FaceCropper(48, cache=tmp_path).crop(b"no picture")


def crop_twice(contents: Sequence[bytes], cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[bytes]]:
    """The pixels of these pictures by two croppers with one cache, and without a detector the second time."""
    first = [FaceCropper(48, cache=cache).crop(content).image.tobytes() for content in contents]
    monkeypatch.setattr(FaceDetector, "load", lambda: pytest.fail("detected again"))
    return [first, [FaceCropper(48, cache=cache).crop(content).image.tobytes() for content in contents]]


def test_a_second_run_detects_no_faces(portrait, tmp_path, monkeypatch):
    contents = [encode(portrait), encode(portrait.resize((300, 300)), "JPEG")]
    first, second = crop_twice(contents, tmp_path / "runs" / "crops", monkeypatch)
    assert first == second
    assert first[0] != first[1]


def test_crops_of_another_size_and_doubtful_ones_are_not_mixed_up(portrait, two_faces, tmp_path):
    for size in (48, 224, 48):
        assert FaceCropper(size, cache=tmp_path).crop(encode(portrait)).image.size == (size, size)
    doubts = [FaceCropper(48, cache=tmp_path).crop(encode(picture)).doubt for picture in (two_faces, BLANK) * 2]
    assert None not in doubts  # a second run says it too


@pytest.mark.parametrize("damage", [b"", b"no picture", None], ids=["empty", "no picture", "cut off"])
def test_a_damaged_crop_is_made_again(portrait, tmp_path, damage):
    expected = FaceCropper(48, cache=tmp_path).crop(encode(portrait)).image.tobytes()
    [kept] = tmp_path.rglob("*.png")
    kept.write_bytes(kept.read_bytes()[:-300] if damage is None else damage)
    assert FaceCropper(48, cache=tmp_path).crop(encode(portrait)).image.tobytes() == expected


def test_a_stopped_run_leaves_no_half_crop(portrait, tmp_path, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        FaceCropper(48, cache=tmp_path).crop(encode(portrait))
    assert list(tmp_path.rglob("*.png")) == []


def located_face(folder: Path, picture: Image.Image, detect: str = "auto"):
    """Read a picture as a labelled face, and find it again."""
    (folder / "happy").mkdir()
    picture.save(folder / "happy" / "photo.png")
    cropper = FaceCropper(48, detect)
    [face] = read_folder(folder, cropper).faces
    return face, cropper.locate(face)


def test_a_face_is_found_again_in_its_picture_and_cropped_to_the_same_pixels(portrait, tmp_path):
    face, located = located_face(tmp_path, portrait)
    assert located.image.size == (512, 512)
    square = located.square
    assert (square.left, square.top) == (pytest.approx(168, abs=6), pytest.approx(64, abs=6))
    assert square.right - square.left == pytest.approx(1.1 * (90 * 113) ** 0.5, abs=6)
    assert np.array_equal(located.crop(located.image), face.image)
    assert located.crop(BLANK) is None


@pytest.mark.parametrize(
    ("picture", "detect"),
    [(draw_face("HAPPY", 0), "auto"), (BLANK, "auto"), (draw_face("HAPPY", 0, 200), "never")],
    ids=["a small picture", "a picture without a face", "a picture that is taken whole"],
)
def test_a_face_that_was_not_detected_is_its_whole_crop(tmp_path, picture, detect):
    face, located = located_face(tmp_path, picture, detect)
    assert (located.image.size, located.square) == ((48, 48), Box(0, 0, 48, 48))
    assert np.array_equal(located.crop(located.image), face.image)
    assert located.crop(BLANK).size == (48, 48)
