"""MaskGIT generators over TiTok's tokens."""

from __future__ import annotations

from typing import Any

from vtbench.models.native_generator import NativeGenerator, build
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import samples

_SOURCES = stated(
    "bytedance/1d-tokenizer@942a96f",
    licence="LICENSE",
    trained_on="README_TiTok.md:36-38 (the files' names)",
    arch="configs/infer/TiTok/*.yaml",
    weights="README_TiTok.md:36-38",
    tokenizer="README_TiTok.md:36-38",
    options='README_TiTok.md ("Testing on ImageNet-1K Benchmark")',
)


def _card(
    variant: str, tokens: int, fid: float, *, warmth: float, guidance: float, decay: str, steps: int, uvit: bool = False
) -> Card:
    return Card(
        name=f"maskgit-titok-{variant}",
        family="maskgit-titok",
        kind="generator",
        title=f"MaskGIT on TiTok-{variant.upper()}",
        sizes=Fixed(256),
        licence="Apache-2.0",
        paper="https://arxiv.org/abs/2406.07550",
        code="https://github.com/bytedance/1d-tokenizer",
        sources=_SOURCES,
        weights=(Weights(file=f"generator_titok_{variant}.bin", hub="fun-research/TiTok", licence="Apache-2.0"),),
        options={
            "guidance_scale": guidance,
            "guidance_decay": decay,
            "guidance_scale_pow": 3.0,
            "randomize_temperature": warmth,
            "softmax_temperature_annealing": uvit,
            "num_sample_steps": steps,
        },
        published=(Published("fid", fid, "README_TiTok.md:36-38", samples("ADM", 50_000)),),
        trained_on=("ImageNet-1k",),
        arch={
            "model": {
                "vq_model": {"codebook_size": 4096, "num_latent_tokens": tokens},
                "generator": {
                    "model_type": "UViT" if uvit else "ViT",
                    "hidden_size": 1024 if uvit else 768,
                    "num_hidden_layers": 20 if uvit else 24,
                    "num_attention_heads": 16,
                    "intermediate_size": 4096 if uvit else 3072,
                    "image_seq_len": tokens,
                    "condition_num_classes": 1000,
                },
            }
        },
        aliases=(f"maskgit_titok_{variant}",),
        tokenizer=f"titok-{variant}",
        conditioning="class",
        stochastic=True,
    )


CARDS = (
    _card("l32", 32, 2.77, warmth=9.5, guidance=4.5, decay="linear", steps=8),
    _card("b64", 64, 2.48, warmth=11.0, guidance=3.0, decay="linear", steps=8),
    _card("s128", 128, 1.97, warmth=2.8, guidance=6.9, decay="power-cosine", steps=64, uvit=True),
)


def _sample(generator: NativeGenerator, labels: Any, noise: Any) -> tuple[Any, dict[str, float]]:
    tokens = generator.network.generate(labels, noise, **generator.options)
    return generator.of_codes(tokens, 256, len(tokens)), {"nfe": float(generator.options["num_sample_steps"])}


FAMILY: Family = Family(
    name="maskgit-titok",
    title="MaskGIT on TiTok",
    cards=CARDS,
    build=build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.maskgit_titok:MaskGit",
    fixtures=("maskgit-titok",),
)
