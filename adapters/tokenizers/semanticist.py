"""Semanticist's tokenizers: continuous tokens of falling importance, decoded by a diffusion transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.models.native import PrefixTokenizer
from vtbench.types.cards import Card, Family, Fixed, Weights, stated

_SOURCES = stated(
    "visual-gen/semanticist@3853a83",
    licence="LICENSE",
    trained_on="configs/tokenizer_l.yaml:43-46",
    arch="configs/tokenizer_*.yaml",
    weights="tok_demo.py:14 (XL; L by analogy)",
)


def _arch(width: int, depth: int) -> dict[str, Any]:
    """configs/tokenizer_*.yaml, with the sizes that the classes hard-code; width and depth are the transformer's."""
    return {
        "image_size": 256,
        "in_channels": 3,
        "encoder": {
            "embed_dim": 768,
            "depth": 12,
            "num_heads": 12,
            "patch_size": 16,
            "mlp_ratio": 4.0,
            "qkv_bias": True,
            "causal": True,
            "norm_eps": 1e-6,
        },
        "num_slots": 256,
        "slot_dim": 16,
        "norm_slots": True,
        "dit": {
            "depth": depth,
            "hidden_size": width,
            "patch_size": 2,
            "num_heads": 16,
            "learn_sigma": True,
            "mlp_ratio": 4.0,
        },
        "vae": {
            "block_out_channels": [128, 128, 256, 256, 512],
            "layers_per_block": 2,
            "latent_channels": 16,
            "norm_groups": 32,
            "scaling_factor": 0.2325,
        },
        "sampler": {"type": "ddpm", "betas": "linear 0.0001..0.02 over 1000", "steps": 250},
    }


def _card(size: str, width: int, depth: int) -> Card:
    """width, depth: of the diffusion transformer."""
    return Card(
        name=f"semanticist-tok-{size.lower()}",
        family="semanticist",
        kind="continuous",
        title=f"Semanticist, DiT-{size}",
        sizes=Fixed(256),
        licence="MIT",
        paper="https://arxiv.org/abs/2503.08685",
        code="https://github.com/visual-gen/semanticist",
        sources=_SOURCES,
        # tok_demo.py names the XL file; L's is by analogy. An averaged file holds what was trained
        # (engine/trainer_utils.py:168): the VAE comes from its own repository, as upstream loads it.
        weights=(
            Weights(file=f"semanticist_tok_{size}.pkl", hub="tennant/semanticist", licence="MIT"),
            Weights(file="diffusion_pytorch_model.safetensors", role="vae", hub="xwen99/mar-vae-kl16", licence="MIT"),
        ),
        tokens_at_256=256,
        latent_channels=16,
        value_range=(0.0, 1.0),
        trained_on=("ImageNet-1k",),
        stochastic=True,
        # configs/tokenizer_*.yaml: num_sampling_steps and cfg.
        options={"tokens": 256, "steps": "250", "guidance": 3.0, "latent_dtype": "float16"},
        knob="tokens",
        knob_values=(1, 4, 16, 64, 256),
        arch=_arch(width, depth),
        aliases=(f"semanticist_tok_{size}",),
        note="tokens: how many leading ones are sent. The VAE's configuration is not on GitHub: its decoder is taken "
        "to be MAR's.",
    )


CARDS = (_card("L", 1024, 24), _card("XL", 1152, 28))


def _build(card: Card, options: Mapping[str, Any]) -> PrefixTokenizer:
    return PrefixTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="semanticist",
    title="Semanticist",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.semanticist:Semanticist",
    fixtures=("semanticist",),
)
