"""Detecting faces in whole pictures, and cropping them."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFilter
from skimage.data import coffee

from dexpression import faces
from dexpression.errors import DigestMismatch, MissingArtifact
from dexpression.faces import (
    MAX_OVERLAP,
    QUICK_SIDE,
    SIDE,
    TILE_OVERLAP,
    FaceDetector,
    crop_face,
    overlap,
    tile_corners,
)
from dexpression.picture import Box, read_picture
from dexpression.reading import MIN_FACE_CONFIDENCE
from dexpression.shipped import DETECTOR_WEIGHTS
from tests.support.faces import encode_turned
from tests.support.server import ROOT
from tests.support.yunet import open_shapes

FACE = Box(178, 63, 268, 176)  # in the portrait
LANDMARKS = [(201, 102), (247, 103), (221, 125), (202, 144), (240, 143)]  # right eye, left eye, nose, mouth


def share(one: Box, other: Box) -> float:
    """Intersection over union, 0..1."""
    corners = np.array([[box.left, box.top, box.right, box.bottom] for box in (one, other)])
    return float(overlap(corners[0], corners[1:])[0])


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector.load()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_face_is_found_upright_in_every_exif_orientation(detector, portrait, orientation):
    [face] = detector.find_faces(read_picture(encode_turned(portrait, orientation)))
    assert share(face.box, FACE) > 0.95
    assert face.confidence > 0.9


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("side", [150, 512, 3000])
def test_the_face_is_found_in_pictures_of_any_size_in_grey_and_in_colour(detector, portrait, side, mode):
    [face] = detector.find_faces(portrait.convert(mode).resize((side, side)))
    scale = side / 512
    expected = Box(*(edge * scale for edge in (FACE.left, FACE.top, FACE.right, FACE.bottom)))
    assert share(face.box, expected) > 0.8


def test_the_detector_takes_any_size_that_its_largest_stride_divides():
    content = DETECTOR_WEIGHTS.read_bytes()
    assert open_shapes(content) == content


def test_a_large_face_alone_is_found_in_the_quick_search(detector, portrait, monkeypatch):
    sides = searched(monkeypatch)
    for _ in range(2):
        assert len(detector.find_faces(portrait)) == 1
    assert sides == [QUICK_SIDE] * 2
    detector.find_faces(portrait, thoroughly=True)
    assert sides[2:] == [SIDE]


def test_pictures_with_a_small_face_or_none_are_searched_at_640_pixels_too(detector, portrait, monkeypatch):
    sides = searched(monkeypatch)
    beside = portrait.copy()
    beside.paste(portrait.resize((110, 110)), (400, 0))  # a face of 19 pixels
    for picture, count in ((beside, 2), (portrait.resize((100, 100)), 1), (Image.fromarray(coffee()), 0)):
        assert len(detector.find_faces(picture)) == count
    assert sides == [QUICK_SIDE, SIDE, SIDE, QUICK_SIDE, SIDE]  # a picture of 100 pixels is searched as it is


def test_a_picture_with_an_uncertain_face_beside_a_certain_one_is_searched_at_640_pixels_too(portrait, monkeypatch):
    face, pair = portrait.crop((100, 0, 340, 240)).resize((320, 320)), Image.new("RGB", (640, 320))
    pair.paste(face, (0, 0))
    pair.paste(face.filter(ImageFilter.GaussianBlur(12)), (320, 0))
    usual = FaceDetector.load().find_faces(pair, thoroughly=True)
    least = min(face.confidence for face in usual)
    sides = searched(monkeypatch)
    for min_confidence, expected in ((least - 0.2, [QUICK_SIDE]), (least + 0.03, [QUICK_SIDE, SIDE])):
        FaceDetector.load(min_confidence).find_faces(pair)
        assert sides == expected
        sides.clear()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process where Linux tells it")
def test_the_detector_keeps_no_memory_for_each_size_of_pictures():
    program = """
import random
from PIL import Image
from dexpression.faces import FaceDetector
def resident(): return int(open("/proc/self/statm").read().split()[1]) * 4096
detector, chance = FaceDetector.load(threads=1), random.Random(0)
detector.find_faces(Image.new("L", (640, 640)))
before = resident()
for _ in range(100):
    detector.find_faces(Image.new("L", (chance.randint(1, 640), chance.randint(1, 640))))
