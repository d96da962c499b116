"""CODA: MAR's and FLUX's continuous autoencoders made discrete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "LeapLabTHU/CODA@5358d04",
    licence="LICENSE.txt",
    trained_on="README.md:30-31",
    arch="tokenizer/coda/models",
    weights="README.md:72-73",
)

_NONE = dict.fromkeys(
    (
        "block_out_channels",
        "layers_per_block",
        "ch",
        "ch_mult",
        "num_res_blocks",
        "resolution",
        "encoder_attn_resolutions",
        "decoder_attn_resolutions",
    )
)
_MAR = {key: value for key, value in archs.mar_kl16()["vae"].items() if key in _NONE}
_FLUX = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2}


def _card(
    base: str,
    codes: int,
    factor: int,
    rfid: float,
    *,
    vae: Mapping[str, Any],
    modules: Sequence[str],
    scales: Sequence[int],
    licence: str,
    trained_on: tuple[str, ...],
) -> Card:
    """Scale and shift are those of training (train_mar.py:108, FLUX's config.json)."""
    folder = f"{base}_v{codes}"

    def part(role: str) -> Weights:
        # Upstream evaluates the averaged copies (train_mar.py:605), which lie beside the raw ones.
        file = f"{folder}/{role}_ema.pth"
        return Weights(file=file, role=role, hub="shuidi0020/CODA", licence=licence, ema=True)

    return Card(
        name=f"coda-{base}-{codes}",
        family="coda",
        kind="discrete",
        title=f"CODA on {base.upper()}'s autoencoder, {codes} codes",
        sizes=Fixed(256),
        licence=licence,
        paper="https://arxiv.org/abs/2503.17760",
        code="https://github.com/LeapLabTHU/CODA",
        sources=_SOURCES,
        weights=(part("vae"), part("quantizer")),
        tokens_at_256=sum(side**2 for side in scales),
        alphabets=(codes,),
        latent_channels=16,
        downsample=factor,
        value_range=(-1.0, 1.0),
        trained_on=trained_on,
        published=(Published("rfid", rfid, "CODA, abstract (arXiv:2503.17760)", validation("ImageNet", 256, 50_000)),),
        arch={
            "in_channels": 3,
            "vae": {**_NONE, **vae, "latent_channels": 16, "norm_groups": 32, "norm_eps": 1e-6},
            "lora": {"rank": 32, "modules": list(modules)},
            "quantizer": {
                "type": "multi-scale residual attention",
                "codebook_size": codes,
                "embed_dim": 16,
                "attn_dim": 32,
                "norm": "rms",
                "norm_eps": 1e-5,
                "scales": list(scales),
            },
        },
        aliases=(f"coda_{base}_{codes}",),
        note="The posterior is taken at its mean; upstream draws from it.",
    )


CARDS = (
    _card(
        "mar",
        16384,
        16,
        1.34,
        vae={**_MAR, "type": "mar-kl16", "latent_scale": 0.2325, "latent_shift": 0.0},
        modules=("conv1", "conv2", "upsample", "downsample"),
        scales=(1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
        licence="Apache-2.0",
        trained_on=("ImageNet-1k",),
    ),
    _card(
        "flux",
        65536,
        8,
        0.43,
        vae={**_FLUX, "type": "flux", "latent_scale": 0.3611, "latent_shift": 0.1159},
        modules=("conv1", "conv2"),
        scales=(1, 2, 3, 4, 6, 9, 13, 18, 24, 32),
        licence="Apache-2.0 (the autoencoder inside is FLUX.1's: non-commercial)",
        trained_on=("ImageNet-1k", "FLUX's own data"),
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="coda",
    title="CODA",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.coda:Coda",
    fixtures=("coda",),
)
