"""The network compared with the paper's table, and the input sizes that it takes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dexpression.network.architecture import DeXpression, ResidualFeatEx, count_multiply_adds

# Burkert et al. 2015, table 1, in the order in which the layers run. The paper prints 282 channels for Pooling 3b,
# which is a misprint: the two sides of the block before it have 208 + 64 = 272.
TABLE = [
    ("Convolution 1", "stem.0", (64, 112, 112)),
    ("Pooling 1", "stem.1", (64, 56, 56)),
    ("LRN 1", "stem.2", (64, 56, 56)),
    ("Convolution 2a", "blocks.0.detail.0", (96, 56, 56)),
    ("Convolution 2b", "blocks.0.detail.1", (208, 56, 56)),
    ("Pooling 2a", "blocks.0.context.0", (64, 56, 56)),
    ("Convolution 2c", "blocks.0.context.1", (64, 56, 56)),
    ("Concat 2", "blocks.0", (272, 56, 56)),
    ("Pooling 2b", "blocks.1", (272, 28, 28)),
    ("Convolution 3a", "blocks.2.detail.0", (96, 28, 28)),
    ("Convolution 3b", "blocks.2.detail.1", (208, 28, 28)),
    ("Pooling 3a", "blocks.2.context.0", (272, 28, 28)),
    ("Convolution 3c", "blocks.2.context.1", (64, 28, 28)),
    ("Concat 3", "blocks.2", (272, 28, 28)),
    ("Pooling 3b", "blocks.3", (272, 14, 14)),
    ("Classifier", "classifier", (11,)),
]


def count_weights(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.fixture(scope="module")
def paper_shapes() -> dict[str, tuple[int, ...]]:
    network = DeXpression.paper().eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda _m, _i, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
    network(torch.rand(1, 1, 224, 224))
    return shapes


@pytest.mark.parametrize(("layer", "module", "shape"), TABLE, ids=[row[0] for row in TABLE])
def test_a_layer_has_the_output_shape_that_the_paper_lists(paper_shapes, layer, module, shape):
    assert paper_shapes[module] == shape


def test_the_paper_network_has_1_003_563_weights():
    assert count_weights(DeXpression.paper()) == 1_003_563


def test_the_networks_have_the_documented_numbers_of_multiply_adds_and_weights():
    assert round(count_multiply_adds(DeXpression.paper(), 224) / 1e6) == 811
    assert round(count_multiply_adds(DeXpression.compact(heads=2), 48) / 1e6) == 183
    assert count_weights(DeXpression.compact(heads=2)) == 2_285_614


def test_the_paper_network_has_local_response_normalisation_and_no_batch_normalisation():
    kinds = {type(module) for module in DeXpression.paper().modules()}
    assert nn.LocalResponseNorm in kinds
    assert nn.BatchNorm2d not in kinds


@pytest.mark.parametrize(("network", "size"), [(DeXpression.paper(7), 224), (DeXpression.compact(7), 48)])
def test_every_weight_gets_a_gradient(network, size):
    network(torch.rand(2, 1, size, size)).sum().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_a_block_adds_its_input_if_the_number_of_channels_stays():
    maps = torch.rand(2, 12, 6, 6)
    same, more = (ResidualFeatEx(12, reduced=4, detail=detail, context=4).eval() for detail in (8, 9))
    for block in (same, more):
        nn.init.zeros_(block.norm.weight)  # the block itself then gives zeros
    assert torch.equal(same(maps), maps)
    assert torch.equal(more(maps), torch.zeros(2, 13, 6, 6))


@pytest.mark.parametrize(("scale", "folds"), [(0.5, True), (-0.5, False)])
def test_folding_the_norm_does_not_change_the_output_of_a_block(scale, folds):
    block = ResidualFeatEx(12, reduced=4, detail=8, context=4)
    for _ in range(3):
        block(torch.randn(8, 12, 6, 6))  # sets the running means and variances
    nn.init.constant_(block.norm.weight, scale)
    nn.init.uniform_(block.norm.bias)
    maps = torch.randn(2, 12, 6, 6)
    before = block.eval()(maps)
    block.fold_norm()
    assert isinstance(block.norm, nn.Identity) is folds
    assert torch.allclose(block(maps), before, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (48, 48), (33, 61), (224, 224)])
def test_the_compact_network_takes_any_size_from_8x8(size):
    assert DeXpression.compact(5).eval()(torch.rand(2, 1, *size)).shape == (2, 5)


@pytest.mark.parametrize(
    ("network", "size"), [(DeXpression.paper(7, heads=2), 224), (DeXpression.compact(7, heads=2), 48)]
)
def test_a_network_with_two_heads_gives_the_logits_of_both(network, size):
    assert network.eval()(torch.rand(3, 1, size, size)).shape == (3, 2, 7)


@pytest.mark.parametrize("size", [16, 48, 97, 224])
def test_the_paper_network_can_be_made_for_another_size(size):
    assert DeXpression.paper(7, image_size=size)(torch.rand(1, 1, size, size)).shape == (1, 7)


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        (DeXpression.compact(), (1, 1, 7, 48), "8x8 or larger"),
        (DeXpression.compact(), (1, 3, 48, 48), r"grey faces \(N, 1, H, W\)"),
        (DeXpression.compact(), (1, 48, 48), r"grey faces \(N, 1, H, W\)"),
        (DeXpression.paper(), (1, 1, 48, 48), "224x224"),
    ],
)
def test_the_error_for_a_wrong_shape_names_the_right_one(network, shape, message):
    with pytest.raises(ValueError, match=message):
        network(torch.rand(shape))


def test_a_size_under_16x16_is_refused_for_the_paper_network():
    with pytest.raises(ValueError, match="16x16"):
        DeXpression.paper(image_size=15)
