"""The command line."""

from __future__ import annotations

import json

import pytest
from conftest import draw_face

from dexpression.__main__ import main
from dexpression.labels import FIVE


def test_predict_prints_a_line_a_picture(exported_learner, class_folders, capsys):
    pictures = [str(class_folders / name) for name in ("happy/00030.png", "sad/00050.png")]
    main(["predict", "--model", str(exported_learner), *pictures])
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [path for path, _, _ in lines] == pictures
    assert {emotion for _, emotion, _ in lines} <= set(FIVE)


def test_predict_goes_on_after_a_picture_that_cannot_be_read(exported_learner, tmp_path, capsys):
    draw_face("HAPPY", 0).save(tmp_path / "face.png")
    (tmp_path / "none.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit) as stopped:
        main(["predict", "--model", str(exported_learner), str(tmp_path / "none.png"), str(tmp_path / "face.png")])
    printed = capsys.readouterr()
    assert stopped.value.code == 1
    assert "face.png\t" in printed.out
    assert "none.png: This is no picture" in printed.err


def test_evaluate_prints_one_json_object_and_nothing_else(exported_learner, class_folders, capsys):
    main(["evaluate", str(class_folders), "--labels", "five", "--model", str(exported_learner), "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result.keys() >= {"n", "accuracy", "balanced_accuracy", "recall", "confusion", "ece"}
    assert (result["n"], tuple(result["recall"])) == (50, FIVE)


def test_evaluate_prints_a_table_for_people(exported_learner, class_folders, capsys):
    main(["evaluate", str(class_folders), "--model", str(exported_learner)])
    assert "balanced accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["evaluate", "nowhere"], "nowhere does not exist"),
        (["train", "nowhere"], "nowhere does not exist"),
        (["train", "nowhere", "--epochs", "0"], "epochs is 0. It takes 1 to"),
        (["train", "nowhere", "--votes", "nan"], "votes is nan"),
        (["predict", "face.png", "--model", "nowhere/dexpression.pkl"], "Cannot read nowhere"),
    ],
)
def test_what_the_caller_can_mend_ends_with_one_line(arguments, wanted, exported_learner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = ["--model", str(exported_learner)] if arguments[0] == "evaluate" else []
    with pytest.raises(SystemExit, match=wanted) as stopped:
        main([*arguments, *model])
    assert "\n" not in str(stopped.value.code)
