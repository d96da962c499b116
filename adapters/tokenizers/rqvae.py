"""RQ-VAE (kakaobrain): taming's network, every position coded by a sum of codebook rows, depth by depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Weights, stated

_SOURCES = stated(
    "kakaobrain/rq-vae-transformer@341395e",
    licence="README.md:249-251",
    trained_on="README.md:36-46, 140-145 (LSUN: one epoch more of a trained one, by its sizes ImageNet's)",
    arch="configs/*/stage1/*-rqvae-8x8x4.yaml",
    weights="README.md:36-46",
)

_FILES = "https://twg.kakaocdn.net/brainrepo/models/RQVAE"
_DEPTH = 4


def _card(
    name: str, title: str, archive: str, trained_on: tuple[str, ...], *, codes: int = 16384, at: Sequence[int] = (8,)
) -> Card:
    quantizer = {
        "type": "residual",
        "codebook_size": codes,
        "embed_dim": 256,
        "depth": _DEPTH,
        "shared_codebook": True,
        "latent_shape": [8, 8, 256],
        "code_shape": [8, 8, _DEPTH],
        "padding_rows": 1,
        "l2_norm": False,
    }
    return Card(
        name=f"rqvae-{name}",
        family="rqvae",
        kind="discrete",
        title=title,
        sizes=Multiple(of=32, at_least=32),
        licence="CC-BY-NC-SA-4.0",
        paper="https://arxiv.org/abs/2203.01941",
        code="https://github.com/kakaobrain/rq-vae-transformer",
        sources=_SOURCES,
        # The averaged copy, where a file has one, lies under state_dict_ema; upstream's rFID script reads state_dict.
        weights=(
            Weights(
                file="model.pt",
                url=f"{_FILES}/{archive}",
                key=("state_dict",),
                licence="CC-BY-NC-SA-4.0",
                ema=False,
            ),
        ),
        tokens_at_256=64,
        alphabets=(codes,) * _DEPTH,
        latent_channels=256,
        downsample=32,
        value_range=(-1.0, 1.0),
        trained_on=trained_on,
        arch=archs.taming(quantizer, ch_mult=(1, 1, 2, 2, 4, 4), attn_resolutions=at),
        note=(
            "The URL is a tar.gz archive; the stage-1 checkpoint's name in it is not stated upstream. "
            "The four codebooks in the file are copies of one. The code is Apache-2.0."
        ),
    )


CARDS = (
    _card(
        "imagenet-8x8x4",
        "RQ-VAE 8x8x4, ImageNet",
        "7518a004fe39120fcffbba76005dc6c3/imagenet_480M.tar.gz",
        ("ImageNet-1k",),
    ),
    _card(
        "imagenet-8x8x4-50e",
        "RQ-VAE 8x8x4, ImageNet, 50 epochs",
        "6714b47bb9382076923590eff08b1ee5/imagenet_1.4B_rqvae_50e.tar.gz",
        ("ImageNet-1k",),
    ),
    _card(
        "ffhq-8x8x4",
        "RQ-VAE 8x8x4, FFHQ",
        "d47570aeff6ba300735606a806f54663/ffhq.tar.gz",
        ("FFHQ",),
        codes=2048,
        at=(16,),
    ),
    _card(
        "lsun-bedroom-8x8x4",
        "RQ-VAE 8x8x4, LSUN bedroom",
        "06b72c164cd2fe64fc8ebd6b42b0040f/bedroom.tar.gz",
        ("ImageNet-1k", "LSUN bedroom"),
    ),
    _card(
        "lsun-cat-8x8x4",
        "RQ-VAE 8x8x4, LSUN cat",
        "92b4e6a9ace09c9ab8ff9d3b3e688367/cat.tar.gz",
        ("ImageNet-1k", "LSUN cat"),
    ),
    _card(
        "lsun-church-8x8x4",
        "RQ-VAE 8x8x4, LSUN church",
        "deeb3e0ac6e09923754e3e594ede7b01/church.tar.gz",
        ("ImageNet-1k", "LSUN church"),
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="rqvae",
    title="RQ-VAE (kakaobrain)",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.taming:Taming",
    fixtures=("rq-vae",),
)
