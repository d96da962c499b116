"""CODA at small sizes: low-rank convolutions, the attention quantizer, two files, refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_networks import arch_of, assert_loads, four_times_one, of_fixture, random_images, random_tensor, state_of

from vtbench.adapters.networks.coda import Coda
from vtbench.models.made_weights import fill_
from vtbench.types.cards import Weights
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes

Arch = dict[str, Any]
FLUX = "coda__flux"


def _built(change: Callable[[Arch], object] = lambda _: None) -> Coda:
    arch = copy.deepcopy(arch_of(FLUX))
    change(arch)
    network = fill_(Coda(arch)).eval().requires_grad_(False)
    assert isinstance(network, Coda)
    return network


def test_four_images_are_four_times_one() -> None:
    tokenizer = of_fixture(FLUX)
    images, seeds = random_images(4, 64, 64), [5, 6, 7, 8]
    codes = four_times_one(tokenizer, images, seeds)
    assert codes.alphabets == (4096,)
    assert codes.grids == tuple((p, p) for p in (1, 2, 3, 4, 6, 8))
    assert codes.bits().tolist() == [130 * 12.0] * 4
    with pytest.raises(VtbenchError, match="60 x 64, but both sides must be multiples of 8"):
        tokenizer.encode(random_images(1, 60, 64), [0])
    with pytest.raises(VtbenchError, match="129 tokens, but the scales have 130"):
        tokenizer.decode(Codes(codes.indices[:, 1:], (4096,), (64, 64)), seeds)


def test_low_rank_convolutions_add_to_what_they_wrap() -> None:
    """Of a plain, a halving and a doubling convolution: the wrapped layer's padding and enlarging come first."""

    def mar(a: Arch) -> None:
        a["vae"].update(type="mar-kl16", block_out_channels=None, layers_per_block=None, latent_shift=0.0)
        a["vae"].update(ch=32, ch_mult=[1, 1], num_res_blocks=1, resolution=32)
        a["lora"] = {"rank": 3, "modules": ["conv1", "upsample", "downsample"]}

    network = _built(mar)
    wrapped = {n.removesuffix(".lora_layer.up") for n, _ in network.vae.named_modules() if n.endswith("lora_layer.up")}
    assert {n.split(".")[-1] for n in wrapped} == {"conv1", "conv"}
    assert len([n for n in wrapped if "sample" in n]) == 2
    x = random_tensor(1, 32, 6, 6)
    for name, before in (
        ("encoder.down.0.block.0.conv1", lambda t: t),
        ("encoder.down.0.downsample.conv", lambda t: F.pad(t, (0, 1, 0, 1))),
        ("decoder.up.1.upsample.conv", lambda t: t.repeat_interleave(2, 2).repeat_interleave(2, 3)),
    ):
        conv: Any = network.vae.get_submodule(name)
        low, seen = conv.lora_layer, before(x)
        plain = F.conv2d(seen, conv.weight, conv.bias, conv.stride, conv.padding)
        added = F.conv2d(F.conv2d(seen, low.down.weight, None, conv.stride, conv.padding), low.up.weight)
        assert low.down.weight.shape[0] == 3
        assert torch.allclose(conv(x), plain + added, atol=1e-5)
    assert torch.equal(
        copy.deepcopy(network).vae.get_submodule("encoder.down.0.block.0.conv1")(x),
        network.vae.get_submodule("encoder.down.0.block.0.conv1")(x),
    )


def test_without_low_rank_it_is_the_autoencoder_alone() -> None:
    names = _built(lambda a: a.update(lora=None)).state_dict()
    assert not [n for n in names if "lora" in n]
    assert set(names) == {n for n in _built().state_dict() if "lora" not in n}


@pytest.mark.parametrize("norm", ["rms", "layer", None])
def test_codes_are_those_that_attend_most(norm: str | None) -> None:
    """Against the formula position by position, at the first scale; what is added is the code's value."""
    network = _built(lambda a: a["quantizer"].update(norm=norm, codebook_size=50))
    quantizer = network.quantizer
    z = random_tensor(2, 16, 8, 8)
    tokens, total = quantizer(z)
    attn, rows, one = quantizer.attn, quantizer.codebooks.weight, z.mean(dim=(2, 3))

    def normed(t: torch.Tensor, layer: Any) -> torch.Tensor:
        if norm == "layer":
            t = t - t.mean(dim=-1, keepdim=True)
        return t if norm is None else t / (t.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * layer.weight

    q, k = normed(attn.to_q(one), attn.norm_q), normed(attn.to_k(rows), attn.norm_k)
    if norm == "layer":
        q, k = q + attn.norm_q.bias, k + attn.norm_k.bias
    assert torch.equal(tokens[:, 0], (q @ k.T).argmax(dim=1))
    left = z - attn.to_v(rows[tokens[:, 0]])[:, :, None, None]
    nearer = F.interpolate(left, size=(2, 2), mode="area").permute(0, 2, 3, 1).reshape(2, 4, 16)
    wanted = (normed(attn.to_q(nearer), attn.norm_q) + (attn.norm_q.bias if norm == "layer" else 0)) @ k.T
    assert torch.equal(tokens[:, 1:5], wanted.argmax(dim=2))
    assert torch.allclose(quantizer.lookup(tokens, (8, 8)), total, atol=1e-5)


def test_two_files_fill_two_parts(tmp_path: Path) -> None:
    state = state_of(FLUX)
    files = {
        role: {n.removeprefix(f"{role}."): t for n, t in state.items() if n.startswith(f"{role}.")}
        for role in ("vae", "quantizer")
    }
    assert_loads(FLUX, files, (Weights("vae.pth", role="vae"), Weights("quantizer.pth", role="quantizer")), tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a["vae"].update(ch=32), "arch.vae.ch is 32, but must be null"),
        (lambda a: a["vae"].update(type="mar-kl16"), "arch.vae.block_out_channels is .* but must be null"),
        (lambda a: a["vae"].update(latent_channels=8), "embed_dim is 16, but must be the 8 of vae"),
        (lambda a: a["vae"].update(latent_scale=0), "must be above 0"),
        (lambda a: a["vae"].update(norm_eps=1e-5), "arch.vae.norm_eps is 1e-05"),
        (lambda a: a["lora"].update(modules="conv1"), "must be a list of parts of names"),
        (lambda a: a["lora"].update(alpha=4), "arch.lora.alpha is a key that"),
        (lambda a: a["quantizer"].update(norm="group"), "arch.quantizer.norm is 'group'"),
        (lambda a: a["quantizer"].update(scales=[0, 8]), "has a 0"),
        (lambda a: a["quantizer"].update(type="vq"), "arch.quantizer.type is 'vq'"),
    ],
)
def test_what_has_no_meaning_is_refused(change: Callable[[Arch], object], said: str) -> None:
    with pytest.raises(VtbenchError, match=said):
        _built(change)
