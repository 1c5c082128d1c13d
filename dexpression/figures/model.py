"""Draw the figures of the README and of the model card from the shipped model and its manifest.

`python -m dexpression.figures.model` writes them into imgs/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from fastai.learner import Learner
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image
from torch import Tensor

from dexpression.annotation import AGAINST, FOR, colour_evidence
from dexpression.artifact.export import load_exported
from dexpression.artifact.manifest import Manifest
from dexpression.figures.network import draw_feature_maps, draw_networks, layer_rows
from dexpression.labels import LABELS_READING, PEOPLE_READING, ReadingName
from dexpression.network.architecture import DeXpression
from dexpression.prediction import Predictor
from dexpression.reading import Prediction
from dexpression.settings import Settings

# Other single networks: name, number of weights, accuracy on FER2013's PrivateTest in per cent.
PEERS = [
    ("mini_XCEPTION", 58e3, 66.1),
    ("big_XCEPTION", 209e3, 66.5),
    ("face-api.js", 324e3, 58.7),
    ("best published, 3 M", 3.1e6, 71.5),
    ("best published, 11 M", 11e6, 73.7),
]
TRUTHS = {PEOPLE_READING: "people against the FER+ majority", LABELS_READING: "labels against the labels"}
EVIDENCE_WORDS = [(FOR, "speaks for the label"), (AGAINST, "speaks against it")]
IMAGES = Path(__file__).parents[2] / "imgs"


def draw_confusion(result: dict[str, Any]) -> Figure:
    """Draw a confusion matrix, each row as shares of its true label; `result` is an `Evaluation.to_dict()`."""
    labels, counts = result["labels"], np.array(result["confusion"])
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    figure = Figure(figsize=(1.2 + 0.75 * len(labels), 1 + 0.65 * len(labels)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{share:.2f}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_xlabel("predicted label")
    axes.set_ylabel("true label")
    axes.set_title(f"accuracy {result['accuracy']:.1%}, n = {result['n']:,}", fontsize=10)
    return figure


def draw_curves(columns: Sequence[str], epochs: Sequence[Sequence[float]]) -> Figure:
    """Draw losses and accuracy by epoch, from a manifest's history: `columns` names the values of each epoch."""
    curves = dict(zip(columns, zip(*epochs, strict=True), strict=True))
    numbers = range(1, len(epochs) + 1)
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    losses, accuracy = figure.subplots(1, 2)
    losses.plot(numbers, curves["train_loss"], label="train (augmented)")
    losses.plot(numbers, curves["valid_loss"], label="valid (averaged weights)")
    losses.set(xlabel="epoch", ylabel="loss")
    losses.legend()
    accuracy.plot(numbers, curves["accuracy"], color="tab:orange")
    accuracy.set(xlabel="epoch", ylabel="accuracy on valid")
    accuracy.grid(alpha=0.3)
    return figure


def draw_reliability(result: dict[str, Any]) -> Figure:
    """Draw accuracy against confidence, from an `Evaluation.to_dict()`; a calibrated model lies on the dashed line."""
    count, confidence, accuracy = np.array(result["reliability"]).T
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    axes.plot(confidence, accuracy, color="tab:blue")
    axes.scatter(confidence, accuracy, s=600 * count / count.sum(), color="tab:blue", alpha=0.6)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence (area: number of predictions)", ylabel="accuracy")
    axes.set_title(
        f"{len(result['labels'])} labels, n = {result['n']:,}, calibration error {result['ece']:.3f}", fontsize=10
    )
    return figure


def draw_conditions(result: dict[str, Any]) -> Figure:
    """Draw the accuracy under each condition with its 95 % interval, from a `Robustness.to_dict()`."""
    shares = {"as they are": result["clean"], **result["conditions"]}
    accuracy, lower, upper = (
        np.array([share[name] for share in shares.values()]) for name in ("share", "lower", "upper")
    )
    rows = np.arange(len(shares))[::-1]
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.barh(rows, accuracy, xerr=[accuracy - lower, upper - accuracy], color="tab:blue", alpha=0.7, ecolor="black")
    for row, share in zip(rows, accuracy, strict=True):
        axes.text(0.01, row, f"{share:.1%}", va="center", color="white", fontsize=8)
    axes.axvline(result["mean"], color="grey", linestyle="--", linewidth=1)
    axes.set_yticks(rows, list(shares), fontsize=8)
    axes.set(xlim=(0, 1), xlabel="accuracy (dashed: mean of the conditions)")
    axes.set_title(f"The same {result['clean']['n']:,} faces under each condition", fontsize=10)
    return figure


