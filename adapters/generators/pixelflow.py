"""PixelFlow's generators: pixels, no tokenizer."""

from __future__ import annotations

from typing import Any

from vtbench.models.native_generator import NativeGenerator, build, text_features
from vtbench.types.adapter import Prompt
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import samples

_SOURCES = stated(
    "ShoufaChen/PixelFlow@8805204",
    licence="LICENSE",
    trained_on='README.md ("ImageNet Preparation"); of the text model it names none',
    arch="configs/pixelflow_xl_c2i.yaml",
    weights="README.md:28-29",
    tokenizer="README.md: it draws pixels, there is none",
)


def _card(kind: str, size: int, *, fid: float | None = None) -> Card:
    classes = kind == "c2i"
    options: dict[str, Any] = {
        "num_inference_steps": 10,
        "guidance_scale": 2.4 if classes else 4.0,
        "shift": 1.0,
    }
    if not classes:
        options["text_encoder"] = "google/flan-t5-xl"
    return Card(
        name=f"pixelflow-xl-{kind}",
        family="pixelflow",
        kind="generator",
        title=f"PixelFlow-XL, {'ImageNet classes' if classes else 'text'}, {size} x {size}",
        sizes=Fixed(size),
        licence="MIT",
        paper="https://arxiv.org/abs/2504.07963",
        code="https://github.com/ShoufaChen/PixelFlow",
        sources=_SOURCES,
        weights=(Weights(file="model.pt", hub=f"ShoufaChen/PixelFlow-{'Class' if classes else 'Text'}2Image"),),
        options=options,
        published=()
        if fid is None
        else (
            Published("fid", fid, "PixelFlow README.md:28", samples("ADM", 50_000, "dopri5 solver"), "ours is Euler"),
        ),
        trained_on=("ImageNet-1k",) if classes else (),
        arch={
            "model": {
                "num_attention_heads": 16,
                "attention_head_dim": 72,
                "in_channels": 3,
                "out_channels": 3,
                "depth": 28,
                "num_classes": 1000 if classes else 0,
                "patch_size": 4,
                "attention_bias": True,
                **({} if classes else {"cross_attention_dim": 2048}),
            },
            "scheduler": {"num_train_timesteps": 1000, "num_stages": 4, "gamma": -1 / 3},
        },
        aliases=(f"pixelflow_xl_{kind}",),
        conditioning="class" if classes else "text",
        stochastic=True,
    )


CARDS = (_card("c2i", 256, fid=1.98), _card("t2i", 1024))


def _sample(generator: NativeGenerator, conditions: Any, noise: Any) -> tuple[Any, dict[str, float]]:
    options, network = {k: v for k, v in generator.options.items() if k != "text_encoder"}, generator.network
    stages, full = len(network.stages.table), generator.card.sizes.size  # type: ignore[union-attr]
    side = full // 2 ** (stages - 1)
    labels, features = conditions, None
    if generator.card.conditioning == "text":
        empty = [Prompt(id="empty", text="")]
        labels, features = (
            None,
            (
                *text_features(generator, conditions, length=512, left=False),
                *text_features(generator, empty, length=512, left=False),
            ),
        )
    dtype = next(network.parameters()).dtype
    start = noise.normal(network.channels, side, side).to(dtype)
    blocks = [network.block_noise(noise, side * 2**i).to(dtype) for i in range(1, stages)]
    latents = network.generate(start, blocks, labels=labels, text=features, **options)
    return network.to_image(latents), {"nfe": float(stages * options["num_inference_steps"])}


FAMILY: Family = Family(
    name="pixelflow",
    title="PixelFlow pyramid flow matching",
    cards=CARDS,
    build=build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.pixelflow:PixelFlow",
    fixtures=("pixelflow",),
)
