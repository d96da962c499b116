"""SEED: 32 causal codes of an image's meaning, which end at an embedding of it and not at pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Weights, stated

_SOURCES = stated(
    "AILab-CVC/SEED@93b3cf4",
    licence="README.md:273, License.txt",
    trained_on="README.md names none for the tokenizer",
    arch="models/seed_qformer/qformer_quantizer.py",
    weights="README.md",
)

CARDS = (
    Card(
        name="seed-tokenizer-2",
        family="seed",
        kind="discrete",
        title="SEED tokenizer 2, 32 codes, to an image embedding",
        sizes=Fixed(224),
        licence="Apache-2.0 with notices",
        paper="https://arxiv.org/abs/2307.08041",
        code="https://github.com/AILab-CVC/SEED",
        sources=_SOURCES,
        # A flat state dict, which upstream loads non-strictly (qformer_quantizer.py:432).
        weights=(
            Weights(file="seed_quantizer.pt", hub="AILab-CVC/seed-tokenizer-2", licence="Apache-2.0 with notices"),
        ),
        tokens_at_256=32,
        alphabets=(8192,),
        latent_channels=32,
        no_pixels=archs.TO_AN_EMBEDDING,
        arch={
            "in_channels": 3,
            "image_size": 224,
            "pixel_mean": [0.48145466, 0.4578275, 0.40821073],
            "pixel_std": [0.26862954, 0.26130258, 0.27577711],
            "queries": 32,
            "causal_queries": True,
            "vit": {
                "type": "eva-clip g (BEiT style, q and v bias only, no final norm)",
                "patch_size": 14,
                "width": 1408,
                "layers": 39,
                "heads": 16,
                "mlp": 6144,
                "norm_eps": 1e-6,
            },
            "ln_vision_eps": 1e-5,
            "qformer": {
                "width": 768,
                "layers": 12,
                "heads": 12,
                "mlp": 3072,
                "cross_attention_every": 2,
                "norm_eps": 1e-12,
            },
            "quantizer": {"type": "vq", "codebook_size": 8192, "embed_dim": 32, "l2_norm": False},
            "decoder": {
                "layers": 4,
                "heads": 12,
                "mlp_ratio": 4,
                "norm_eps": 1e-6,
                "image_head": "three linears",
                "image_features": 1024,
                "pixels": "Stable Diffusion 2.1 unCLIP (not part of this fixture)",
            },
        },
        note=(
            "Upstream paints pictures from the embedding with Stable Diffusion 2.1 unCLIP (20 steps, guidance 10, "
            "latents drawn once)."
        ),
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="seed",
    title="SEED",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.seed:Seed",
    fixtures=("seed",),
)
