"""TiTok, TA-TiTok, One-D-Piece, TokenSet and BSQ-ViT at small sizes: tokens, rates, budgets, texts, files.

That the networks compute what upstream computes is the matter of the parity fixtures.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import filled, random_images
from small_one_dimensional_tokenizers import PAINTS, SMALL, VIT, numbers, small

from vtbench import registry
from vtbench.adapters.networks.parts.clip import TextTower
from vtbench.metrics import weights as metric_weights
from vtbench.models.made_weights import fill_
from vtbench.models.network import build_network
from vtbench.proving import checks
from vtbench.types.adapter import Prompt
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents, unpack


@pytest.mark.parametrize("which", SMALL)
def test_four_images_are_four_times_one(which: str) -> None:
    """And a decoder that gets only the packed bytes paints the same."""
    tokenizer, (_, _, size) = small(which), SMALL[which]
    images, seeds = random_images(4, *size), [5, 6, 7, 8]
    tokens = tokenizer.encode(images, seeds)
    together = tokenizer.decode(tokens, seeds)
    assert together.shape == images.shape
    for i in (0, 3):
        alone = tokenizer.encode(images[i : i + 1], seeds[i : i + 1])
        if isinstance(tokens, Codes):
            assert torch.equal(numbers(alone), numbers(tokens[i]))
        assert torch.allclose(numbers(alone), numbers(tokens[i]), atol=1e-5)
        assert alone.bits()[0] == tokens.bits()[i]
        # Another batch size may run another kernel: rounding only.
        assert torch.allclose(tokenizer.decode(unpack(alone.pack()[0]), [0]), together[i : i + 1], atol=2e-5)


@pytest.mark.parametrize("which", SMALL)
def test_another_size_or_number_of_tokens_is_refused(which: str) -> None:
    tokenizer, (_, _, (height, width)) = small(which), SMALL[which]
    with pytest.raises(VtbenchError, match=rf"the image is {height} x {width + 8}, but this network takes"):
        tokenizer.encode(random_images(1, height, width + 8), [0])
    tokens = tokenizer.encode(random_images(1, height, width), [0])
    with pytest.raises(VtbenchError, match="this network"):
        tokenizer.decode(replace(tokens, size=(height, width + 8)), [0])  # type: ignore[type-var]
    if isinstance(tokens, Codes):
        longer = replace(tokens, indices=torch.cat([tokens.indices, tokens.indices], dim=1))
        with pytest.raises(VtbenchError, match="this network"):
            tokenizer.decode(longer, [0])


def test_only_one_d_piece_decodes_fewer_tokens() -> None:
    for which, fits in (("mixes", False), ("paints", False), ("prefix", True)):
        network = small(which).network
        tokens = torch.zeros(1, 3, dtype=torch.int64)
        if fits:
            assert network.decode(tokens, size=(32, 32)).shape == (1, 3, 32, 32)
        else:
            with pytest.raises(VtbenchError, match="there are 3 tokens, but this network's images have 6"):
                network.decode(tokens, size=(32, 32))
    with pytest.raises(VtbenchError, match="there are 0 tokens"):
        small("prefix").network.decode(torch.zeros(1, 0, dtype=torch.int64), size=(32, 32))


# -- a length that varies --------------------------------------------------------------------------------------------


def test_a_budget_keeps_the_first_tokens_and_pays_for_their_number() -> None:
    tokenizer = small("prefix")
    images = random_images(2, 32, 32)
    whole = tokenizer.encode(images, [0, 1])
    few = tokenizer.encode(images, [0, 1], 2.0)
    assert isinstance(whole, Codes)
    assert isinstance(few, Codes)
    assert torch.equal(few.indices, whole.indices[:, :2])
    assert few.variable
    assert list(few.bits()) == pytest.approx([2 * math.log2(40) + math.log2(3)] * 2)
    assert list(whole.bits()) == pytest.approx([6 * math.log2(40) + math.log2(7)] * 2)
    assert not torch.allclose(tokenizer.decode(few, [0, 1]), tokenizer.decode(whole, [0, 1]), atol=1e-3)
    assert torch.equal(small("prefix", tokens=2).encode(images, [0, 1]).indices, few.indices)  # type: ignore[attr-defined]
    # Images of different lengths in one batch are each painted from their own tokens.
    mixed = Codes.join([whole[0], few[1]])
    assert mixed.positions == [6, 2]
    apart = torch.cat([tokenizer.decode(whole[0], [0]), tokenizer.decode(few[1], [1])])
    assert torch.equal(tokenizer.decode(mixed, [0, 1]), apart)


@pytest.mark.parametrize("budget", [0.0, -1.0, 7.0, 2.5, math.nan, math.inf])
def test_a_budget_that_means_nothing_is_refused(budget: float) -> None:
    with pytest.raises(VtbenchError, match="give a whole number from 1 to 6"):
        small("prefix").encode(random_images(1, 32, 32), [0], budget)


# -- a set -----------------------------------------------------------------------------------------------------------


def test_a_set_has_no_order() -> None:
    tokenizer = small("set")
    codes = tokenizer.encode(random_images(1, 32, 32), [0])
    assert isinstance(codes, Codes)
    assert codes.unordered
    assert torch.equal(codes.indices, codes.indices.sort(dim=1).values)
    assert codes.bits()[0] == pytest.approx(math.log2(math.comb(6 + 40 - 1, 6)))
    assert codes.bits()[0] < codes.ordered_bits()[0] == pytest.approx(6 * math.log2(40))
    network = tokenizer.network
    tokens = codes.indices[..., 0]
    pictures = [network.decode(order, size=(32, 32)) for order in (tokens, tokens.flip(1))]
    assert torch.allclose(*pictures, atol=1e-4)
    # TiTok's tokens have places, which change the picture.
    placed = small("mixes").network
    assert not torch.allclose(*(placed.decode(t, size=(32, 32)) for t in (tokens, tokens.flip(1))), atol=1e-2)


def test_the_check_of_a_set_says_both_rates() -> None:
    tokenizer = small("set")
    tokenizer.card = replace(tokenizer.card, alphabets=(40,), tokens_at_256=6, latent_channels=5)
    verdict, text = checks.facts(tokenizer, 32)
    assert verdict == "passed", text
    multiset, sequence = (math.log2(math.comb(45, 6)) / 32**2, 6 * math.log2(40) / 32**2)
    assert text == f"discrete, 6 positions, {multiset:.4g} bits a pixel as a multiset ({sequence:.4g} as a sequence)"


def test_the_card_says_both_rates() -> None:
    card = registry.model("tokenset").card
    positions, (codes,) = card.tokens_at_256 or 0, card.alphabets
    assert f"{math.log2(math.comb(positions + codes - 1, positions)):.1f} bits" in (card.note or "")
    assert f"{positions * math.log2(codes):.0f} bits" in (card.note or "")


# -- a text ----------------------------------------------------------------------------------------------------------


def test_the_decoder_reads_the_caption() -> None:
    images = random_images(2, 32, 32)
    plain, told = small("text"), small("text", caption="A photo of a jay.")
    tokens = plain.encode(images, [0, 1])
    assert torch.equal(numbers(told.encode(images, [0, 1])), numbers(tokens)), "the encoder reads no text"
    silent, guided = plain.decode(tokens, [0, 1]), told.decode(tokens, [0, 1])
    assert not torch.allclose(silent, guided, atol=1e-3)
    assert tokens.bits()[0] == pytest.approx(6 * math.log2(40))
    with pytest.raises(VtbenchError, match="text features are None, but this decoder takes"):
        plain.network.decode(tokens.indices[..., 0], size=(32, 32))  # type: ignore[attr-defined]
    with pytest.raises(VtbenchError, match="takes None"):
        small("paints").network.decode(
            tokens.indices[..., 0],  # type: ignore[attr-defined]
            size=(32, 32),
            text_guidance=torch.zeros(1, 77, 64),
        )


def test_tokenizer_and_text_encoder_come_from_a_file_each(tmp_path: Path) -> None:
    made = small("text", caption="a jay")
    files = {"model": tmp_path / "model.pt", "text_encoder": tmp_path / "clip.pt"}
    torch.save(made.network.state_dict(), files["model"])
    beside = {"visual.conv1.weight": torch.ones(2), "logit_scale": torch.ones([]), "context_length": torch.tensor(77)}
    tower = fill_(TextTower(width=64, layers=12, heads=1))
    torch.save({**tower.state_dict(), **beside}, files["text_encoder"])
    loaded = made.family.build(made.card, {})
    loaded.load(files)
    images = random_images(1, 32, 32)
    tokens = made.encode(images, [0])
    assert torch.equal(numbers(loaded.encode(images, [0])), numbers(tokens))
    assert torch.allclose(loaded.decode(tokens, [0]), made.decode(tokens, [0]), atol=1e-5)
    with torch.no_grad():
        tower.ln_final.bias += 1
    torch.save(tower.state_dict(), files["text_encoder"])
    loaded.load(files)
    assert not torch.allclose(loaded.decode(tokens, [0]), made.decode(tokens, [0]), atol=1e-3)
    torch.save({"other": torch.ones(2)}, files["text_encoder"])
    with pytest.raises(VtbenchError):
        loaded.load(files)


def test_the_text_encoders_file_is_the_one_that_metrics_take() -> None:
    (text,) = [w for w in registry.model("tatitok-bl32-vq").card.weights if w.role == "text_encoder"]
    metric = metric_weights.entry("clip-vit-l14-336-openai")
    assert (text.sha256, text.url, text.file) == (metric.sha256, metric.url, metric.file)


# -- generators over them --------------------------------------------------------------------------------------------


def test_maskgit_draws_titoks_tokens(tmp_path: Path) -> None:
    """The generators that were here before their tokenizers."""
    vit = {**VIT, "patch_size": 64, "width": 16, "heads": 2}
    titok = replace(
        registry.model("titok-l32").card, arch={**PAINTS, "image_size": 256, "encoder": vit, "decoder": vit}
    )
    entry = registry.model("maskgit-titok-l32")
    config = copy.deepcopy(dict(entry.card.arch or {}))
    config["model"]["vq_model"].update(codebook_size=40, num_latent_tokens=6)
    config["model"]["generator"].update(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_seq_len=6
    )
    torch.save(fill_(build_network(entry.family, config)).state_dict(), tmp_path / "model.pt")
    tokenizer = filled(registry.family("titok"), replace(titok, alphabets=(40,)))
    generator = entry.family.build(replace(entry.card, arch=config), dict(entry.card.options))
    generator.attach(tokenizer)
    generator.load({"model": tmp_path / "model.pt"})
    images = generator.generate([Prompt(id="a", label=1), Prompt(id="b", label=7)], [1, 2])
    assert images.shape == (2, 3, 256, 256)
    assert not torch.allclose(images[0], images[1], atol=1e-2)


# -- a posterior -----------------------------------------------------------------------------------------------------


def test_a_sample_of_the_posterior_is_the_seeds() -> None:
    images = random_images(1, 32, 32).repeat(2, 1, 1, 1)
    drawn = small("KL", posterior="sample").encode(images, [1, 2])
    mean = small("KL").encode(images, [1, 2])
    assert isinstance(drawn, Latents)
    assert isinstance(mean, Latents)
    assert drawn.values.shape == mean.values.shape == (2, 5, 1, 6)
    assert mean.positions == [6, 6]
    assert torch.allclose(mean.values[0], mean.values[1], atol=1e-5)
    assert not torch.allclose(drawn.values[0], drawn.values[1], atol=1e-2)
    again = small("KL", posterior="sample").encode(images, [2, 1])
    assert torch.allclose(numbers(again), drawn.values.flip(0), atol=1e-5)


# -- bits ------------------------------------------------------------------------------------------------------------


def test_thirty_six_bits_are_books_of_one_position() -> None:
    """Upstream's own index is wrong beyond 24 bits, so bits are what is counted."""
    codes = small("bits").encode(random_images(2, 16, 24), [0, 1])
    assert isinstance(codes, Codes)
    assert codes.alphabets == (2,) * 36
    assert codes.grids == ((4, 3),)
    assert list(codes.bits()) == [36 * 12] * 2
    assert codes.positions == [12, 12]


