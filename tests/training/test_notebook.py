"""The notebook runs from the first cell to the last, and its committed copy shows no face and no path."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dexpression.prediction import Predictor
from dexpression.training.recipe import Recipe
from tests.support.faces import write_votes

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "train.ipynb"


@pytest.fixture(scope="module")
def cells() -> list[dict[str, object]]:
    return json.loads(NOTEBOOK.read_text())["cells"]


def table_below(cells: list[dict[str, object]], text: str) -> str:
    """The HTML table below the cell that has this text in its source."""
    [table] = [
        "".join(output["data"]["text/html"])
        for cell in cells
        for output in cell.get("outputs", [])
        if text in "".join(cell["source"]) and output["output_type"] == "execute_result"
    ]
    return table


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_the_notebook_trains_and_exports_a_model_that_loads(split_folders, tmp_path):
    write_votes(split_folders / "fer2013new.csv", None, 1070)
    parameters = {
        "data": str(split_folders),
        "options": {"labels": "five", "epochs": 1, "batch_size": 8},
        "output": str(tmp_path / "model"),
        "runs": str(tmp_path / "runs"),
        "server": "http://localhost:9",  # no server answers there
        "show_pictures": True,
    }
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--cwd",
        str(NOTEBOOK.parent),
        "-y",
        json.dumps(parameters),
    ]  # JSON is YAML
    finished = subprocess.run([*command, str(NOTEBOOK), str(tmp_path / "run.ipynb")], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert len(Predictor.load(tmp_path / "model").classifier.labels) == 5
    assert "No server answers" in (tmp_path / "run.ipynb").read_text()
    table = table_below(json.loads((tmp_path / "run.ipynb").read_text())["cells"], "worst = ")
    mistakes = re.findall(r"<td>valid/.*</td>\s*<td>(.*)</td>\s*<td>(.*)</td>", table)  # label, prediction
    assert mistakes
    assert all(label != predicted for label, predicted in mistakes)


def test_the_committed_notebook_shows_every_option_of_its_run(cells):
    table = table_below(cells, "describe_recipe(")
    [options] = re.findall(r"^options = (\{.*?\})", "".join(cells[1]["source"]), re.MULTILINE)
    for name, value in vars(Recipe(**ast.literal_eval(options))).items():
        assert f"<th>{name}</th>\n      <td>{value}</td>" in table


def test_the_committed_notebook_has_outputs_without_counters_and_errors(cells):
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] is None for cell in code)
    assert any(cell["outputs"] for cell in code)
    assert not any(output["output_type"] == "error" for cell in code for output in cell["outputs"])


def test_the_committed_notebook_shows_no_path_of_a_machine(cells):
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not any(output.get("name") == "stderr" for output in outputs)  # warnings name the file that raises them
    assert "site-packages" not in json.dumps(outputs)


def test_the_committed_notebook_shows_its_curves_and_no_face(cells):
    text = "".join("".join(cell["source"]) for cell in cells)
    assert "show_pictures = False" in text
    pictures = [cell for cell in cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    assert {"".join(cell["source"]).split("(")[0] for cell in pictures} == {
        "draw_curves",
        "draw_confusion",
    }
