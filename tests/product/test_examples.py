"""The examples of the OpenAPI document, compared with what a real server answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dexpression.web.openapi import EXAMPLES
from tests.support.documents import comparable
from tests.support.examples import record_examples


@pytest.fixture(scope="module")
def recorded(light_shipped: Path) -> dict[str, object]:
    return record_examples(light_shipped)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["answers", "problems"])
def test_the_recorded_examples_are_what_the_server_answers(kind, recorded):
    committed = json.loads(EXAMPLES.read_text())[kind]
    assert comparable(json.dumps(recorded[kind])) == comparable(json.dumps(committed)), "Run pipenv run examples."
