"""The DeXpression network, bottom-up: a convolution, the FeatEx block in two forms, the network in two sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils.flop_counter import FlopCounterMode


class Convolution(nn.Sequential):
    """A convolution that keeps the size at stride 1, and its ReLU: (N, in, H, W) -> (N, out, H/stride, W/stride).

    `batch_norm` stands between the two. The paper has none; without it a network of more than two FeatEx blocks hardly
    learns, and it makes the convolution's own bias redundant.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, batch_norm: bool = False
    ) -> None:
        convolution = nn.Conv2d(
            in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=not batch_norm
        )
        norm = [nn.BatchNorm2d(out_channels)] if batch_norm else []
        super().__init__(convolution, *norm, nn.ReLU(inplace=True))


class FeatEx(nn.Module):
    """Read the same maps for detail and for context, and keep both (Burkert et al. 2015, arXiv:1509.05371).

    (N, in_channels, H, W) -> (N, detail + context, H, W); by default the paper's 208 + 64 = 272 channels.
    """

    def __init__(self, in_channels: int, *, reduced: int = 96, detail: int = 208, context: int = 64) -> None:
        super().__init__()
        self.out_channels = detail + context
        self.detail = self._detail_side(in_channels, reduced, detail)
        self.context = self._context_side(in_channels, context)

    @staticmethod
    def _detail_side(in_channels: int, reduced: int, detail: int) -> nn.Sequential:
        return nn.Sequential(Convolution(in_channels, reduced, 1), Convolution(reduced, detail, 3))

    @staticmethod
    def _context_side(in_channels: int, context: int) -> nn.Sequential:
        return nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), Convolution(in_channels, context, 1))

    def forward(self, x: Tensor) -> Tensor:
        detail = self.detail(x)  # 1x1 then 3x3:  (N, detail, H, W)
        context = self.context(x)  # pool then 1x1: (N, context, H, W)
        return torch.cat([detail, context], dim=1)


