"""Calm labels: they do not flicker, and follow a real change within 0.6 seconds."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageChops

from dexpression import Predictor
from dexpression.video.smoothing import CalmLabel
from tests.support.films import draw_frame, portrait


def show(probabilities: Iterable[dict[str, float]], every: float = 0.1) -> list[str]:
    """The label that is shown for each frame."""
    calm, shown = CalmLabel(), []
    for number, frame in enumerate(probabilities):
        calm.update(every * number, frame)
        shown.append(calm.label)
    return shown


def changes(labels: list[str]) -> int:
    return sum(one != other for one, other in pairwise(labels))


def two(share: float) -> dict[str, float]:
    return {"HAPPY": share, "SAD": 1 - share}


@pytest.mark.parametrize("every", [0.02, 0.1, 0.15])
@pytest.mark.parametrize("share", [0.7, 0.9, 1.0])
def test_a_real_change_is_shown_within_600_milliseconds_at_any_frame_rate(every, share):
    before = round(2 / every)
    shown = show([two(share)] * before + [two(1 - share)] * before, every)
    assert shown[before - 1] == "HAPPY"
    assert (shown.index("SAD") - before) * every <= 0.6


def test_a_label_that_leads_by_little_does_not_take_the_place_of_the_shown_one():
    assert set(show([two(0.6)] + [two(0.47), two(0.5)] * 50)) == {"HAPPY"}


def test_the_confidence_is_the_averaged_probability_of_the_shown_label():
    calm = CalmLabel()
    calm.update(0, two(0.8))
    assert calm.confidence == 0.8
    calm.update(0.5, two(0.6))
    assert calm.confidence == pytest.approx(0.6 + 0.2 / np.e)


@pytest.mark.slow
def test_on_a_jittered_still_photo_shown_labels_change_five_times_less_often(shipped: Predictor):
    random = np.random.default_rng(0)
    head = Image.blend(portrait(100), portrait(100, serious=True), 0.85)

    def jitter() -> Image.Image:
        frame = draw_frame((70, 30), face=head).rotate(random.uniform(-3, 3), Image.Resampling.BICUBIC)
        frame = ImageChops.offset(frame, *(int(pixels) for pixels in random.integers(-3, 4, 2)))
        noise = random.normal(0, 12, (frame.height, frame.width, 1))
        return Image.fromarray((np.asarray(frame) + noise).clip(0, 255).astype(np.uint8))

    readings = [shipped.predict(jitter(), "always") for _ in range(80)]
    raw = [reading.prediction for reading in readings if reading.prediction]
    flicker = changes([prediction.emotion for prediction in raw])
    assert flicker >= 15
    assert changes(show(prediction.probabilities for prediction in raw)) <= flicker / 5