assert resident() - before < 20_000_000, resident() - before
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The long sides at which the detector searches pictures from now on."""
    sides: list[int] = []
    detect = FaceDetector._detect

    def record(detector, picture, side, *rest):
        sides.append(side)
        return detect(detector, picture, side, *rest)

    monkeypatch.setattr(FaceDetector, "_detect", record)
    return sides


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
def test_pictures_without_a_face_give_an_empty_list(detector, picture):
    assert detector.find_faces(picture) == []


def four_sizes(portrait: Image.Image) -> Image.Image:
    picture = Image.new("RGB", (620, 510))
    for side, corner in ((300, (0, 0)), (250, (310, 0)), (200, (0, 310)), (160, (310, 310))):
        picture.paste(portrait.resize((side, side)), corner)
    return picture


def dimmed(portrait: Image.Image) -> Image.Image:
    return portrait.point(lambda value: value * 0.25)


def find_by_opencv(picture: Image.Image) -> list[tuple[float, ...]]:
    """Find faces with the same weights in OpenCV: x, y, width, height, five points, confidence."""
    opencv = cv2.FaceDetectorYN.create(
        str(DETECTOR_WEIGHTS), "", picture.size, MIN_FACE_CONFIDENCE, MAX_OVERLAP, top_k=5000
    )
    _, found = opencv.detect(np.ascontiguousarray(np.asarray(picture)[:, :, ::-1]))
    return found.tolist()


@pytest.mark.parametrize(("change", "count"), [(Image.Image.copy, 1), (four_sizes, 4), (dimmed, 1)])
def test_boxes_and_confidences_are_those_of_opencv(detector, portrait, change, count):
    picture = change(portrait)
    found = [(*astuple(face.box), face.confidence) for face in detector.find_faces(picture, thoroughly=True)]
    expected = [(x, y, x + width, y + height, score) for x, y, width, height, *_, score in find_by_opencv(picture)]
    assert len(found) == count
    assert sorted(map(rounded, found)) == sorted(map(rounded, expected))


def rounded(face: tuple[float, ...]) -> list[float]:
    *corners, confidence = face
    return [*map(round, corners), round(confidence, 3)]


@pytest.mark.parametrize("change", [Image.Image.copy, four_sizes])
def test_landmarks_are_the_five_points_of_opencv(detector, portrait, change):
    picture = change(portrait)
    found = [np.ravel(face.landmarks) for face in detector.find_faces(picture, thoroughly=True)]
    expected = [points for _, _, _, _, *points, _ in find_by_opencv(picture)]
    assert np.allclose(sorted(map(list, found)), sorted(expected), atol=0.1)


@pytest.mark.parametrize("side", [150, 320, 500, 1500])
def test_landmarks_are_where_the_eyes_and_the_mouth_are_in_either_search(detector, portrait, side):
    scale = side / 512
    for thoroughly in (False, True):
        [face] = detector.find_faces(portrait.resize((side, side)), thoroughly=thoroughly)
        assert np.abs(np.divide(face.landmarks, scale) - LANDMARKS).max() < 9  # a tenth of the face


def test_landmarks_lie_in_the_whole_picture_if_a_tile_shows_them(detector, portrait):
    picture, place = Image.new("RGB", (2000, 1500)), (1200, 900)
    picture.paste(portrait.resize((256, 256)), place)
    [face] = detector.find_faces(picture, in_tiles=True)
    assert np.abs((np.subtract(face.landmarks, place)) * 2 - LANDMARKS).max() < 9


def test_of_many_faces_the_largest_64_are_kept(detector, portrait):
    face = portrait.crop((166, 69, 278, 181))
    crowd = Image.new("RGB", (640, 640))
    for place in range(81):  # each smaller than the one before, or equal
        crowd.paste(face.resize((70 - place // 4,) * 2), (place % 9 * 70, place // 9 * 70))
    found = detector.find_faces(crowd)
    assert len(found) == 64
    assert min(face.box.area for face in found) > 0.4 * max(face.box.area for face in found)
    assert not any(face.box.top > 560 and face.box.left > 280 for face in found)  # the smallest faces are there


def crowd(portrait: Image.Image, side: int, size: tuple[int, int]) -> Image.Image:
    """A picture full of portraits of `side` pixels; the face is 0.18 of that wide."""
    picture = Image.new("RGB", size, "grey")
    for top in range(0, size[1] - side + 1, side):
        for left in range(0, size[0] - side + 1, side):
            picture.paste(portrait.resize((side, side)), (left, top))
    return picture


def test_tiles_find_each_of_165_faces_once_that_are_a_hundredth_of_a_large_picture(detector, portrait):
    picture = crowd(portrait, 256, (4000, 3000))
    assert detector.find_faces(picture) == []
    found = detector.find_faces(picture, in_tiles=True)
    assert len(found) == 165
    scale = 256 / 512
    for face in found:
        left, top = face.box.left // 256 * 256, face.box.top // 256 * 256
        expected = Box(left + 178 * scale, top + 63 * scale, left + 268 * scale, top + 176 * scale)
        assert share(face.box, expected) > 0.6


@pytest.mark.parametrize(("side", "place"), [(300, 400), (300, 550), (1000, 100), (1500, 50), (2900, 50)])
def test_tiles_find_a_face_of_any_size_once_and_no_part_of_it(detector, portrait, side, place):
    picture = Image.new("RGB", (4000, 3000))
    picture.paste(portrait.resize((side, side)).crop((0, 0, side, side // 2)), (place, place))
    [face] = detector.find_faces(picture, in_tiles=True)
    scale = side / 512
    assert share(face.box, Box(*(place + edge * scale for edge in astuple(FACE)))) > 0.6


def test_of_very_many_faces_in_tiles_the_largest_512_are_kept(detector, portrait):
    assert len(detector.find_faces(crowd(portrait, 128, (3840, 2560)), in_tiles=True)) == 512


@pytest.mark.parametrize("size", [(640, 640), (641, 300), (1120, 1121), (4000, 3000), (65_535, 763), (3, 5000)])
def test_tiles_cover_a_picture_and_have_a_quarter_in_common(size):
    for corners, length in zip(zip(*tile_corners(size), strict=True), size, strict=True):
        starts = sorted(set(corners))
        assert starts[0] == 0
        assert starts[-1] == max(0, length - SIDE)
        assert all(SIDE - (right - left) >= TILE_OVERLAP for left, right in pairwise(starts))
    assert len(list(tile_corners(size))) <= 2 + 3 * size[0] * size[1] / (SIDE - TILE_OVERLAP) ** 2 + sum(size) / 480


def test_a_picture_that_the_detector_sees_whole_has_no_tiles(detector, portrait):
    assert detector.find_faces(portrait, in_tiles=True) == detector.find_faces(portrait, thoroughly=True)


def test_overlap_is_intersection_over_union():
    boxes = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [2, 0, 4, 2], [9, 9, 10, 10]], float)
    assert overlap(boxes[0], boxes).tolist() == pytest.approx([1, 1 / 3, 0, 0])


def test_many_threads_can_share_one_detector(detector, portrait):
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(detector.find_faces, [portrait] * 64))
    assert all(faces == found[0] for faces in found)


def test_a_crop_is_a_square_around_the_centre_of_the_box():
    picture = Image.new("L", (200, 100), 0)
    picture.paste(255, (100, 20, 140, 60))  # 40x40, so the crop is 44x44 with a black border of 2 pixels
    crop = np.asarray(crop_face(picture, Box(100, 20, 140, 60), 44))
    assert crop[3:-3, 3:-3].min() == 255
    assert crop[0].max() == crop[-1].max() == crop[:, 0].max() == crop[:, -1].max() == 0


@pytest.mark.parametrize("box", [Box(0, 0, 30, 30), Box(70, 30, 100, 50), Box(0, 0, 100, 50)])
def test_a_crop_stays_inside_the_picture(box):
    crop = crop_face(Image.new("RGB", (100, 50), "white"), box, 48)
    assert (crop.mode, crop.size, np.asarray(crop).min()) == ("L", (48, 48), 255)


def test_onnxruntime_writes_no_usage_data_to_disk(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    homes = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "USERPROFILE", "LOCALAPPDATA"), str(tmp_path))
    program = "from dexpression.faces import FaceDetector; FaceDetector.load()"
    subprocess.run([sys.executable, "-c", program], env=environment | homes, cwd=ROOT, check=True)
    assert list(tmp_path.iterdir()) == []


def test_the_error_for_missing_or_changed_weights_says_how_to_install_them(monkeypatch):
    monkeypatch.setattr(faces, "WEIGHTS_SHA256", "0")
    with pytest.raises(DigestMismatch, match="Install DeXpression again"):
        FaceDetector.load()
    monkeypatch.setattr(faces, "DETECTOR_WEIGHTS", Path("nowhere"))
    with pytest.raises(MissingArtifact, match="Install DeXpression again"):
        FaceDetector.load()
