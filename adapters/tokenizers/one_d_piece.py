"""One-D-Piece: TiTok of a variable length; the first tokens say most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import PrefixTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "turingmotors/One-D-Piece@473665d",
    licence="README.md:135",
    trained_on="README.md:21-23",
    arch="modeling/one_d_piece.py",
    weights="README.md:21-23",
)


def _card(letter: str, size: str, rfid: float) -> Card:
    tokens, codes = 256, 4096
    return Card(
        name=f"one-d-piece-{letter}256",
        family="one-d-piece",
        kind="discrete",
        title=f"One-D-Piece-{letter.upper()}-256, 1 to 256 tokens of 4096 codes",
        sizes=Fixed(256),
        licence="Apache-2.0",
        paper="https://arxiv.org/abs/2501.10064",
        code="https://github.com/turingmotors/One-D-Piece",
        sources=_SOURCES,
        # PyTorchModelHubMixin's default name.
        weights=(
            Weights(
                file="model.safetensors", hub=f"turing-motors/One-D-Piece-{letter.upper()}-256", licence="Apache-2.0"
            ),
        ),
        tokens_at_256=tokens,
        alphabets=(codes,),
        latent_channels=12,
        value_range=(0.0, 1.0),
        trained_on=("ImageNet-1k",),
        options={"tokens": tokens},
        knob="tokens",
        knob_values=(1, 8, 16, 32, 64, 128, 256),
        published=(
            Published(
                "rfid",
                rfid,
                "One-D-Piece README (arXiv:2501.10064)",
                validation("ImageNet", 256, 50_000, options=(("tokens", 256),)),
                "256 tokens",
            ),
        ),
        arch=archs.titok(size, size, tokens=tokens, channels=12, codes=codes, legacy=True),
        aliases=(f"one_d_piece_{letter}256",),
        note="tokens: how many an image keeps; the rate is theirs and that of their number.",
    )


CARDS = (_card("l", "large", 1.08), _card("b", "base", 1.11), _card("s", "small", 1.48))


def _build(card: Card, options: Mapping[str, Any]) -> PrefixTokenizer:
    return PrefixTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="one-d-piece",
    title="One-D-Piece",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.titok:OneDPiece",
    fixtures=("one-d-piece",),
)
