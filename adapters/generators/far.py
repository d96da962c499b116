"""FAR's generators, of classes and of text."""

from __future__ import annotations

from typing import Any

from vtbench.models.native_generator import NativeGenerator, build, hidden_states
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import samples

_SOURCES = stated(
    "yuhuUSTC/FAR@9b49a51",
    licence="LICENSE",
    trained_on="README.md:13; of the text model it names none",
    arch="README.md:53-57, models",
    weights="README.md:53-57",
    tokenizer="README.md (MAR's)",
    options="README.md:104-140",
)


def _arch(dim: int, depth: int, heads: int, *, head: int, buffer: int) -> dict[str, Any]:
    sides = {f"{s}_{n}": v for s in ("encoder", "decoder") for n, v in (("embed_dim", dim), ("depth", depth))}
    return {
        "img_size": 256,
        "vae_stride": 16,
        "patch_size": 1,
        "vae_embed_dim": 16,
        "buffer_size": buffer,
        "diffloss_d": head,
        "diffloss_w": 1024,
        "num_sampling_steps": "100",
        **sides,
        "encoder_num_heads": heads,
        "decoder_num_heads": heads,
        "mlp_ratio": 4,
    }


def _card(name: str, arch: dict[str, Any], hub: str, file: str, **more: Any) -> Card:
    return Card(
        name=f"far-{name}",
        family="far",
        kind="generator",
        sizes=Fixed(256),
        licence="MIT",
        paper="https://arxiv.org/abs/2503.05305",
        code="https://github.com/yuhuUSTC/FAR",
        sources=_SOURCES,
        weights=(Weights(file=file, hub=hub, key=("model_ema", "model"), licence="MIT"),),
        trained_on=("ImageNet-1k",) if "class_num" in arch else (),
        arch=arch,
        aliases=(f"far_{name}",),
        tokenizer="mar-kl16-vae",
        stochastic=True,
        **more,
    )


def _of_class(size: str, dim: int, depth: int, heads: int, *, head: int, fid: float, score: float) -> Card:
    return _card(
        size,
        {**_arch(dim, depth, heads, head=head, buffer=64), "mask": False, "class_num": 1000},
        "figereatfish/FAR",
        f"far_{size}/checkpoint-last.pth",
        title=f"FAR-{size[0].upper()}",
        # The released script's sampler has a temperature of its own, from 0.8 to 1; `temperature` is the masked one's.
        options={"cfg": 3.0, "temperature": 1.0},
        published=(
            Published("fid", fid, "FAR README.md", samples("ADM", 50_000)),
            Published("is", score, "FAR README.md", samples("ADM", 50_000)),
        ),
        conditioning="class",
    )


CARDS = (
    _of_class("base", 768, 12, 12, head=6, fid=4.83, score=247.4),
    _of_class("large", 1024, 16, 16, head=3, fid=3.92, score=288.9),
    _of_class("huge", 1280, 20, 16, head=3, fid=3.71, score=304.9),
    _card(
        "t2i",
        _arch(1024, 16, 16, head=3, buffer=0),
        "figereatfish/FAR_T2I",
        "checkpoint-last.pth",
        title="FAR, text",
        options={"cfg": 3.0, "text_encoder": "Qwen/Qwen2-VL-1.5B-Instruct"},
        conditioning="text",
        note="Upstream's sampler does not run as released: ours is what its file reads like, without anything to "
        "compare. Captions are used as they stand, 300 tokens; upstream states no instruction around them.",
    ),
)


def _sample(generator: NativeGenerator, conditions: Any, noise: Any) -> tuple[Any, dict[str, float]]:
    network = generator.network
    options = {k: v for k, v in generator.options.items() if k != "text_encoder"}
    if generator.card.conditioning == "text":
        conditions = hidden_states(generator, conditions, length=300)
    latents = network.generate(conditions, noise, **options)
    return generator.of_latents(latents, network.pixels), {"nfe": float(network.iterations)}


FAMILY: Family = Family(
    name="far",
    title="FAR frequency autoregressive transformer",
    cards=CARDS,
    build=build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.far:Far",
    fixtures=("far",),
)
