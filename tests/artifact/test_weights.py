"""Weights fill only the network that they were encoded from, and damaged ones are refused."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save

from dexpression.artifact.weights import encode_weights, fill_weights
from dexpression.errors import BrokenWeights
from dexpression.network.architecture import DeXpression


def test_a_network_that_is_filled_equals_the_encoded_one():
    first, second = DeXpression.compact(7), DeXpression.compact(7)
    fill_weights(second, encode_weights(first))
    assert all(torch.equal(weight, first.state_dict()[name]) for name, weight in second.state_dict().items())


@pytest.mark.parametrize(
    "other",
    [DeXpression.compact(5), DeXpression.compact(7, heads=2), DeXpression.paper(7)],
    ids=["labels", "heads", "name"],
)
def test_weights_of_another_network_are_refused(other):
    with pytest.raises(BrokenWeights, match=r"do not fit the network: .* differ, such as"):
        fill_weights(DeXpression.compact(7), encode_weights(other))


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights | {"more": torch.zeros(1)},
        lambda weights: dict(list(weights.items())[1:]),
        lambda weights: weights | {"classifier.3.bias": torch.zeros(7, dtype=torch.float64)},
        lambda weights: weights | {"classifier.3.bias": torch.zeros(8)},
    ],
    ids=["one more", "one less", "another type", "another shape"],
)
def test_weights_with_one_difference_are_refused(change):
    network = DeXpression.compact(7)
    with pytest.raises(BrokenWeights, match="1 names, shapes or types differ"):
        fill_weights(network, save(change(network.state_dict())))


def test_an_error_repeats_names_of_the_file_without_line_breaks_and_control_characters():
    with pytest.raises(BrokenWeights) as refused:
        fill_weights(DeXpression.compact(7), save({"\x1b[2J\nFAKE LINE": torch.zeros(1)}))
    assert str(refused.value).isprintable()


def header_only(shape: str) -> bytes:
    """A file with one tensor without elements."""
    text = f'{{"a": {{"dtype": "F32", "shape": {shape}, "data_offsets": [0, 0]}}}}'
    return len(text).to_bytes(8, "little") + text.encode()


DAMAGED = {
    "a size that overflows": header_only(f"[0, {2**63}]"),
    "a stride that overflows": header_only(f"[0, {2**62}, 8]"),
    "empty": b"",
    "a byte": b"x",
    "a huge header": b"\xff" * 100,
    "no weights": b"\x02\0\0\0\0\0\0\0{}",
    "cut off": encode_weights(DeXpression.compact(7))[:-1],
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_weights_are_refused(content):
    with pytest.raises(BrokenWeights, match="Copy all files again"):
        fill_weights(DeXpression.compact(7), content)
