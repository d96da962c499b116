"""MAR's KL-16, the continuous tokenizer of MAR, xAR and others, from MAR's own file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "LTH14/mar@fe470ac",
    licence="LICENSE",
    arch="models/vae.py, main_mar.py",
    weights="util/download.py:7-11",
)
_SOURCES["trained_on"] = "arXiv:2406.11838; the README names only what the generators were trained on"

CARDS = (
    Card(
        name="mar-kl16-vae",
        family="mar-vae",
        kind="continuous",
        title="KL-16 of MAR",
        sizes=Multiple(of=16, at_least=16),
        licence="MIT",
        paper="https://arxiv.org/abs/2406.11838",
        code="https://github.com/LTH14/mar",
        sources=_SOURCES,
        weights=(
            # util/download.py:7-11
            Weights(
                file="kl16.ckpt",
                url="https://www.dropbox.com/scl/fi/hhmuvaiacrarfg28qxhwz/kl16.ckpt?rlkey=l44xipsezc8atcffdp4q7mwmh&dl=1",
                key=("model",),
                licence="MIT",
            ),
        ),
        tokens_at_256=256,
        latent_channels=16,
        downsample=16,
        value_range=(-1.0, 1.0),
        trained_on=("ImageNet-1k",),
        options={"posterior": "mode", "latent_dtype": "float16"},
        published=(
            Published("rfid", 0.573, "issues of LTH14/mar (a user's test)", validation("ImageNet", 256, 50_000)),
        ),
        arch=archs.mar_kl16(),
        note="Latents are counted as generators see them, times 0.2325. Upstream draws from the posterior.",
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="mar-vae",
    title="MAR's KL autoencoder",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.kl:KlAutoencoder",
)
"""Fixtures of this network are TokenBridge's, which has a quantizer behind it."""
