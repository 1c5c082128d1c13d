"""Class folders: which folder is which label, what is passed over, and what is left out and why."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dexpression.errors import DataError
from dexpression.extras import install_command
from dexpression.labels import SEVEN, own_label
from dexpression.training.crops import FaceCropper
from dexpression.training.face_set import FaceSet, Remark
from dexpression.training.folders import move_to_label, read_folder
from tests.support.faces import draw_face, write_class_folders

HEIC = b"\0\0\0\x14ftypheic\0\0\0\0mif1"  # the beginning of such a file


def read(folder: Path) -> FaceSet:
    return read_folder(folder, FaceCropper(48))


def counts(found: FaceSet) -> Counter[tuple[str | None, str]]:
    """The number of faces by split and label."""
    return Counter((face.split, face.label) for face in found.faces)


def test_each_folder_is_a_class(class_folders):
    found = read(class_folders)
    assert counts(found) == {(None, label): 10 for label in SEVEN}
    assert (found.left_out, found.uncertain) == ([], [])


def test_split_folders_above_class_folders_are_read(split_folders):
    expected = {("train", label): 6 for label in SEVEN} | {("valid", label): 2 for label in SEVEN}
    assert counts(read(split_folders)) == expected


@pytest.mark.parametrize("names", [("Happy", "SAD"), ("happiness", "Sadness"), (" HAPPY", "sad ")])
def test_known_names_of_any_case_and_synonyms_become_our_labels(tmp_path, names):
    found = read(write_class_folders(tmp_path, 1, ("HAPPY", "SAD"), names=names))
    assert counts(found) == {(None, "HAPPY"): 1, (None, "SAD"): 1}


def test_any_other_name_is_a_label_of_its_own(tmp_path):
    names = ("bored", "Very attentive", "mu\u0308de", "\u9000\u5c48", "3")
    found = read(write_class_folders(tmp_path, 2, SEVEN[:5], names=names))
    assert found.labels() == ["3", "BORED", "M\u00dcDE", "VERY ATTENTIVE", "\u9000\u5c48"]


def test_known_names_and_others_may_be_mixed_and_the_report_says_what_each_was_taken_for(tmp_path):
    names = ("anger", "bored", "happy")
    found = read(write_class_folders(tmp_path, 1, ("ANGRY", "FEAR", "HAPPY"), names=names))
    assert found.labels_of_folders == {"anger": "ANGRY", "bored": "BORED", "happy": "HAPPY"}
    assert "Folders taken for labels: anger for ANGRY\nLabels of your own: BORED" in found.report()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("m\u00fcde", None),
        ("mu\u0308de", None),  # in two code points, as some systems write it
        ("M\u00fcde ", None),
        ("anger", "anger for ANGRY"),
        ("Happiness", "Happiness for HAPPY"),
    ],
)
def test_the_report_says_what_a_folder_was_taken_for_only_where_a_person_sees_a_difference(tmp_path, name, shown):
    report = read(write_class_folders(tmp_path, 1, ("SAD", "FEAR"), names=("sad", name))).report()
    assert [line for line in report.splitlines() if line.startswith("Folders taken for labels: ")] == (
        [f"Folders taken for labels: {shown}"] if shown else []
    )


def test_two_folders_of_one_label_are_one_class(tmp_path):
    found = read(write_class_folders(tmp_path, 2, ("HAPPY", "SAD"), names=("happy", "happiness")))
    assert counts(found) == {(None, "HAPPY"): 4}


def test_names_can_be_taken_as_they_are(tmp_path):
    folder = write_class_folders(tmp_path, 1, ("HAPPY", "SAD"), names=("happiness", "sadness"))
    assert read_folder(folder, FaceCropper(48), own_label).labels() == ["HAPPINESS", "SADNESS"]


@pytest.mark.parametrize("name", ["unknown", "x" * 41, "-", "a:b", "a\nb", "=1+1"])
def test_a_name_that_cannot_be_a_label_is_refused_with_what_a_label_is(tmp_path, name):
    write_class_folders(tmp_path, 1, ("HAPPY", "SAD"), names=("happy", name))
    with pytest.raises(DataError, match=r"cannot be a label\. A label has 1 to 40 characters.*Rename the folder"):
        read(tmp_path)


@pytest.mark.parametrize("leftover", ["__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", ".cache"])
@pytest.mark.parametrize("deep", [False, True], ids=["beside the splits", "beside the classes"])
def test_folders_that_systems_leave_are_passed_over(split_folders, leftover, deep):
    folder = (split_folders / "train" if deep else split_folders) / leftover
    write_class_folders(folder / "happy", 1, ("HAPPY",))
    assert len(read(split_folders).faces) == 56


def test_what_systems_leave_in_a_class_folder_is_passed_over(tmp_path):
    """macOS and NAS boxes leave a file or a thumbnail beside each picture."""
    write_class_folders(tmp_path, 2, ("HAPPY", "SAD"))
    (tmp_path / "happy" / "._00000.png").write_bytes(b"\x00\x05\x16\x07")
    draw_face("HAPPY", 7).save(tmp_path / "happy" / ".thumbnail.png")
    for leftover in ("@eaDir", "__MACOSX", ".cache"):
        write_class_folders(tmp_path / "happy" / leftover, 1, ("HAPPY",))
    assert counts(read(tmp_path)) == {(None, "HAPPY"): 2, (None, "SAD"): 2}


def test_loose_pictures_empty_folders_and_unreadable_files_are_counted_by_reason(class_folders):
    draw_face("HAPPY", 0).save(class_folders / "loose.png")
    (class_folders / "IMG_0001.HEIC").write_bytes(HEIC)
    (class_folders / "bored").mkdir()
    (class_folders / "happy" / "broken.png").write_bytes(b"no picture")
    (class_folders / "happy" / "empty.jpg").write_bytes(b"")
    found = read(class_folders)
    assert len(found.faces) == 70
    assert sorted(found.left_out) == [
        Remark("IMG_0001.HEIC", "a picture in no class folder"),
        Remark("bored", "a folder without pictures"),
        Remark("happy/broken.png", "not a readable picture"),
        Remark("happy/empty.jpg", "not a readable picture"),
        Remark("loose.png", "a picture in no class folder"),
    ]
    assert "2 left out (not a readable picture): happy/broken.png, happy/empty.jpg" in found.report()


def test_pictures_that_need_a_decoder_are_left_out_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # an import of it fails
    folder = write_class_folders(tmp_path, 1, ("HAPPY", "SAD"))
    (folder / "happy" / "IMG_0001.HEIC").write_bytes(HEIC)
    [(name, reason)] = read(folder).left_out
    assert (name, reason.partition(": ")[0]) == ("happy/IMG_0001.HEIC", "a picture whose decoder is not installed")
    assert install_command("heic") in reason


def test_what_lies_beside_split_folders_is_left_out_and_named(split_folders):
    write_class_folders(split_folders / "extra", 1, ("HAPPY",))
    draw_face("HAPPY", 0).save(split_folders / "loose.png")
    draw_face("HAPPY", 0).save(split_folders / "train" / "loose.png")
    (split_folders / "train" / "bored").mkdir()
    assert sorted(read(split_folders).left_out) == [
        Remark("extra", "a folder beside train/, valid/ or test/"),
        Remark("loose.png", "a picture in no class folder"),
        Remark("train/bored", "a folder without pictures"),
        Remark("train/loose.png", "a picture in no class folder"),
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_links_pipes_and_odd_names_are_left_out_with_their_reasons(class_folders, tmp_path):
    outside = write_class_folders(tmp_path / "outside", 1, labels=("SAD",), seed=5)
    (class_folders / "surprised").symlink_to(outside / "sad")
    (class_folders / "sad" / "folder").symlink_to(outside / "sad")
    (class_folders / "sad" / "up").symlink_to("..")
    (class_folders / "sad" / "link.png").symlink_to(outside / "sad" / "05000.png")
    os.mkfifo(class_folders / "happy" / "pipe.png")
    (class_folders / "happy" / "line\nbreak.png").write_bytes(b"no picture")
    found = read(class_folders)
    assert len(found.faces) == 70
    assert {remark.name: remark.reason for remark in found.left_out} == {
        "happy/line\nbreak.png": "not a readable picture",
        "happy/pipe.png": "not a regular file",
        "surprised": "a link, which is not followed",
        **{f"sad/{name}": "a link, which is not followed" for name in ("folder", "link.png", "up")},
    }


def test_a_link_to_a_split_folder_is_left_out_and_a_link_that_is_named_is_followed(split_folders, tmp_path):
    (split_folders / "test").symlink_to(split_folders / "valid")
    (tmp_path / "link").symlink_to(split_folders)
    found = read(tmp_path / "link")
    assert (found.name, len(found.faces)) == ("faces", 56)
    assert found.left_out == [Remark("test", "a link, which is not followed")]


@pytest.mark.parametrize("labels", [[], ["happy"]])
def test_a_folder_without_images_is_refused_with_the_expected_layout(tmp_path, labels):
    for label in labels:
        (tmp_path / label).mkdir()
    with pytest.raises(DataError, match=r"No faces in .* Expected one folder per class"):
        read(tmp_path)


def test_a_folder_of_loose_pictures_is_refused_with_the_reason(tmp_path):
    draw_face("HAPPY", 0).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"1 left out \(a picture in no class folder\): a\.png"):
        read(tmp_path)


def test_a_folder_of_links_alone_is_refused_with_the_reason(class_folders, tmp_path):
    (tmp_path / "links" / "happy").mkdir(parents=True)
    (tmp_path / "links" / "happy" / "a.png").symlink_to(class_folders / "happy" / "00030.png")
    with pytest.raises(DataError, match=r"1 left out \(a link, which is not followed\): happy/a\.png"):
        read(tmp_path / "links")


def test_a_grey_face_of_the_requested_size_keeps_its_pixels(tmp_path):
    (tmp_path / "happy").mkdir()
    draw_face("HAPPY", 3).save(tmp_path / "happy" / "a.PNG")
    [face] = read(tmp_path).faces
    assert np.array_equal(np.asarray(face.image), np.asarray(draw_face("HAPPY", 3)))
    assert (face.name, face.path) == ("happy/a.PNG", tmp_path / "happy" / "a.PNG")


def test_the_pictures_without_a_face_and_those_with_several_are_listed(tmp_path, portrait):
    folder = write_class_folders(tmp_path / "faces", 1, ("HAPPY", "SAD"))
    twins = portrait.copy()
    twins.paste(portrait.crop((0, 0, 256, 512)), (256, 0))
    twins.paste(portrait.crop((130, 0, 386, 512)), (0, 0))
    twins.paste(portrait.crop((130, 0, 386, 512)), (256, 0))
    for name, picture in (("one", portrait), ("two", twins), ("none", portrait.resize((1, 1)).resize((300, 300)))):
        picture.save(folder / "happy" / f"{name}.png")
    found = read(folder)
    assert found.uncertain == [
        Remark("happy/none.png", "no face was found in it, so it was taken whole"),
        Remark("happy/two.png", "it has several faces of like size, of which the largest was taken"),
    ]
    always = read_folder(folder, FaceCropper(48, "always"))
    assert Remark("happy/none.png", "no face was found in it") in always.left_out


def test_a_relabelled_picture_stays_in_its_folder_tree_and_replaces_no_link(tmp_path):
    for folder in ("faces/sad", "faces/happy", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    draw_face("HAPPY", 0).save(tmp_path / "faces" / "sad" / "1.png")
    (tmp_path / "faces" / "glad").symlink_to(tmp_path / "outside")
    (tmp_path / "faces" / "happy" / "1.png").symlink_to("nowhere")
    assert (
        move_to_label(tmp_path / "faces" / "sad" / "1.png", "HAPPY", tmp_path / "faces")
        == tmp_path / "faces" / "happy" / "1_.png"
    )
    assert (tmp_path / "faces" / "happy" / "1.png").is_symlink()


@pytest.mark.parametrize(
    ("picture", "label", "target"),
    [
        ("faces/sad/1.png", "HAPPY", "faces/Happiness/1_.png"),  # it overwrites no other
        ("faces/sad/anna/1.png", "HAPPY", "faces/Happiness/1_.png"),
        ("faces/Happiness/1.png", "SAD", "faces/sad/1_.png"),
        ("faces/sad/1.png", "BORED", "faces/bored/1.png"),  # made anew
        ("faces/sad/anna/1.png", "BORED", "faces/bored/1.png"),
        ("faces/sad/1.png", "VERY ATTENTIVE", "faces/Very attentive/1.png"),
    ],
)
def test_a_relabelled_picture_moves_to_the_folder_of_its_label(tmp_path, picture, label, target):
    for seed, place in enumerate(("sad/1.png", "sad/anna/1.png", "Happiness/1.png", "Very attentive/2.png")):
        path = tmp_path / "faces" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_face("HAPPY", seed).save(path)
    moved = move_to_label(tmp_path / picture, label, tmp_path / "faces")
    assert moved == tmp_path / target
    assert (moved.exists(), (tmp_path / picture).exists()) == (True, False)
    assert len(list((tmp_path / "faces").rglob("*.png"))) == 4


def test_a_relabelled_picture_never_leaves_the_folder_of_its_classes(tmp_path):
    """A folder somewhere above, which happens to have the name of the label, is none of the classes."""
    write_class_folders(tmp_path / "faces", 1, ("HAPPY", "SAD"))
    (tmp_path / "bored").mkdir()
    moved = move_to_label(tmp_path / "faces" / "sad" / "00001.png", "BORED", tmp_path / "faces")
    assert moved == tmp_path / "faces" / "bored" / "00001.png"