def test_a_logit_laplace_decoder_stays_in_its_range() -> None:
    network = small("laplace").network
    assert network.value_range == (0.1, 0.9)
    picture = network.decode(torch.zeros(1, 12, 36, dtype=torch.int64), size=(16, 24))
    assert 0 < float(picture.min()) < float(picture.max()) < 1


@pytest.mark.parametrize("key", ["state_dict", "ema_state_dict"])
def test_bsq_vit_loads_from_both_of_its_containers(tmp_path: Path, key: str) -> None:
    """bsqvit.py:55-66: averaged weights under module.module. beside their counter, raw ones under module."""
    made = small("bits")
    prefix = "module.module." if key == "ema_state_dict" else "module."
    state = {prefix + n: t for n, t in made.network.state_dict().items()}
    state[f"{prefix}quantize.basis"] = 2 ** torch.arange(36)
    content: dict[str, Any] = {key: state}
    if key == "ema_state_dict":
        state["n_averaged"] = torch.tensor(3)
        content["state_dict"] = {f"module.{n}": t + 1 for n, t in made.network.state_dict().items()}
    torch.save(content, tmp_path / "file.pt")
    loaded = made.family.build(made.card, {})
    loaded.load({"model": tmp_path / "file.pt"})
    images = random_images(1, 16, 24)
    assert torch.equal(numbers(loaded.encode(images, [0])), numbers(made.encode(images, [0])))
