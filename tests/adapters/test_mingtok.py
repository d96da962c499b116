"""MingTok at a small size: sizes read off the file, scales that move no picture, other squares, refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import arch_of, filled, random_images, state_of

from vtbench import registry
from vtbench.adapters.networks.mingtok import MingTok
from vtbench.adapters.tokenizers.mingtok import MingTokTokenizer
from vtbench.models.build import build
from vtbench.models.names import names_of
from vtbench.models.native import NetworkTokenizer
from vtbench.models.network import build_network
from vtbench.types.cards import Fixed
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Latents, unpack

Arch = dict[str, Any]
MAIN = "mingtok__mlp"
FAMILY, CARD = registry.family("mingtok"), registry.model("mingtok-vision").card


def _tokenizer(change: Callable[[Arch], object] = lambda _: None) -> NetworkTokenizer:
    arch = copy.deepcopy(arch_of(MAIN))
    change(arch)
    return filled(FAMILY, replace(CARD, arch=arch))


@pytest.mark.parametrize("side", [64, 96])
def test_four_images_are_four_times_one(side: int) -> None:
    tokenizer, images, seeds = _tokenizer(), random_images(4, side, side), [1, 2, 3, 4]
    latents = tokenizer.encode(images, seeds)
    assert isinstance(latents, Latents)
    assert latents.positions == [(side // 16) ** 2 + 1] * 4
    together = tokenizer.decode(latents, seeds)
    alone = tokenizer.decode(unpack(latents.pack()[1]), [2])
    assert torch.allclose(alone, together[1:2], atol=2e-5)


def test_sizes_are_those_of_the_file(tmp_path: Path) -> None:
    """By the card's own name: what was released says its sizes itself."""
    path = tmp_path / "model.pt"
    torch.save({"model": {**state_of(MAIN), "target_backbone.head.weight": torch.zeros(2)}}, path)
    built = build("mingtok-vision", {}, path)
    assert (built.model.card.sizes, built.model.card.tokens_at_256) == (Fixed(64), 17)
    images = random_images(1, 64, 64)
    wanted = _tokenizer()
    assert torch.equal(built.model.encode(images, [0]).values, wanted.encode(images, [0]).values)
    other = tmp_path / "other.pt"
    torch.save({"weight": torch.zeros(2)}, other)
    assert MingTokTokenizer(CARD, {}, family=FAMILY)._sized(other) == CARD, "loading says then what is missing"


def test_factor_and_mean_of_latents_move_no_picture() -> None:
    plain, scaled = _tokenizer(), _tokenizer(lambda a: a.update(scaling_factor=0.5, mean=2.0))
    x = random_images(1, 64, 64) * 2 - 1
    latent, other = plain.network.encode(x).latent_mean, scaled.network.encode(x).latent_mean
    assert torch.allclose((latent - 2) / 0.5, other, atol=1e-5)
    pictures = [t.network.decode(z, size=(64, 64)) for t, z in ((plain, latent), (scaled, other))]
    assert torch.allclose(*pictures, atol=1e-4)


def test_meaning_is_read_causally_with_the_class_token_last() -> None:
    """A later position changes no earlier feature; the class token's changes none."""
    network = _tokenizer().network
    latent = torch.randn(1, 17, 16, generator=torch.Generator().manual_seed(0))
    moved = latent.clone()
    moved[:, 9:] += 1
    before, after = network.semantics(latent), network.semantics(moved)
    assert before.shape == (1, 16, 128)
    assert torch.allclose(before[:, :9], after[:, :9], atol=1e-5)
    assert not torch.allclose(before[:, 9:], after[:, 9:], atol=1e-2)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a["pixel_decoder"].update(ffn="identity", ffn_hidden=None),
        lambda a: a["semantic_decoder"].update(ffn="swiglufused", ffn_hidden=40),
        lambda a: (a.update(latent_dim=128), a["semantic_decoder"].update(in_projection=False)),
    ],
)
def test_variants_run_and_are_read_off_their_shapes(change: Callable[[Arch], object]) -> None:
    tokenizer = _tokenizer(change)
    latents = tokenizer.encode(random_images(1, 64, 64), [0])
    assert bool(torch.isfinite(tokenizer.decode(latents, [0])).all())
    shapes = names_of(tokenizer.network)
    assert MingTok.infer_arch(shapes, arch_of(MAIN)) == tokenizer.card.arch


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a["encoder"].update(heads=3), "3 heads of 64 channels are not the width 128"),
        (lambda a: a.update(latent_dim=24), "one must divide the other"),
        (lambda a: a["semantic_decoder"].update(in_projection=False), "latent_dim 16 must be the width 128"),
        (lambda a: a["encoder"].update(ffn="gelu"), "'mlp' or 'swiglu' or 'swiglufused' or 'identity'"),
        (lambda a: a["encoder"].update(ffn="identity"), "ffn_hidden is 512, but must be null"),
        (lambda a: a["pixel_decoder"].update(patch_size=5), "a patch goes from 16 to 5"),
        (lambda a: a.update(scaling_factor=0), "scale no latent"),
        (lambda a: a.update(scaling_factor=float("nan")), "scale no latent"),
        (lambda a: a.update(image_size=60), "no multiple of encoder.patch_size 16"),
        (lambda a: a["encoder"].update(init_values=1), "init_values is a key that this network does not know"),
    ],
)
def test_what_has_no_meaning_is_refused(change: Callable[[Arch], object], said: str) -> None:
    arch = copy.deepcopy(arch_of(MAIN))
    change(arch)
    with pytest.raises(VtbenchError, match=said), torch.device("meta"):
        build_network(FAMILY, arch)


def test_images_and_latents_of_another_form_are_refused() -> None:
    tokenizer = _tokenizer()
    with pytest.raises(VtbenchError, match="takes squares, multiples of 16"):
        tokenizer.encode(random_images(1, 64, 80), [0])
    with pytest.raises(VtbenchError, match=r"the latent is \(16, 16\)"):
        tokenizer.decode(Latents(torch.zeros(1, 16, 16, dtype=torch.float16), (64, 64), 2), [0])
