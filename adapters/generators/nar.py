"""NAR: LlamaGen's transformer, decoded by anti-diagonals."""

from __future__ import annotations

from typing import Any

from vtbench.models.native_generator import NativeGenerator, build, text_features
from vtbench.types.cards import Card, Family, Fixed, Weights, stated

_SOURCES = stated(
    "ThisisBillhe/NAR@225c1fb",
    licence="NAR-images/LICENSE",
    trained_on="NAR-images/README.md (its first heading; the table of text models)",
    arch="NAR-images/autoregressive/models",
    weights="NAR-images/README.md",
    options="NAR-images/GETTING_STARTED.md:27, NAR-images/autoregressive/sample/sample_t2i.py",
    tokenizer='NAR-images/README.md ("VQ-VAE models")',
)

_SIZES = {"B": (768, 12, 12), "M": (1024, 18, 16), "L": (1024, 24, 16), "XL": (1280, 36, 20)}
"""Preset: width, layers, heads."""
_DATA = {
    None: ("ImageNet-1k",),
    1: ("LAION-COCO, 4M of it",),
    2: ("LAION-COCO, 4M of it", "text-to-image-2M"),
}
"""By the stage of the text models."""


def _card(size: str, pixels: int, *, stage: int | None = None, hub: str | None = None) -> Card:
    kind = "c2i" if stage is None else "t2i"
    dim, depth, heads = _SIZES[size]
    condition = (
        {"num_classes": 1000, "cls_token_num": 1} if kind == "c2i" else {"caption_dim": 2048, "cls_token_num": 120}
    )
    stem = f"{kind}_{size}_{pixels}" if stage is None else f"t2i_{size}_stage{stage}_{pixels}"
    options: dict[str, Any] = {
        "cfg_scale": 2.0 if kind == "c2i" else 7.5,
        "cfg_interval": -1,
        "temperature": 1.0,
        "top_k": 0 if kind == "c2i" else 1000,
        "top_p": 1.0,
    }
    if kind == "t2i":
        options["text_encoder"] = "google/flan-t5-xl"
    return Card(
        name=f"nar-{stem.replace('_', '-').lower()}",
        family="nar",
        kind="generator",
        title=f"NAR {size}, {pixels} x {pixels}, {'ImageNet classes' if kind == 'c2i' else f'text, stage {stage}'}",
        sizes=Fixed(pixels),
        licence="MIT",
        paper="https://arxiv.org/abs/2503.10696",
        code="https://github.com/ThisisBillhe/NAR",
        sources=_SOURCES,
        weights=(Weights(file=f"{stem}.pt", hub=hub, key=("model", "module", "state_dict")),),
        trained_on=_DATA[stage],
        options=options,
        arch={
            "dim": dim,
            "n_layer": depth,
            "n_head": heads,
            "multiple_of": 256,
            "model_type": kind,
            "vocab_size": 16384,
            "block_size": (pixels // 16) ** 2,
            "medusa_attention_num": 1,
            **condition,
        },
        aliases=(f"nar_{stem}",),
        tokenizer=f"llamagen-vq-ds16-{kind}",
        conditioning="class" if kind == "c2i" else "text",
        stochastic=True,
        note="Upstream's repository does not name the checkpoint's file: the name here is ours, give a local path.",
    )


CARDS = (
    _card("B", 256),
    _card("M", 256),
    _card("L", 256),
    _card("XL", 256),
    _card("XL", 256, stage=1),
    _card("XL", 512, stage=2),
)


def _sample(generator: NativeGenerator, source: Any, noise: Any) -> tuple[Any, dict[str, float]]:
    options = {k: v for k, v in generator.options.items() if k != "text_encoder"}
    mask = None
    if generator.card.conditioning == "text":
        source, mask = text_features(generator, source, length=generator.network.prefix, left=True)
    tokens = generator.network.generate(source, noise, text_mask=mask, **options)
    grid = generator.network.grid
    return generator.of_codes(tokens, grid * 16, len(tokens)), {"nfe": float(2 * grid - 1)}


FAMILY: Family = Family(
    name="nar",
    title="NAR neighbouring autoregressive transformer",
    cards=CARDS,
    build=build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.nar:Nar",
    fixtures=("nar",),
)
