"""What teachers answer, and the truth, become what a network is to learn."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from conftest import draw_face
from fastai.learner import Learner
from test_sources import write_votes

from dexpression.architecture import DeXpression
from dexpression.artifact import load_exported
from dexpression.data import inference_dataloaders, stack_pixels
from dexpression.distillation import Teachers
from dexpression.errors import RecipeError
from dexpression.exporting import train
from dexpression.labels import SEVEN
from dexpression.learner import torch_engine
from dexpression.manifest import Manifest, manifest_path
from dexpression.sources import Face
from dexpression.training import Recipe, create_learner, recipe_dataloaders

QUICK = Recipe(epochs=1, batch_size=16, precision="float32")
FACES = [Face(f"{seed}.png", "HAPPY", None, draw_face("HAPPY", seed)) for seed in range(3)]
PIXELS = stack_pixels(FACES)
HAPPY = np.eye(7)[SEVEN.index("HAPPY")]


@pytest.fixture
def teacher(exported_learner):
    return load_exported(exported_learner)[0]


@pytest.fixture
def dissenter(teacher):
    """The same network with another opinion."""
    other = copy.deepcopy(teacher)
    with torch.no_grad():
        other.model.classifier[-1].bias.add_(torch.arange(7.0) / 4)
    return other


def test_a_teacher_answers_for_a_face_and_its_mirror_image(teacher):
    engine = torch_engine(teacher)
    expected = (engine(PIXELS) + engine(PIXELS[..., ::-1].copy())) / 2
    assert Teachers([teacher], 0.5).answers(PIXELS, heads=1)[:, 0] == pytest.approx(expected, abs=1e-5)


def test_of_several_teachers_the_mean_is_learnt(teacher, dissenter):
    one, two, both = (
        Teachers(group, 0.5).answers(PIXELS, heads=1) for group in ([teacher], [dissenter], [teacher, dissenter])
    )
    assert both == pytest.approx((one + two) / 2, abs=1e-6)
    assert abs(one - two).max() > 0.01


@pytest.mark.parametrize("trust", [0.0, 0.25, 1.0])
def test_trust_is_the_teachers_share(teacher, trust):
    teachers = Teachers([teacher], trust)
    expected = (1 - trust) * HAPPY + trust * teachers.answers(PIXELS, heads=1)[:, 0]
    assert np.array([face.targets for face in teachers(FACES, heads=1)])[:, 0] == pytest.approx(expected, abs=1e-6)


def test_where_nobody_voted_the_teachers_alone_are_learnt():
    network = DeXpression.compact(7, heads=2).eval()
    teachers = Teachers([Learner(inference_dataloaders(SEVEN, 48), network)], 0.5)
    voted = dataclasses.replace(FACES[0], votes={"happiness": 10})
    answers = teachers.answers(PIXELS[:1], heads=2)[0]
    (with_votes,), (without,) = (teachers([face], heads=2) for face in (voted, FACES[0]))
    assert np.array(with_votes.targets) == pytest.approx(0.5 * HAPPY + 0.5 * answers, abs=1e-6)
    assert without.targets[1] == pytest.approx(answers[1], abs=1e-6)


def test_a_network_learns_from_a_teacher_what_no_label_says(class_folders, exported_learner, tmp_path):
    recipe = dataclasses.replace(QUICK, teachers=[exported_learner], trust=1.0)
    learner = create_learner(recipe_dataloaders(class_folders, recipe), recipe)
    faces, _, targets = learner.dls.valid.one_batch()
    answers = load_exported(exported_learner)[0].model(torch.cat([faces, faces.flip(-1)])).softmax(dim=1)
    assert torch.allclose(targets, torch.stack(answers.chunk(2)).mean(dim=0), atol=1e-5)
    assert learner.model(faces).shape == (len(faces), 7)  # one head: nobody voted


def test_the_manifest_tells_who_the_teachers_were(class_folders, exported_learner, tmp_path):
    recipe = dataclasses.replace(QUICK, teachers=[exported_learner, exported_learner])
    manifest = train(class_folders, recipe, tmp_path / "model", tmp_path / "runs")
    assert manifest.recipe["teachers"] == [Manifest.read(manifest_path(exported_learner)).sha256] * 2


def test_a_teacher_that_knows_no_votes_cannot_teach_them(class_folders, exported_learner):
    write_votes(class_folders / "fer2013new.csv", None, 70)
    with pytest.raises(RecipeError, match="never learnt the votes"):
        recipe_dataloaders(class_folders, dataclasses.replace(QUICK, teachers=[exported_learner]))


def test_a_teacher_of_other_labels_is_refused(class_folders, exported_learner):
    with pytest.raises(RecipeError, match=r"is for 7 labels .* this run is for 5 labels"):
        recipe_dataloaders(class_folders, dataclasses.replace(QUICK, labels="five", teachers=[exported_learner]))
