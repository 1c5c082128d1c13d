"""Faces under poor conditions, and the scores of a model on them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dexpression.labels import SEVEN
from dexpression.training.conditions import CONDITIONS, Share, evaluate_conditions
from dexpression.training.sources import Face
from tests.support.faces import draw_face


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_changes_a_face_always_in_the_same_way(name):
    face = draw_face("HAPPY", 0)
    changed = CONDITIONS[name](face)
    assert changed.mode == "L"
    assert changed.size != face.size or not np.array_equal(changed, face)
    assert np.array_equal(changed, CONDITIONS[name](face))


def test_what_comes_in_when_a_face_is_turned_repeats_its_border():
    assert np.unique(CONDITIONS["turned by 30 degrees"](Image.new("L", (48, 48), 77))).tolist() == [77]


def test_the_interval_is_that_of_wilson():
    found = Share.of([True] * 8 + [False] * 2)
    assert (found.n, found.share) == (10, 0.8)
    assert (found.lower, found.upper) == pytest.approx((0.4902, 0.9433), abs=1e-4)


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
    assert found.mean == pytest.approx(np.mean([share.share for share in found.conditions.values()]))
    assert found.to_dict()["mean"] == found.mean
    assert len(found.table().splitlines()) == len(CONDITIONS) + 4
