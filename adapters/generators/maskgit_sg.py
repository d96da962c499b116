"""MaskGIT with self-guidance (UnlockMGM)."""

from __future__ import annotations

from typing import Any

from vtbench.models.native_generator import NativeGenerator, build
from vtbench.types.cards import Card, Family, Fixed, Weights, stated

_SOURCES = stated(
    "JiwanHur/UnlockMGM@33e139a",
    licence="has no licence file",
    trained_on="README.md:32, 70-71",
    weights="README.md:70-71",
    tokenizer="README.md:34-37 (MaskGIT's)",
    arch="configs/ft_256_toast_cls_b256_corr.yaml",
    options="evaluations/sample_sg_256.py",
)


def _card(size: int, warmth: float) -> Card:
    tokens = (size // 16) ** 2
    return Card(
        name=f"maskgit-sg-{size}",
        family="maskgit-sg",
        kind="generator",
        title=f"MaskGIT with self-guidance, {size} x {size}",
        sizes=Fixed(size),
        licence="none stated (the repository has no licence file)",
        paper="https://arxiv.org/abs/2410.13136",
        code="https://github.com/JiwanHur/UnlockMGM",
        sources=_SOURCES,
        # In a zip, of which no single file can be fetched.
        weights=(Weights(file="pytorch_model.bin"),),
        trained_on=("ImageNet-1k",),
        # guidance_scale 0 is MaskGIT's plain decoding, in half the evaluations.
        options={"guidance_scale": 1.0, "temperature": warmth, "timesteps": 18, "noise_schedule": "cosine"},
        arch={
            "vocab_size": 2025,
            "max_position_embeddings": tokens + 1,
            "hidden_size": 768,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 3072,
            "codebook_size": 1024,
            "num_vq_tokens": tokens,
            "num_classes": 1000,
            "norm_type": "layernorm",
            "layer_norm_eps": 1e-12,
            "layer_norm_embeddings": True,
            "use_normformer": False,
            "use_encoder_layernorm": False,
            "use_mlm_layer": True,
            "use_mlm_layernorm": True,
            "use_maskgit_mlp": True,
            "use_bias": True,
            "use_toast": True,
            "tg_factor": 16,
            "use_blank_second": True,
        },
        aliases=(f"maskgit_sg_{size}",),
        tokenizer="maskgit-vqgan-imagenet-f16-256",
        conditioning="class",
        stochastic=True,
        note=f"Released as UnlockMGM_imagenet_{size}.zip in HURJIWAN/UnlockMGM on the hub: unpack it, and give its "
        "pytorch_model.bin by --checkpoint.",
    )


CARDS = (_card(256, 25.0), _card(512, 45.0))


def _sample(generator: NativeGenerator, labels: Any, noise: Any) -> tuple[Any, dict[str, float]]:
    options, network = generator.options, generator.network
    tokens = network.generate(labels, noise, **options)
    # A guided step is two passes.
    passes = options["timesteps"] * (2 if options["guidance_scale"] else 1)
    return generator.of_codes(tokens, network.pixels, len(tokens)), {"nfe": float(passes)}


FAMILY: Family = Family(
    name="maskgit-sg",
    title="MaskGIT with self-guidance",
    cards=CARDS,
    build=build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.maskgit_sg:MaskGitSg",
    fixtures=("maskgit-sg",),
)
