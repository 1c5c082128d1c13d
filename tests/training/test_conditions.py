"""Faces and photos under poor conditions, and the scores of a model on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dexpression.labels import SEVEN
from dexpression.picture import Box
from dexpression.prediction import FaceClassifier
from dexpression.training.conditions import BRIGHTNESS, CONDITIONS, Share, evaluate_conditions
from dexpression.training.crops import FaceCropper
from dexpression.training.face_set import Face
from dexpression.training.folders import read_folder
from tests.support.faces import draw_face

WHOLE = Box(0, 0, 48, 48)
PHOTO_FACE = Box(168, 64, 279, 175)  # in the portrait


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_changes_a_face_always_in_the_same_way(name):
    face = draw_face("HAPPY", 0)
    changed = CONDITIONS[name](face, WHOLE)
    assert changed.mode == "L"
    assert changed.size != face.size or not np.array_equal(changed, face)
    assert np.array_equal(changed, CONDITIONS[name](face, WHOLE))


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_changes_a_photo_in_colour(portrait, name):
    before = portrait.tobytes()
    changed = CONDITIONS[name](portrait, PHOTO_FACE)
    assert changed.mode == "RGB"
    assert changed.size != portrait.size or not np.array_equal(changed, portrait)
    assert portrait.tobytes() == before


def test_what_comes_in_when_a_face_is_turned_repeats_its_border():
    assert np.unique(CONDITIONS["turned by 30 degrees"](Image.new("L", (48, 48), 77), WHOLE)).tolist() == [77]


def test_a_photo_is_turned_around_its_face():
    photo = Image.new("L", (200, 100))
    photo.putpixel((150, 40), 255)
    turned = np.asarray(CONDITIONS["turned by 30 degrees"](photo, Box(130, 20, 171, 61)))
    assert np.unravel_index(turned.argmax(), turned.shape) == (40, 150)


@pytest.mark.parametrize(("side", "size"), [(200, (103, 41)), (20, (512, 200))])
def test_a_photo_is_scaled_until_its_face_has_so_many_pixels_and_never_enlarged(portrait, side, size):
    photo = portrait.crop((0, 0, 512, 200))
    scaled = CONDITIONS["32x32 pixels"](photo, Box(100, 0, 100 + side, side)).size
    assert scaled == (pytest.approx(size[0], abs=22), pytest.approx(size[1], abs=9))


@pytest.mark.parametrize(("name", "top", "bottom"), [("lower face covered", 0.58, 1.0), ("eyes covered", 0.2, 0.42)])
def test_only_the_face_of_a_photo_is_covered(portrait, name, top, bottom):
    changed = np.asarray(CONDITIONS[name](portrait, PHOTO_FACE), int) - np.asarray(portrait, int)
    rows, columns = (np.flatnonzero(np.abs(changed).sum(axis=(axis, 2))) for axis in (1, 0))
    side = 279 - 168
    assert (columns[0], columns[-1]) == (pytest.approx(168 + 0.1 * side, abs=2), pytest.approx(168 + 0.9 * side, abs=2))
    assert (rows[0], rows[-1]) == (pytest.approx(64 + top * side, abs=2), pytest.approx(64 + bottom * side, abs=2))


def test_the_blur_of_a_photo_follows_the_side_of_its_face(portrait):
    blurred = CONDITIONS["blurred, 1/20"]
    sharpness = [
        np.abs(np.diff(np.asarray(blurred(portrait, Box(0, 0, side, side)), float), axis=1)).mean()
        for side in (20, 200)
    ]
    assert sharpness[0] > 1.5 * sharpness[1]


def test_the_interval_is_that_of_wilson():
    found = Share.of([True] * 8 + [False] * 2)
    assert (found.n, found.share) == (10, 0.8)
    assert (found.lower, found.upper) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert Share.of_count(0.8, 10) == found


def test_an_interval_stays_between_0_and_1():
    assert Share.of([True] * 5).upper <= 1 + 1e-12
    assert Share.of([False] * 5).lower >= -1e-12


def test_a_model_is_scored_on_the_same_faces_under_each_condition(shipped):
    faces = [Face(f"{label}.png", label, None, draw_face(label, 0)) for label in SEVEN]
    found = evaluate_conditions(shipped.classifier, faces, SEVEN)
    own = [prediction.emotion for prediction in shipped.classifier.predict([face.image for face in faces])]
    assert found.clean.share == pytest.approx(np.mean([label == true for label, true in zip(own, SEVEN, strict=True)]))
    assert found.conditions.keys() == CONDITIONS.keys()
    assert {share.n for share in found.conditions.values()} == {found.flips.n} == {7}
    assert set(found.found.values()) == {1.0}
    assert found.mean == pytest.approx(np.mean([share.share for share in found.conditions.values()]))
    assert found.to_dict()["mean"] == found.mean
    assert len(found.table().splitlines()) == len(CONDITIONS) + 4
    assert "found" not in found.table()


@pytest.fixture
def photos(portrait, tmp_path) -> Path:
    """A class folder with a photo."""
    (tmp_path / "happy").mkdir()
    portrait.save(tmp_path / "happy" / "photo.png")
    return tmp_path


def test_a_photo_is_scored_as_it_is_as_the_server_answers_it(shipped, photos, portrait):
    faces = read_folder(photos, FaceCropper(48)).faces
    [face] = shipped.predict(portrait).faces
    for label in ("HAPPY", "SAD"):
        found = evaluate_conditions(shipped.classifier, [replace(faces[0], label=label)], SEVEN)
        assert found.clean.share == (label == face.prediction.emotion)


def test_the_face_of_a_photo_is_detected_again_under_each_condition(shipped, photos, monkeypatch):
    """A face that is not found is wrong, and the table says what share is found."""
    faces = read_folder(photos, FaceCropper(48)).faces
    detector = FaceCropper(48).detector
    seen: list[Image.Image] = []

    def find_faces(_self: object, picture: Image.Image) -> list:
        seen.append(picture)
        return detector.find_faces(picture) if np.asarray(picture).mean() > 60 else []

    monkeypatch.setattr(
        "dexpression.training.crops.FaceDetector.load", lambda: type("Blind", (), {"find_faces": find_faces})()
    )
    found = evaluate_conditions(shipped.classifier, faces, SEVEN)
    assert len(seen) == 1 + 1 + len(CONDITIONS) + len(BRIGHTNESS)  # located, as it is, and changed
    assert found.found["dark, a quarter of the light"] == found.conditions["dark, a quarter of the light"].share == 0
    assert found.found["as they are"] == 1
    assert "found" in found.table().splitlines()[0]


def test_photos_that_are_taken_whole_are_changed_as_crops(shipped, photos, monkeypatch):
    faces = read_folder(photos, FaceCropper(48, "never")).faces
    monkeypatch.setattr("dexpression.training.crops.FaceDetector.load", lambda: pytest.fail("detected"))
    found = evaluate_conditions(shipped.classifier, faces, SEVEN, detect="never")
    assert set(found.found.values()) == {1.0}


def test_the_labels_that_are_chosen_are_the_only_answers(own_model):
    from dexpression.prediction import load_classifier

    classifier: FaceClassifier = load_classifier(own_model.with_suffix(".onnx"))[0]
    faces = [Face(f"{label}.png", "BORED", None, draw_face(label, 0)) for label in SEVEN]
    found = evaluate_conditions(classifier, faces, ["BORED"])
    assert (found.clean.share, found.mean, found.flips.share) == (1, 1, 0)
