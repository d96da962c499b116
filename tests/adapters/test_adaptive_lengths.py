"""ALIT and KARL at small sizes: budgets, rates, halting, tokens alone, refusals.

That the networks compute what upstream computes is the matter of the parity fixtures.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_networks import arch_of, filled, of_fixture, random_images

from vtbench import registry
from vtbench.models.made_weights import fill_
from vtbench.models.native import NetworkTokenizer
from vtbench.models.network import build_network
from vtbench.types.cards import Card
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents, Tokens, unpack

Arch = dict[str, Any]
CONTINUOUS, KARL = "alit__vqgan-continuous", "karl__vae"


def _small(
    fixture: str, change: Callable[[Arch], object] = lambda _: None, options: Mapping[str, Any] | None = None
) -> NetworkTokenizer:
    """A fixture's tokenizer with another arch; its card has the knob that real ones have."""
    arch = copy.deepcopy(arch_of(fixture))
    change(arch)
    family = registry.family(fixture.split("__")[0])
    card = Card(
        "small",
        family.name,
        "discrete",
        "small",
        arch=arch,
        options={"budget": 48, **(options or {})},
        knob="budget",
        knob_values=(16, 48),
    )
    return filled(family, card)


def _quantized(a: Arch) -> None:
    a.update(quantize_latent=True)


def _codes(tokens: Tokens) -> Codes:
    assert isinstance(tokens, Codes)
    return tokens


# -- ALIT ------------------------------------------------------------------------------------------------------------


def test_every_rollout_costs_its_tokens_and_the_length() -> None:
    tokenizer, images = _small(CONTINUOUS, _quantized), random_images(4, 64, 64)
    for budget in (16, 32, 48):
        codes = _codes(tokenizer.encode(images, [0] * 4, budget))
        assert codes.positions == [budget] * 4
        assert codes.bits().tolist() == pytest.approx([budget * 9 + math.log2(budget + 1)] * 4)
        together = tokenizer.decode(codes, [0] * 4)
        assert together.shape == images.shape
        for i in (0, 3):
            alone = _codes(tokenizer.encode(images[i : i + 1], [0], budget))
            assert torch.equal(alone.indices, codes.indices[i : i + 1])
            from_bytes = tokenizer.decode(unpack(alone.pack()[0]), [0])
            assert torch.allclose(from_bytes, together[i : i + 1], atol=5e-5)
    few, many = (_codes(tokenizer.encode(images, [0] * 4, n)).indices for n in (16, 48))
    assert not torch.equal(few, many[:, :16]), "a smaller budget is another encoding, not a prefix"
    for budget in (0, 17, 64, 16.5):
        with pytest.raises(VtbenchError, match=r"give a (whole|multiple)|whole number"):
            tokenizer.encode(images, [0] * 4, budget)
    with pytest.raises(VtbenchError, match="64 x 80, but this network takes 64 x 64 only"):
        tokenizer.encode(random_images(1, 64, 80), [0])
    with pytest.raises(VtbenchError, match="15 tokens, but rollouts give 16 each, 48 at most"):
        tokenizer.decode(replace(codes, indices=codes.indices[:, :15]), [0] * 4)


def test_continuous_latents_pay_for_their_length_too() -> None:
    tokenizer, images = _small(CONTINUOUS), random_images(2, 64, 64)
    latents = tokenizer.encode(images, [0, 1], 32)
    assert isinstance(latents, Latents)
    assert latents.positions == [32, 32]
    assert latents.bits().tolist() == pytest.approx([32 * 12 * 16 + math.log2(33)] * 2)
    one = unpack(latents.pack()[1])
    assert torch.allclose(tokenizer.decode(one, [1]), tokenizer.decode(latents, [0, 1])[1:], atol=5e-5)
    with pytest.raises(VtbenchError, match="no quantizer"):
        tokenizer.network.decode(torch.zeros(1, 16, dtype=torch.long), size=(64, 64))


def test_images_stop_where_they_are_good_enough() -> None:
    """Each by itself: at the first rollout with less than the error asked for, else at its best one."""
    plain, images = _small(CONTINUOUS, _quantized), random_images(3, 64, 64)
    errors = torch.stack(
        [
            (plain.decode(plain.encode(images, [0] * 3, n), [0] * 3) - images).abs().mean(dim=(1, 2, 3))
            for n in (16, 32, 48)
        ]
    )
    for limit in (float(errors.median()), float(errors.min()) / 2, float(errors.max()) * 2):
        tokenizer = _small(CONTINUOUS, _quantized, {"max_error": limit})
        codes = _codes(tokenizer.encode(images, [0] * 3, 48))
        wanted = []
        for image in errors.T:
            good = [i for i in range(3) if image[i] < limit]
            wanted.append(16 * (1 + (good[0] if good else int(image.argmin()))))
        assert codes.positions == wanted
        assert codes.bits().tolist() == pytest.approx([n * 9 + math.log2(n + 1) for n in wanted])
        for i, n in enumerate(wanted):
            alone = plain.encode(images[i : i + 1], [0], n)
            assert torch.equal(codes[i].indices, _codes(alone).indices)
            whole = tokenizer.decode(codes, [0] * 3)[i : i + 1]
            assert torch.allclose(whole, plain.decode(alone, [0]), atol=5e-5)