class ResidualFeatEx(FeatEx):
    """FeatEx for deep networks: normalised and, if the number of maps stays, added to its input (He et al. 2016).

    Two steps stand in another order than in the paper, for speed on a CPU. Both sides are normalised together, since
    gradients of a slice of maps are slow to normalise. Context is pooled after its 1x1, which leaves a sixth of the
    maps to pool: pooling at stride 1 takes as long as a convolution.
    """

    def __init__(self, in_channels: int, *, reduced: int, detail: int, context: int) -> None:
        super().__init__(in_channels, reduced=reduced, detail=detail, context=context)
        self.adds = in_channels == self.out_channels
        self.norm: nn.BatchNorm2d | nn.Identity = nn.BatchNorm2d(self.out_channels)

    @staticmethod
    def _detail_side(in_channels: int, reduced: int, detail: int) -> nn.Sequential:
        reduce = Convolution(in_channels, reduced, 1, batch_norm=True)
        return nn.Sequential(reduce, nn.Conv2d(reduced, detail, 3, padding=1, bias=False))

    @staticmethod
    def _context_side(in_channels: int, context: int) -> nn.Sequential:
        mix = nn.Conv2d(in_channels, context, 1, bias=False)
        return nn.Sequential(mix, nn.MaxPool2d(3, stride=1, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.norm(super().forward(x))
        return functional.relu(maps + x if self.adds else maps)

    def fold_norm(self) -> None:
        """Fold the normalisation, which is fixed after training, into the last convolution of each side.

        The block then has fewer steps, and its maps have similar ranges, which int8 represents better. If a scale of
        the context is negative, nothing changes: such a scale cannot move in front of a max pooling.
        """
        detail, context = cast(nn.Conv2d, self.detail[1]), cast(nn.Conv2d, self.context[0])
        count = detail.out_channels
        if isinstance(self.norm, nn.Identity) or (self.norm.weight[count:] < 0).any():
            return
        values = self.norm.state_dict()
        fixed = [values[name] for name in ("running_mean", "running_var", "weight", "bias")]
        for convolution, part in ((detail, slice(count)), (context, slice(count, None))):
            mean, variance, scale, shift = (value[part] for value in fixed)
            convolution.weight, convolution.bias = fuse_conv_bn_weights(
                convolution.weight, None, mean, variance, self.norm.eps, scale, shift
            )
        self.norm = nn.Identity()


def _fill(layer: nn.Module, weight: Tensor) -> None:
    cast(Tensor, layer.weight).copy_(weight)


def _add_only(norm: nn.Module, bias: Tensor) -> None:
    """Let a normalisation add this bias and change nothing else."""
    norm.load_state_dict(
        {
            "weight": torch.ones_like(bias),
            "bias": bias,
            "running_mean": torch.zeros_like(bias),
            "running_var": torch.full_like(bias, 1 - cast(nn.BatchNorm2d, norm).eps),
            "num_batches_tracked": torch.tensor(0),
        }
    )


def _halve() -> nn.MaxPool2d:
    """The paper's pooling between blocks: (N, C, H, W) -> (N, C, ceil(H/2), ceil(W/2))."""
    return nn.MaxPool2d(3, stride=2, padding=1)


def _linear(features: int, classes: int, heads: int) -> list[nn.Module]:
    """(N, features) -> (N, classes) or, for several heads, (N, heads, classes)."""
    linear = nn.Linear(features, heads * classes)
    return [linear] if heads == 1 else [linear, nn.Unflatten(1, (heads, classes))]


# (reduced, detail, context) of each FeatEx block of the compact network; None is a pooling that halves the maps.
COMPACT_BLOCKS = [
    (64, 96, 16),
    (64, 96, 16),
    None,
    (96, 160, 32),
    (96, 160, 32),
    None,
    (192, 304, 80),
    (192, 304, 80),
    (192, 304, 80),
]


class DeXpression(nn.Module):
    """Stem, FeatEx blocks, classifier: (N, 1, H, W) grey faces -> (N, classes) logits.

    With several heads on the same features: (N, heads, classes). Build it with `paper` (224x224, the published table)
    or `compact` (48x48, the one we ship).
    """

    def __init__(
        self,
        name: str,
        stem: nn.Module,
        blocks: nn.Module,
        classifier: nn.Module,
        *,
        smallest: int,
        largest: int | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.stem = stem
        self.blocks = blocks
        self.classifier = classifier
        self.smallest = smallest
        self.largest = largest

    @property
    def heads(self) -> int:
        """The number of heads; all read the same features."""
        last = cast(nn.Sequential, self.classifier)[-1]
        return int(last.unflattened_size[0]) if isinstance(last, nn.Unflatten) else 1

    def forward(self, faces: Tensor) -> Tensor:
        """Compute the logits; raises ValueError, which names the shape that this network takes."""
        self._check(faces)
        logits: Tensor = self.classifier(self.blocks(self.stem(faces)))
        return logits

    @property
    def has_evidence(self) -> bool:
        """Whether the logits are means over the places of the last maps, so that `evidence` can be computed."""
        return isinstance(cast(nn.Sequential, self.classifier)[0], nn.AdaptiveAvgPool2d)

    def evidence(self, faces: Tensor) -> Tensor:
        """Compute the logits of each place of the last maps: (N, heads, classes, H, W).

        Their mean over the places is the logits of the face, because pooling and the linear layer can change places
        (class activation maps, Zhou et al. 2016, arXiv:1512.04150). Only a network with `has_evidence` has them.
        """
        self._check(faces)
        [linear] = (module for module in cast(nn.Sequential, self.classifier) if isinstance(module, nn.Linear))
        maps = functional.conv2d(self.blocks(self.stem(faces)), linear.weight[:, :, None, None], linear.bias)
        return maps.reshape(-1, self.heads, linear.out_features // self.heads, *maps.shape[2:])

    def load_folded(self, weights: Mapping[str, Tensor]) -> None:
        """Fill the compact network with weights and biases of convolutions, into which all normalisation was folded.

        `weights` are named as in `state_dict`; see `fold_norm`. Each normalisation then only adds the bias, so that it
        keeps its answers only while its statistics are fixed. Raises KeyError if one is missing.
        """
        with torch.no_grad():
            for name, module in self.named_modules():
                if isinstance(module, Convolution):
                    _fill(module[0], weights[f"{name}.0.weight"])
                    _add_only(module[1], weights[f"{name}.0.bias"])
                elif isinstance(module, ResidualFeatEx):
                    _fill(module.detail[1], weights[f"{name}.detail.1.weight"])
                    _fill(module.context[0], weights[f"{name}.context.0.weight"])
                    biases = [weights[f"{name}.{side}.bias"] for side in ("detail.1", "context.0")]
                    _add_only(module.norm, torch.cat(biases))
                elif isinstance(module, nn.Linear):
                    _fill(module, weights[f"{name}.weight"].flatten(1))  # of a 1x1 convolution, if it gives evidence
                    module.bias.copy_(weights[f"{name}.bias"])

    def _check(self, faces: Tensor) -> None:
        sides = faces.shape[-2:]
        fits = all(self.smallest <= side <= (self.largest or side) for side in sides)
        if faces.dim() != 4 or faces.shape[1] != 1 or not fits:
            size = f"{self.smallest}x{self.smallest}" + (" or larger" if self.largest is None else "")
            raise ValueError(f"This network takes grey faces (N, 1, H, W) of {size}; these are {tuple(faces.shape)}.")

    @classmethod
    def paper(cls, classes: int = 11, image_size: int = 224, heads: int = 1) -> DeXpression:
        """The table of Burkert et al. 2015 to the letter; at 224x224 and 11 classes it has 1,003,563 weights.

        Its linear layer sees every position of the last maps, so a network is made for one `image_size`, in pixels.
        """
        if image_size < 16:
            raise ValueError(f"The paper's four poolings need faces of 16x16 or larger; image_size is {image_size}.")
        side = image_size
        for _ in range(4):  # one convolution and three poolings of stride 2: each halves and rounds up
            side = (side + 1) // 2
        stem = nn.Sequential(Convolution(1, 64, 7, stride=2), _halve(), nn.LocalResponseNorm(5))
        blocks = nn.Sequential(FeatEx(64), _halve(), FeatEx(272), _halve())
        classifier = nn.Sequential(nn.Flatten(), *_linear(272 * side * side, classes, heads))
        return cls("paper", stem, blocks, classifier, smallest=image_size, largest=image_size)

    @classmethod
    def compact(cls, classes: int = 7, heads: int = 1) -> DeXpression:
        """The network that we ship: the paper's parts made for 48x48 faces; takes any size from 8x8.

        It departs from the paper where 48x48 pixels require it:
        - the stem keeps the resolution (3x3, stride 1): 7x7 at stride 2 and a pooling would leave 12x12 for all blocks;
        - batch normalisation instead of local response normalisation, and blocks that add their input to their output
          (see `Convolution` and `ResidualFeatEx`);
        - seven FeatEx blocks instead of two, at 24, 12 and 6 pixels, narrow where the maps are large: a weight
          costs sixteen times as many multiply-adds at 24 pixels as at 6;
        - context is a seventh to a fifth of a block instead of a quarter: the 3x3 of detail is the fastest step on a
          processor;
        - global average pooling and dropout before the linear layer: the paper's linear layer holds more than half of
          its weights and memorises FER2013.
        """
        channels = 32
        stem = nn.Sequential(Convolution(1, channels, 3, batch_norm=True), _halve())
        blocks: list[nn.Module] = []
        for width in COMPACT_BLOCKS:
            if width is None:
                blocks.append(_halve())
                continue
            reduced, detail, context = width
            block = ResidualFeatEx(channels, reduced=reduced, detail=detail, context=context)
            blocks.append(block)
            channels = block.out_channels
        pooling = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2)]
        classifier = nn.Sequential(*pooling, *_linear(channels, classes, heads))
        return cls("compact", stem, nn.Sequential(*blocks), classifier, smallest=8)


def build_network(name: str, classes: int, heads: int, image_size: int) -> DeXpression:
    """Build the network of this name, `compact` or `paper`, with new weights; the paper's is made for one size."""
    if name == "paper":
        return DeXpression.paper(classes, image_size, heads)
    return DeXpression.compact(classes, heads)


def count_multiply_adds(network: DeXpression, size: int) -> int:
    """Count the multiply-adds of the convolutions and the linear layer, for one face of `size` x `size` pixels."""
    face = torch.zeros(1, 1, size, size, device=next(network.parameters()).device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(face)
    return int(counter.get_total_flops()) // 2
