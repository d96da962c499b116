"""TokenSet: an image as a multiset of codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "Gengzigang/TokenSet@6d0fc53",
    licence="LICENSE (the words of MIT, without its name)",
    trained_on="README.md:102",
    arch="set_tokenizer/model.py",
    weights="README.md:48",
)

_TOKENS, _CODES = 128, 4096

CARDS = (
    Card(
        name="set-tokenizer-128-4096",
        family="tokenset",
        kind="discrete",
        title="TokenSet, a multiset of 128 of 4096 codes",
        sizes=Fixed(256),
        licence="MIT",
        paper="https://arxiv.org/abs/2503.16425",
        code="https://github.com/Gengzigang/TokenSet",
        sources=_SOURCES,
        # A flat state dict in a folder of Google Drive.
        weights=(
            Weights(
                file="set_tokenizer_128_4096.pth",
                url="https://drive.google.com/drive/folders/1wf05nt7TGDoQV6lj10-hxfZoW3HSk9rZ",
                licence="MIT",
            ),
        ),
        tokens_at_256=_TOKENS,
        alphabets=(_CODES,),
        latent_channels=12,
        value_range=(-1.0, 1.0),
        trained_on=("ImageNet-1k",),
        published=(Published("rfid", 2.74, "TokenSet README (arXiv:2503.16425)", validation("ImageNet", 256, 50_000)),),
        arch={
            **archs.titok("base", "base", tokens=_TOKENS, channels=12, codes=_CODES, legacy=True),
            "latent_positions": False,
            "pixel_decoder": archs.maskgit_decoder(),
        },
        aliases=("set_tokenizer_128_4096", "tokenset"),
        note=(
            "The tokens have no order, and the rate counted is log2 of the number of multisets: 822.7 bits an image. "
            "As a sequence the 128 tokens would be 1536 bits. The URL is a folder: fetch the file by hand."
        ),
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="tokenset",
    title="TokenSet",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.titok:TokenSet",
    fixtures=("tokenset",),
)
