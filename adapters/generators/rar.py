"""RAR's generators."""

from __future__ import annotations

from typing import Any

from vtbench.models.native_generator import NativeGenerator, build
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import samples

_SOURCES = stated(
    "bytedance/1d-tokenizer@942a96f",
    licence="LICENSE",
    trained_on="README_RAR.md:40",
    arch="configs/training/generator/rar.yaml",
    weights="README_RAR.md:35-38",
    tokenizer="README_RAR.md:61",
    options='README_RAR.md ("Testing on ImageNet-1K Benchmark")',
)


def _card(
    size: str,
    fid: float,
    dim: int,
    depth: int,
    guidance: float,
    power: float,
    warmth: float = 1.02,
    *,
    hidden: int | None = None,
) -> Card:
    return Card(
        name=f"rar-{size}",
        family="rar",
        kind="generator",
        title=f"RAR-{size.upper()}",
        sizes=Fixed(256),
        licence="Apache-2.0",
        paper="https://arxiv.org/abs/2411.00776",
        code="https://github.com/bytedance/1d-tokenizer",
        sources=_SOURCES,
        weights=(Weights(file=f"rar_{size}.bin", hub="yucornetto/RAR", licence="Apache-2.0"),),
        options={
            "guidance_scale": guidance,
            "guidance_scale_pow": power,
            "randomize_temperature": warmth,
            "cache": True,
        },
        published=(Published("fid", fid, "README_RAR.md:35-38", samples("ADM", 50_000)),),
        trained_on=("ImageNet-1k",),
        arch={
            "model": {
                "vq_model": {"codebook_size": 1024},
                "generator": {
                    "hidden_size": dim,
                    "num_hidden_layers": depth,
                    "num_attention_heads": 16,
                    "intermediate_size": hidden or 4 * dim,
                    "image_seq_len": 256,
                    "condition_num_classes": 1000,
                },
            }
        },
        aliases=(f"rar_{size}",),
        tokenizer="maskgit-vqgan-imagenet-f16-256",
        conditioning="class",
        stochastic=True,
    )


CARDS = (
    _card("b", 1.95, 768, 24, 16.0, 2.75, 1.0),
    _card("l", 1.70, 1024, 24, 15.5, 2.5),
    _card("xl", 1.50, 1280, 32, 6.9, 1.5),
    _card("xxl", 1.48, 1408, 40, 8.0, 1.2, hidden=6144),
)


def _sample(generator: NativeGenerator, labels: Any, noise: Any) -> tuple[Any, dict[str, float]]:
    tokens = generator.network.generate(labels, noise, **generator.options)
    return generator.of_codes(tokens, generator.network.pixels, len(tokens)), {"nfe": float(generator.network.length)}


FAMILY: Family = Family(
    name="rar",
    title="RAR randomised autoregressive transformer",
    cards=CARDS,
    build=build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.rar:Rar",
    fixtures=("rar",),
)
