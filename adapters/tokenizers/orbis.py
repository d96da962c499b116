"""Orbis' tokenizer of frames of driving videos: two codes a cell, or the latents that its world model predicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Weights, stated

_SOURCES = stated(
    "lmb-freiburg/orbis@47644aa",
    licence="LICENSE",
    trained_on="readme.md names no videos",
    arch="logs_tk/tokenizer_288x512/config.yaml",
    weights="readme.md:22-32",
)

_CODES = Card(
    name="orbis-tokenizer-288x512",
    family="orbis",
    kind="discrete",
    title="Orbis' tokenizer, two books of 16384 codes, factor 16",
    sizes=Multiple(of=16, at_least=16),
    licence="MIT",
    paper="https://arxiv.org/abs/2507.13162",
    code="https://github.com/lmb-freiburg/orbis",
    sources=_SOURCES,
    # readme.md, "Checkpoints": the tokenizer's last.ckpt in the hub's folder of checkpoints.
    weights=(
        Weights(
            file="checkpoints/tokenizer_288x512/last.ckpt", hub="lmb-freiburg/Orbis", key=("state_dict",), licence="MIT"
        ),
    ),
    tokens_at_256=256,
    alphabets=(16384, 16384),
    latent_channels=32,
    downsample=16,
    value_range=(-1.0, 1.0),
    # logs_tk/tokenizer_288x512/config.yaml.
    arch={
        "in_channels": 3,
        "out_channels": 3,
        "encoders": {
            "count": 2,
            "type": "timm vit with class token and final norm",
            "resolution": [288, 512],
            "patch_size": 16,
            "width": 768,
            "layers": 12,
            "heads": 12,
            "mlp_ratio": 4,
            "norm_eps": 1e-6,
            "dynamic_img_size": True,
        },
        "normalize_latent": True,
        "decoder": {
            "ch": 128,
            "ch_mult": list(archs.F16),
            "num_res_blocks": 2,
            "z_channels": 768,
            "attn_resolutions": [16],
            "resolution": 256,
            "norm_groups": 32,
            "norm_eps": 1e-6,
        },
        "quantizer": {
            "type": "vq, two separate books (reconstruction, semantic)",
            "codebook_size": 16384,
            "embed_dim": 16,
            "l2_norm": "rows normalised in place, latent normalised by `normalize_latent`",
        },
    },
    aliases=("orbis_tokenizer_288x512",),
    note="Trained on frames of driving videos, 288 x 512; it was made for no other pictures, and its tables of "
    "positions are resized to other sizes. The folder's name on the hub is taken from the repository's; "
    "the repository names neither its videos nor reconstruction results.",
)
CARDS = (
    _CODES,
    replace(
        _CODES,
        name="orbis-tokenizer-288x512-continuous",
        kind="continuous",
        title="Orbis' tokenizer, latents before quantization, factor 16",
        alphabets=(),
        options={"latent_dtype": "float16"},
        arch={**(_CODES.arch or {}), "continuous": True},
        aliases=("orbis_tokenizer_288x512_continuous",),
        note="The same weights without the two books, as the world model uses them; the decoder is trained on both "
        f"(cont_ratio_training, vqgan.py). {_CODES.note}",
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="orbis",
    title="Orbis (tokenizer)",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.orbis:Orbis",
    fixtures=("orbis",),
)
