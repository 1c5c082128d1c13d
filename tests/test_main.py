"""The command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from dexpression import Predictor
from dexpression.__main__ import main
from dexpression.labels import FIVE, SEVEN
from dexpression.settings import Settings
from dexpression.web import create_app
from dexpression.web.service import Service
from tests.support.faces import draw_face, encode


def predict(model: Path, *arguments: Path | str) -> None:
    main(["predict", "--model", str(model), *map(str, arguments)])


def test_predict_prints_a_line_a_face(exported_learner, class_folders, capsys):
    predict(exported_learner, class_folders)
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [path for path, _, _ in lines] == sorted(map(str, class_folders.rglob("*.png")))
    assert {emotion for _, emotion, _ in lines} <= set(SEVEN)


def test_predict_goes_on_after_a_picture_that_cannot_be_read(exported_learner, tmp_path, capsys):
    draw_face("HAPPY", 0).save(tmp_path / "face.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit, match=r"broken\.png: This is no picture"):
        predict(exported_learner, tmp_path)
    assert "face.png\t" in capsys.readouterr().out


def test_predict_gives_the_same_answer_as_http_and_python(exported_learner, portrait, tmp_path, capsys):
    (tmp_path / "photo.png").write_bytes(encode(portrait))
    predictor = Predictor.load(exported_learner)
    predict(exported_learner, tmp_path / "photo.png", "--json")
    printed = json.loads(capsys.readouterr().out)
    client = create_app(Service(predictor), Settings()).test_client()
    answered = client.post("/v1/predict", data=encode(portrait), content_type="image/png").get_json()
    read = predictor.predict(tmp_path / "photo.png").to_dict()
    assert {name: printed[name] for name in read} == {name: answered[name] for name in read} == read
    assert len(read["faces"]) == 1


def test_predict_writes_csv_with_a_row_even_where_there_is_no_face(exported_learner, portrait, tmp_path, capsys):
    portrait.save(tmp_path / "a photo, of one.png")
    Image.new("L", (100, 100)).save(tmp_path / "blank.png")
    predict(exported_learner, tmp_path, "--csv")
    face, blank = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (Path(face["path"]).name, face["face"], face["x"]) == ("a photo, of one.png", "1", "178")
    assert sum(float(face[label]) for label in SEVEN) == pytest.approx(1)
    assert (Path(blank["path"]).name, blank["result"]) == ("blank.png", "")


def test_predict_draws_boxes_and_labels_on_copies(exported_learner, portrait, tmp_path, capsys):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        portrait.save(tmp_path / folder / "photo.png")
    drawn = tmp_path / "drawn"
    predict(exported_learner, tmp_path / "one" / "photo.png", tmp_path / "two", "--annotate", drawn)
    assert sorted(path.name for path in drawn.iterdir()) == ["photo.png", "photo_2.png"]
    changed = ImageChops.difference(Image.open(drawn / "photo.png"), portrait).getbbox()
    assert (changed[0], changed[3]) == (pytest.approx(178, abs=2), pytest.approx(176, abs=2))  # where the face is


@pytest.mark.parametrize("source", ["one", "two"])
def test_predict_never_draws_over_a_picture_that_it_was_given(exported_learner, tmp_path, source):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        draw_face("HAPPY", 0).save(tmp_path / folder / "photo.png")
    given = [tmp_path / source / "photo.png", tmp_path / "two" / "photo.png"]
    with pytest.raises(SystemExit, match="written over"):
        predict(exported_learner, *given, "--annotate", tmp_path / "two")


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
        (["predict", "."], "There is no picture in"),
        (["train", "nowhere"], "nowhere does not exist"),
        (["train", "nowhere", "--epochs", "0"], "epochs is 0. It takes 1 to"),
        (["train", "nowhere", "--votes", "nan"], "votes is nan"),
        (["predict", "face.png", "--model", "nowhere/dexpression.pkl"], "Cannot read nowhere"),
    ],
)
def test_what_the_caller_can_mend_ends_with_one_line(arguments, wanted, exported_learner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = [] if arguments[0] == "train" or "--model" in arguments else ["--model", str(exported_learner)]
    with pytest.raises(SystemExit, match=wanted) as stopped:
        main([*arguments, *model])
    assert "\n" not in str(stopped.value.code)
