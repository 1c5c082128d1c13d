"""Accuracy by group: which face belongs to which, and the gap between the best and the worst group."""

from __future__ import annotations

from pathlib import Path

import pytest

from dexpression.errors import DataError
from dexpression.reading import Prediction
from dexpression.training.face_set import Face
from dexpression.training.groups import read_groups, score_groups
from tests.support.faces import draw_face

HAPPY, SAD = Prediction({"HAPPY": 1.0, "SAD": 0.0}), Prediction({"HAPPY": 0.0, "SAD": 1.0})


def happy_faces(count: int) -> list[Face]:
    return [Face(f"happy/{number}.png", "HAPPY", None, draw_face("HAPPY", 0)) for number in range(count)]


def write(folder: Path, *lines: str) -> Path:
    path = folder / "groups.csv"
    path.write_text("\n".join(["file,group", *lines]))
    return path


def test_a_face_is_found_by_its_path_or_by_its_name(tmp_path):
    table = write(tmp_path, "happy/0.png,young", "1.png,old")
    assert read_groups(table, happy_faces(2)) == ["young", "old"]


def test_a_face_without_a_group_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no group for 1 of 2 faces, such as happy/1\.png"):
        read_groups(write(tmp_path, "0.png,young", "1.png,"), happy_faces(2))


def test_each_group_has_its_accuracy_and_the_gap_its_interval():
    faces, groups = happy_faces(200), ["old"] * 100 + ["young"] * 100
    found = score_groups(faces, [HAPPY] * 50 + [SAD] * 50 + [HAPPY] * 90 + [SAD] * 10, groups)
    assert {name: (share.n, share.share) for name, share in found.groups.items()} == {
        "old": (100, 0.5),
        "young": (100, 0.9),
    }
    assert found.gap == pytest.approx(0.4)
    assert 0.2 < found.gap_lower < 0.36
    assert 0.44 < found.gap_upper < 0.6
    assert "old" in found.table()


def test_one_group_alone_is_refused():
    with pytest.raises(DataError, match="All faces are of the group young"):
        score_groups(happy_faces(2), [HAPPY, HAPPY], ["young", "young"])
