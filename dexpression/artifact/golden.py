"""Golden inputs: pictures that are identical on every machine. An export records the learner's answers to them."""

from __future__ import annotations

import numpy as np

COUNT = 16


def golden_faces(size: int) -> np.ndarray:
    """Draw (16, 1, size, size) pixels in 0..255: sums of three waves, as smooth as faces, different in each picture."""
    row, column = np.mgrid[:size, :size] / size
    number = np.arange(COUNT)[:, None, None]
    waves = [
        np.sin(2 * np.pi * (across * column + down * row) + number * phase)
        for across, down, phase in ((1.0, 0.5, 1.0), (0.5, 2.0, 2.3), (3.0, -1.0, 3.7))
    ]
    pixels: np.ndarray = np.rint(127.5 + 42.0 * sum(waves)).clip(0, 255).astype(np.uint8)
    return pixels[:, None]
