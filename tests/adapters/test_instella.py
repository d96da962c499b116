"""Instella's binary autoencoder at small sizes: bits, sizes, stretched positions, refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_networks import arch_of, four_times_one, of_fixture, random_images, random_tensor

from vtbench import registry
from vtbench.adapters.networks.instella import Instella, _Down, _turned, _Up
from vtbench.models.arch import own_card
from vtbench.models.made_weights import fill_
from vtbench.types.cards import Multiple
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes

Arch = dict[str, Any]
MAIN = "instella__main"


def _built(change: Callable[[Arch], object] = lambda _: None) -> Instella:
    arch = copy.deepcopy(arch_of(MAIN))
    change(arch)
    network = fill_(Instella(arch)).eval().requires_grad_(False)
    assert isinstance(network, Instella)
    return network


@pytest.mark.parametrize(("size", "scale"), [((64, 64), 0), ((32, 96), 0), ((48, 80), 256)])
def test_four_images_are_four_times_one(size: tuple[int, int], scale: int) -> None:
    """Rectangles; the same 16 tokens of 24 bits for every size; a decoder that gets the packed bytes alone."""
    tokenizer = of_fixture(MAIN)
    tokenizer.options["scale"] = scale
    images, seeds = random_images(4, *size), [5, 6, 7, 8]
    codes = four_times_one(tokenizer, images, seeds)
    assert codes.alphabets == (2,) * 24
    assert codes.positions == [16] * 4
    assert codes.bits().tolist() == [16 * 24.0] * 4
    with pytest.raises(VtbenchError, match="both sides must be multiples of 16"):
        tokenizer.encode(random_images(1, 64, 72), [0])
    with pytest.raises(VtbenchError, match="15 tokens of 24 bits, but an image has 16 of 24"):
        tokenizer.decode(Codes(codes.indices[:, 1:], codes.alphabets, size), seeds)


def test_stretched_positions_are_the_scale_s() -> None:
    """A scale of as many patches as there are stretches nothing; another does, on both sides, like the arch's own."""
    network, images = _built(), random_images(1, 64, 64) * 2 - 1
    plain = network.encode(images)
    assert plain.tokens is not None
    # Halved cells fall between the unstretched ones, so that equality holds where nothing is halved.
    flat = _built(lambda a: a["encoder"].update(downsample_after=[]))
    assert torch.allclose(flat.encode(images).pre_quant, flat.encode(images, scale=64).pre_quant, atol=1e-6)
    stretched = network.encode(images, scale=128)
    assert float((stretched.pre_quant - plain.pre_quant).abs().max()) > 1e-3
    own = _built(lambda a: a.update(scale=128))
    assert torch.equal(own.encode(images).pre_quant, stretched.pre_quant)
    assert torch.equal(own.decode(plain.tokens, size=(64, 64)), network.decode(plain.tokens, size=(64, 64), scale=128))
    with pytest.raises(VtbenchError, match="cannot be stretched"):
        network.encode(images[..., :16, :16], scale=128)


def test_angles_of_neighbours_turn_halves() -> None:
    """FluxPosEmbed's tables with Llama's rotation, channel by channel."""
    x, angles = random_tensor(1, 1, 3, 8), random_tensor(3, 4, seed=1)
    doubled = angles.repeat_interleave(2, dim=1)
    out = _turned(x, (doubled.cos(), doubled.sin()))
    for i in range(8):
        partner, sign = (i + 4, -1) if i < 4 else (i - 4, 1)
        angle = angles[:, i // 2]
        wanted = x[..., i] * angle.cos() + sign * x[..., partner] * angle.sin()
        assert torch.allclose(out[..., i], wanted, atol=1e-6)


def test_shortcuts_average_and_repeat() -> None:
    """With a convolution of zeros: means of four neighbouring folded channels, and copies of every pixel."""
    down, up, x = _Down(8), _Up(8), random_tensor(1, 8, 4, 6)
    with torch.no_grad():
        for conv in (down.conv, up.conv):
            conv.weight.zero_()
            conv.bias.zero_()
    # Folding puts the four pixels of a channel beside each other.
    assert torch.allclose(down(x), torch.nn.functional.avg_pool2d(x, 2), atol=1e-6)
    assert torch.equal(up(x), x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_two_changes_of_resolution_run_and_three_do_not_fit() -> None:
    def twice(a: Arch) -> None:
        a["encoder"]["downsample_after"] = a["decoder"]["upsample_after"] = [0, 1]

    network, images = _built(twice), random_images(1, 64, 96) * 2 - 1
    tokens = network.encode(images).tokens
    assert tokens is not None
    assert network.decode(tokens, size=(64, 96)).shape == images.shape
    assert network.multiple == 32
    three = _built(lambda a: a["decoder"].update(upsample_after=[0, 1, 2]))
    with pytest.raises(VtbenchError, match="the decoder gives 32 x 32 cells for 24 x 24"):
        three.decode(tokens, size=(192, 192))


def test_an_own_configuration_wants_sides_of_its_own() -> None:
    card = registry.model("instella-t2i-bae").card
    own = own_card(card, registry.family("instella"), arch_of(MAIN))
    assert own.sizes == Multiple(of=16, at_least=32)
    assert own.tokens_at_256 == 16


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.update(rope_axes=[4, 6, 8]), "add up to a head's 16 channels"),
        (lambda a: a["encoder"].update(downsample_after=[3]), "must name different ones of 3 layers"),
        (lambda a: a["encoder"].update(downsample_after=[1, 1]), "must name different ones"),
        (lambda a: a["decoder"].update(upsample_after=[]), "upsample_after is empty"),
        (lambda a: a["quantizer"].update(type="lfq"), "arch.quantizer.type is 'lfq'"),
        (lambda a: a["encoder"].update(mlp_ratio=4), "arch.encoder.mlp_ratio is a key that"),
        (lambda a: a.update(scale=0), "arch.scale is 0"),
    ],
)
def test_what_has_no_meaning_is_refused(change: Callable[[Arch], object], said: str) -> None:
    with pytest.raises(VtbenchError, match=said):
        _built(change)
