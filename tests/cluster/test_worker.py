"""A process that labels is replaced when a file ends it or takes too long, and the file costs one row."""

from __future__ import annotations

import time

import pytest

from dexpression.cluster import worker as worker_module
from dexpression.cluster.rows import Problem, Row
from dexpression.cluster.source import Entry
from dexpression.cluster.worker import Stopped, Worker
from dexpression.errors import StartError
from tests.support.labelling import act_by_name, never_ready


def label(folder, *names: str) -> list[object]:
    worker = Worker(folder, act_by_name)
    try:
        return list(worker.label([Entry(name) for name in names]))
    finally:
        worker.stop()


@pytest.mark.slow
def test_a_file_that_ends_its_process_each_time_costs_one_row(tmp_path):
    first, error, last = label(tmp_path, "a", "die", "b")
    message = "Reading the file ends the process that reads it. Save a picture anew as JPEG or PNG, and a film as MP4."
    assert (first, last) == ("a", "b")
    assert error == Row("die", error=Problem("worker_died", message))


@pytest.mark.slow
def test_a_process_that_another_program_kills_costs_nothing(tmp_path):
    assert label(tmp_path, "a", "die once", "b") == ["a", "die once", "b"]


@pytest.mark.slow
def test_a_film_that_is_read_anew_gives_each_row_once_and_one_that_ends_its_process_keeps_what_was_read(tmp_path):
    minutes = ["minute 1", "minute 2"]
    assert label(tmp_path, "film: die once", "b") == [*minutes, "die once", "b"]
    *before, error, last = label(tmp_path, "film: die", "b")
    assert (before, error.path, error.error.code, last) == (minutes, "film: die", "worker_died", "b")


@pytest.mark.slow
def test_a_file_that_takes_for_ever_costs_one_row(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_module, "FILE_SECONDS", 0.2)
    monkeypatch.setattr(worker_module, "TRIES", 1)
    error, row = label(tmp_path, "hang", "b")
    assert (error.path, error.error.code, row) == ("hang", "worker_hung", "b")


@pytest.mark.slow
def test_a_process_that_cannot_start_is_an_error_of_the_run_and_of_no_file():
    with pytest.raises(StartError, match="cannot start"):
        list(Worker(bytes(10_000_000), never_ready).label([Entry("a")]))


@pytest.mark.slow
def test_a_worker_that_is_stopped_ends_its_process(tmp_path):
    worker = Worker(tmp_path, act_by_name)
    rows = worker.label([Entry("a"), Entry("hang")])
    assert next(rows) == "a"
    started = time.monotonic()
    worker.stop()
    with pytest.raises(Stopped):
        next(rows)
    assert time.monotonic() - started < 30
