"""Golden faces are the same on every machine."""

from __future__ import annotations

import numpy as np

from dexpression.artifact.golden import COUNT, golden_faces


def test_golden_faces_differ_from_each_other_and_have_the_recorded_pixels():
    faces = golden_faces(48)
    assert (faces.shape, faces.dtype) == ((COUNT, 1, 48, 48), np.uint8)
    assert len({face.tobytes() for face in faces}) == COUNT
    assert int(faces.astype(int).sum()) == 4_700_236
