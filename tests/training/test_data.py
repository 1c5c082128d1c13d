"""From faces to batches: labels, splits without repeated images, normalised pixels, vote distributions."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.data.core import DataLoaders
from PIL import Image

from dexpression.errors import DataError
from dexpression.labels import FIVE, LABEL_SETS, SEVEN
from dexpression.training.crops import FaceCropper
from dexpression.training.data import (
    distinct_faces,
    fingerprint,
    has_votes,
    images_per_label,
    make_dataloaders,
    read_labelled,
    split_faces,
)
from dexpression.training.face_set import Face
from dexpression.training.recipe import Vocabulary
from dexpression.training.sources import read_faces
from tests.support.faces import draw_face, write_class_folders, write_votes

CROPPER = FaceCropper(48)


def load(source: Path, labels: Vocabulary = "auto", seed: int = 0, **options: object) -> DataLoaders:
    """Read, split and batch the faces of a source, as a run does."""
    return make_dataloaders(*split_faces(read_labelled(source, labels, CROPPER).faces, seed), **options)


def pixels(dataset) -> set[bytes]:
    return {face.image.tobytes() for face in dataset.items}


def drawn_faces(label: str, numbers: range) -> list[Face]:
    """Different faces of one label, which have names of their own."""
    random = np.random.default_rng(SEVEN.index(label))
    seeds = [int(seed) for seed in random.integers(0, 2**31, numbers.stop)]
    return [Face(f"{label}/{number}.png", label, None, draw_face(label, seeds[number])) for number in numbers]


def test_a_batch_has_grey_normalised_faces_and_labels(split_folders):
    faces, labels = load(split_folders, batch_size=8).valid.one_batch()
    assert (tuple(faces.shape), tuple(labels.shape)) == ((8, 1, 48, 48), (8,))
    expected = (torch.from_numpy(np.array(draw_face("ANGRY", 100))).float() / 255 - 0.5) / 0.25
    assert torch.allclose(torch.Tensor(faces[0, 0]), expected, atol=1e-6)


@pytest.mark.parametrize(("labels", "vocabulary"), [("five", FIVE), ("seven", SEVEN), ("auto", SEVEN), ("own", SEVEN)])
def test_the_chosen_labels_are_the_vocabulary_in_our_order(split_folders, labels, vocabulary):
    dataloaders = load(split_folders, labels)
    assert tuple(dataloaders.vocab) == vocabulary
    assert images_per_label(dataloaders) == {
        "train": dict.fromkeys(vocabulary, 6),
        "valid": dict.fromkeys(vocabulary, 2),
    }


@pytest.mark.parametrize(
    ("labels", "vocabulary"),
    [
        ("auto", ["HAPPY", "SAD", "BORED", "VERY ATTENTIVE"]),
        ("own", ["BORED", "HAPPINESS", "SADNESS", "VERY ATTENTIVE"]),
        ("five", ["HAPPY"]),
        ("seven", ["HAPPY", "SAD"]),
    ],
)
def test_the_option_labels_says_what_names_of_folders_mean(tmp_path, labels, vocabulary):
    names = ("happiness", "sadness", "bored", "Very attentive")
    folder = write_class_folders(tmp_path, 4, ("HAPPY", "SAD", "FEAR", "SURPRISE"), names=names)
    found = read_labelled(folder, labels, CROPPER)
    assert found.labels() == vocabulary
    assert len(found.faces) == 4 * len(vocabulary)
    assert len(found.left_out) == 16 - len(found.faces)


def test_a_label_without_a_picture_is_named_and_not_in_the_model(tmp_path, caplog):
    folder = write_class_folders(tmp_path, 4, ("HAPPY", "SAD"))
    assert list(load(folder, "eight").vocab) == ["HAPPY", "SAD"]
    message = (
        "No picture has the label ANGRY, DISGUST, FEAR, NEUTRAL, SURPRISE, CONTEMPT, so the model will not know it."
    )
    assert message in caplog.messages


def test_no_face_of_the_chosen_labels_is_refused_with_what_was_found(tmp_path):
    folder = write_class_folders(tmp_path, 4, ("HAPPY", "SAD"), names=("bored", "attentive"))
    with pytest.raises(
        DataError, match=r"No faces in .* 4 left out \(ATTENTIVE is not a chosen label\): attentive/00004"
    ):
        read_labelled(folder, "five", CROPPER)


def test_what_was_read_and_left_out_is_logged(class_folders, caplog):
    caplog.set_level("INFO")
    draw_face("HAPPY", 0).save(class_folders / "loose.png")
    read_labelled(class_folders, "auto", CROPPER)
    assert caplog.messages == [
        "faces: 70 faces (70 unsplit)\n1 left out (a picture in no class folder): loose.png",
    ]


def test_a_missing_valid_split_is_a_tenth_of_every_label_chosen_by_the_seed(tmp_path):
    folder = write_class_folders(tmp_path, 20)
    first, again, other = (load(folder, seed=seed) for seed in (1, 1, 2))
    assert images_per_label(first) == {"train": dict.fromkeys(SEVEN, 18), "valid": dict.fromkeys(SEVEN, 2)}
    assert fingerprint(first) == fingerprint(again) != fingerprint(other)


@pytest.mark.parametrize(("count", "valid"), [(2, 1), (5, 1), (14, 1), (16, 2), (100, 10)])
def test_a_split_takes_a_tenth_of_a_label_and_at_least_one_face(count, valid):
    faces = drawn_faces("HAPPY", range(count)) + drawn_faces("SAD", range(50))
    labels = Counter(face.label for face in split_faces(faces, seed=0)[1])
    assert labels == {"HAPPY": valid, "SAD": 5}


def test_faces_that_are_added_or_reordered_hardly_move_any_between_the_splits():
    faces = drawn_faces("HAPPY", range(200)) + drawn_faces("SAD", range(200))
    more = drawn_faces("HAPPY", range(200, 240)) + drawn_faces("FEAR", range(50))
    before, after, reordered = (
        {face.name for face in split_faces(some, seed=0)[1]} for some in (faces, [*more, *faces], faces[::-1])
    )
    assert before == reordered
    assert len(before - after) <= 4  # of 40


def test_a_renamed_face_stays_in_its_split():
    faces = drawn_faces("HAPPY", range(50)) + drawn_faces("SAD", range(50))
    renamed = [Face(f"x{face.name}", face.label, None, face.image) for face in faces]
    before, after = ({face.image.tobytes() for face in split_faces(some, seed=0)[1]} for some in (faces, renamed))
    assert before == after


def test_no_image_is_in_both_train_and_valid(split_folders):
    for path in sorted((split_folders / "valid" / "happy").iterdir()):
        shutil.copy(path, split_folders / "train" / "sad")
    dataloaders = load(split_folders)
    assert not pixels(dataloaders.train_ds) & pixels(dataloaders.valid_ds)
    assert images_per_label(dataloaders) == {"train": dict.fromkeys(SEVEN, 6), "valid": dict.fromkeys(SEVEN, 2)}


def test_no_image_is_in_both_parts_of_a_split_that_we_make(class_folders):
    for path in sorted((class_folders / "happy").iterdir()):
        shutil.copy(path, class_folders / "happy" / f"again{path.name}")
    dataloaders = load(class_folders)
    assert not pixels(dataloaders.train_ds) & pixels(dataloaders.valid_ds)


def test_an_image_of_the_test_split_is_neither_trained_on_nor_validated(split_folders):
    shutil.copytree(split_folders / "train" / "happy", split_folders / "test" / "happy")
    shutil.copytree(split_folders / "valid" / "sad", split_folders / "test" / "sad")
    images = images_per_label(load(split_folders))
    assert "HAPPY" not in images["train"]
    assert "SAD" not in images["valid"]


def test_a_valid_label_that_train_lacks_is_left_out_and_named(split_folders, caplog):
    shutil.rmtree(split_folders / "train" / "sad")
    dataloaders = load(split_folders)
    assert "SAD" not in {*dataloaders.vocab, *images_per_label(dataloaders)["valid"]}
    assert "No training face has the label SAD, so the model will not know it." in caplog.messages


def test_fer2013_csv_gives_the_same_batches_as_its_pictures_in_folders(tmp_path, write_table):
    table = write_table()
    for face in read_faces(table, CROPPER).faces:
        folder = tmp_path / "pictures" / face.split / face.label.lower()
        folder.mkdir(parents=True, exist_ok=True)
        face.image.save(folder / f"{face.row:05}.png")
    from_pictures, from_table = load(tmp_path / "pictures"), load(table)
    assert pixels(from_pictures.train_ds) == pixels(from_table.train_ds)
    assert images_per_label(from_pictures) == images_per_label(from_table)


@pytest.mark.parametrize("labels", ["five", "seven"])
def test_a_vote_distribution_is_over_the_vocabulary_alone(class_folders, labels):
    write_votes(class_folders / "fer2013new.csv", None, 70)
    dataloaders = load(class_folders, labels, with_votes=True)
    _, _, distributions = dataloaders.valid.one_batch()
    happy = [float(label == "HAPPY") for label in dataloaders.vocab]  # the votes for "not a face" do not count
    assert distributions.tolist() == [happy] * len(distributions)
    assert tuple(dataloaders.vocab) == LABEL_SETS[labels]


def test_votes_for_labels_that_a_model_of_its_own_labels_lacks_are_no_distribution(tmp_path):
    folder = write_class_folders(tmp_path, 4, ("HAPPY", "SAD"), names=("bored", "attentive"))
    write_votes(folder / "fer2013new.csv", None, 8)
    _, _, distributions = load(folder, with_votes=True).valid.one_batch()
    assert distributions.tolist() == [[0.0, 0.0]] * 2


def test_named_votes_are_read_instead_of_those_beside_the_faces(class_folders, tmp_path):
    write_votes(class_folders / "fer2013new.csv", None, 3)  # too few
    votes = write_votes(tmp_path / "mine.csv", None, 70)
    assert all(face.votes for face in read_labelled(class_folders, "seven", CROPPER, votes).faces)


def test_an_image_that_most_annotators_called_not_a_face_is_not_trained_on(class_folders):
    votes = write_votes(class_folders / "fer2013new.csv", None, 70)
    lines = votes.read_text().splitlines()
    lines[1:11] = [line.replace("0,8,0,0,0,0,0,0,0,2", "0,2,0,0,0,0,0,0,0,8") for line in lines[1:11]]
    votes.write_text("\n".join(lines))
    assert "ANGRY" not in images_per_label(load(class_folders))["train"]
    assert len(distinct_faces(read_labelled(class_folders, "auto", CROPPER).faces)) == 60


def test_a_batch_of_faces_without_votes_has_two_parts(class_folders):
    dataloaders = load(class_folders, with_votes=True)
    assert not has_votes(dataloaders)
    assert len(dataloaders.valid.one_batch()) == 2


def test_a_single_class_is_refused_with_the_count_of_its_images(tmp_path):
    write_class_folders(tmp_path / "faces", 5, labels=("HAPPY",))
    with pytest.raises(DataError, match="of 2 to 100 labels; found 5 images of 1: HAPPY"):
        load(tmp_path / "faces")


def test_more_labels_than_a_model_may_have_are_refused_before_the_training(tmp_path):
    """A folder for each of 101 persons, such as in CK+, and not for each label."""
    write_class_folders(tmp_path, 2, ("HAPPY",) * 101, names=tuple(f"S{number:03}" for number in range(101)))
    for number, path in enumerate(sorted(tmp_path.rglob("*.png"))):
        Image.new("L", (48, 48), number).save(path)  # no image twice
    with pytest.raises(DataError, match="found 202 images of 101: "):
        load(tmp_path)


def test_a_label_with_one_image_is_refused_by_name_with_what_to_do(tmp_path):
    write_class_folders(tmp_path, 5, labels=("HAPPY", "SAD"))
    write_class_folders(tmp_path, 1, labels=("FEAR",))
    with pytest.raises(DataError, match=r"only one image of FEAR, .* Add images, or add a folder valid/"):
        load(tmp_path)


def test_every_face_is_in_train_or_valid(class_folders):
    faces = read_faces(class_folders, CROPPER).faces
    train, valid = split_faces(faces, seed=0)
    assert sorted(face.name for face in train + valid) == sorted(face.name for face in faces)
