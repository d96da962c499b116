"""TokenFlow at small sizes: shared indices, whole scales, sizes of the two branches, refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_networks import arch_of, four_times_one, of_fixture, random_images, random_tensor

from vtbench import registry
from vtbench.adapters.networks.parts.clip import ImageTower
from vtbench.adapters.networks.tokenflow import SharedIndices, TokenFlow
from vtbench.models.arch import own_card
from vtbench.models.names import manifest, names_of
from vtbench.models.network import build_network
from vtbench.types.errors import VtbenchError

Arch = dict[str, Any]
MAIN = "tokenflow__siglip-v128"


def test_four_images_are_four_times_one() -> None:
    tokenizer = of_fixture(MAIN)
    codes = four_times_one(tokenizer, random_images(4, 56, 56), [1, 2, 3, 4])
    assert codes.grids == ((1, 1), (2, 2), (3, 3), (4, 4))
    assert codes.bits().tolist() == [30 * 7.0] * 4
    with pytest.raises(VtbenchError, match="the image is 64 x 64, but this network takes 56 x 56 only"):
        tokenizer.encode(random_images(1, 64, 64), [0])


def test_whole_scales_decode_alone() -> None:
    network, x = of_fixture(MAIN).network, random_images(1, 56, 56) * 2 - 1
    tokens = network.encode(x).tokens
    whole = network.decode(tokens, size=(56, 56))
    fewer = network.decode(tokens[:, :14], size=(56, 56))
    assert fewer.shape == whole.shape
    assert float((fewer - whole).abs().max()) > 1e-3
    with pytest.raises(VtbenchError, match="there are 13 tokens, but scales end at 1, 5, 14, 30"):
        network.decode(tokens[:, :13], size=(56, 56))


@pytest.mark.parametrize("l2_norm", [True, False])
def test_the_index_has_the_least_sum_of_both_distances(l2_norm: bool) -> None:
    """By brute force over all rows of both books."""
    quantizer = SharedIndices(9, 3, 2, [(1, 1), (2, 2)], l2_norm=l2_norm)
    rows = random_tensor(20, 5, seed=3)
    parts, books = rows.split((3, 2), dim=1), (quantizer.embedding_vqkd.weight, quantizer.embedding_vqgan.weight)
    total = torch.zeros(20, 9)
    for part, book in zip(parts, books, strict=True):
        a, b = (F.normalize(part, dim=1), F.normalize(book, dim=1)) if l2_norm else (part, book)
        total = total + (a[:, None] - b[None]).square().sum(dim=2)
    assert torch.equal(quantizer.choose(rows), total.argmin(dim=1))


def test_the_card_of_siglip_has_no_whole_cells() -> None:
    """384 pixels are 27 patches of 14 and a rest."""
    card = registry.model("tokenflow-siglip-32k").card
    assert (card.downsample, card.tokens_at_256) == (None, 2227)
    assert registry.model("tokenflow-clipb-32k-enhanced").card.downsample == 16


def test_a_table_of_its_own_size_stands_as_it_is_and_another_is_resized() -> None:
    tower = ImageTower(3, side=16, patch=8, width=8, layers=1, heads=2, hidden=16).eval()
    with torch.no_grad():
        tower.positional_embedding.copy_(random_tensor(5, 8))
        assert tower(random_tensor(1, 3, 16, 16)).shape == (1, 4, 8)
        assert tower(random_tensor(1, 3, 24, 40)).shape == (1, 15, 8)


@pytest.mark.parametrize("name", ["tokenflow-clipb-32k-enhanced", "tokenflow-siglip-32k"])
def test_released_archs_are_read_off_their_shapes(name: str) -> None:
    family, card = registry.family("tokenflow"), registry.model(name).card
    assert card.arch is not None
    shapes = manifest(family, card)
    assert TokenFlow.infer_arch(shapes, card.arch) == card.arch
    other = next(c for c in family.cards if c is not card)
    assert TokenFlow.infer_arch(shapes, other.arch or {}) is None


def test_own_sizes_are_read_off_their_shapes() -> None:
    """With scales that end in the tower's own grid, as the shapes tell no scales."""
    shapes = names_of(of_fixture(MAIN).network)
    card = registry.model("tokenflow-siglip-32k").card
    arch = TokenFlow.infer_arch(shapes, card.arch or {})
    assert arch is not None
    assert (arch["quantizer"]["scales"], arch["semantic_encoder"]["image_size"]) == ([1, 2, 3, 4], 56)
    assert own_card(card, registry.family("tokenflow"), arch).tokens_at_256 == 30


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.update(teacher="dinov2"), "'clipb_224' or 'siglip_384'"),
        (lambda a: a["semantic_encoder"].update(type="clip vit"), "arch.semantic_encoder.type is 'clip vit'"),
        (lambda a: a["semantic_encoder"].update(input_scaling="none"), "input_scaling is 'none'"),
        (lambda a: a["semantic_encoder"].update(layers_used=4), "uses 4 layers of 3"),
        (lambda a: a["semantic_encoder"].update(heads=5), "5 heads do not divide"),
        (lambda a: a["pixel_decoder"].update(output="bicubic to 64"), "must be 'as given' or 'bicubic to 56'"),
        (lambda a: a["pixel_decoder"].update(ch_mult=[1, 2]), "make no 56 x 56 images"),
        (lambda a: a["pixel_encoder"].update(input="as given"), "make no 56 x 56 images"),
        (lambda a: a["quantizer"].update(scales=[1, 2, 3, 5]), "gives 4 patches a side, but the last scale has 5"),
        (lambda a: a["quantizer"].update(phi="shared"), "phi is 'shared', but must be null"),
        (lambda a: a["quantizer"].update(type="vq"), "arch.quantizer.type is 'vq'"),
    ],
)
def test_what_has_no_meaning_is_refused(change: Callable[[Arch], object], said: str) -> None:
    arch = copy.deepcopy(arch_of(MAIN))
    change(arch)
    with pytest.raises(VtbenchError, match=said), torch.device("meta"):
        build_network(registry.family("tokenflow"), arch)
