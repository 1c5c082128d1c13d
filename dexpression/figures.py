"""The figures that the README and the card show, drawn from the modules and the manifest themselves.

`python -m dexpression.figures` draws them into imgs/.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import nn

from dexpression.architecture import Convolution, DeXpression, FeatEx
from dexpression.artifact import Manifest, manifest_path
from dexpression.settings import Settings

COLOURS = {"convolution": "#cfe3f5", "pooling": "#f6dfc4", "other": "#e4e4e4", "classifier": "#d5ecd0"}
IMAGES = Path(__file__).parent.parent / "imgs"


def layer_rows(network: DeXpression, size: int) -> list[list[str]]:
    """What a face of `size` pixels passes through; two texts a row where a FeatEx block works side by side."""
    shapes: dict[nn.Module, str] = {}
    hooks = [
        module.register_forward_hook(lambda module, _, output: shapes.update({module: _spell(output.shape[1:])}))
        for module in network.modules()
    ]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 1, size, size, device=next(network.parameters()).device))
    for hook in hooks:
        hook.remove()
    rows = [[f"face  1x{size}x{size}"]]
    for module in [*network.stem, *network.blocks, *network.classifier]:  # type: ignore[misc]
        if isinstance(module, FeatEx):
            sides = ([*module.detail], [*module.context])
            rows += [[f"{_name(layer)}  {shapes[layer]}" for layer in pair] for pair in zip(*sides, strict=True)]
            rows.append([f"concat  {shapes[module]}"])
        elif (name := _name(module)) is not None:
            rows.append([f"{name}  {shapes[module]}"])
    return rows


def draw_networks() -> Figure:
    """The paper's network and the compact one, top to bottom."""
    drawn = [("The paper's network", DeXpression.paper(), 224), ("The compact network", DeXpression.compact(), 48)]
    rows = [layer_rows(network, size) for _, network, size in drawn]
    figure = Figure(figsize=(11, 0.42 * max(map(len, rows)) + 0.8), layout="constrained")
    for axes, (title, network, _), lines in zip(figure.subplots(1, 2), drawn, rows, strict=True):
        weights = sum(weight.numel() for weight in network.parameters())
        axes.set_title(f"{title}: {weights:,} weights", fontsize=11)
        _draw_rows(axes, lines, max(map(len, rows)))
    return figure


def draw_confusion(result: dict[str, Any]) -> Figure:
    """Share of the answers to each true label, from `Evaluation.to_dict()`."""
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
    axes.set_xlabel("answered")
    axes.set_ylabel("true label")
    axes.set_title(f"{result['accuracy']:.1%} of {result['n']:,} right", fontsize=10)
    return figure


def draw_curves(names: Sequence[str], values: Sequence[Sequence[float]]) -> Figure:
    """Losses and accuracy by epoch, from fastai's recorder (`metric_names` without epoch and time, `values`)."""
    columns = dict(zip(names, zip(*values, strict=True), strict=True))
    epochs = range(1, len(values) + 1)
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    losses, accuracy = figure.subplots(1, 2)
    losses.plot(epochs, columns["train_loss"], label="train (augmented, smoothed)")
    losses.plot(epochs, columns["valid_loss"], label="valid (averaged weights)")
    losses.set(xlabel="epoch", ylabel="loss")
    losses.legend()
    accuracy.plot(epochs, columns["accuracy"], color="tab:orange")
    accuracy.set(xlabel="epoch", ylabel="accuracy on valid")
    accuracy.grid(alpha=0.3)
    return figure


def _spell(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _name(layer: nn.Module) -> str | None:
    """What a layer is called in the figure; None for those that change neither shape nor meaning."""
    if isinstance(layer, Convolution):
        convolution = layer[0]
        assert isinstance(convolution, nn.Conv2d)  # noqa: S101  # for the type checker
        stride = f" /{convolution.stride[0]}" if convolution.stride[0] > 1 else ""
        norm = " + BN" if len(layer) > 2 else ""
        return f"conv {_spell(convolution.kernel_size)}{stride}{norm}"
    if isinstance(layer, nn.MaxPool2d):
        return f"max {layer.kernel_size}x{layer.kernel_size} /{layer.stride}"
    names = {nn.LocalResponseNorm: "LRN", nn.AdaptiveAvgPool2d: "global average", nn.Linear: "linear"}
    return names.get(type(layer))


def _colour(text: str) -> str:
    kinds = {"conv ": "convolution", "max ": "pooling", "global": "pooling", "linear": "classifier"}
    return COLOURS[next((kind for start, kind in kinds.items() if text.startswith(start)), "other")]


def _draw_rows(axes: Axes, rows: Sequence[Sequence[str]], height: int) -> None:
    axes.set(xlim=(0, 2), ylim=(-height, 0.2))
    axes.axis("off")
    for number, row in enumerate(rows):
        width = 1.8 / len(row)
        for place, text in enumerate(row):
            corner = (0.1 + place * width + 0.02, -number - 0.82)
            box = FancyBboxPatch(corner, width - 0.04, 0.64, boxstyle="round,pad=0.01", fc=_colour(text), ec="#888888")
            axes.add_patch(box)
            axes.text(corner[0] + width / 2, -number - 0.5, text, ha="center", va="center", fontsize=8)


def _save(figure: Figure, name: str, facts: str) -> None:
    """With the facts that it was drawn from in its metadata, by which a test tells whether it went stale."""
    figure.savefig(IMAGES / name, dpi=110, metadata={"Description": facts, "Software": ""})


def main() -> None:
    """Draw every figure into imgs/."""
    mpl.rcParams["font.family"] = "DejaVu Sans"
    networks = layer_rows(DeXpression.paper(), 224) + layer_rows(DeXpression.compact(), 48)
    _save(draw_networks(), "networks.png", repr(networks))
    manifest = Manifest.read(manifest_path(Settings.model_path))
    for name in ("five", "seven"):
        _save(draw_confusion(manifest.results[name]), f"confusion_{name}.png", manifest.sha256)


if __name__ == "__main__":
    main()
