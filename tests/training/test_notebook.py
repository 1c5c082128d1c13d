"""The notebook runs from the first cell to the last, and what is committed of it shows no face."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dexpression.prediction import Predictor
from tests.support.faces import write_votes

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "train.ipynb"


@pytest.fixture(scope="module")
def cells() -> list[dict[str, object]]:
    return json.loads(NOTEBOOK.read_text())["cells"]


def test_the_notebook_trains_and_exports_a_model_that_loads(split_folders, tmp_path, exported_learner):
    write_votes(split_folders / "fer2013new.csv", None, 1070)
    parameters = {
        "data": split_folders,
        "labels": "five",
        "epochs": 1,
        "student_epochs": 1,
        "batch_size": 8,
        "output": tmp_path / "model",
        "runs": tmp_path / "runs",
        "server": "http://localhost:9",  # where no server answers, which the notebook must bear
        "show_pictures": True,
    }
    given = [text for name, value in parameters.items() for text in ("-p", name, str(value))]
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--cwd",
        str(NOTEBOOK.parent),
        str(NOTEBOOK),
        str(tmp_path / "run.ipynb"),
    ]
    finished = subprocess.run([*command, *given], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert len(Predictor.load(tmp_path / "model").classifier.labels) == 5
    assert "No server answers" in (tmp_path / "run.ipynb").read_text()


def test_the_committed_notebook_was_run_and_its_counters_were_cleared(cells):
    run = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] is None for cell in run)
    assert any(cell["outputs"] for cell in run)
    assert not any(output["output_type"] == "error" for cell in run for output in cell["outputs"])


def test_the_committed_notebook_shows_no_path_of_the_machine_that_ran_it(cells):
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not any(output.get("name") == "stderr" for output in outputs)  # warnings name the file that they come from
    assert "site-packages" not in json.dumps(outputs)


def test_the_committed_notebook_shows_its_curves_and_no_face(cells):
    text = "".join("".join(cell["source"]) for cell in cells)
    assert "show_pictures = False" in text
    pictures = [cell for cell in cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    assert {"".join(cell["source"]).split("(")[0] for cell in pictures} == {
        "learner.lr_find",
        "draw_curves",
        "draw_confusion",
    }
