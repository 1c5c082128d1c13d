"""The command line."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import Field, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image, ImageChops

from dexpression import Predictor
from dexpression.__main__ import main
from dexpression.labels import FIVE, SEVEN
from dexpression.options import plain_meaning
from dexpression.settings import Settings
from dexpression.training.crops import FaceCropper
from dexpression.training.digests import encode_digests
from dexpression.training.recipe import Recipe
from dexpression.training.sources import read_faces
from dexpression.web import create_app
from dexpression.web.service import Service
from tests.support.exports import change_manifest
from tests.support.faces import OWN_LABELS, draw_face, encode
from tests.support.server import ROOT


def predict(*arguments: Path | str) -> None:
    main(["predict", *map(str, arguments)])


def test_predict_prints_one_line_a_face(class_folders, capsys):
    predict(class_folders)
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [path for path, _, _ in lines] == sorted(map(str, class_folders.rglob("*.png")))
    assert {emotion for _, emotion, _ in lines} <= set(SEVEN)


def test_predict_continues_after_a_picture_that_cannot_be_read(tmp_path, capsys):
    draw_face("HAPPY", 0).save(tmp_path / "face.png")
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(SystemExit, match=r"broken\.png: The file is "):
        predict(tmp_path)
    assert "face.png\t" in capsys.readouterr().out


def test_predict_gives_the_same_reading_as_http_and_python(shipped: Predictor, portrait, tmp_path, capsys):
    (tmp_path / "photo.png").write_bytes(encode(portrait))
    predict(tmp_path / "photo.png", "--json")
    printed = json.loads(capsys.readouterr().out)
    client = create_app(Service(shipped), Settings()).test_client()
    answered = client.post("/v1/predict", data=encode(portrait), content_type="image/png").get_json()
    read = shipped.predict(tmp_path / "photo.png").to_dict()
    assert {name: printed[name] for name in read} == {name: answered[name] for name in read} == read
    assert len(read["faces"]) == 1


def test_a_folder_its_onnx_file_and_the_default_model_give_the_same_reading(portrait, tmp_path, capsys):
    portrait.save(tmp_path / "photo.png")
    folder = Settings.model_path
    printed = []
    for model in (["--model", folder], ["--model", folder / "dexpression.onnx"], []):
        predict(tmp_path / "photo.png", "--json", *model)
        printed.append(json.loads(capsys.readouterr().out))
    assert printed[0] == printed[1] == printed[2]
    assert printed[0]["result"] == "HAPPY"


@pytest.mark.parametrize("reading", ["people", "labels"])
def test_an_option_of_predict_chooses_the_reading(shipped: Predictor, tmp_path, capsys, reading):
    draw_face("HAPPY", 0).save(tmp_path / "face.png")
    predict(tmp_path / "face.png", "--json", "--reading", reading)
    printed = json.loads(capsys.readouterr().out)
    expected = shipped.predict(tmp_path / "face.png", reading=reading).to_dict()
    assert printed == {"path": str(tmp_path / "face.png")} | expected
    other = shipped.predict(tmp_path / "face.png", reading="labels" if reading == "people" else "people")
    assert printed["probabilities"] != other.to_dict()["probabilities"]


def test_an_option_of_evaluate_chooses_the_reading(class_folders, capsys):
    confusions = []
    for options in ([], ["--reading", "people"], ["--reading", "labels"]):
        main(["evaluate", str(class_folders), "--json", *options])
        confusions.append(json.loads(capsys.readouterr().out)["confusion"])
    assert confusions[0] == confusions[1] != confusions[2]


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_reading_that_the_model_lacks_is_one_line(class_folders, exported_learner, command):
    message = r"no reading 'people', because it was trained without FER\+ votes\. It has: labels\.$"
    with pytest.raises(SystemExit, match=message) as stopped:
        main([command, str(class_folders), "--model", str(exported_learner.parent), "--reading", "people"])
    assert "\n" not in str(stopped.value.code)


@pytest.mark.parametrize("labels", ["five", "seven", "eight"])
def test_a_label_set_that_the_model_lacks_is_one_line(class_folders, own_model, labels):
    message = rf"does not know all labels of the set {labels}: it has BORED, VERY ATTENTIVE\. Leave out --labels"
    with pytest.raises(SystemExit, match=message) as stopped:
        main(["evaluate", str(class_folders), "--model", str(own_model.parent), "--labels", labels])
    assert "\n" not in str(stopped.value.code)


def test_predict_writes_a_csv_row_for_a_picture_without_a_face_too(portrait, tmp_path, capsys):
    portrait.save(tmp_path / "a photo, of one.png")
    Image.new("L", (100, 100)).save(tmp_path / "blank.png")
    predict(tmp_path, "--csv")
    face, blank = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (Path(face["path"]).name, face["face"], face["x"]) == ("a photo, of one.png", "1", "179")
    assert sum(float(face[label]) for label in SEVEN) == pytest.approx(1, abs=4e-6)  # each is rounded to 6 decimals
    assert (Path(blank["path"]).name, blank["result"]) == ("blank.png", "")


def test_annotate_writes_copies_with_boxes_and_labels(portrait, tmp_path, capsys):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        portrait.save(tmp_path / folder / "photo.png")
    drawn = tmp_path / "drawn"
    predict(tmp_path / "one" / "photo.png", tmp_path / "two", "--annotate", drawn)
    assert sorted(path.name for path in drawn.iterdir()) == ["photo.png", "photo_2.png"]
    changed = ImageChops.difference(Image.open(drawn / "photo.png"), portrait).getbbox()
    assert (changed[0], changed[3]) == (pytest.approx(178, abs=2), pytest.approx(176, abs=2))  # where the face is


@pytest.mark.parametrize("form", ["--csv", "--json"])
def test_sort_into_writes_faces_into_folders_of_their_labels_and_standard_output_has_the_readings_alone(
    portrait, tmp_path, capsys, form
):
    (tmp_path / "photos").mkdir()
    portrait.save(tmp_path / "photos" / "photo.png")
    predict(tmp_path / "photos", form, "--sort-into", tmp_path / "sorted")
    out, error = capsys.readouterr()
    assert len(out.splitlines()) == (2 if form == "--csv" else 1)
    assert error == f"Faces sorted into {tmp_path}/sorted: 1 (1 happy).\n"
    assert [path.name for path in (tmp_path / "sorted" / "happy").iterdir()] == ["1.000_photo_face1.png"]


def test_predict_prints_and_sorts_by_the_labels_of_the_model(own_model, class_folders, tmp_path, capsys):
    options = ["--model", own_model.parent, "--annotate", tmp_path / "drawn", "--sort-into", tmp_path / "sorted"]
    predict(class_folders, "--csv", *options)
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert {row["result"] for row in rows} == set(OWN_LABELS)
    assert all(sum(float(row[label]) for label in OWN_LABELS) == pytest.approx(1, abs=2e-6) for row in rows)
    assert sorted(path.name for path in (tmp_path / "sorted").iterdir()) == ["bored", "very attentive"]


@pytest.mark.parametrize("source", ["one", "two"])
def test_annotate_never_replaces_a_given_picture(tmp_path, source):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        draw_face("HAPPY", 0).save(tmp_path / folder / "photo.png")
    given = [tmp_path / source / "photo.png", tmp_path / "two" / "photo.png"]
    with pytest.raises(SystemExit, match="would replace the picture"):
        predict(*given, "--annotate", tmp_path / "two")


def test_evaluate_prints_one_json_object_and_nothing_else(class_folders, capsys):
    main(["evaluate", str(class_folders), "--labels", "five", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result.keys() >= {"n", "accuracy", "balanced_accuracy", "recall", "confusion", "ece"}
    assert (result["n"], tuple(result["recall"])) == (50, FIVE)


def test_evaluate_prints_a_table_by_default(class_folders, capsys):
    main(["evaluate", str(class_folders)])
    assert "balanced accuracy" in capsys.readouterr().out


def write_photo(folder: Path, portrait: Image.Image) -> Path:
    """A class folder with one photo, whose middle square is no face."""
    (folder / "faces" / "happy").mkdir(parents=True)
    wide = Image.new("RGB", (1200, 512), "white")
    wide.paste(portrait, (0, 0))
    wide.save(folder / "faces" / "happy" / "photo.png")
    return folder / "faces"


@pytest.mark.parametrize(("detect", "right"), [([], 1.0), (["--detect", "always"], 1.0), (["--detect", "never"], 0.0)])
def test_evaluate_finds_the_face_in_a_photo_unless_it_is_told_not_to(portrait, tmp_path, capsys, detect, right):
    main(["evaluate", str(write_photo(tmp_path, portrait)), "--json", *detect])
    assert json.loads(capsys.readouterr().out)["accuracy"] == right


def test_evaluate_scores_photos_under_conditions(portrait, tmp_path, capsys):
    main(["evaluate", str(write_photo(tmp_path, portrait)), "--json", "--conditions"])
    found = json.loads(capsys.readouterr().out)
    assert (found["clean"]["n"], found["clean"]["share"], found["found"]["as they are"]) == (1, 1, 1)
    assert 0 < found["mean"] <= 1


def test_evaluate_says_what_is_left_out_and_how_many_faces_were_trained_on(model, class_folders, capsys):
    faces = read_faces(class_folders, FaceCropper(48)).faces
    change_manifest(model, data={"digests": encode_digests(faces[:3])})
    draw_face("HAPPY", 0).save(class_folders / "loose.png")
    main(["evaluate", str(class_folders), "--model", str(model.parent), "--json"])
    out, error = capsys.readouterr()
    assert json.loads(out)["n"] == 70
    assert "1 left out (a picture in no class folder): loose.png" in error
    assert "trained on 3 of the 70 faces that are scored, so the scores are too high" in error


def run(*arguments: str | Path, script: str = '"$@"', **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a new process, by a shell script in which "$@" is the command."""
    command = ["bash", "-c", script, "bash", sys.executable, "-m", "dexpression", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", env=os.environ | environment)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PYTHONIOENCODING": "ascii"}, "\u00e9.png"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0"}, "\\udcc3\\udca9.png"),  # there, names of files are bytes
    ],
)
def test_output_is_utf_8_whatever_the_encoding_of_the_console_and_other_bytes_are_escapes(
    tmp_path, environment, expected
):
    draw_face("HAPPY", 0).save(tmp_path / "\u00e9.png")
    done = run("predict", tmp_path, PYTHONCOERCECLOCALE="0", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    shown, emotion, _ = done.stdout.rpartition("/")[2].split("\t")
    assert shown == expected
    assert emotion in SEVEN


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "status", "message"),
    [
        ('set -o pipefail; "$@" | true', 1, ""),
        ('"$@" > /dev/full', 1, "No space left on device"),
        ('"$@" >&-', 0, ""),
        ('"$@" >&- 2>&- <&-', 0, ""),
    ],
)
def test_a_closed_or_full_standard_output_is_at_most_one_line(class_folders, script, status, message):
    if "/dev/full" in script and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = run("predict", class_folders, "--json", script=script)
    assert done.returncode == status
    assert message in done.stderr
    assert done.stderr.count("\n") <= 1


