"""TokenBridge's generators."""

from __future__ import annotations

from typing import Any

from vtbench.models.native_generator import NativeGenerator, build
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import samples
from vtbench.types.tokens import Codes

_SOURCES = stated(
    "YuqingWang1029/TokenBridge@3ede281",
    licence="LICENSE",
    trained_on='README.md ("Dataset")',
    arch="models",
    weights="README.md:65-68",
    tokenizer="README.md:36-58",
    options="README.md:70-95",
)

_README = "TokenBridge README.md:67-68"


def _card(
    size: str, trunk: tuple[int, int], depth: int, *, cfg: float, warmth: float, fid: float, score: float
) -> Card:
    """trunk: width and layers of encoder and decoder, 16 heads; depth: layers of the head over the channels."""
    dim, layers = trunk
    return Card(
        name=f"tokenbridge-{size}",
        family="tokenbridge-gen",
        kind="generator",
        title=f"TokenBridge-{size[0].upper()}",
        sizes=Fixed(256),
        licence="MIT",
        paper="https://arxiv.org/abs/2503.16430",
        code="https://github.com/YuqingWang1029/TokenBridge",
        sources=_SOURCES,
        weights=(
            Weights(
                file=f"tokenbridge_{size}/checkpoint-last.pth",
                hub="Epiphqny/TokenBridge",
                key=("model_ema", "model"),
                licence="MIT",
            ),
        ),
        trained_on=("ImageNet-1k",),
        options={"num_iter": 256, "cfg": cfg, "cfg_schedule": "linear", "temperature": warmth, "cache": True},
        published=(
            Published("fid", fid, _README, samples("ADM", 50_000)),
            Published("is", score, _README, samples("ADM", 50_000)),
        ),
        arch={
            "img_size": 256,
            "vae_stride": 16,
            "patch_size": 1,
            "vae_embed_dim": 16,
            "quant_levels": 64,
            "quant_min": -5.0,
            "quant_max": 5.0,
            "class_num": 1000,
            "buffer_size": 64,
            "encoder_embed_dim": dim,
            "encoder_depth": layers,
            "encoder_num_heads": 16,
            "decoder_embed_dim": dim,
            "decoder_depth": layers,
            "decoder_num_heads": 16,
            "channel_embed_dim": 1024,
            "channel_depth": depth,
            "channel_heads": 8,
            "mlp_ratio": 4,
        },
        aliases=(f"gen_tokenbridge_{size}",),
        tokenizer="tokenbridge-mar-kl16",
        conditioning="class",
        stochastic=True,
    )


CARDS = (
    _card("large", (1024, 16), 4, cfg=3.1, warmth=0.96, fid=1.76, score=294.8),
    _card("huge", (1280, 20), 6, cfg=3.45, warmth=0.91, fid=1.55, score=313.3),
)


def _sample(generator: NativeGenerator, labels: Any, noise: Any) -> tuple[Any, dict[str, float]]:
    network = generator.network
    tokens = network.generate(labels, noise, **generator.options).tokens.cpu()
    alphabets = (network.vocabulary,) * tokens.shape[-1]
    codes = Codes(tokens, alphabets, (network.pixels, network.pixels), ((network.grid, network.grid),))
    images = generator.attached().decode(codes, [0] * len(tokens))
    return images, {"nfe": float(generator.options["num_iter"])}


FAMILY: Family = Family(
    name="tokenbridge-gen",
    title="TokenBridge's generator",
    cards=CARDS,
    build=build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.tokenbridge_gen:TokenBridgeGenerator",
    fixtures=("tokenbridge-gen",),
)
