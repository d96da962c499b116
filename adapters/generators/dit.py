"""DiT's generators, in the layout of diffusers, without that library."""

from __future__ import annotations

from typing import Any

from vtbench.models.native_generator import NativeGenerator, build
from vtbench.types.cards import Card, Family, Fixed, Weights, stated

_SOURCES = stated(
    "facebookresearch/DiT@ed81ce2",
    licence="README.md:162-163",
    trained_on="README.md:24",
    arch="models.py",
    weights="README.md:65-66; the hub's copies for diffusers",
    tokenizer="sample.py (--vae ema)",
    options="the defaults of diffusers' pipeline",
)


def _card(size: int) -> Card:
    return Card(
        name=f"dit-xl-2-{size}-native",
        family="dit",
        kind="generator",
        title=f"DiT-XL/2, {size} x {size}, our own network",
        sizes=Fixed(size),
        licence="CC-BY-NC-4.0",
        paper="https://arxiv.org/abs/2212.09748",
        code="https://github.com/facebookresearch/DiT",
        sources=_SOURCES,
        weights=(
            Weights(
                file="transformer/diffusion_pytorch_model.safetensors",
                hub=f"facebook/DiT-XL-2-{size}",
                licence="CC-BY-NC-4.0",
            ),
        ),
        trained_on=("ImageNet-1k",),
        options={"num_inference_steps": 50, "guidance_scale": 4.0},
        arch={
            "num_attention_heads": 16,
            "attention_head_dim": 72,
            "in_channels": 4,
            "out_channels": 8,
            "num_layers": 28,
            "attention_bias": True,
            "sample_size": size // 8,
            "patch_size": 2,
            "activation_fn": "gelu-approximate",
            "num_embeds_ada_norm": 1000,
            "upcast_attention": False,
            "norm_type": "ada_norm_zero",
            "norm_elementwise_affine": False,
            "norm_eps": 1e-5,
        },
        aliases=(f"dit_DiT-XL-2-{size}",),
        tokenizer="sd-vae-ft-ema",
        conditioning="class",
        stochastic=True,
        note="Steps and guidance of diffusers' pipeline (DDIM); the paper's FIDs took 250 steps of DDPM, guidance 1.5.",
    )


CARDS = (_card(256), _card(512))


def _sample(generator: NativeGenerator, labels: Any, noise: Any) -> tuple[Any, dict[str, float]]:
    latents = generator.network.generate(labels, noise, **generator.options)
    return generator.of_latents(latents, generator.network.pixels), {
        "nfe": float(generator.options["num_inference_steps"])
    }


FAMILY: Family = Family(
    name="dit",
    title="DiT",
    cards=CARDS,
    build=build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.dit:Dit",
    fixtures=("dit",),
)
