"""A short run of every fuzz target; `pipenv run fuzz` is the long one."""

from __future__ import annotations

import pytest

from tests.support.fuzz import SHARES, fuzz

pytest.importorskip("atheris", reason="atheris has wheels only for Linux on x86-64")
pytestmark = pytest.mark.slow


def test_no_target_fails_for_some_thousand_inputs():
    lines = fuzz(inputs=6_000, seconds=120)
    assert [line.partition(":")[0] for line in lines] == list(SHARES)