def draw_accuracy(weights: int, results: dict[ReadingName, dict[str, Any]]) -> Figure:
    """Draw the accuracy on seven labels against the number of weights: our network and its peers.

    `results` has an `Evaluation.to_dict()` for each reading; each is compared with its own truth.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, size, accuracy in PEERS:
        axes.scatter(size, accuracy, color="tab:grey")
        axes.annotate(name, (size, accuracy), xytext=(6, -3), textcoords="offset points", fontsize=8)
    for reading, result in results.items():
        place = (weights, 100 * result["accuracy"])
        axes.scatter(*place, color="tab:blue")
        ours = f"ours, {TRUTHS[reading]}\n(valid, n = {result['n']:,})"
        axes.annotate(ours, place, xytext=(-6, 0), textcoords="offset points", fontsize=8, ha="right", va="center")
    axes.set(xscale="log", xlim=(3e4, 1e8), xlabel="weights", ylabel="accuracy on seven labels of FER2013, %")
    axes.set_title("Grey: other networks on PrivateTest, which is a little easier than valid", fontsize=9)
    axes.grid(alpha=0.3)
    return figure


def draw_evidence(face: Image.Image, prediction: Prediction, other: str) -> Figure:
    """Draw a face beside what speaks for its label, and for and against another one; it is the square of the maps."""
    assert prediction.evidence  # noqa: S101  # for the type checker
    label, maps = prediction.emotion, prediction.evidence
    panels = [
        (f"{label} {prediction.confidence:.0%}", face),
        (f"Why {label}?", colour_evidence(face, maps[label])),
        (f"Why not {other}?", colour_evidence(face, maps[other])),
    ]
    figure = Figure(figsize=(4.9, 2.2), layout="constrained")
    for axes, (title, picture) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.imshow(picture)
        axes.set_axis_off()
        axes.set_title(title, fontsize=10)
    patches = [Patch(color="#{:02x}{:02x}{:02x}".format(*colour), label=words) for colour, words in EVIDENCE_WORDS]
    figure.legend(handles=patches, loc="outside lower center", ncols=2, fontsize=10, frameon=False)
    return figure


def identify_export(manifest: Manifest) -> str:
    """The digest of the weights and the time of the export: a new calibration keeps the weights, but not the scores."""
    return f"{manifest.sha256} {manifest.created}"


def _save(figure: Figure, name: str, facts: str) -> None:
    """Write a figure into imgs/. `facts` identify its source in the metadata, so that a test notices an old figure."""
    figure.savefig(IMAGES / name, dpi=110, metadata={"Description": facts, "Software": ""})


def main() -> None:
    """Draw every figure into imgs/."""
    mpl.rcParams["font.family"] = "DejaVu Sans"
    networks = layer_rows(DeXpression.paper(), 224) + layer_rows(DeXpression.compact(heads=2), 48)
    _save(draw_networks(), "networks.png", repr(networks))
    learner, manifest = load_exported(Settings.model_path)
    export = identify_export(manifest)
    draw_scores(manifest)
    _save(draw_curves(**manifest.history), "curves.png", export)
    _save(draw_feature_maps(learner.model, _public_face(learner)), "feature_maps.png", export)
    _save(draw_evidence(*_explained_face(), "NEUTRAL"), "why.png", export)


def draw_scores(manifest: Manifest) -> None:
    """Draw the scores of the default reading, for each label set that the model knows, and of all readings."""
    export = identify_export(manifest)
    results = manifest.results[manifest.readings[0]]
    for name, result in results.items():
        _save(draw_confusion(result), f"confusion_{name}.png", export)
    _save(draw_reliability(list(results.values())[-1]), "reliability.png", export)  # of the largest label set
    if manifest.results.get("conditions"):
        _save(draw_conditions(manifest.results["conditions"]), "conditions.png", export)
    sevens = {reading: sets["seven"] for reading in manifest.readings if "seven" in (sets := manifest.results[reading])}
    if sevens:  # other labels cannot be compared with other networks
        _save(draw_accuracy(manifest.network["weights"], sevens), "accuracy.png", export)


def _public_face(learner: Learner) -> Tensor:
    """One face (1, 1, H, W), as the network takes it."""
    crop = _portrait().crop((166, 69, 278, 181))
    face: Tensor = learner.dls.test_dl([crop]).one_batch()[0].as_subclass(Tensor)
    return face


def _explained_face() -> tuple[Image.Image, Prediction]:
    """The square of one face as the ONNX model sees it, enlarged, and its prediction with evidence."""
    portrait = _portrait()
    [face] = Predictor.load(Settings.model_path).predict(portrait, explain=True).faces
    assert face.crop  # noqa: S101  # for the type checker
    return portrait.resize((440, 440), Image.Resampling.BICUBIC, box=astuple(face.crop)), face.prediction


def _portrait() -> Image.Image:
    """Eileen Collins, astronaut (NASA, public domain)."""
    from skimage.data import astronaut

    return Image.fromarray(astronaut())  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
