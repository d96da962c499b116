"""SoftVQ-VAE: 32 or 64 continuous latent tokens, each a soft mixture of codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "Hhhhhhao/continuous_tokenizer@7cc3e96",
    trained_on="configs/softvq-l-64.yaml:11-12",
    arch="configs/softvq-l-64.yaml",
    weights="README.md:63-72",
)
_SOURCES["licence"] = "Hhhhhhao/continuous_tokenizer@7cc3e96 has no licence file; the hub's pages show none"

_README = "README of Hhhhhhao/continuous_tokenizer (arXiv:2412.10958)"
_LICENCE = "none stated (neither in the repository nor on the hub's pages as read)"
# configs/softvq-l-64.yaml; the repository has no other configuration.
_QUANTIZER = {"type": "softvq", "codebook_size": 8192, "num_codebooks": 4, "tau": 0.07, "l2_norm": True}


def _card(size: str, tokens: int, rfid: float, *, side: int = 256) -> Card:
    """`size`: b, bl or l, a letter a half, or one for both."""
    name = f"softvq-{size}-{tokens}{'' if side == 256 else f'-{side}'}"
    encoder, decoder = ("large" if letter == "l" else "base" for letter in (size[0], size[-1]))
    return Card(
        name=name,
        family="softvq",
        kind="continuous",
        title=f"SoftVQ-VAE {size.upper()}, {tokens} tokens, {side} x {side}",
        sizes=Fixed(side),
        licence=_LICENCE,
        paper="https://arxiv.org/abs/2412.10958",
        code="https://github.com/Hhhhhhao/continuous_tokenizer",
        sources=_SOURCES,
        weights=(Weights(file="model.safetensors", hub=f"SoftVQVAE/{name}", licence=_LICENCE),),
        tokens_at_256=tokens,
        latent_channels=32,
        value_range=(-1.0, 1.0),
        trained_on=("ImageNet-1k",),
        options={"latent_dtype": "float16"},
        published=(Published("rfid", rfid, _README, validation("ImageNet", side, 50_000)),),
        arch=archs.continuous_tokenizer(encoder, decoder, tokens, image_size=side, rope=False, quantizer=_QUANTIZER),
        note="Sizes other than l-64 follow its configuration; the hub's config.json is the authority.",
    )


CARDS = (
    _card("l", 64, 0.61),
    _card("bl", 64, 0.65),
    _card("b", 64, 0.88),
    _card("l", 32, 0.74),
    _card("bl", 32, 0.68),
    _card("b", 32, 0.89),
    _card("bl", 64, 0.71, side=512),
    _card("l", 32, 0.64, side=512),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="softvq",
    title="SoftVQ-VAE",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.softvq:ContinuousTokenizer",
    fixtures=("softvq",),
)
