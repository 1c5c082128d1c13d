"""Accuracy by the number of training images: `pipenv run python -W ignore -m benchmarks.few_images fer2013`.

Draws faces of FER2013's train split, trains on them from the shipped weights and from scratch, and scores every model
on faces of valid that no run saw. It takes about two hours, continues after a stop, and draws imgs/few-images.png.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from matplotlib.figure import Figure

from dexpression.labels import LABELS_READING
from dexpression.network.inference import torch_backend
from dexpression.prediction import FaceClassifier, load_classifier
from dexpression.shipped import default_model_path
from dexpression.training.crops import FaceCropper
from dexpression.training.evaluation import evaluate
from dexpression.training.face_set import Face
from dexpression.training.fitting import create_learner, fit, prepare_split
from dexpression.training.recipe import Recipe
from dexpression.training.sources import read_faces

IMAGES = Path(__file__).parents[1] / "imgs"
OWN, TWO = "FER2013's seven labels", "two labels of other names"
STARTED, SCRATCH, SHIPPED = "from the shipped weights", "from scratch", "the shipped model"
WAYS = {OWN: (STARTED, SCRATCH), TWO: (STARTED,)}
COLOURS = {STARTED: "tab:blue", SCRATCH: "tab:orange"}
PLEASANT = "HAPPY", "SURPRISE", "NEUTRAL"
TESTED = 2_500  # faces of valid that no run sees
SIZES = (100, 300, 1_000, 5_000)
SEEDS = (0, 1, 2)


class Trial(NamedTuple):
    """One training run on `images` faces, drawn with `seed`."""

    task: str
    way: str
    images: int
    seed: int


def main() -> None:
    """Run the trials that are not in the file of results, then print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="FER2013, in folders or as fer2013.csv")
    parser.add_argument("--results", type=Path, default=Path("runs/few-images.jsonl"), help="one line per trial")
    options = parser.parse_args()
    found = read_faces(options.data, FaceCropper(Recipe().image_size))
    train, valid = (list(found.of_split(split).faces) for split in ("train", "valid"))
    random.Random(0).shuffle(valid)
    accuracies = _read(options.results)
    for trial in _trials():
        if trial not in accuracies:
            start = time.perf_counter()
            accuracies[trial] = _measure(trial, train, valid)
            line = {**trial._asdict(), "accuracy": accuracies[trial], "seconds": round(time.perf_counter() - start)}
            with options.results.open("a") as file:
                print(json.dumps(line), file=file)
            print(line, flush=True)
    print(_table(accuracies))
    _plot(accuracies).savefig(IMAGES / "few-images.png", dpi=150)


def _trials() -> Iterator[Trial]:
    yield Trial(OWN, SHIPPED, 0, 0)
    for seed in SEEDS:
        for images in SIZES:
            yield Trial(OWN, STARTED, images, seed)
            yield Trial(TWO, STARTED, images, seed)
    for seed in SEEDS:
        for images in SIZES[:-1]:
            yield Trial(OWN, SCRATCH, images, seed)
    yield Trial(OWN, SCRATCH, SIZES[-1], 0)  # three quarters of an hour


def _read(results: Path) -> dict[Trial, float]:
    results.parent.mkdir(parents=True, exist_ok=True)
    lines = map(json.loads, results.read_text().splitlines() if results.exists() else ())
    return {Trial(*(line[name] for name in Trial._fields)): line["accuracy"] for line in lines}


def _measure(trial: Trial, train: Sequence[Face], valid: Sequence[Face]) -> float:
    """The accuracy of the trial's model, 0..1, by the reading `labels`, on the faces of valid that no run sees."""
    change = _merge if trial.task == TWO else lambda face: face
    tested = [change(face) for face in valid[-TESTED:]]
    labels = sorted({face.label for face in tested})
    if trial.way == SHIPPED:
        classifier, _ = load_classifier(default_model_path())
    else:
        drawn = _draw_faces(train, trial.images, trial.seed)
        classifier = _train(trial, [change(face) for face in drawn], change, valid)
    return evaluate(classifier, tested, labels, LABELS_READING).accuracy


def _draw_faces(train: Sequence[Face], images: int, seed: int) -> Sequence[Face]:
    """Draw faces, and draw again while a label has none."""
    generator, labels = random.Random(seed), {face.label for face in train}
    while True:
        drawn = generator.sample(train, images)
        if {face.label for face in drawn} == labels:
            return drawn


def _merge(face: Face) -> Face:
    return dataclasses.replace(face, label="PLEASANT" if face.label in PLEASANT else "UNPLEASANT")


def _train(
    trial: Trial, train: Sequence[Face], change: Callable[[Face], Face], valid: Sequence[Face]
) -> FaceClassifier:
    """Train as `dexpression train` does on this many images, a tenth of which are for validation (at least 20)."""
    recipe = Recipe(seed=trial.seed, votes=0.0, from_scratch=trial.way == SCRATCH)
    validated = [change(face) for face in valid[: max(20, len(train) // 10)]]
    with tempfile.TemporaryDirectory() as runs:
        dataloaders, recipe = prepare_split(train, validated, recipe, Path(runs))
        learner = create_learner(dataloaders, recipe)
        with learner.no_bar(), learner.no_logging():
            fit(learner, recipe, Path(runs))
    vocabulary = list(dataloaders.vocab)
    return FaceClassifier(torch_backend(learner), vocabulary, recipe.image_size, list(learner.loss_func.readouts))


def _table(accuracies: dict[Trial, float]) -> str:
    """A row per task and way, a column per number of images: the mean over seeds, the lowest and the highest."""
    lines = [f"| task | way | {' | '.join(f'{images:,}' for images in SIZES)} |", "|---|---|" + "---|" * len(SIZES)]
    for task in (OWN, TWO):
        for way in WAYS[task]:
            cells = [_cell(_seeds(accuracies, task, way, images)) for images in SIZES]
            lines.append(f"| {task} | {way} | {' | '.join(cells)} |")
    shipped = accuracies[Trial(OWN, SHIPPED, 0, 0)]
    return "\n".join([*lines, f"{SHIPPED}, on the same {TESTED:,} faces: {shipped:.1%}"])


def _seeds(accuracies: dict[Trial, float], task: str, way: str, images: int) -> list[float]:
    return [accuracy for trial, accuracy in accuracies.items() if trial[:3] == (task, way, images)]


def _cell(values: Sequence[float]) -> str:
    spread = f" ({min(values):.1%} to {max(values):.1%})" if len(values) > 1 else ""
    return f"{mean(values):.1%}{spread}"


def _plot(accuracies: dict[Trial, float]) -> Figure:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, task in zip(panels, (OWN, TWO), strict=True):
        for way in WAYS[task]:
            colour = COLOURS[way]
            seeds = [_seeds(accuracies, task, way, images) for images in SIZES]
            middle = [100 * mean(values) for values in seeds]
            low, high = ([100 * end(values) for values in seeds] for end in (min, max))
            axes.plot(SIZES, middle, marker="o", color=colour, label=way)
            axes.fill_between(SIZES, low, high, color=colour, alpha=0.2, linewidth=0)
        if task == OWN:
            shipped = 100 * accuracies[Trial(OWN, SHIPPED, 0, 0)]
            axes.axhline(shipped, color="grey", linestyle="--", linewidth=1, label=SHIPPED)
        axes.set(xscale="log", title=task, xlabel="training images", ylabel="accuracy on valid, %")
        axes.set_xticks(SIZES, [f"{images:,}" for images in SIZES])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize=8)
    return figure


if __name__ == "__main__":
    main()