def test_cells_give_way_as_often_as_their_probability_says() -> None:
    """From the image's seed; with noise of zeros always, with noise of ones never."""
    network, images = _small(CONTINUOUS).network, random_images(1, 64, 64)

    def latent(**settings: Any) -> torch.Tensor:
        out: torch.Tensor = network.encode(images, **settings).pre_quant
        return out

    always, never = torch.zeros(1, 3, 256), torch.ones(1, 3, 256)
    assert torch.equal(latent(), latent(noise=always))
    assert torch.equal(latent(threshold=2.0), latent(noise=never))
    assert not torch.equal(latent(), latent(noise=never))
    off = fill_(build_network(registry.family("alit"), {**arch_of(CONTINUOUS), "dynamic_halting": False}))
    assert torch.equal(off.encode(images).pre_quant, latent(threshold=2.0))  # type: ignore[operator]
    drawn = _small(CONTINUOUS, lambda a: a.update(dynamic_halting_threshold=0.0), {"halting": "sample"})
    pair = images.repeat(2, 1, 1, 1)
    one, same, other = (drawn.encode(pair, seeds) for seeds in ([1, 2], [1, 2], [2, 1]))
    assert isinstance(one, Latents)
    assert isinstance(same, Latents)
    assert isinstance(other, Latents)
    assert torch.equal(one.values, same.values)
    assert not torch.equal(one.values[0], one.values[1]), "two seeds, two drawings"
    assert torch.equal(one.values, other.values.flip(0))
    with pytest.raises(VtbenchError, match="halting='never' is not known"):
        _small(CONTINUOUS, options={"halting": "never"})


def test_latents_without_factors_go_as_wide_as_they_are() -> None:
    network = _small(CONTINUOUS, lambda a: a.update(factorize_latent=False)).network
    assert "decoder.decoder_embed.weight" not in network.state_dict()
    latent = network.encode(random_images(1, 64, 64), budget=16).latent_mean
    assert latent.shape == (1, 16, 64)
    assert network.decode(latent, size=(64, 64)).shape == (1, 3, 64, 64)


# -- KARL ------------------------------------------------------------------------------------------------------------


def test_kept_tokens_their_places_and_the_length_are_paid_for() -> None:
    tokenizer, images = of_fixture(KARL), random_images(4, 64, 64)
    codes = _codes(tokenizer.encode(images, [0] * 4, 64))
    assert codes.alphabets == (513,)
    together = tokenizer.decode(codes, [0] * 4)
    holes = 0
    for i in range(4):
        tokens = tokenizer.network.encode(images[i : i + 1], budget=64).tokens[0]
        kept = (tokens >= 0).nonzero()[:, 0]
        end = int(kept[-1]) + 1
        holes += end - len(kept)
        assert codes[i].positions == [end]
        assert float(codes[i].bits()[0]) == pytest.approx(end * math.log2(513) + math.log2(end + 1))
        assert codes[i].indices[0, :, 0].tolist() == [int(t) if t >= 0 else 512 for t in tokens[:end]]
        alone = _codes(tokenizer.encode(images[i : i + 1], [0], 64))
        assert torch.equal(alone.indices, codes[i].indices)
        from_bytes = tokenizer.decode(unpack(alone.pack()[0]), [0])
        assert torch.allclose(from_bytes, together[i : i + 1], atol=5e-5)
    assert holes > 0, "these images halt tokens in the middle"
    with pytest.raises(VtbenchError, match="1 to 512"):
        tokenizer.encode(images, [0] * 4, 513)
    with pytest.raises(VtbenchError, match="give a whole number of tokens"):
        tokenizer.encode(images, [0] * 4, 16.5)


def test_halted_tokens_say_nothing() -> None:
    """What stands in their place changes no pixel, and neither do those behind the last one kept."""
    network = of_fixture(KARL).network
    tokens = network.encode(random_images(1, 64, 64), budget=64).tokens
    picture = network.decode(tokens, size=(64, 64))
    rows = network.rows(tokens.clamp(min=0))
    halts = torch.where(tokens < 0, 0.9, 0.1)[..., None]
    for other in (7.0, -3.0):
        filled_in = torch.where(tokens[..., None] < 0, other, rows)
        assert torch.equal(network.decode(filled_in, size=(64, 64), halt_prob=halts), picture)
    longer = torch.nn.functional.pad(tokens, (0, 40), value=-1)
    assert torch.allclose(network.decode(longer, size=(64, 64)), picture, atol=2e-5)
    with pytest.raises(TypeError, match="decode takes no steps"):
        network.decode(tokens, size=(64, 64), steps=3)


