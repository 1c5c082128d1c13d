"""From faces to batches: splits without repeated images, labels in order, normalised pixels, vote distributions."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dexpression.errors import DataError
from dexpression.labels import FIVE, LABEL_SETS, SEVEN
from dexpression.training.data import face_dataloaders, fingerprint, has_votes, images_per_label, split_faces
from dexpression.training.sources import read_faces
from tests.support.faces import draw_face, write_class_folders, write_votes


def pixels(dataset) -> set[bytes]:
    return {face.image.tobytes() for face in dataset.items}


def test_a_batch_has_grey_normalised_faces_and_labels(split_folders):
    faces, labels = face_dataloaders(split_folders, batch_size=8).valid.one_batch()
    assert (tuple(faces.shape), tuple(labels.shape)) == ((8, 1, 48, 48), (8,))
    expected = (torch.from_numpy(np.array(draw_face("ANGRY", 100))).float() / 255 - 0.5) / 0.25
    assert torch.allclose(torch.Tensor(faces[0, 0]), expected, atol=1e-6)


@pytest.mark.parametrize(("labels", "vocabulary"), [("five", FIVE), ("seven", SEVEN)])
def test_the_chosen_labels_are_the_vocabulary_in_our_order(split_folders, labels, vocabulary):
    dataloaders = face_dataloaders(split_folders, labels=labels)
    assert tuple(dataloaders.vocab) == vocabulary
    assert images_per_label(dataloaders) == {
        "train": dict.fromkeys(vocabulary, 6),
        "valid": dict.fromkeys(vocabulary, 2),
    }


def test_a_missing_valid_split_is_taken_from_train_stratified_and_seeded(class_folders):
    first, again = (face_dataloaders(class_folders, valid_fraction=0.2, seed=1) for _ in range(2))
    other = face_dataloaders(class_folders, valid_fraction=0.2, seed=2)
    assert images_per_label(first)["valid"] == dict.fromkeys(SEVEN, 2)
    assert fingerprint(first) == fingerprint(again) != fingerprint(other)


def test_no_image_is_in_both_train_and_valid(split_folders):
    for path in sorted((split_folders / "valid" / "happy").iterdir()):
        shutil.copy(path, split_folders / "train" / "sad")
    dataloaders = face_dataloaders(split_folders)
    assert not pixels(dataloaders.train_ds) & pixels(dataloaders.valid_ds)
    assert images_per_label(dataloaders) == {"train": dict.fromkeys(SEVEN, 6), "valid": dict.fromkeys(SEVEN, 2)}


def test_no_image_is_in_both_parts_of_a_split_that_we_make(class_folders):
    for path in sorted((class_folders / "happy").iterdir()):
        shutil.copy(path, class_folders / "happy" / f"again{path.name}")
    dataloaders = face_dataloaders(class_folders, valid_fraction=0.3)
    assert not pixels(dataloaders.train_ds) & pixels(dataloaders.valid_ds)


def test_an_image_of_the_test_split_is_not_trained_on(split_folders):
    shutil.copytree(split_folders / "train" / "happy", split_folders / "test" / "happy")
    assert "HAPPY" not in images_per_label(face_dataloaders(split_folders))["train"]


def test_fer2013_csv_gives_the_same_batches_as_its_pictures_in_folders(tmp_path, write_table):
    table = write_table()
    for face in read_faces(table, 48).faces:
        folder = tmp_path / "pictures" / face.split / face.label.lower()
        folder.mkdir(parents=True, exist_ok=True)
        face.image.save(folder / f"{face.row:05}.png")
    from_pictures, from_table = face_dataloaders(tmp_path / "pictures"), face_dataloaders(table)
    assert pixels(from_pictures.train_ds) == pixels(from_table.train_ds)
    assert images_per_label(from_pictures) == images_per_label(from_table)


@pytest.mark.parametrize("labels", LABEL_SETS)
def test_a_vote_distribution_is_over_the_vocabulary_alone(class_folders, labels):
    write_votes(class_folders / "fer2013new.csv", None, 70)
    dataloaders = face_dataloaders(class_folders, labels=labels, with_votes=True)
    _, _, distributions = dataloaders.valid.one_batch()
    happy = [float(label == "HAPPY") for label in dataloaders.vocab]  # the votes for "not a face" do not count
    assert distributions.tolist() == [happy] * len(distributions)
    assert tuple(dataloaders.vocab) == LABEL_SETS[labels]


def test_an_image_that_most_annotators_called_not_a_face_is_not_trained_on(class_folders):
    votes = write_votes(class_folders / "fer2013new.csv", None, 70)
    lines = votes.read_text().splitlines()
    lines[1:11] = [line.replace("0,8,0,0,0,0,0,0,0,2", "0,2,0,0,0,0,0,0,0,8") for line in lines[1:11]]
    votes.write_text("\n".join(lines))
    dataloaders = face_dataloaders(class_folders)
    assert "ANGRY" not in images_per_label(dataloaders)["train"]


def test_a_batch_of_faces_without_votes_has_two_parts(class_folders):
    dataloaders = face_dataloaders(class_folders, with_votes=True)
    assert not has_votes(dataloaders)
    assert len(dataloaders.valid.one_batch()) == 2


def test_a_single_class_is_refused_with_the_count_of_its_images(tmp_path):
    write_class_folders(tmp_path / "faces", 5, labels=("HAPPY",))
    with pytest.raises(DataError, match=r"at least two labels; found 5 images of \['HAPPY'\]"):
        face_dataloaders(tmp_path / "faces")


def test_too_few_images_to_split_are_refused(tmp_path):
    write_class_folders(tmp_path / "faces", 1)
    with pytest.raises(DataError, match="too few to take 10% of every label"):
        face_dataloaders(tmp_path / "faces")


def test_every_face_is_in_train_or_valid(class_folders: Path):
    faces = read_faces(class_folders, 48).faces
    train, valid = split_faces(faces, 0.1, seed=0)
    assert sorted(face.name for face in train + valid) == sorted(face.name for face in faces)
