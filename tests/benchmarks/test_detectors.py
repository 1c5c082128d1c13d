"""Searching drawn scenes for faces in two steps, compared with one search at full size."""

from __future__ import annotations

import pytest

from benchmarks.detectors import SAME, WAYS, best_overlap
from benchmarks.scenes import draw_scene


@pytest.mark.slow
def test_two_searches_find_the_faces_that_one_at_640_pixels_finds_and_nothing_else():
    scenes = [draw_scene(number) for number in range(2000, 2040)]
    missed = more = total = 0
    for scene in scenes:
        whole, both = (WAYS[name](scene.picture) for name in ("640 pixels, in a square", "**320 pixels, then 640**"))
        total += len(whole)
        missed += sum(best_overlap(box, both) < SAME for box in whole)
        more += sum(best_overlap(box, whole) < SAME for box in both)
    assert total > 100
    assert missed <= 0.02 * total
    assert more <= 0.02 * total
