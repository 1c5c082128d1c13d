"""Draw the layers of a network, and the feature maps that they compute from a face, from the modules themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn

from dexpression.network.architecture import Convolution, DeXpression, FeatEx, ResidualFeatEx

COLOURS = {"convolution": "#cfe3f5", "pooling": "#f6dfc4", "other": "#e4e4e4", "classifier": "#d5ecd0"}


def layer_rows(network: DeXpression, size: int) -> list[list[str]]:
    """Describe each layer and its output shape, for a face of `size` x `size` pixels, from input to output.

    A row has one text, or two for the parallel sides of a FeatEx block.
    """
    shapes: dict[nn.Module, str] = {}
    hooks = [
        module.register_forward_hook(lambda module, _, output: shapes.update({module: _format_shape(output.shape[1:])}))
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
            rows.append([f"{_name_join(module)}  {shapes[module]}"])
        elif (name := _name(module)) is not None:
            rows.append([f"{name}  {shapes[module]}"])
    return rows


def draw_networks() -> Figure:
    """Draw the layers of the paper's network and of the compact one, top to bottom, next to each other."""
    drawn = [
        ("The paper's network", DeXpression.paper(), 224),
        ("The compact network", DeXpression.compact(heads=2), 48),
    ]
    rows = [layer_rows(network, size) for _, network, size in drawn]
    figure = Figure(figsize=(11, 0.42 * max(map(len, rows)) + 0.8), layout="constrained")
    for axes, (title, network, _), lines in zip(figure.subplots(1, 2), drawn, rows, strict=True):
        weights = sum(weight.numel() for weight in network.parameters())
        axes.set_title(f"{title}: {weights:,} weights", fontsize=11)
        _draw_rows(axes, lines, max(map(len, rows)))
    return figure


def draw_feature_maps(network: DeXpression, face: Tensor, shown: int = 12) -> Figure:
    """Draw the first `shown` maps of each stage for one face (1, 1, H, W): a row a stage, as the paper's figure 2."""
    stages: list[tuple[str, Tensor]] = [("face", face)]
    with torch.no_grad():
        for name, part in (("stem", network.eval().stem), ("block", network.blocks)):
            for layer in part:  # type: ignore[attr-defined]
                maps = layer(stages[-1][1])
                stages.append((f"{_name(layer) or name} {_format_shape(maps.shape[1:])}", maps))
    figure = Figure(figsize=(shown * 0.8 + 1.6, len(stages) * 0.85), layout="constrained")
    for row, (title, maps) in zip(figure.subplots(len(stages), shown), stages, strict=True):
        for place, axes in enumerate(row):
            axes.axis("off")
            if place < maps.shape[1]:
                axes.imshow(maps[0, place].numpy(), cmap="gray")
        row[0].set_title(title, fontsize=7, loc="left")
    return figure


def _format_shape(shape: Sequence[int]) -> str:
    """Join the sizes: (64, 56, 56) -> 64x56x56."""
    return "x".join(map(str, shape))


def _name(layer: nn.Module) -> str | None:
    """The name of a layer in the figure; None for a layer that the figure leaves out, such as ReLU or dropout."""
    if isinstance(layer, Convolution):
        return f"{_name(layer[0])}{' + BN' if len(layer) > 2 else ''}"
    if isinstance(layer, nn.Conv2d):
        stride = f" /{layer.stride[0]}" if layer.stride[0] > 1 else ""
        return f"conv {_format_shape(layer.kernel_size)}{stride}"
    if isinstance(layer, nn.MaxPool2d):
        return f"max {layer.kernel_size}x{layer.kernel_size} /{layer.stride}"
    names = {
        nn.LocalResponseNorm: "LRN",
        nn.AdaptiveAvgPool2d: "global average",
        nn.Linear: "linear",
        nn.Unflatten: "heads",
    }
    return names.get(type(layer))


def _name_join(block: FeatEx) -> str:
    """The name of the step that joins the two sides of a FeatEx block."""
    if not isinstance(block, ResidualFeatEx):
        return "concat"
    return "concat + BN + input" if block.adds else "concat + BN"


def _colour(text: str) -> str:
    kinds = {
        "conv ": "convolution",
        "max ": "pooling",
        "global": "pooling",
        "linear": "classifier",
        "heads": "classifier",
    }
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
