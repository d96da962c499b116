"""Models of diffusers and transformers: tiny ones, written to disk by the library itself, against its own calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_diffusers as tiny
import torch

from vtbench import registry
from vtbench.adapters.networks import diffusers_vae
from vtbench.types.cards import Fixed
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents, unpack

CLOSE = 1e-5
"""The adapter multiplies latents by the scale and divides again: a rounding of float32, passed through the decoder."""

STATISTICS = {"latents_mean": [0.1, 0.2, 0, -1], "latents_std": [1, 2, 3, 0.5]}
CONTINUOUS: dict[str, tuple[Callable[[], Any], int]] = {
    "AutoencoderKL": (lambda: tiny.kl(scaling_factor=0.3611, shift_factor=0.1159), 16),
    "AutoencoderKL without quant_conv": (lambda: tiny.kl(use_quant_conv=False, use_post_quant_conv=False), 16),
    "AutoencoderKL with latents_mean": (
        lambda: tiny.kl(**STATISTICS),
        16,
    ),
    "AutoencoderKLFlux2": (tiny.flux2, 16),
    "AutoencoderDC": (tiny.dc, 16),
    "AutoencoderTiny": (tiny.tiny_autoencoder, 16),
    "AsymmetricAutoencoderKL": (tiny.asymmetric, 16),
    "AutoencoderKLHunyuanImage": (tiny.hunyuan, 16),
    "AutoencoderKLQwenImage": (tiny.qwen, 16),
    "AutoencoderKLQwenImage21": (tiny.qwen21, 16),
    "AutoencoderKLWan": (tiny.wan, 16),
    "AutoencoderKLCosmos": (tiny.cosmos, 32),
    "AutoencoderVidTok": (tiny.vidtok, 16),
    "ConsistencyDecoderVAE": (tiny.consistency, 16),
    "AutoencoderRAE": (tiny.rae, 16),
    "AutoencoderKLKVAE": (tiny.kvae, 16),
}


def saved(make: Callable[[], Any], folder: Path) -> Any:
    """A model with random weights, each bias and norm moved from its start, written by the library."""
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(str(folder), safe_serialization=True)
    return model


def adapter(folder: Path, card: str = "diffusers-vae", **options: Any) -> Any:
    entry = registry.model(card)
    tokenizer = registry.build(entry, {**entry.card.options, **options})
    tokenizer.load({"folder": folder})
    return tokenizer


def images(side: int, count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_equals_the_library(name: str, tmp_path: Path) -> None:
    make, side = CONTINUOUS[name]
    model = saved(make, tmp_path)
    tokenizer = adapter(tmp_path, latent_dtype="float32")
    x, seeds = images(side), [5, 6, 7, 8]
    tokens = tokenizer.encode(x, seeds)
    assert isinstance(tokens, Latents)
    factor = tokenizer.card.downsample
    if not isinstance(tokenizer.card.sizes, Fixed):
        assert tokens.values.shape[2:] == (side // factor, side // factor)
    assert tokens.values.shape[1] == tokenizer.card.latent_channels

    class_name = name.split()[0]
    pixels = x if class_name == "AutoencoderRAE" else x * 2 - 1
    frames = diffusers_vae.CLASSES[class_name].frames
    with torch.no_grad():
        encoded = model.encode(pixels[:, :, None] if frames else pixels)
        z = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded[0]
        if class_name == "ConsistencyDecoderVAE":
            out = torch.cat(
                [
                    model.decode(one[None], generator=torch.Generator().manual_seed(s)).sample
                    for one, s in zip(z, seeds, strict=True)
                ]
            )
        else:
            out = model.decode(z)
    out = getattr(out, "sample", out)
    out = out[:, :, 0] if frames else out
    wanted = out if class_name == "AutoencoderRAE" else (out + 1) / 2
    # Only what packing keeps may reach the decoder.
    mine = tokenizer.decode(Latents.join([unpack(b) for b in tokens.pack()]), seeds)
    assert mine.shape == x.shape
    assert float(wanted.std()) > 1e-3, "a constant picture proves nothing"
    assert float((mine - wanted).abs().max()) < CLOSE * max(1.0, float(wanted.abs().max()))
    ones = [tokenizer.decode(tokenizer.encode(x[i : i + 1], [s]), [s]) for i, s in enumerate(seeds)]
    assert float((torch.cat(ones) - mine).abs().max()) < CLOSE * max(1.0, float(wanted.abs().max()))


def test_latents_are_scaled_as_the_pipelines_do(tmp_path: Path) -> None:
    model = saved(lambda: tiny.kl(scaling_factor=0.3611, shift_factor=0.1159), tmp_path)
    x = images(16, 1)
    z = model.encode(x * 2 - 1).latent_dist.mode()
    got = adapter(tmp_path, latent_dtype="float32").encode(x, [0]).values
    assert torch.allclose(got, (z - 0.1159) * 0.3611, atol=1e-6)
    assert adapter(tmp_path).encode(x, [0]).values.dtype == torch.float16


def test_flux2_latents_are_those_of_its_pipeline(tmp_path: Path) -> None:
    from diffusers.pipelines.flux2.pipeline_flux2 import Flux2Pipeline

    model = saved(tiny.flux2, tmp_path)
    x = images(16, 2)
    packed = Flux2Pipeline._patchify_latents(model.encode(x * 2 - 1).latent_dist.mode())
    spread = torch.sqrt(model.bn.running_var + model.config.batch_norm_eps)
    wanted = (packed - model.bn.running_mean.view(1, -1, 1, 1)) / spread.view(1, -1, 1, 1)
    got = adapter(tmp_path, latent_dtype="float32").encode(x, [0, 1]).values
    assert torch.allclose(diffusers_vae.pack(got), wanted, atol=1e-5)
    assert torch.equal(diffusers_vae.unpack(diffusers_vae.pack(got)), got)


def test_sampling_follows_the_image_seed(tmp_path: Path) -> None:
    model = saved(tiny.kl, tmp_path)
    tokenizer = adapter(tmp_path, posterior="sample", latent_dtype="float32")
    x = images(16)
    four = tokenizer.encode(x, [1, 2, 3, 4]).values
    assert torch.allclose(four[2:3], tokenizer.encode(x[2:3], [3]).values, atol=1e-5)
    assert not torch.allclose(four[2:3], tokenizer.encode(x[2:3], [4]).values, atol=1e-3)
    own = model.encode(x[:1] * 2 - 1).latent_dist.sample(generator=torch.Generator().manual_seed(1))
    assert torch.allclose(four[:1], own * model.config.scaling_factor, atol=1e-5)


VQ = [{}, {"lookup_from_codebook": True}, {"norm_type": "spatial", "vq_embed_dim": 4, "block_out_channels": (32, 32)}]


@pytest.mark.parametrize("more", VQ, ids=str)
def test_vq_model_equals_the_library(more: dict[str, Any], tmp_path: Path) -> None:
    model = saved(lambda: tiny.vq(**more), tmp_path)
    with torch.no_grad():
        model.quantize.embedding.weight.normal_()
    model.save_pretrained(str(tmp_path), safe_serialization=True)
    tokenizer = adapter(tmp_path)
    x = images(16)
    tokens = tokenizer.encode(x, [0] * 4)
    assert isinstance(tokens, Codes)
    assert tokens.grids == ((8, 8),)
    assert tokens.alphabets == (32,)
    assert len(tokens.indices.unique()) > 2
    with torch.no_grad():
        wanted = (model(x * 2 - 1).sample + 1) / 2
    mine = tokenizer.decode(Codes.join([unpack(b) for b in tokens.pack()]), [0] * 4)
    assert float((mine - wanted).abs().max()) < CLOSE


def test_vidtok_fsq_equals_the_library(tmp_path: Path) -> None:
    model = saved(lambda: tiny.vidtok("fsq"), tmp_path)
    tokenizer = adapter(tmp_path)
    x = images(16)
    tokens = tokenizer.encode(x, [0] * 4)
    assert tokens.alphabets == (512,)
    with torch.no_grad():
        indices = model.encode((x * 2 - 1)[:, :, None])[1]
        wanted = (model.decode(indices, decode_from_indices=True)[:, :, 0] + 1) / 2
    assert torch.equal(tokens.indices.flatten(), indices.flatten().long())
    assert float((tokenizer.decode(tokens, [0] * 4) - wanted).abs().max()) < CLOSE


def test_a_pipeline_folder_will_do(tmp_path: Path) -> None:
    saved(tiny.kl, tmp_path / "vae")
    assert adapter(tmp_path).card.latent_channels == 4


def test_bad_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VtbenchError, match=r"no config\.json"):
        adapter(tmp_path)
    saved(tiny.kl, tmp_path)
    with pytest.raises(VtbenchError, match="another model"):
        adapter(tmp_path, "sd15-vae")
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VtbenchError, match="cannot be read as a whole safetensors file"):
        adapter(tmp_path)
    weights.rename(tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(VtbenchError, match="pickled"):
        adapter(tmp_path)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    saved(tiny.kl, tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(str(path))
    name = next(iter(tensors))
    save_file({n: t for n, t in tensors.items() if n != name}, str(path), metadata={"format": "pt"})
    with pytest.raises(VtbenchError, match="1 missing keys"):
        adapter(tmp_path)
    save_file({**tensors, name: torch.full_like(tensors[name], torch.nan)}, str(path), metadata={"format": "pt"})
    with pytest.raises(VtbenchError, match="NaN"):
        adapter(tmp_path)


def test_only_listed_classes_are_built(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(VtbenchError, match="UNet2DModel"):
        adapter(tmp_path)


def test_a_class_without_posterior_does_not_sample(tmp_path: Path) -> None:
    saved(tiny.tiny_autoencoder, tmp_path)
    with pytest.raises(VtbenchError, match="no posterior"):
        adapter(tmp_path, posterior="sample")
    with pytest.raises(VtbenchError, match="give mode or sample"):
        diffusers_vae.DiffusersVAE(registry.model("diffusers-vae").card, {"posterior": "median"})
