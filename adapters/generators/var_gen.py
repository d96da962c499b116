"""VAR's next-scale generators."""

from __future__ import annotations

from typing import Any

from vtbench.models.native_generator import NativeGenerator, build
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import samples

_SOURCES = stated(
    "FoundationVision/VAR@78b9539",
    licence="README.md:208",
    trained_on='README.md ("Training Scripts": ImageNet)',
    arch="models/__init__.py:9-37",
    weights="README.md:91-96",
    tokenizer="README.md:98",
    options="README.md:155",
)

_README = "VAR README.md:89-96"
_256, _512 = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16), (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)


def _card(depth: int, fid: float, *further: Published) -> Card:
    """Heads = depth, width = 64 x depth (models/__init__.py:9-37); d36 is for 512 pixels and shares its modulation."""
    large = depth == 36
    return Card(
        name=f"var-gen-d{depth}",
        family="var-gen",
        kind="generator",
        title=f"VAR-d{depth}",
        sizes=Fixed(512 if large else 256),
        licence="MIT",
        paper="https://arxiv.org/abs/2404.02905",
        code="https://github.com/FoundationVision/VAR",
        sources=_SOURCES,
        weights=(Weights(file=f"var_d{depth}.pth", hub="FoundationVision/var", licence="MIT"),),
        # README.md:155 for FID.
        options={"cfg": 1.5, "top_k": 900, "top_p": 0.96, "more_smooth": False, "cache": True},
        published=(Published("fid", fid, _README, samples("ADM", 50_000)), *further),
        trained_on=("ImageNet-1k",),
        arch={
            "num_classes": 1000,
            "depth": depth,
            "embed_dim": 64 * depth,
            "num_heads": depth,
            "mlp_ratio": 4.0,
            "norm_eps": 1e-6,
            "shared_aln": large,
            "attn_l2_norm": True,
            "patch_nums": list(_512 if large else _256),
            "vae": "vae_ch160v4096z32.pth",
        },
        aliases=(f"var_gen_d{depth}",),
        tokenizer="var-vae-512" if large else "var-vae-256",
        conditioning="class",
        stochastic=True,
    )


CARDS = (
    _card(16, 3.55),
    _card(20, 2.95),
    _card(24, 2.33),
    _card(30, 1.97, Published("fid", 1.80, "VAR README.md:95", samples("ADM", 50_000, "rejection sampling"))),
    _card(36, 2.63),
)


def _sample(generator: NativeGenerator, labels: Any, noise: Any) -> tuple[Any, dict[str, float]]:
    network, vae = generator.network, getattr(generator.attached(), "network", None)
    sampled = network.generate(labels, noise, vae=vae, **generator.options)
    # Mixed codes (more_smooth) are no tokens, so the image is made from the latent in both cases.
    return network.image(vae, sampled.latent), {"nfe": float(len(network.scales))}


FAMILY: Family = Family(
    name="var-gen",
    title="VAR next-scale transformer",
    cards=CARDS,
    build=build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.var_gen:VarGenerator",
    fixtures=("var-gen",),
)
