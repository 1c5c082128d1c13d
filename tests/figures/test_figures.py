"""The figures: their contents, and whether those in imgs/ are up to date."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image

from dexpression.artifact.manifest import Manifest, export_paths
from dexpression.figures.model import (
    IMAGES,
    draw_accuracy,
    draw_confusion,
    draw_curves,
    draw_evidence,
    draw_reliability,
    draw_scores,
    identify_export,
)
from dexpression.figures.network import draw_feature_maps, draw_networks, layer_rows
from dexpression.network.architecture import DeXpression
from dexpression.reading import Prediction
from dexpression.settings import Settings
from tests.support.faces import draw_face


def description_of(name: str) -> str:
    """The facts that a figure was drawn from, which its metadata holds."""
    with Image.open(IMAGES / name) as image:
        return image.info["Description"]


def test_the_figure_of_the_networks_shows_the_current_modules():
    networks = layer_rows(DeXpression.paper(), 224) + layer_rows(DeXpression.compact(heads=2), 48)
    assert description_of("networks.png") == repr(networks), "Draw it again: python -m dexpression.figures.model"


@pytest.mark.parametrize(
    "name",
    [
        *("confusion_five.png", "confusion_seven.png", "reliability.png", "accuracy.png", "curves.png"),
        *("feature_maps.png", "why.png"),
    ],
)
def test_a_figure_of_the_model_shows_the_shipped_model(name):
    manifest = Manifest.read(export_paths(Settings.model_path).manifest)
    assert description_of(name) == identify_export(manifest), "Draw it again: python -m dexpression.figures.model"


def test_the_layers_of_the_paper_network_are_shown_with_their_output_shapes():
    rows = layer_rows(DeXpression.paper(), 224)
    assert rows[1:4] == [["conv 7x7 /2  64x112x112"], ["max 3x3 /2  64x56x56"], ["LRN  64x56x56"]]
    assert ["conv 1x1  96x56x56", "max 3x3 /1  64x56x56"] in rows
    assert rows[-1] == ["linear  11"]


def test_the_figure_of_accuracy_shows_each_reading_with_the_truth_that_it_is_compared_with():
    results = {"people": {"accuracy": 0.875, "n": 3_000}, "labels": {"accuracy": 0.71, "n": 3_500}}
    [axes] = draw_accuracy(10**6, results).axes
    places = [tuple(point) for points in axes.collections for point in points.get_offsets().tolist()]
    ours = {text.get_text(): text.xy for text in axes.texts if text.get_text().startswith("ours")}
    assert ours == {
        "ours, people against the FER+ majority\n(valid, n = 3,000)": (10**6, 87.5),
        "ours, labels against the labels\n(valid, n = 3,500)": (10**6, 71.0),
    }
    assert set(ours.values()) <= set(places)


@pytest.mark.parametrize("names", [["five", "seven"], ["own"]])
def test_the_scores_of_each_label_set_are_drawn(names, tmp_path, monkeypatch):
    monkeypatch.setattr("dexpression.figures.model.IMAGES", tmp_path)
    shipped = Manifest.read(export_paths(Settings.model_path).manifest)
    sets = dict.fromkeys(names, shipped.results["people"]["seven"])
    draw_scores(dataclasses.replace(shipped, results={"people": sets, "labels": sets}))
    drawn = {"reliability.png", *(f"confusion_{name}.png" for name in names)}
    drawn |= {"accuracy.png"} if "seven" in names else set()  # of other labels, no other network has scores
    assert {path.name for path in tmp_path.iterdir()} == drawn


@pytest.mark.slow
def test_every_figure_can_be_drawn(tmp_path: Path):
    result = {"labels": ["A", "B"], "confusion": [[3, 1], [0, 0]], "accuracy": 0.75, "n": 4}
    result |= {"reliability": [(1, 0.5, 0.0), (3, 0.8, 1.0)], "ece": 0.275}
    maps = draw_feature_maps(DeXpression.compact(), torch.rand(1, 1, 48, 48))
    curves = draw_curves(["train_loss", "valid_loss", "accuracy"], [[2.0, 1.9, 0.2], [1.5, 1.4, 0.4]])
    accuracy = draw_accuracy(10**6, {"people": result, "labels": result})
    explained = Prediction({"A": 0.7, "B": 0.3}, {"A": [[1.0, -1.0]], "B": [[-1.0, 1.0]]})
    evidence = draw_evidence(draw_face("HAPPY", 0), explained, "B")
    for number, figure in enumerate(
        [draw_networks(), maps, draw_confusion(result), draw_reliability(result), accuracy, curves, evidence]
    ):
        figure.savefig(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 5_000