def libraries_of(*arguments: str | Path) -> set[str]:
    """Run the command line in a new process, and return the top-level names of all modules that it imports."""
    command = [sys.executable, "-X", "importtime", "-m", "dexpression", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_predict_imports_no_torch(portrait, tmp_path):
    portrait.save(tmp_path / "photo.png")
    libraries = libraries_of("predict", tmp_path / "photo.png")
    assert "onnxruntime" in libraries
    assert libraries.isdisjoint({"torch", "fastai", "sklearn"})


def test_evaluate_imports_no_torch(class_folders):
    libraries = libraries_of("evaluate", class_folders)
    assert "onnxruntime" in libraries
    assert libraries.isdisjoint({"torch", "fastai"})


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_imports_no_torch(arguments):
    libraries = libraries_of(*arguments)
    assert "dexpression" in libraries
    assert libraries.isdisjoint({"torch", "fastai", "sklearn"})


@pytest.fixture
def recipes(monkeypatch) -> list[Recipe]:
    """The recipes that the commands `train` and `crossvalidate` were called with; nothing is trained."""
    given: list[Recipe] = []

    def note(_source: Path, recipe: Recipe, *_: object) -> SimpleNamespace:
        given.append(recipe)
        return SimpleNamespace(table=str)

    monkeypatch.setitem(sys.modules, "dexpression.training.run", SimpleNamespace(train=note))
    monkeypatch.setitem(sys.modules, "dexpression.training.crossvalidation", SimpleNamespace(crossvalidate=note))
    return given


def test_train_help_has_every_field_of_the_recipe_with_its_default_and_meaning(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # argparse breaks no line
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for field in fields(Recipe):
        values = (
            f" {{{','.join(field.metadata['choices'])}}}" if field.metadata["choices"] else f" {field.name.upper()}"
        )
        default = f" (default: {field.default})"
        if field.metadata["parse"] is bool:
            values = default = ""
        assert f"--{field.name.replace('_', '-')}{values} {plain_meaning(field)}{default}" in printed


def test_train_without_options_trains_by_the_default_recipe(recipes):
    main(["train", "faces"])
    assert recipes == [Recipe()]


def another_value(field: Field[Any]) -> Any:
    """An allowed value of a recipe's field that is not its default."""
    choices, kind = field.metadata["choices"], field.metadata["parse"]
    if choices:
        return next(choice for choice in choices if choice != field.default)
    if kind is bool:
        return True
    return Path("model") if kind is Path else kind(0.7 if kind is float else 7)


@pytest.mark.parametrize("field", fields(Recipe), ids=lambda field: field.name)
@pytest.mark.parametrize("command", ["train", "crossvalidate"])
def test_an_option_sets_its_field_of_the_recipe(recipes, command, field):
    value = another_value(field)
    assert value != field.default
    option = f"--{field.name.replace('_', '-')}"
    main([command, "faces", option, *([] if value is True else [str(value)])])
    assert recipes == [Recipe(**{field.name: value})]


@pytest.mark.parametrize(("options", "force"), [([], False), (["--force"], True)])
def test_only_force_replaces_a_better_export(monkeypatch, options, force):
    given = []
    monkeypatch.setitem(
        sys.modules, "dexpression.training.run", SimpleNamespace(train=lambda *args: given.append(args))
    )
    main(["train", "faces", "--output", "mine", *options])
    assert [(args[2], args[-1]) for args in given] == [(Path("mine"), force)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nowhere"], "nowhere does not exist"),
        (["predict", "."], "There is no picture in"),
        (["train", "nowhere", "--epochs", "0"], "epochs is 0. It takes 1 to"),
        (["train", "nowhere", "--votes", "nan"], "votes is nan"),
        (["train", "nowhere", "--from-scratch", "--start", "model"], "from_scratch means that there is no start"),
        (["predict", "face.png", "--model", "nowhere"], "Cannot read nowhere"),
        (["predict", "face.png", "--model", "broken.onnx"], r"Cannot read broken\.json"),
        (["predict", "face.png", "--model", "x" * 5000 + ".onnx"], "Cannot read x"),
        (["predict", "x" * 5000], "The file cannot be read"),
        (["predict", "face.png", "--model", "a\nb\x1b[31m"], r"Cannot read a\\nb\\x1b\[31m"),
        (["evaluate", "x" * 5000], "does not exist"),
        pytest.param(  # imports torch, as the next one does
            ["predict", "face.png", "--model", "nowhere/dexpression.pkl"], "Cannot read nowhere", marks=pytest.mark.slow
        ),
        pytest.param(["train", "nowhere"], "nowhere does not exist", marks=pytest.mark.slow),
    ],
)
def test_an_error_that_the_caller_can_fix_is_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message) as stopped:
        main(arguments)
    assert "\n" not in str(stopped.value.code)
