"""HART's two modes at a small size: other tokens, other rates, other pictures, never one under the other's name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import arch_of, filled, four_times_one, of_fixture, random_images

import vtbench
from vtbench import registry
from vtbench.models.arch import changes, option_text, own_card
from vtbench.models.native import NetworkTokenizer
from vtbench.models.network import build_network
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents, unpack

MAIN = "hart__ms4-v128"
FAMILY = registry.family("hart")


def _hybrid() -> NetworkTokenizer:
    card = registry.model("hart-1024-hybrid").card
    return filled(FAMILY, replace(card, arch={**arch_of(MAIN), "mode": "hybrid"}))


def test_the_cards_are_two_modes_of_one_file() -> None:
    discrete, hybrid = (registry.model(name).card for name in ("hart-1024", "hart-1024-hybrid"))
    assert discrete.weights == hybrid.weights
    assert (discrete.kind, hybrid.kind) == ("discrete", "continuous")
    assert registry.model("hart-0.7b-1024px-tokenizer").card == discrete
    # Scales 1 to 64 of 12 bits each; 64 x 64 cells of 32 channels.
    assert (discrete.tokens_at_256, discrete.alphabets) == (9451, (4096,))
    assert (hybrid.tokens_at_256, hybrid.alphabets, hybrid.latent_channels) == (4096, (), 32)
    assert not [p for p in discrete.published if p.metric == "rfid"], "the paper's 0.30 is that of the hybrid"


def test_the_modes_have_rates_and_pictures_of_their_own() -> None:
    images, seeds = random_images(4, 64, 64), [1, 2, 3, 4]
    discrete, hybrid = of_fixture(MAIN), _hybrid()
    codes = four_times_one(discrete, images, seeds)
    assert codes.bits().tolist() == [30 * 7.0] * 4
    latents = hybrid.encode(images, seeds)
    assert isinstance(latents, Latents)
    assert latents.bits().tolist() == [16 * 16 * 16.0] * 4
    assert latents.positions == [16] * 4
    with_rest = hybrid.decode(latents, seeds)
    alone = hybrid.decode(unpack(latents.pack()[2]), seeds[2:3])
    assert torch.allclose(with_rest[2:3], alone, atol=2e-5)
    assert float((with_rest - discrete.decode(codes, seeds)).abs().max()) > 0.1


def test_the_hybrid_is_codes_and_rest() -> None:
    """Its latent is the sum of the two, so that upstream's picture of both is its own."""
    network, both = of_fixture(MAIN).network, _hybrid().network
    x = random_images(1, 64, 64) * 2 - 1
    encoded, latent = network.encode(x), both.encode(x).latent_mean
    assert torch.equal(encoded.pre_quant, latent)
    residual = encoded.pre_quant - encoded.quantized
    out = network.decode(encoded.tokens, size=(64, 64), residual=residual)
    assert torch.allclose(out, both.decode(latent, size=(64, 64)), atol=1e-5)


def test_own_sizes_keep_the_mode_of_their_card() -> None:
    for name, alphabets, tokens in (("hart-1024", (128,), 30), ("hart-1024-hybrid", (), 16)):
        card = registry.model(name).card
        mode = {k: v for k, v in (card.arch or {}).items() if k == "mode"}
        own = own_card(card, FAMILY, {**arch_of(MAIN), **mode})
        assert (own.alphabets, own.tokens_at_256, own.kind) == (alphabets, tokens, card.kind)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mode": "both"}, "arch.mode is 'both', but must be 'discrete' or 'hybrid'"),
        ({"mode": "hybrid", "type": "multi-scale residual vq"}, "knows no continuous rest"),
        ({"type": "vq"}, "arch.quantizer.type is 'vq', but must be"),
        ({"double_decoder": True}, "arch.double_decoder is a key that this network does not know"),
    ],
)
def test_what_has_no_meaning_is_refused(change: dict[str, Any], said: str) -> None:
    arch = arch_of(MAIN)
    arch["quantizer"] |= {k: v for k, v in change.items() if k == "type"}
    with pytest.raises(VtbenchError, match=said), torch.device("meta"):
        build_network(FAMILY, {**arch, **{k: v for k, v in change.items() if k != "type"}})


def test_a_rest_of_another_size_or_of_a_plain_decoder_is_refused() -> None:
    hybrid = _hybrid()
    with pytest.raises(VtbenchError, match=r"the latent has \(2, 2\) cells"):
        hybrid.decode(Latents(torch.zeros(1, 16, 2, 2, dtype=torch.float16), (64, 64)), [0])
    with pytest.raises(VtbenchError, match="29 tokens for an image of 64 x 64, which needs 30"):
        of_fixture(MAIN).decode(Codes(torch.zeros(1, 29, dtype=torch.int64), (128,), (64, 64)), [0])


def test_one_checkpoint_gives_two_runs_with_two_rates(tmp_path: Path) -> None:
    """Of own sizes, from a file: two records, and neither stands under the other's name."""
    first, tokenizer = registry.model("hart-1024").card.arch or {}, of_fixture(MAIN)
    path = tmp_path / "own.pt"
    torch.save(tokenizer.network.state_dict(), path)
    options = {k: option_text(v) for k, v in changes(first, arch_of(MAIN)).items()}
    records = {}
    for mode in ("discrete", "hybrid"):
        made = vtbench.evaluate(
            "family:hart",
            options={**options, "mode": mode},
            checkpoint=path,
            tasks=["compression"],
            images="starter-natural",
            limit=2,
            out=tmp_path / "out",
        )
        (run,) = made.runs
        scores = {s.metric: s.value for s in run.scores}
        records[mode] = (run.info.model.kind, scores["bits"], scores["tokens"])
        assert f"mode={mode}" in run.info.model.name
        assert scores["psnr"] is not None
    assert records == {"discrete": ("discrete", 30 * 7.0, 30.0), "hybrid": ("continuous", 256 * 16.0, 16.0)}
    assert len(list((tmp_path / "out").glob("*/run.json"))) == 2
