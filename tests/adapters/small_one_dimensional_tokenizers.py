"""TiTok, TA-TiTok, One-D-Piece, TokenSet and BSQ-ViT at small sizes, with made weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from small_networks import filled

from vtbench import registry
from vtbench.models.native import NetworkTokenizer
from vtbench.types.tokens import Codes, Latents, Tokens

VIT = {"patch_size": 16, "width": 64, "layers": 1, "heads": 4, "mlp_ratio": 2.0, "norm_eps": 1e-5}
PAINTS = {
    "image_size": 32,
    "in_channels": 3,
    "encoder": VIT,
    "decoder": {**VIT, "patch_size": 8, "width": 32},
    "num_latent_tokens": 6,
    "token_size": 5,
    "legacy": False,
    "quantizer": {"type": "vq", "codebook_size": 40, "l2_norm": False},
    "pixel_decoder": None,
}
_KL = {**PAINTS, "quantizer": {"type": "kl", "codebook_size": None, "l2_norm": None}}
_MIXES = {
    **PAINTS,
    "legacy": True,
    "decoder": VIT,
    "quantizer": {"type": "vq", "codebook_size": 40, "l2_norm": True},
    "pixel_decoder": {
        "in_channels": 3,
        "out_channels": 3,
        "hidden_channels": 32,
        "channel_mult": [1, 1, 1, 1, 1],
        "num_res_blocks": 1,
        "z_channels": 6,
        "codebook_size": 20,
        "shortcut_on_output": True,
        "norm_groups": 32,
        "norm_eps": 1e-6,
    },
}
_TEXT = {"text": {"context_length": 77, "width": 64}}
_SET = {
    **_MIXES,
    "latent_positions": False,
    "pixel_decoder": {k: v for k, v in _MIXES["pixel_decoder"].items() if k != "codebook_size"},  # type: ignore[attr-defined]
}
_BSQ_VIT = {
    "image_size": [16, 24],
    "patch_size": [4, 8],
    "width": 32,
    "layers": 1,
    "heads": 2,
    "mlp_ratio": 2,
    "ln_pre": False,
    "ln_post": False,
    "ls_init_value": 0.1,
    "norm_eps": 1e-5,
}
_BSQ = {
    "in_channels": 3,
    "encoder": _BSQ_VIT,
    "decoder": {**_BSQ_VIT, "width": 16, "dim_ffn_output": None},
    "quantizer": {
        "type": "bsq",
        "bits": 36,
        "group_size": 12,
        "codebook_size": None,
        "embed_dim": 36,
        "l2_norm": False,
        "post_q_l2_norm": False,
    },
    "logit_laplace": False,
    "clamp_range": [0, 1],
}
SMALL: Mapping[str, tuple[str, dict[str, Any], tuple[int, int]]] = {
    "paints": ("titok", PAINTS, (32, 32)),
    "KL": ("titok", _KL, (32, 32)),
    "mixes": ("titok", _MIXES, (32, 32)),
    "text": ("ta-titok", {**PAINTS, **_TEXT}, (32, 32)),
    "text, KL": ("ta-titok", {**_KL, **_TEXT}, (32, 32)),
    "prefix": ("one-d-piece", _MIXES, (32, 32)),
    "set": ("tokenset", _SET, (32, 32)),
    "bits": ("bsq-vit", _BSQ, (16, 24)),
    "laplace": ("bsq-vit", {**_BSQ, "logit_laplace": True}, (16, 24)),
}


def small(which: str, **options: Any) -> NetworkTokenizer:
    """A tokenizer of the family, of a small size, with weights made from their names and the card's other facts."""
    family_name, arch, _ = SMALL[which]
    family = registry.family(family_name)
    card = replace(family.cards[0], name=f"small {which}", arch=arch, aliases=())
    if card.knob is not None:
        card = replace(card, options={card.knob: 6}, knob_values=(1, 6))
    card = replace(card, options={**card.options, **options})
    if arch["quantizer"]["type"] == "kl":
        card = replace(card, kind="continuous", options={"latent_dtype": "float32", **card.options})
    return filled(family, card)


def numbers(tokens: Tokens) -> torch.Tensor:
    assert isinstance(tokens, Codes | Latents)
    return tokens.indices if isinstance(tokens, Codes) else tokens.values
