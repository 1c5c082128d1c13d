"""A recipe accepts only values in range, describes itself, and records its options as JSON takes them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from dexpression.artifact.manifest import Manifest, export_paths
from dexpression.errors import RecipeError
from dexpression.labels import SEVEN
from dexpression.settings import Settings
from dexpression.shipped import default_model_path
from dexpression.training.recipe import IMAGE_SIZES, Recipe, describe_recipe
from tests.support.faces import OWN_LABELS
from tests.support.server import ROOT


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("seed", -1, "0 to 2147483648"),
        ("epochs", 0, "1 to 10000"),
        ("epochs", 1.5, "whole numbers, 1 to 10000"),
        ("epochs", "3", "1 to 10000"),
        ("batch_size", 1, "2 to 65536"),
        ("learning_rate", 0.0, "1e-08 to 10.0"),
        ("blur", 2.1, "0.0 to 2.0"),
        ("weight_decay", float("nan"), "0.0 to 1.0"),
        ("teacher_share", 1.1, "0.0 to 1.0"),
        ("from_scratch", "yes", "False or True"),
        ("from_scratch", 1, "False or True"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_range(name, value, allowed):
    with pytest.raises(RecipeError) as refused:
        Recipe(**{name: value})
    assert str(refused.value) == f"{name} is {value!r}. It takes {allowed}."


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("network", "compact or paper"),
        ("labels", "auto or five or seven or eight or own"),
        ("detect", "auto or always or never"),
        ("precision", "auto or bfloat16 or float32"),
    ],
)
def test_an_unknown_choice_is_refused_with_the_known_ones(name, choices):
    with pytest.raises(RecipeError) as refused:
        Recipe(**{name: "other"})
    assert str(refused.value) == f"{name} is 'other'. It takes {choices}."


@pytest.mark.parametrize(("name", "limits"), [("seed", (0, 2**31)), ("cover", (0.0, 2.0)), ("epochs", (1, 10_000))])
def test_both_limits_of_a_range_are_allowed(name, limits):
    assert [getattr(Recipe(**{name: limit}), name) for limit in limits] == list(limits)


def test_the_image_size_is_that_of_the_last_epochs():
    assert {network: Recipe(network=network).image_size for network in IMAGE_SIZES} == {"compact": 48, "paper": 224}


@pytest.mark.parametrize("options", [{"start": "model"}, {"start_share": 0.5}, {"teacher_share": 0.5}])
def test_from_scratch_there_is_no_start(options):
    with pytest.raises(RecipeError, match=r"from_scratch means that there is no start\. Leave out one of the two"):
        Recipe(from_scratch=True, **options)


SIZES = (2, 10, 30, 100, 300, 1_000, 3_000, 10_000, 28_000, 1_000_000)


@pytest.mark.parametrize("options", [{}, {"from_scratch": True}, {"network": "paper"}], ids=str)
def test_every_option_has_a_value_for_any_number_of_images(options):
    for images in SIZES:
        fitted = Recipe(**options).fitted_to(images, SEVEN)
        values = {name: value for name, value in vars(fitted).items() if name != "start"}
        assert None not in values.values()
        assert (fitted.start is None) is fitted.from_scratch


def test_more_images_mean_larger_batches_and_not_more_epochs():
    fitted = [Recipe().fitted_to(images, SEVEN) for images in SIZES]
    epochs, batches, rates = (
        [getattr(recipe, name) for recipe in fitted] for name in ("epochs", "batch_size", "learning_rate")
    )
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[-1] >= 2
    assert batches == sorted(batches)
    assert (batches[0] <= 32, batches[-1]) == (True, 128)
    assert all(0 < rate < Recipe(from_scratch=True).fitted_to(100, SEVEN).learning_rate for rate in rates)


def test_a_batch_is_no_larger_than_the_images_if_these_are_a_dozen_or_more():
    assert all(Recipe().fitted_to(images, SEVEN).batch_size <= images for images in range(12, 300))


def test_a_chosen_value_stays_whatever_the_number_of_images():
    chosen = {
        "epochs": 3,
        "batch_size": 7,
        "learning_rate": 0.1,
        "patience": 2,
        "start_share": 0.1,
        "start": Path("mine"),
    }
    for images in SIZES:
        fitted = vars(Recipe(**chosen).fitted_to(images, SEVEN))
        assert {name: fitted[name] for name in chosen} == chosen


def test_a_chosen_share_of_nothing_stays():
    assert Recipe(start_share=0.0).fitted_to(100, SEVEN).start_share == 0


def test_a_fitted_recipe_fits_itself_again():
    for recipe in (Recipe(), Recipe(from_scratch=True), Recipe(network="paper")):
        assert recipe.fitted_to(100, SEVEN).fitted_to(28_000, ["BORED"]) == recipe.fitted_to(100, SEVEN)


def test_the_start_has_no_share_of_a_result_with_labels_that_it_does_not_know(own_model):
    known, strange = (Recipe().fitted_to(100, labels).start_share for labels in (SEVEN[:2], ["HAPPY", "BORED"]))
    assert known > strange == 0
    assert Recipe(start=own_model).fitted_to(100, OWN_LABELS).start_share == known
    assert Recipe(from_scratch=True).fitted_to(100, SEVEN).start_share == 0


def test_a_run_starts_from_the_export_in_model_or_from_that_of_the_package(model, tmp_path, monkeypatch):
    (tmp_path / "empty" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "empty")
    assert Recipe().fitted_to(100, SEVEN).start == default_model_path()
    monkeypatch.chdir(model.parent.parent)
    assert Recipe().fitted_to(100, SEVEN).start == Path("model")
    assert Recipe(start=Settings.model_path).fitted_to(100, SEVEN).start == Path(Settings.model_path)


def test_the_paper_network_starts_from_scratch_unless_an_export_is_named(exported_learner):
    assert Recipe(network="paper").fitted_to(100, SEVEN).from_scratch
    assert Recipe(network="paper", start=exported_learner).fitted_to(100, SEVEN).start == exported_learner


def test_facts_are_all_options_as_json_takes_them():
    facts = Recipe(epochs=5).facts(start=None)
    assert json.loads(json.dumps(facts)) == facts
    assert facts == {field.name: field.default for field in dataclasses.fields(Recipe)} | {"epochs": 5}


def test_facts_record_the_digest_of_the_start_wherever_it_lies(exported_learner, model):
    starts = (exported_learner, model, model.parent)
    digests = {Recipe(start=start).facts(Manifest.of_export(start))["start"] for start in starts}
    assert digests == {Manifest.read(export_paths(model).manifest).sha256}


def test_a_start_given_as_text_becomes_a_path():
    assert Recipe(start="model/mine.pkl").start == Path("model", "mine.pkl")


def test_the_description_has_a_row_for_each_option_with_its_value_range_and_meaning():
    rows = describe_recipe(Recipe(epochs=5))
    assert [row["option"] for row in rows] == [field.name for field in dataclasses.fields(Recipe)]
    by_option = {row["option"]: row for row in rows}
    assert (by_option["epochs"]["value"], by_option["epochs"]["allowed"]) == ("5", "1 to 10000")
    assert by_option["labels"]["allowed"] == "auto or five or seven or eight or own"
    assert (by_option["from_scratch"]["value"], by_option["from_scratch"]["allowed"]) == ("False", "False or True")
    assert (by_option["start"]["value"], by_option["start"]["allowed"]) == ("None", "path")
    assert all(row["meaning"] for row in rows)


def test_the_table_of_the_documents_has_every_option_with_its_default_range_and_meaning():
    document = (ROOT / "docs" / "training.md").read_text()
    for row in describe_recipe(Recipe()):
        option = row["option"].replace("_", "-")
        assert f"| `--{option}` | `{row['value']}` | {row['allowed']} | {row['meaning']} |" in document
