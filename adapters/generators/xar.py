"""xAR's generators."""

from __future__ import annotations

from typing import Any

from vtbench.models.native_generator import NativeGenerator, build
from vtbench.types.cards import Card, Family, Fixed, Weights, stated

_SOURCES = stated(
    "OliverRensu/xAR@121e9c9",
    licence="has no licence file",
    trained_on='README.md ("Preparation": ImageNet)',
    arch="models/xar.py",
    weights='README.md ("Evaluation")',
    tokenizer='README.md ("Preparation": that of MAR)',
    options='README.md ("Evaluation")',
)

SCALE = 0.2325
"""Latents of the KL-16 tokenizer are multiplied by it before the model sees them (MAR's convention)."""


def _card(size: str, dim: int, depth: int, heads: int, steps: int, cfg: float) -> Card:
    return Card(
        name=f"xar-{size.lower()}",
        family="xar",
        kind="generator",
        title=f"xAR-{size}",
        sizes=Fixed(256),
        licence="none stated (the repository has no licence file)",
        paper="https://arxiv.org/abs/2502.20388",
        code="https://github.com/OliverRensu/xAR",
        sources=_SOURCES,
        weights=(Weights(file=f"xAR-{size}.pth", hub="OliverRen/xAR"),),
        options={"num_steps": steps, "cfg": cfg},
        trained_on=("ImageNet-1k",),
        arch={
            "img_size": 256,
            "vae_stride": 16,
            "patch_size": 1,
            "vae_embed_dim": 16,
            "class_num": 1000,
            "clusters": 4,
            "encoder_embed_dim": dim,
            "encoder_depth": depth,
            "encoder_num_heads": heads,
            "decoder_embed_dim": dim,
            "decoder_depth": depth,
            "decoder_num_heads": heads,
            "mlp_ratio": 4,
        },
        aliases=(f"xar_xAR-{size}",),
        tokenizer="mar-kl16-vae",
        conditioning="class",
        stochastic=True,
    )


CARDS = (
    _card("B", 768, 8, 12, 40, 2.7),
    _card("L", 1024, 16, 16, 50, 2.3),
    _card("H", 1280, 20, 16, 50, 2.2),
)


def _sample(generator: NativeGenerator, labels: Any, noise: Any) -> tuple[Any, dict[str, float]]:
    latents = generator.network.generate(labels, noise, **generator.options)
    return generator.of_latents(latents, 256), {"nfe": 4.0 * generator.options["num_steps"]}


FAMILY: Family = Family(
    name="xar",
    title="xAR next-cluster flow matching",
    cards=CARDS,
    build=build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.xar:Xar",
    fixtures=("xar",),
)
