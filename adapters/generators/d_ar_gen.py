"""D-AR's generators."""

from __future__ import annotations

from typing import Any

from vtbench.models.native_generator import NativeGenerator, build
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import samples

_SOURCES = stated(
    "showlab/D-AR@3fb0f2d",
    licence="README.md:34-35",
    trained_on="README.md:24",
    arch="README.md:27-28, configs",
    weights="README.md:27-28",
    tokenizer="README.md:27-28",
    options="README.md",
)


def _card(size: str, dim: int, depth: int, heads: int, *, fid: float, score: float) -> Card:
    return Card(
        name=f"d-ar-{size.lower()}",
        family="d-ar-gen",
        kind="generator",
        title=f"D-AR-{size}",
        sizes=Fixed(256),
        licence="MIT",
        paper="https://arxiv.org/abs/2505.23660",
        code="https://github.com/showlab/D-AR",
        sources=_SOURCES,
        weights=(
            Weights(
                file=f"D-AR-{size}-360K.pt",
                hub="showlab/D-AR",
                key=("model", "module", "state_dict"),
                prefix="_orig_mod.",
                licence="MIT",
            ),
        ),
        trained_on=("ImageNet-1k",),
        options={
            # First and last token's, evenly between (eval_c2i_fid.sh).
            "cfg_scale": "1.2,8.0",
            "cfg_interval": -1,
            "temperature": 1.0,
            "top_k": 0,
            "top_p": 1.0,
            "cache": True,
        },
        published=(
            Published("fid", fid, "D-AR README.md", samples("ADM", 50_000)),
            Published("is", score, "D-AR README.md", samples("ADM", 50_000)),
        ),
        arch={
            "dim": dim,
            "n_layer": depth,
            "n_head": heads,
            "multiple_of": 256,
            "model_type": "c2i",
            "vocab_size": 16384,
            "block_size": 256,
            "num_classes": 1000,
            "cls_token_num": 1,
        },
        aliases=(f"d-ar_gen_D-AR-{size}-360K",),
        tokenizer="d-ar-tokenizer-v1",
        conditioning="class",
        stochastic=True,
    )


CARDS = (
    _card("L", 1024, 24, 16, fid=2.44, score=262.9),
    _card("XL", 1280, 36, 20, fid=2.09, score=298.4),
)


def _sample(generator: NativeGenerator, labels: Any, noise: Any) -> tuple[Any, dict[str, float]]:
    tokens = generator.network.generate(labels, noise, **generator.options)
    return generator.of_codes(tokens, 256, len(tokens)), {"nfe": float(generator.network.length)}


FAMILY: Family = Family(
    name="d-ar-gen",
    title="D-AR autoregressive transformer",
    cards=CARDS,
    build=build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.d_ar_gen:DArGpt",
    fixtures=("d-ar-gen",),
)
