"""Archs that several families share, as data (no torch here: cards import this)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vtbench.types.cards import Weights

F16 = (1, 1, 2, 2, 4)
"""Width factors of the usual network that halves four times."""

VAR_AUTOENCODER: Mapping[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "ch": 160,
    "ch_mult": list(F16),
    "num_res_blocks": 2,
    "z_channels": 32,
    "attention": "last level and middle",
    "quant_conv_ks": 3,
    "norm_groups": 32,
    "norm_eps": 1e-6,
}
"""VAR's autoencoder without its quantizer, which HART took over (models/vqvae.py of VAR)."""


def taming(
    quantizer: Mapping[str, Any],
    *,
    z_channels: int = 256,
    ch_mult: Sequence[int] = F16,
    num_res_blocks: int = 2,
    attn_resolutions: Sequence[int] = (16,),
    attn_type: str = "vanilla",
    resolution: int = 256,
) -> dict[str, Any]:
    """Taming's ddconfig, 128 channels wide, with its hard-coded defaults stated."""
    return {
        "in_channels": 3,
        "out_channels": 3,
        "ch": 128,
        "ch_mult": list(ch_mult),
        "num_res_blocks": num_res_blocks,
        "attn_resolutions": list(attn_resolutions),
        "attn_type": attn_type,
        "resolution": resolution,
        "z_channels": z_channels,
        "double_z": False,
        "resamp_with_conv": True,
        "tanh_out": False,
        "norm_groups": 32,
        "norm_eps": 1e-6,
        "quantizer": dict(quantizer),
    }


def llamagen(ch_mult: Sequence[int] = F16) -> dict[str, Any]:
    """LlamaGen's VQ-16 or VQ-8: 16384 l2-normalised codes of 8 channels."""
    return {
        "in_channels": 3,
        "out_channels": 3,
        "ch": 128,
        "encoder_ch_mult": list(ch_mult),
        "decoder_ch_mult": list(ch_mult),
        "num_res_blocks": 2,
        "z_channels": 256,
        "attention": "last level and middle",
        "norm_groups": 32,
        "norm_eps": 1e-6,
        "quantizer": vq(16384, 8, l2_norm=True),
    }


def vq(codebook_size: int, embed_dim: int, *, kind: str = "vq", l2_norm: bool = False) -> dict[str, Any]:
    """A quantizer of one codebook."""
    return {"type": kind, "codebook_size": codebook_size, "embed_dim": embed_dim, "l2_norm": l2_norm}


