"""Boxes and labels that are drawn on a picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dexpression.annotation import AGAINST, FOR, STRONGEST, annotate
from dexpression.picture import Box
from dexpression.reading import FaceReading, Prediction, Reading
from dexpression.web.documents import STATIC

YELLOW = (255, 212, 0)


def dark_pixels(box: Box) -> int:
    """Count the black pixels of the letters in the label of a face, drawn on a grey picture."""
    reading = Reading(200, 100, [FaceReading(box, 0.9, Prediction({"HAPPY": 1.0}))], "people")
    red = np.asarray(annotate(Image.new("L", (200, 100), 128), reading))[:, :, 0]
    return int((red < 100).sum())


@pytest.mark.parametrize("corners", [(0, 0, 200, 100), (150, 0, 200, 100), (150, 50, 200, 100), (199, 0, 200, 1)])
def test_a_label_is_complete_wherever_the_face_is(corners):
    assert dark_pixels(Box(*corners)) == dark_pixels(Box(60, 50, 100, 90)) > 20


def test_the_box_around_a_whole_picture_is_visible_on_all_four_sides():
    face = FaceReading(Box(0, 0, 64, 64), None, Prediction({"HAPPY": 1.0}))
    drawn = np.asarray(annotate(Image.new("L", (64, 64)), Reading(64, 64, [face], "people")))
    assert all((edge == YELLOW).all(axis=-1).mean() > 0.5 for edge in (drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]))


def explained(grid: list[list[float]], size: int = 64) -> np.ndarray:
    """The middle of a white picture whose face has this evidence for its label, in a copy that is half as large."""
    prediction = Prediction({"HAPPY": 0.7, "SAD": 0.3}, {"HAPPY": grid, "SAD": [[9.0]]})
    face = FaceReading(Box(0, 0, 2 * size, 2 * size), None, prediction, Box(0, 0, 2 * size, 2 * size))
    drawn = annotate(Image.new("L", (size, size), 255), Reading(2 * size, 2 * size, [face], "people"))
    return np.asarray(drawn)[size // 2 : -2, 2:-2].astype(int)  # below the label, without the box


def test_evidence_for_the_label_is_pink_and_against_it_green_and_the_face_shows_through():
    left, right = np.split(explained([[2.0, -2.0]] * 2), 2, axis=1)
    assert (left[:, 5, 0] > left[:, 5, 1] + 50).all()  # more red than green
    assert (right[:, -5, 1] > right[:, -5, 0] + 50).all()
    assert left.min() > 40


def test_the_page_lays_evidence_over_a_face_in_the_same_colours_and_strength():
    script = (STATIC / "why.js").read_text(encoding="utf-8")
    assert f"[FOR, AGAINST] = {[list(FOR), list(AGAINST)]};" in script
    assert f"STRONGEST = {STRONGEST};" in script


def test_without_evidence_at_a_place_nothing_is_laid_over_it():
    assert (explained([[0.0, 0.0]] * 2) == 255).all()


@pytest.mark.parametrize("size", [(20_000, 30), (30, 20_000), (1, 50_000), (1, 1)])
def test_a_picture_of_any_shape_is_annotated_and_a_narrow_one_not_covered_by_lines(size):
    face = FaceReading(Box(0, 0, *size), None, Prediction({"HAPPY": 1.0}))
    drawn = np.asarray(annotate(Image.new("L", size), Reading(*size, [face], "people")))
    assert drawn.shape == (size[1], size[0], 3)
    assert min(size) == 1 or (drawn == YELLOW).all(axis=-1).mean() < 0.5
