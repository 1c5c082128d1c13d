"""Faces in whole pictures: where they are, and how they are cut out."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from skimage.data import coffee

from dexpression import faces
from dexpression.errors import DigestMismatch, MissingArtifact
from dexpression.faces import FaceDetector, crop_face, overlap
from dexpression.picture import Box, read_picture
from tests.support.faces import encode_turned
from tests.support.server import ROOT

FACE = Box(178, 63, 268, 176)  # of the portrait


def share(one: Box, other: Box) -> float:
    """Intersection over union, 0..1."""
    corners = np.array([[box.left, box.top, box.right, box.bottom] for box in (one, other)])
    return float(overlap(corners[0], corners[1:])[0])


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector.load()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_face_is_found_upright_whichever_way_the_camera_was_held(detector, portrait, orientation):
    [face] = detector.find_faces(read_picture(encode_turned(portrait, orientation)))
    assert share(face.box, FACE) > 0.95
    assert face.confidence > 0.9


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("side", [150, 512, 3000])
def test_the_face_is_found_at_every_size_in_grey_and_in_colour(detector, portrait, side, mode):
    [face] = detector.find_faces(portrait.convert(mode).resize((side, side)))
    scale = side / 512
    wanted = Box(*(edge * scale for edge in (FACE.left, FACE.top, FACE.right, FACE.bottom)))
    assert share(face.box, wanted) > 0.8


def test_every_face_is_found_and_the_largest_comes_first(detector, portrait):
    group = Image.new("RGB", (1100, 1024))
    group.paste(portrait, (0, 512))
    for number, corner in enumerate([(0, 0), (512, 0), (588, 512)]):
        group.paste(portrait.resize((500 - 20 * number,) * 2), corner)
    found = detector.find_faces(group)
    assert len(found) == 4
    assert share(found[0].box, Box(178, 575, 268, 688)) > 0.8
    assert [face.box.area for face in found] == sorted((face.box.area for face in found), reverse=True)


@pytest.mark.parametrize("picture", [Image.fromarray(coffee()), Image.new("L", (1, 1)), Image.new("RGB", (5000, 3))])
def test_where_no_face_is_none_is_found(detector, picture):
    assert detector.find_faces(picture) == []


def test_of_many_faces_the_largest_64_are_kept(detector, portrait):
    face = portrait.crop((166, 69, 278, 181))
    crowd = Image.new("RGB", (640, 640))
    for place in range(81):  # smaller and smaller
        crowd.paste(face.resize((70 - place // 4,) * 2), (place % 9 * 70, place // 9 * 70))
    found = detector.find_faces(crowd)
    assert len(found) == 64
    assert min(face.box.area for face in found) > 0.4 * max(face.box.area for face in found)
    assert not any(face.box.top > 560 and face.box.left > 280 for face in found)  # where the smallest are


def test_overlap_is_the_shared_part_of_what_both_cover():
    boxes = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [2, 0, 4, 2], [9, 9, 10, 10]], float)
    assert overlap(boxes[0], boxes).tolist() == pytest.approx([1, 1 / 3, 0, 0])


def test_one_detector_serves_many_threads(detector, portrait):
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(detector.find_faces, [portrait] * 64))
    assert all(faces == found[0] for faces in found)


def test_a_crop_is_a_square_around_the_middle_of_the_box():
    picture = Image.new("L", (200, 100), 0)
    picture.paste(255, (100, 20, 140, 60))  # 40x40; the crop's side is 44, and what is not white is 2 pixels a side
    crop = np.asarray(crop_face(picture, Box(100, 20, 140, 60), 44))
    assert crop[3:-3, 3:-3].min() == 255
    assert crop[0].max() == crop[-1].max() == crop[:, 0].max() == crop[:, -1].max() == 0


@pytest.mark.parametrize("box", [Box(0, 0, 30, 30), Box(70, 30, 100, 50), Box(0, 0, 100, 50)])
def test_a_crop_stays_inside_the_picture(box):
    crop = crop_face(Image.new("RGB", (100, 50), "white"), box, 48)
    assert (crop.mode, crop.size, np.asarray(crop).min()) == ("L", (48, 48), 255)


def test_the_engine_leaves_nothing_on_disk(tmp_path):
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    homes = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "USERPROFILE", "LOCALAPPDATA"), str(tmp_path))
    program = "from dexpression.faces import FaceDetector; FaceDetector.load()"
    subprocess.run([sys.executable, "-c", program], env=kept | homes, cwd=ROOT, check=True)
    assert list(tmp_path.iterdir()) == []  # onnxruntime by itself keeps what it tells its maker there


def test_weights_that_are_missing_or_others_are_told(monkeypatch):
    monkeypatch.setattr(faces, "WEIGHTS_SHA256", "0")
    with pytest.raises(DigestMismatch, match="pipenv sync"):
        FaceDetector.load()
    monkeypatch.setattr(faces, "WEIGHTS_PACKAGE", "nowhere")
    with pytest.raises(MissingArtifact, match="pipenv sync"):
        FaceDetector.load()
