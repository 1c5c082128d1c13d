"""Faces in folders of their labels: what they show, their names, and what is never replaced, followed or repeated."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dexpression.batch import predict_pictures
from dexpression.errors import DataError
from dexpression.labels import SEVEN
from dexpression.picture import Box
from dexpression.reading import FaceReading, Prediction
from dexpression.sorted_faces import SortedFaces, crop_original
from tests.support.faces import encode_turned

GREY = Image.new("L", (20, 20), 128)
SURE, UNSURE = Prediction({"BORED": 0.9, "VERY ATTENTIVE": 0.1}), Prediction({"BORED": 0.51, "VERY ATTENTIVE": 0.49})
WHOLE = Box(0, 0, 20, 20)
LABELS = ("BORED", "VERY ATTENTIVE")


@pytest.fixture
def folder(tmp_path) -> Path:
    """The path of a folder for sorted faces, which does not exist yet."""
    return tmp_path / "sorted"


@pytest.fixture
def photos(tmp_path, portrait) -> Path:
    """A folder with a photo of one face and, deeper, one of two faces and one of none."""
    (tmp_path / "photos" / "anna").mkdir(parents=True)
    portrait.save(tmp_path / "photos" / "photo.jpg", quality=95)
    twice = Image.new("RGB", (1024, 512))
    for left in (0, 512):
        twice.paste(portrait, (left, 0))
    twice.save(tmp_path / "photos" / "anna" / "two.png")
    Image.new("RGB", (200, 200), "white").save(tmp_path / "photos" / "blank.png")
    return tmp_path / "photos"


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def write(folder: Path, *predictions: Prediction, name: str = "a.png", picture: Image.Image = GREY) -> SortedFaces:
    faces = SortedFaces(folder, LABELS, [])
    faces.write(Path(name), picture, [FaceReading(WHOLE, None, prediction) for prediction in predictions])
    return faces


def test_names_begin_with_the_confidence_and_have_the_path_of_the_picture_and_the_number_of_the_face(folder):
    write(folder, SURE, UNSURE, name="anna/a photo.jpg")
    assert files_in(folder) == ["bored/0.510_anna_a photo_face2.png", "bored/0.900_anna_a photo_face1.png"]


def test_faces_of_photos_are_sorted_by_label_and_counted(shipped, photos, folder, capsys, caplog):
    caplog.set_level("INFO")
    assert predict_pictures(shipped, [photos], "json", sorted_folder=folder) == []
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(len(line["faces"]) for line in printed) == 3
    assert [name.partition("/")[0] for name in files_in(folder)] == ["happy"] * 3
    assert [name.partition("_")[2] for name in files_in(folder)] == [
        "anna_two_face1.png", "anna_two_face2.png", "photo_face1.png"
    ]  # fmt: skip
    assert caplog.messages == [f"Faces sorted into {folder}: 3 (3 happy); pictures without a face: 1."]


@pytest.mark.parametrize("width", [66, 300, 512, 1024, 2500])
def test_a_sorted_face_is_predicted_as_it_was_in_its_picture(shipped, portrait, tmp_path, folder, width, capsys):
    photo = tmp_path / "photo.png"
    portrait.resize((width, width)).save(photo)
    [face] = shipped.predict(photo, "always").faces
    predict_pictures(shipped, [photo], detect="always", sorted_folder=folder)
    [path] = folder.rglob("*face1*")
    again = shipped.predict(path, "never").prediction
    assert again.probabilities == pytest.approx(face.prediction.probabilities, abs=0.02)
    assert path.suffix == (".png" if width < 1200 else ".jpg")


def test_a_sorted_face_has_the_resolution_and_the_colours_of_its_picture(shipped, portrait):
    large = portrait.resize((2048, 2048))  # the network saw it reduced to a half
    [face] = shipped.predict(large).faces
    cropped = crop_original(large, face)
    assert (cropped.mode, cropped.width) == ("RGB", cropped.height)
    assert cropped.width == pytest.approx(4 * 1.1 * (90 * 113) ** 0.5, rel=0.03)
    assert 0 <= abs(np.asarray(cropped, int)[:, :, 0] - np.asarray(cropped, int)[:, :, 2]).mean() > 10


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_sorted_face_is_upright_and_has_no_metadata(shipped, portrait, tmp_path, folder, orientation, capsys):
    (tmp_path / "photo.jpg").write_bytes(encode_turned(portrait, orientation, "JPEG"))
    predict_pictures(shipped, [tmp_path / "photo.jpg"], sorted_folder=folder)
    [path] = folder.rglob("*.png")
    with Image.open(path) as face:
        assert (path.parent.name, dict(face.getexif()), face.info) == ("happy", {}, {})


def test_a_picture_that_is_a_face_already_is_sorted_pixel_by_pixel(shipped, class_folders, folder, capsys):
    predict_pictures(shipped, [class_folders], sorted_folder=folder)
    before = {Image.open(path).tobytes() for path in class_folders.rglob("*.png")}
    assert {Image.open(path).tobytes() for path in folder.rglob("*.png")} == before
    assert len(files_in(folder)) == 70
    assert {path.name.upper() for path in folder.iterdir()} <= set(SEVEN)


@pytest.mark.parametrize("box", [Box(0, 0, 1, 1), Box(0.5, 0, 20.5, 20), Box(19.6, 19.6, 20, 20)])
@pytest.mark.parametrize("confidence", [None, 0.9])
def test_a_face_at_the_border_is_a_square_within_the_picture(box, confidence):
    picture = Image.new("L", (21, 20), "white")
    face = crop_original(picture, FaceReading(box, confidence, SURE))
    assert face.width == face.height >= 1
    assert face.getextrema() == (255, 255)  # outside of the picture, it would be black


def test_files_with_the_name_of_a_face_are_never_replaced(folder, tmp_path):
    (folder / "bored").mkdir(parents=True)
    (folder / "bored" / "0.900_a_face1.png").write_text("mine")
    (folder / "bored" / "0.900_a_face1_2.png").symlink_to(tmp_path / "nothing")
    write(folder, SURE)
    write(folder, SURE, picture=Image.new("L", (20, 20), 7))
    assert (folder / "bored" / "0.900_a_face1.png").read_text() == "mine"
    assert [name[6:] for name in files_in(folder)] == [f"0.900_a_face1{end}.png" for end in ("", "_2", "_3", "_4")]
    assert not (tmp_path / "nothing").exists()


def test_pictures_of_the_same_name_in_one_run_are_all_sorted(folder):
    faces = SortedFaces(folder, LABELS, [])
    for name in ("a.png", "a.jpg", "a.png"):
        faces.write(Path(name), GREY, [FaceReading(WHOLE, None, SURE)])
    assert len(files_in(folder)) == 3


def test_a_face_that_a_person_moved_or_renamed_stays_there_and_is_not_sorted_again(folder):
    write(folder, SURE, UNSURE, picture=GREY)
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        (folder / "mine").mkdir(exist_ok=True)
        path.rename(folder / "mine" / f"{number}.png")
    faces = write(folder, SURE)
    assert files_in(folder) == ["mine/0.png", "mine/1.png"]
    assert faces.summary() == f"Faces sorted into {folder}: 0; there already: 1."


@pytest.mark.parametrize("place", [".", "sorted", "sub/deep/sorted", "link"])
def test_a_folder_whose_faces_would_be_read_as_pictures_the_next_time_is_refused(photos, tmp_path, place, shipped):
    (tmp_path / "elsewhere").symlink_to(photos)
    folder = tmp_path / "elsewhere" / "x" if place == "link" else photos / place
    with pytest.raises(DataError, match=r"would lie in .*photos, whose pictures are read\. Choose another folder"):
        predict_pictures(shipped, [photos], sorted_folder=folder)
    assert files_in(photos) == ["anna/two.png", "blank.png", "photo.jpg"]
    assert not folder.exists() or folder == photos


def test_the_folder_of_a_label_cannot_be_sorted_into_the_folder_above_it_but_another_one_can(folder):
    for name in ("bored", "unsorted"):
        (folder / name).mkdir(parents=True)
    with pytest.raises(DataError, match="would lie in"):
        SortedFaces(folder, LABELS, [folder / "bored"])
    SortedFaces(folder, LABELS, [folder / "unsorted"])


def test_a_link_or_a_file_in_place_of_a_labels_folder_is_refused_and_a_link_to_the_whole_is_followed(folder, tmp_path):
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (folder / "bored").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"bored is a link, which is not followed\. Rename it"):
        SortedFaces(folder, LABELS, [])
    (folder / "bored").unlink()
    (folder / "very attentive").write_text("mine")
    with pytest.raises(DataError, match="very attentive is not a folder"):
        SortedFaces(folder, LABELS, [])
    (folder / "very attentive").unlink()
    (tmp_path / "link").symlink_to(folder)
    write(tmp_path / "link", SURE)
    assert files_in(folder) == ["bored/0.900_a_face1.png"]


def test_a_folder_that_becomes_a_link_is_not_followed(folder, tmp_path):
    faces = SortedFaces(folder, LABELS, [])
    (folder / "bored").symlink_to(tmp_path)
    with pytest.raises(DataError, match=r"A face cannot be written into .*bored is a link"):
        faces.write(Path("a.png"), GREY, [FaceReading(WHOLE, None, SURE)])


@pytest.mark.parametrize("name", ["n" * 250, "\u9000" * 80, "new\nline", "bytes\udcff", "\u202eright", ".hidden"])
def test_a_picture_of_any_name_gives_a_short_printable_name(folder, name):
    write(folder, SURE, name=f"{name}.png")
    [path] = folder.rglob("*.png")
    assert path.name.isprintable()
    assert path.name.startswith("0.900_")
    assert len(os.fsencode(path.name)) <= 255


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/sorted cannot be made"):
        SortedFaces(tmp_path / "file" / "sorted", LABELS, [])


def test_a_face_that_cannot_be_written_is_one_line_a_picture_and_the_rest_is_predicted(
    shipped, photos, folder, capsys, monkeypatch
):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dexpression.sorted_faces.make_folders", fail)
    failures = predict_pictures(shipped, [photos], sorted_folder=folder)
    expected = f"A face cannot be written into {folder}/happy (No space left on device)."
    assert [failure.partition(": ")[2] for failure in failures] == [expected, expected]
    assert len(capsys.readouterr().out.splitlines()) == 4
