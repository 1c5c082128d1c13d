"""Log lines as text and as JSON, and what never is in one."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator

import pytest

from dexpression.logs import ThrottledLogger, start_logging

SECRET = "what a stranger sent"


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("dexpression")
    before = root.handlers[:], root.level, own.level
    logging.captureWarnings(False)  # if a test before has left it on, it would not be switched on again
    with warnings.catch_warnings():
        yield
    logging.captureWarnings(False)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    own.setLevel(before[2])


def log_everything() -> None:
    logging.getLogger("dexpression.web").warning("ours")
    logging.getLogger("waitress").warning("Client disconnected while serving %s", SECRET)
    logging.getLogger("PIL.PngImagePlugin").error(f"bad chunk {SECRET}")
    warnings.warn(SECRET, stacklevel=1)
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise ValueError(SECRET) from error
    except ValueError:
        logging.getLogger("dexpression").exception("failed")


def test_each_json_line_is_an_object_with_a_time_whatever_other_packages_log(capsys):
    start_logging("json")
    warnings.simplefilter("always")
    log_everything()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert len(lines) == 5
    assert all(line["time"].endswith("Z") for line in lines)
    assert "ValueError" in lines[-1]["exception"]
    assert "KeyError" in lines[-1]["exception"]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_nothing_that_was_sent_is_in_a_line(capsys, log_format):
    start_logging(log_format)
    warnings.simplefilter("always")
    log_everything()
    text = capsys.readouterr().err
    assert SECRET not in text.replace(f"raise KeyError({SECRET!r})", "")
    assert "waitress" in text


def test_a_text_line_begins_with_its_time(capsys):
    start_logging("text")
    logging.getLogger("dexpression").info("ready")
    line = capsys.readouterr().err
    assert line.endswith("Z ready\n")
    assert line.startswith("20")


def test_the_level_decides_what_is_logged(capsys):
    for level, expected in (("WARNING", ""), ("DEBUG", "a\nb\n")):
        start_logging("plain", level)
        logging.getLogger("dexpression.access").debug("a")
        logging.getLogger("dexpression.access").info("b")
        assert capsys.readouterr().err == expected


def test_what_happens_often_is_logged_rarely(caplog, monkeypatch):
    rarely = ThrottledLogger(logging.getLogger("dexpression.test"))
    for _ in range(1000):
        rarely.warning("again")
    monkeypatch.setattr("time.monotonic", lambda: float("inf"))
    rarely.warning("again")
    assert caplog.messages == ["again"] * 2
