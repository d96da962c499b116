"""Tiny models of every class of diffusers that an adapter wraps, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

diffusers = pytest.importorskip("diffusers", reason="NOT TESTED: diffusers is not installed (extra hub)")

SD = {"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 4, "layers_per_block": 1}
DOWN, UP = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2


def kl(**more: Any) -> Any:
    return diffusers.AutoencoderKL(down_block_types=DOWN, up_block_types=UP, **{**SD, **more})


def flux2() -> Any:
    model = diffusers.AutoencoderKLFlux2(down_block_types=DOWN, up_block_types=UP, **{**SD, "latent_channels": 2})
    model.bn.running_mean.normal_()
    model.bn.running_var.uniform_(0.5, 2)
    return model


def dc() -> Any:
    return diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_out_channels=(8, 16),
        decoder_block_out_channels=(8, 16),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()),
        scaling_factor=0.41407,
    )


def tiny_autoencoder() -> Any:
    return diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        latent_channels=4,
        scaling_factor=2.0,
        shift_factor=0.5,
    )


def asymmetric() -> Any:
    return diffusers.AsymmetricAutoencoderKL(
        down_block_types=DOWN,
        down_block_out_channels=(8, 16),
        up_block_types=UP,
        up_block_out_channels=(8, 16),
        norm_num_groups=4,
    )


def hunyuan() -> Any:
    return diffusers.AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32, 32),
        layers_per_block=1,
        spatial_compression_ratio=2,
        sample_size=32,
        scaling_factor=0.7,
    )


def qwen() -> Any:
    return diffusers.AutoencoderKLQwenImage(base_dim=8, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False])


def qwen21(**more: Any) -> Any:
    if not hasattr(diffusers, "AutoencoderKLQwenImage21"):
        pytest.skip("NOT TESTED: this diffusers has no AutoencoderKLQwenImage21")
    small = {"base_dim": 8, "decoder_base_dim": 8, "z_dim": 4, "dim_mult": [1, 1], "temperal_downsample": [False]}
    statistics = {"latents_mean": [0.1, 0.2, 0.0, -1.0], "latents_std": [1.0, 2.0, 3.0, 0.5]}
    sizes = {"in_channels": 3, "out_channels": 3, "num_res_blocks": 1, "scale_factor_spatial": 2}
    return diffusers.AutoencoderKLQwenImage21(**{**small, **statistics, **sizes, **more})


def wan() -> Any:
    return diffusers.AutoencoderKLWan(
        base_dim=8, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False], scale_factor_spatial=2
    )


def cosmos() -> Any:
    return diffusers.AutoencoderKLCosmos(
        encoder_block_out_channels=(8, 8, 8),
        decode_block_out_channels=(8, 8, 8),
        attention_resolutions=(),
        num_layers=1,
        resolution=32,
        patch_size=2,
        spatial_compression_ratio=4,
        temporal_compression_ratio=2,
    )


def vidtok(regularizer: str = "kl") -> Any:
    return diffusers.AutoencoderVidTok(
        ch=32,
        ch_mult=[1, 1],
        z_channels=3,
        num_res_blocks=1,
        spatial_ds=[1],
        spatial_us=[1],
        tempo_ds=[0],
        tempo_us=[1],
        regularizer=regularizer,
        double_z=regularizer == "kl",
        codebook_size=512,
    )


def consistency() -> Any:
    return diffusers.ConsistencyDecoderVAE(
        encoder_block_out_channels=(8, 8),
        encoder_down_block_types=DOWN,
        encoder_norm_num_groups=4,
        encoder_layers_per_block=1,
        decoder_block_out_channels=(8, 8),
        decoder_norm_num_groups=4,
        decoder_layers_per_block=1,
        decoder_down_block_types=("ResnetDownsampleBlock2D",) * 2,
        decoder_up_block_types=("ResnetUpsampleBlock2D",) * 2,
    )


def rae() -> Any:
    return diffusers.AutoencoderRAE(
        encoder_type="mae",
        encoder_hidden_size=64,
        encoder_patch_size=4,
        encoder_num_hidden_layers=1,
        encoder_input_size=16,
        patch_size=4,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
        scaling_factor=0.5,
    )


def kvae() -> Any:
    return diffusers.AutoencoderKLKVAE(channels=32, num_enc_blocks=1, num_dec_blocks=1, z_channels=4, ch_mult=(1, 1))


def vq(**more: Any) -> Any:
    arch = {**SD, "num_vq_embeddings": 32, "latent_channels": 4, **more}
    return diffusers.VQModel(down_block_types=DOWN, up_block_types=UP, **arch)


def dit(folder: Path, classes: int = 1000, variant: str | None = None) -> Path:
    """A class-conditional pipeline of so many classes, saved."""
    torch.manual_seed(0)
    network = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        sample_size=4,
        patch_size=2,
        norm_num_groups=4,
        num_embeds_ada_norm=classes,
    )
    diffusers.DiTPipeline(network, kl(), diffusers.DDIMScheduler()).save_pretrained(folder, variant=variant)
    return folder
