"""Quantizers of transformers: tiny ones, written to disk by the library itself, against its own calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vtbench import registry
from vtbench.adapters.libraries import transformers_vq
from vtbench.models.made_weights import fill_
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, unpack

transformers = pytest.importorskip("transformers", reason="NOT TESTED: transformers is not installed (extra hub)")


def janus() -> Any:
    config = transformers.JanusVQVAEConfig(
        embed_dim=4,
        num_embeddings=32,
        latent_channels=8,
        base_channels=32,
        channel_multiplier=[1, 1],
        num_res_blocks=1,
        num_patches=8,
        projection_dim=8,
        image_token_embed_dim=8,
    )
    return transformers.JanusVQVAE(config)


def emu3() -> Any:
    config = transformers.Emu3VQVAEConfig(
        codebook_size=48,
        embed_dim=4,
        latent_channels=4,
        base_channels=32,
        channel_multiplier=[1, 1],
        num_res_blocks=1,
        attn_resolutions=[1],
        hidden_size=32,
        temporal_downsample_factor=2,
    )
    return transformers.Emu3VQVAE(config)


MADE = {"janus": janus, "emu3": emu3}


def saved(name: str, folder: Path) -> Any:
    model = fill_(MADE[name]().eval())
    model.save_pretrained(str(folder))
    return model


def adapter(folder: Path, card: str = "transformers-vq") -> Any:
    tokenizer = registry.build(registry.model(card), {})
    tokenizer.load({"folder": folder})
    return tokenizer


@pytest.mark.parametrize("name", MADE)
def test_codes_and_pictures_are_the_librarys(name: str, tmp_path: Path) -> None:
    model, tokenizer = saved(name, tmp_path), adapter(tmp_path)
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    tokens = tokenizer.encode(x, [0, 0])
    assert isinstance(tokens, Codes)
    assert tokens.grids == ((8, 8),)
    assert (tokenizer.card.downsample, tokenizer.card.tokens_at_256, tokenizer.card.latent_channels) == (2, 128**2, 4)
    assert tokenizer.card.alphabets == tokens.alphabets == ((48,) if name == "emu3" else (32,))
    with torch.no_grad():
        if name == "emu3":
            codes = torch.stack(list(model.encode(x * 2 - 1, torch.tensor([[16, 16]] * 2)).image_tokens))
        else:
            codes = model.encode(x * 2 - 1).image_tokens.view(2, 64)
        wanted = (model.decode(codes) + 1) / 2
    assert torch.equal(tokens.indices[..., 0], codes.reshape(2, 64).long())
    assert tokens.indices.unique().numel() > 2
    mine = tokenizer.decode(Codes.join([unpack(b) for b in tokens.pack()]), [0, 0])
    assert mine.shape == x.shape
    assert float(wanted.std()) > 1e-3, "a constant picture proves nothing"
    assert float((mine - wanted).abs().max()) < 1e-5 * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize("name", MADE)
def test_rectangles_and_batches(name: str, tmp_path: Path) -> None:
    """Janus's class knows the one grid of its configuration; four images are four times one."""
    saved(name, tmp_path)
    tokenizer = adapter(tmp_path)
    x = torch.rand(3, 3, 12, 20, generator=torch.Generator().manual_seed(2))
    tokens = tokenizer.encode(x, [0] * 3)
    assert tokens.grids == ((6, 10),)
    whole = tokenizer.decode(tokens, [0] * 3)
    ones = torch.cat([tokenizer.decode(tokenizer.encode(x[i : i + 1], [0]), [0]) for i in range(3)])
    assert float((whole - ones).abs().max()) < 1e-5 * max(1.0, float(ones.abs().max()))


def test_a_quantizer_inside_its_vlm(tmp_path: Path) -> None:
    """The whole model's folder: `vq_config` in its config, the weights under `model.vqmodel.`, the rest not read."""
    from safetensors.torch import save_file

    model = saved("janus", tmp_path / "alone")
    whole = tmp_path / "whole"
    whole.mkdir()
    config = json.loads((tmp_path / "alone" / "config.json").read_text())
    (whole / "config.json").write_text(json.dumps({"model_type": "janus", "vq_config": config}))
    (whole / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    tensors = {f"model.vqmodel.{n}": t.contiguous() for n, t in model.state_dict().items()}
    save_file({**tensors, "model.language_model.x": torch.ones(1)}, whole / "model.safetensors")
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    one, other = adapter(tmp_path / "alone"), adapter(whole)
    assert torch.equal(one.encode(x, [0]).indices, other.encode(x, [0]).indices)
    assert torch.equal(one.decode(one.encode(x, [0]), [0]), other.decode(other.encode(x, [0]), [0]))
    # Another normalisation is another model input.
    (whole / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1] * 3, "image_std": [0.9] * 3}))
    assert not torch.equal(one.encode(x, [0]).indices, adapter(whole).encode(x, [0]).indices)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(VtbenchError, match=r"no config\.json"):
        adapter(tmp_path)
    saved("janus", tmp_path)
    with pytest.raises(VtbenchError, match="another model"):
        adapter(tmp_path, "janus-pro-1b-vq16-transformers")
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    name = "quant_conv.weight"
    save_file({n: t for n, t in tensors.items() if n != name}, path, metadata={"format": "pt"})
    with pytest.raises(VtbenchError, match=r"1 missing: quant_conv\.weight"):
        adapter(tmp_path)
    save_file({**tensors, name: torch.full_like(tensors[name], torch.nan)}, path, metadata={"format": "pt"})
    with pytest.raises(VtbenchError, match="NaN"):
        adapter(tmp_path)


@pytest.mark.parametrize(
    ("kind", "said"),
    [("chameleon", "no decoder.*chameleon-vqgan"), ("flava", "no decoder.*openai-dalle-dvae"), ("bert", "known are")],
)
def test_classes_without_a_decoder_are_said(kind: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(VtbenchError, match=said):
        adapter(tmp_path)


def test_the_listed_types_are_the_librarys() -> None:
    for kind, (name, one) in transformers_vq.CLASSES.items():
        assert getattr(transformers, one.config).model_type == kind
        assert hasattr(getattr(transformers, name), "decode")
    from transformers.models.chameleon.modeling_chameleon import ChameleonVQVAE

    assert not hasattr(ChameleonVQVAE, "decode"), "transformers has a decoder now: list the class"
