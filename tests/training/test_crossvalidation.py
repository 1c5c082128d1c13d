"""Folds: everyone is tested once, nobody stands on both sides, and the command prints what came out."""

from __future__ import annotations

import dataclasses
import re

import pytest

from dexpression.__main__ import main
from dexpression.errors import DataError
from dexpression.training import crossvalidation
from dexpression.training.crossvalidation import _folds, crossvalidate
from dexpression.training.recipe import Recipe
from dexpression.training.run import evaluate_learner
from dexpression.training.sources import read_faces
from tests.support.faces import write_class_folders
from tests.support.recipes import QUICK

PERSON = re.compile(r"^\d{4}(\d)")  # the last digit of a drawn face's number


def test_every_face_is_tested_once(class_folders):
    faces = read_faces(class_folders, 48).faces
    tested = [face.name for _, valid in _folds(faces, 5, None, seed=0) for face in valid]
    assert sorted(tested) == sorted(face.name for face in faces)


def test_a_group_never_stands_on_both_sides(class_folders):
    faces = read_faces(class_folders, 48).faces
    for train, valid in _folds(faces, 5, PERSON, seed=0):
        sides = [{PERSON.search(face.name.split("/")[-1])[1] for face in side} for side in (train, valid)]
        assert not sides[0] & sides[1]


def test_the_command_prints_each_fold_and_mean_and_spread(tmp_path, capsys):
    folder = write_class_folders(tmp_path / "faces", 6, labels=("HAPPY", "SAD"))
    flags = [
        "--folds",
        "2",
        "--epochs",
        "1",
        "--student-epochs",
        "1",
        "--batch-size",
        "4",
        "--labels",
        "eight",
        "--runs",
        str(tmp_path / "runs"),
    ]
    main(["crossvalidate", str(folder), *flags])
    lines = [line for line in capsys.readouterr().out.splitlines() if "accuracy" in line and "fold" in line]
    assert [line.split()[:2] for line in lines[-3:-1]] == [["fold", "1"], ["fold", "2"]]
    assert re.match(r"2 folds, n 12  accuracy 0\.\d{4} \+- 0\.\d{4}", lines[-1])


def test_what_was_fitted_to_the_tested_faces_has_no_say_in_their_answers(tmp_path, monkeypatch):
    scored = []
    monkeypatch.setattr(
        crossvalidation, "evaluate_learner", lambda learner: scored.append(learner) or evaluate_learner(learner)
    )
    folder = write_class_folders(tmp_path / "faces", 6, labels=("HAPPY", "SAD"))
    crossvalidate(folder, dataclasses.replace(QUICK, epochs=1, batch_size=4), tmp_path / "runs", folds=2)
    assert [(learner.loss_func.class_factors, learner.loss_func.temperature) for learner in scored] == [(None, 1.0)] * 2


@pytest.mark.parametrize(
    ("folds", "group_by", "message"),
    [
        (11, None, "the rarest label has 10 images"),
        (1, None, "Choose 2 to 10"),
        (5, re.compile("0"), "of 1 groups"),
        (5, re.compile("S\\d+"), "does not match --group-by"),
    ],
)
def test_folds_that_cannot_be_made_are_refused(class_folders, tmp_path, folds, group_by, message):
    with pytest.raises(DataError, match=message):
        crossvalidate(class_folders, Recipe(), tmp_path, folds, group_by)
