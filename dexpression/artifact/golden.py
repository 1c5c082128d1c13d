"""Pictures that every machine draws alike: what an export answers to them is written down, and asked for again."""

from __future__ import annotations

import numpy as np

COUNT = 16


def golden_faces(size: int) -> np.ndarray:
    """(16, 1, size, size) in 0..255: sums of three waves, as smooth as faces are, each picture of other waves."""
    row, column = np.mgrid[:size, :size] / size
    number = np.arange(COUNT)[:, None, None]
    waves = [
        np.sin(2 * np.pi * (across * column + down * row) + number * phase)
        for across, down, phase in ((1.0, 0.5, 1.0), (0.5, 2.0, 2.3), (3.0, -1.0, 3.7))
    ]
    pixels: np.ndarray = np.rint(127.5 + 42.0 * sum(waves)).clip(0, 255).astype(np.uint8)
    return pixels[:, None]
