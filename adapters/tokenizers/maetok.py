"""MAETok: SoftVQ-VAE's network without a quantizer, trained as a masked autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "Hhhhhhao/continuous_tokenizer@7cc3e96",
    trained_on="README.md:46-57 (rates by ImageNet alone; arXiv:2502.03444)",
    weights="README.md:48-49",
    arch="modelling/modules/timm_vit, demo/maetok.ipynb",
)
_SOURCES["licence"] = "Hhhhhhao/continuous_tokenizer@7cc3e96 has no licence file; the hub's pages show none"

_README = "README of Hhhhhhao/continuous_tokenizer (arXiv:2502.03444)"
_GPS = "GPSToken README"
_LICENCE = "none stated (neither in the repository nor on the hub's pages as read)"


def _card(name: str, side: int, published: tuple[Published, ...]) -> Card:
    return Card(
        name=name,
        family="maetok",
        kind="continuous",
        title=f"MAETok B, 128 tokens, {side} x {side}",
        sizes=Fixed(side),
        licence=_LICENCE,
        paper="https://arxiv.org/abs/2502.03444",
        code="https://github.com/Hhhhhhao/continuous_tokenizer",
        sources=_SOURCES,
        # demo/maetok.ipynb loads these names; the README links the larger one as maetok-b-512.
        weights=(Weights(file="model.safetensors", hub=f"MAETok/{name}", licence=_LICENCE),),
        tokens_at_256=128,
        latent_channels=32,
        value_range=(-1.0, 1.0),
        trained_on=("ImageNet-1k",),
        options={"latent_dtype": "float16"},
        published=published,
        arch=archs.continuous_tokenizer("base", "base", 128, image_size=side, rope=True, quantizer=None),
    )


_256 = validation("ImageNet", 256, 50_000)
CARDS = (
    _card(
        "maetok-b-128",
        256,
        (
            Published("rfid", 0.48, _README, _256),
            Published("rfid", 0.65, _GPS, _256),
            Published("psnr", 23.25, _GPS, _256),
            Published("ssim", 0.626, _GPS, _256),
            Published("lpips", 0.096, _GPS, _256),
        ),
    ),
    _card("maetok-b-128-512", 512, (Published("rfid", 0.62, _README, validation("ImageNet", 512, 50_000)),)),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="maetok",
    title="MAETok",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.softvq:ContinuousTokenizer",
    fixtures=("maetok",),
)
