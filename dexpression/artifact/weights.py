"""The weights of an export as a safetensors file, which is data: reading it runs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dexpression.errors import BrokenWeights

if TYPE_CHECKING:
    from torch import nn

MAX_HEADER_BYTES = 100_000  # names, shapes and types; the shipped one has 9,000


def encode_weights(network: nn.Module) -> bytes:
    """Encode all parameters and buffers of a network."""
    from safetensors.torch import save

    content: bytes = save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
    return content


def fill_weights(network: nn.Module, content: bytes) -> None:
    """Fill a network with encoded weights; raises BrokenWeights unless all names, shapes and types fit."""
    from safetensors.torch import load

    try:
        if int.from_bytes(content[:8], "little") > MAX_HEADER_BYTES:
            raise ValueError
        weights = load(content)
    except Exception as error:  # safetensors and torch raise several classes; their texts repeat names of the file
        raise BrokenWeights("The weights are damaged. Copy all files again from one export.") from error
    expected = network.state_dict()
    differing = weights.keys() ^ expected.keys() | {
        name
        for name in weights.keys() & expected.keys()
        if (weights[name].shape, weights[name].dtype) != (expected[name].shape, expected[name].dtype)
    }
    if differing:
        raise BrokenWeights(
            f"The weights do not fit the network: {len(differing)} names, shapes or types differ, "
            f"such as {sorted(differing)[0][:60]!r}. Copy all files again from one export."
        )
    if not all(tensor.isfinite().all() for tensor in weights.values()):
        raise BrokenWeights("The weights have values that are not numbers. Train and export again.")
    network.load_state_dict(weights)