def test_an_image_may_halt_all_its_tokens() -> None:
    tokenizer = _small(KARL, lambda a: a.update(halting_probability=0.0))
    codes = _codes(tokenizer.encode(random_images(2, 64, 64), [0, 1], 16))
    assert codes.positions == [0, 0]
    assert codes.bits().tolist() == [0.0, 0.0]
    together = tokenizer.decode(codes, [0, 1])
    assert torch.equal(together[0], together[1])
    assert torch.allclose(tokenizer.decode(unpack(codes.pack()[0]), [0]), together[:1], atol=2e-5)


def test_the_error_asked_for_is_the_next_listed_one() -> None:
    network, images = of_fixture(KARL).network, random_images(1, 64, 64)

    def latent(quality: float) -> torch.Tensor:
        out: torch.Tensor = network.encode(images, budget=16, quality=quality).pre_quant
        return out

    assert torch.equal(latent(0.051), latent(0.06))
    assert torch.equal(latent(0.0), latent(0.005))
    assert torch.equal(latent(5.0), latent(0.38))
    assert not torch.equal(latent(0.05), latent(0.06))
    tokenizer = _small(KARL, options={"quality": 0.38})
    tokens = network.encode(images, budget=48, quality=0.38).tokens
    spelt = _codes(tokenizer.encode(images, [0])).indices[..., 0]
    wanted = torch.where(tokens < 0, 512, tokens)[:, : spelt.shape[1]]
    assert torch.equal(spelt, wanted)


def test_continuous_latents_send_halted_ones_as_zeros() -> None:
    tokenizer = _small(KARL, lambda a: a.update(quantize_latent=False))
    images = random_images(2, 64, 64)
    latents = tokenizer.encode(images, [0, 1], 48)
    assert isinstance(latents, Latents)
    assert latents.positions == [48, 48]
    encoded = tokenizer.network.encode(images, budget=48)
    halted = (encoded.latent_mean == 0).all(dim=2)
    assert 0 < int(halted.sum()) < halted.numel()
    assert torch.equal((latents.values == 0).all(dim=2), halted)
    by_probability = tokenizer.network.decode(encoded.pre_quant, size=(64, 64), halt_prob=halted.float()[..., None])
    assert torch.allclose(tokenizer.network.decode(encoded.latent_mean, size=(64, 64)), by_probability, atol=2e-5)


def test_the_kl_variant_takes_twice_as_wide_images() -> None:
    network = of_fixture(KARL).network
    wide = random_images(1, 64, 128)
    tokens = network.encode(wide, budget=32).tokens
    assert network.decode(tokens, size=(64, 128)).shape == wide.shape
    with pytest.raises(VtbenchError, match="takes 64 x 64 or 64 x 128 only"):
        network.encode(random_images(1, 128, 64))


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fixture", "change", "said"),
    [
        (CONTINUOUS, lambda a: a.update(patch_size=8), "all must come to 16 x 16 cells"),
        (CONTINUOUS, lambda a: a["encoder"].update(width=32), "of which the base tokenizer fills 32"),
        (
            CONTINUOUS,
            lambda a: a["base"].update(middle_attention=True),
            "arch.base.middle_attention is True, but must be",
        ),
        (CONTINUOUS, lambda a: a["base"].update(latent_scale=1.0), "arch.base.latent_scale is 1.0, but must be null"),
        (CONTINUOUS, lambda a: a["base"].update(type="rqvae"), "arch.base.type is 'rqvae'"),
        (CONTINUOUS, lambda a: a.update(max_rollout_iters=17), "but the decoder takes 256"),
        (
            CONTINUOUS,
            lambda a: (a.update(factorize_latent=False), a["decoder"].update(width=32)),
            "make them equal",
        ),
        (CONTINUOUS, lambda a: a.update(num_heads=2), "arch.num_heads is a key that"),
        (KARL, lambda a: a["base"].update(codebook_size=64), "arch.base.codebook_size is 64, but must be null"),
        (KARL, lambda a: a["base"].update(decode_scale=0.2325), "arch.base.decode_scale is 0.2325, but must be 1"),
        (KARL, lambda a: a.update(loss_bins=[0.2, 0.1]), "must ascend"),
        (KARL, lambda a: a.update(loss_bins=[]), "must be a list of errors"),
        (KARL, lambda a: a.update(base=arch_of(CONTINUOUS)["base"]), "z_channels is 32, but must be 256"),
        (KARL, lambda a: a["quantizer"].update(type="lfq"), "arch.quantizer.type is 'lfq'"),
    ],
)
def test_what_upstream_cannot_run_is_refused(fixture: str, change: Callable[[Arch], object], said: str) -> None:
    with pytest.raises(VtbenchError, match=said):
        _small(fixture, change)
