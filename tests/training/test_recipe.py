"""A recipe accepts only values in range, describes itself, and records its options as JSON takes them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from dexpression.artifact.manifest import Manifest, export_paths
from dexpression.errors import RecipeError
from dexpression.training.recipe import IMAGE_SIZES, Recipe, describe_recipe
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
        ("teachers", 0, "1 to 100"),
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
        ("labels", "five or seven or eight"),
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


def test_facts_are_all_options_as_json_takes_them():
    facts = Recipe(epochs=5).facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts == {field.name: field.default for field in dataclasses.fields(Recipe)} | {"epochs": 5}


def test_facts_record_the_digest_of_the_start_wherever_it_lies(exported_learner, model):
    digests = {Recipe(start=start).facts()["start"] for start in (exported_learner, model, model.parent)}
    assert digests == {Manifest.read(export_paths(model).manifest).sha256}


def test_a_start_given_as_text_becomes_a_path():
    assert Recipe(start="model/mine.pkl").start == Path("model", "mine.pkl")


def test_the_description_has_a_row_for_each_option_with_its_value_range_and_meaning():
    rows = describe_recipe(Recipe(epochs=5))
    assert [row["option"] for row in rows] == [field.name for field in dataclasses.fields(Recipe)]
    by_option = {row["option"]: row for row in rows}
    assert (by_option["epochs"]["value"], by_option["epochs"]["allowed"]) == ("5", "1 to 10000")
    assert by_option["labels"]["allowed"] == "five or seven or eight"
    assert all(row["meaning"] for row in rows)


def test_the_table_of_the_documents_has_every_option_with_its_default_range_and_meaning():
    document = (ROOT / "docs" / "training.md").read_text()
    for row in describe_recipe(Recipe()):
        option, value = row["option"].replace("_", "-"), row["value"].replace("None", "none")
        assert f"| `--{option}` | `{value}` | {row['allowed'] or 'path'} | {row['meaning']} |" in document
