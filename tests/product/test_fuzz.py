"""A short run of every fuzz target, that they work and nothing is found at once; `pipenv run fuzz` is the long one."""

from __future__ import annotations

import pytest

from tests.support.fuzz import SHARES, fuzz

pytest.importorskip("atheris", reason="atheris has wheels for Linux on x86-64 alone")


def test_some_thousand_inputs_are_withstood():
    lines = fuzz(inputs=6_000, seconds=120)
    assert [line.partition(":")[0] for line in lines] == list(SHARES)
