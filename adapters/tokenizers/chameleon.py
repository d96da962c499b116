"""The VQGAN of Chameleon and Anole: taming's network with attention in the middle only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Weights, stated

_CHAMELEON, _ANOLE = "https://github.com/facebookresearch/chameleon", "https://github.com/GAIR-NLP/anole"
_SOURCES = {
    _CHAMELEON: stated(
        "facebookresearch/chameleon@dbbe47f",
        licence="README.md:61, LICENSE",
        trained_on="README.md names none",
        arch="chameleon/inference/vqgan.py",
        weights="README.md (by a form; VTBench reads huaweilin/chameleon_vqvae)",
    ),
    _ANOLE: stated(
        "GAIR-NLP/anole@af563fa",
        licence="README.md:156-165",
        trained_on="README.md names the language model's, not the tokenizer's",
        arch="README.md (Chameleon's)",
        weights="README.md:156-158",
    ),
}
_ARCH = archs.taming(archs.vq(8192, 256), attn_resolutions=(), resolution=512)


def _card(name: str, title: str, weights: Weights, *, code: str, paper: str) -> Card:
    return Card(
        name=name,
        family="chameleon",
        kind="discrete",
        title=title,
        sizes=Multiple(of=16, at_least=16),
        licence=weights.licence,
        paper=paper,
        code=code,
        sources=_SOURCES[code],
        weights=(weights,),
        tokens_at_256=256,
        alphabets=(8192,),
        latent_channels=256,
        downsample=16,
        value_range=(-1.0, 1.0),
        arch=_ARCH,
        note="Upstream resizes the short side to 512 and crops the centre: 1024 tokens.",
    )


CARDS = (
    _card(
        "chameleon-vqgan",
        "Chameleon's image tokenizer",
        # Meta's own download needs a form; this is the mirror that VTBench reads.
        Weights(
            file="vqgan.ckpt",
            hub="huaweilin/chameleon_vqvae",
            key=("state_dict",),
            licence="Chameleon Research License",
            ema=False,
        ),
        code=_CHAMELEON,
        paper="https://arxiv.org/abs/2405.09818",
    ),
    _card(
        "anole-7b-v0.1-vqgan",
        "Anole's image tokenizer (Chameleon's shapes)",
        Weights(
            file="tokenizer/vqgan.ckpt",
            hub="GAIR/Anole-7b-v0.1",
            key=("state_dict",),
            licence="Chameleon Research License",
            ema=False,
        ),
        code=_ANOLE,
        paper="https://arxiv.org/abs/2407.06135",
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="chameleon",
    title="Chameleon and Anole VQGAN",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.taming:Taming",
    fixtures=("chameleon",),
)