def magvit2(
    bits: int, *, ch: int, ch_mult: Sequence[int] = F16, groups: int = 1, noise: bool = False
) -> dict[str, Any]:
    """Open-MAGVIT2's network, which WeTok shares: one latent channel a bit."""
    return {
        "in_channels": 3,
        "out_channels": 3,
        "ch": ch,
        "ch_mult": list(ch_mult),
        "num_res_blocks": 4,
        "z_channels": bits,
        "norm_groups": 32,
        "norm_eps": 1e-6,
        "noise_input": noise,
        "quantizer": {"type": "lfq", "bits": bits, "groups": groups, "bits_per_group": bits // groups},
    }


def mar_kl16() -> dict[str, Any]:
    """MAR's KL-16, its defaults stated: attention after every block of the encoder's last level only."""
    return {
        "vae": {
            "in_channels": 3,
            "out_channels": 3,
            "ch": 128,
            "ch_mult": list(F16),
            "num_res_blocks": 2,
            "resolution": 256,
            "encoder_attn_resolutions": [16],
            "decoder_attn_resolutions": [],
            "z_channels": 16,
            "double_z": True,
            "norm_groups": 32,
            "norm_eps": 1e-6,
        },
        "latent_scale": 0.2325,
        "quantizer": None,
    }


VIT_SIZES = {"small": (512, 8, 8), "base": (768, 12, 12), "large": (1024, 24, 16)}
"""Width, layers and heads of TiTok's transformers (1d-tokenizer modeling/modules/blocks.py:225-240)."""


def titok(
    encoder: str,
    decoder: str,
    *,
    tokens: int,
    channels: int,
    codes: int | None,
    legacy: bool = False,
    text: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """TiTok at 256 x 256: `codes` None is a KL latent; legacy compares l2-normalised codes and has a pixel decoder."""

    def vit(size: str) -> dict[str, Any]:
        width, layers, heads = VIT_SIZES[size]
        sizes = {"width": width, "layers": layers, "heads": heads}
        return {"patch_size": 16, **sizes, "mlp_ratio": 4, "norm_eps": 1e-5}

    arch = {
        "image_size": 256,
        "in_channels": 3,
        "encoder": vit(encoder),
        "decoder": vit(decoder),
        "num_latent_tokens": tokens,
        "token_size": channels,
        "legacy": legacy,
        "quantizer": {
            "type": "kl" if codes is None else "vq",
            "codebook_size": codes,
            "l2_norm": None if codes is None else legacy,
        },
        "pixel_decoder": {**maskgit_decoder(), "codebook_size": 1024} if legacy else None,
    }
    return arch if text is None else {**arch, "text": dict(text)}


def maskgit_decoder() -> dict[str, Any]:
    """The decoder of MaskGIT's VQGAN f16, which TiTok's legacy models and TokenSet paint with."""
    return {
        "in_channels": 3,
        "out_channels": 3,
        "hidden_channels": 128,
        "channel_mult": list(F16),
        "num_res_blocks": 2,
        "z_channels": 256,
        "shortcut_on_output": True,
        "norm_groups": 32,
        "norm_eps": 1e-6,
    }


_VIT = {
    "base": {"embed_dim": 768, "depth": 12, "num_heads": 12},
    "large": {"embed_dim": 1024, "depth": 24, "num_heads": 16},
}


def continuous_tokenizer(
    encoder: str, decoder: str, tokens: int, *, image_size: int, rope: bool, quantizer: Mapping[str, Any] | None
) -> dict[str, Any]:
    """SoftVQ-VAE's and MAETok's: DINOv2 of size "base" or "large" in both halves, 32 channels a token.

    rope: rotary positions on the image's cells instead of learned ones, and no class token in the decoder.
    """
    shared = {"mlp_ratio": 4, "patch_size": 16, "layer_scale": True, "norm_eps": 1e-6}
    return {
        "image_size": image_size,
        "base_image_size": 256,
        "in_channels": 3,
        "encoder": {**_VIT[encoder], **shared},
        "decoder": {**_VIT[decoder], **shared},
        "num_latent_tokens": tokens,
        "embed_dim": 32,
        "use_ape": not rope,
        "use_rope": rope,
        "rope_mixed": rope,
        "rope_theta": 10.0,
        "decoder_class_token": not rope,
        "to_pixel": "linear",
        "quantizer": None if quantizer is None else dict(quantizer),
    }


def dinov2_large(input_size: int, levels: Sequence[int] | None = None) -> dict[str, Any]:
    """DINOv2 ViT-L/14 with four registers, its table of positions for 518 pixels, fed pictures of `input_size`."""
    return {
        "width": 1024,
        "depth": 24,
        "heads": 16,
        "patch_size": 14,
        "img_size": 518,
        "layer_scale_init": 1.0,
        "registers": 4,
        "input_size": input_size,
        "levels": None if levels is None else list(levels),
    }


def dinov2_weights() -> Weights:
    """The file of `dinov2_large`: Meta's own, which the READMEs of Hita and VFMTok link."""
    file = "dinov2_vitl14_reg4_pretrain.pth"
    url = f"https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/{file}"
    return Weights(file=file, role="dinov2", url=url, licence="Apache-2.0")


def distilled_base(kind: str) -> dict[str, Any]:
    """The 2-D tokenizer under ALIT and KARL: MAGE's "vqgan" of 1024 codes, or MAR's "vae"."""
    shared = {"type": kind, "in_channels": 3, "out_channels": 3, "ch": 128, "ch_mult": list(F16), "num_res_blocks": 2}
    vqgan: dict[str, Any] = {
        "resolution": None,
        "encoder_attn_resolutions": [],
        "decoder_attn_resolutions": [],
        "middle_attention": False,
        "z_channels": 256,
        "double_z": False,
        "codebook_size": 1024,
        "shortcut_on_output": True,
        "encoder_downsample": "average pooling",
        "latent_scale": None,
        "decode_scale": None,
        "norm_groups": 32,
        "norm_eps": 1e-6,
    }
    vae = {
        **vqgan,
        **mar_kl16()["vae"],
        "middle_attention": True,
        "codebook_size": None,
        "shortcut_on_output": False,
        "encoder_downsample": "convolution",
        "latent_scale": 0.2325,
        "decode_scale": 1,
    }
    return {**(vqgan if kind == "vqgan" else vae), **shared}


TO_AN_EMBEDDING = (
    "this tokenizer ends at an embedding of the image: what a diffusion model paints from that shows what is meant, "
    "not what was there"
)
TO_FEATURES = "this tokenizer ends at features of its teacher: a decoder of pixels is trained apart from it"
"""Why a card has no pixels."""
