"""UniFlow at a small size: noise from seeds, options of the sampler, variants of the encoder, refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_networks import filled, random_images

from vtbench import registry
from vtbench.adapters.networks.uniflow import UniFlow
from vtbench.models.names import names_of
from vtbench.models.native import NetworkTokenizer
from vtbench.models.network import build_network
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Latents, unpack

Arch = dict[str, Any]
FAMILY, CARD = registry.family("uniflow"), registry.model("uniflow-448").card
SIZE = (16, 16)


def _arch(change: Callable[[Arch], object] = lambda _: None) -> Arch:
    """16 x 16 pixels in 16 patches."""
    arch = copy.deepcopy(dict(CARD.arch or {}))
    arch.update(image_size=16, patch_size=4, latent_dim=8)
    arch["encoder"].update(width=32, layers=1, heads=2, mlp=48)
    arch["bottleneck"]["hidden"] = 24
    arch["global_blocks"].update(layers=1, heads=4)
    arch["flow_head"].update(width=16, layers=1, channels=48)
    change(arch)
    return arch


def _tokenizer(options: Mapping[str, Any] | None = None, **change: Any) -> NetworkTokenizer:
    tokenizer = filled(FAMILY, replace(CARD, arch=_arch(lambda a: a.update(change))))
    tokenizer.options.update(options or {})
    return tokenizer


@pytest.mark.parametrize("options", [{}, {"steps": 3, "guidance": 1.5, "schedule": "pow_0.25"}])
def test_four_images_are_four_times_one(options: dict[str, Any]) -> None:
    """Each from its own noise, and from its packed bytes."""
    tokenizer, images, seeds = _tokenizer(options), random_images(4, *SIZE), [5, 6, 7, 8]
    latents = tokenizer.encode(images, seeds)
    assert isinstance(latents, Latents)
    assert latents.positions == [16] * 4
    assert latents.bits().tolist() == [16 * 8 * 16.0] * 4
    together = tokenizer.decode(latents, seeds)
    alone = tokenizer.decode(unpack(latents.pack()[3]), [8])
    assert torch.allclose(alone, together[3:], atol=2e-5)
    assert not torch.equal(tokenizer.decode(latents[3], [9]), alone), "another seed is another noise"
    assert tokenizer.cost() == {"nfe": options.get("steps", 1)}


def test_a_step_adds_the_velocity_at_time_zero() -> None:
    """One step: noise + v(noise, 0); two of half the length end elsewhere."""
    network = _tokenizer().network
    latent, noise = torch.randn(1, 16, 8), torch.randn(1, 16, 48)
    one, two = (network.decode(latent, size=SIZE, noise=noise, steps=n) for n in (1, 2))
    assert not torch.equal(one, two)
    assert torch.equal(one, network.decode(latent, size=SIZE, noise=noise))


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a["encoder"].update(norm="rms_norm", qkv_bias=False, qk_norm=True),
        lambda a: a.update(bottleneck=None, latent_dim=32),
        lambda a: a["global_blocks"].update(layers=0),
    ],
)
def test_variants_run_and_are_read_off_their_shapes(change: Callable[[Arch], object]) -> None:
    arch = _arch(change)
    tokenizer = filled(FAMILY, replace(CARD, arch=arch))
    latents = tokenizer.encode(random_images(1, *SIZE), [0])
    assert bool(torch.isfinite(tokenizer.decode(latents, [0])).all())
    shapes = names_of(tokenizer.network)
    read = UniFlow.infer_arch(shapes, _arch())
    # A head of 64 channels is more than this encoder has.
    assert read == {**arch, "encoder": {**arch["encoder"], "heads": 1}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.update(patch_size=5), "no multiple of patch_size 5"),
        (lambda a: a.update(pixel_std=[0.2, 0.2]), "pixel_std is .* must be 3 numbers"),
        (lambda a: a.update(pixel_std=[0.2, 0.0, 0.2]), "a deviation is above 0"),
        (lambda a: a.update(pixel_mean=None, pixel_std=None), "cannot do without them"),
        (lambda a: a.update(bottleneck=None), "without a bottleneck it is the width 32"),
        (lambda a: a["bottleneck"].update(activation="relu"), "activation is 'relu', but must be 'gelu'"),
        (lambda a: a["encoder"].update(norm="batch_norm"), "'layer_norm' or 'rms_norm'"),
        (lambda a: a["encoder"].update(heads=3), "3 heads do not divide"),
        (lambda a: a["flow_head"].update(channels=50), "channels is 50, but must be 48"),
        (lambda a: a["flow_head"].update(noise_concat=True), "noise_concat is a key that this network does not know"),
    ],
)
def test_what_has_no_meaning_is_refused(change: Callable[[Arch], object], said: str) -> None:
    with pytest.raises(VtbenchError, match=said), torch.device("meta"):
        build_network(FAMILY, _arch(change))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"steps": 0}, "steps is 0"), ({"schedule": "cosine"}, "schedule is 'cosine'"), ({"schedule": "pow_0"}, "pow_0")],
)
def test_options_without_meaning_are_refused(options: dict[str, Any], said: str) -> None:
    tokenizer = _tokenizer(options)
    latents = tokenizer.encode(random_images(1, *SIZE), [0])
    with pytest.raises(VtbenchError, match=said):
        tokenizer.decode(latents, [0])


def test_latents_that_are_broken_or_of_another_size_are_refused() -> None:
    tokenizer = _tokenizer()
    with pytest.raises(VtbenchError, match="NaN"):
        tokenizer.decode(Latents(torch.full((1, 16, 8), float("nan"), dtype=torch.float16), SIZE, 2), [0])
    with pytest.raises(VtbenchError, match=r"the latent is \(9, 8\)"):
        tokenizer.decode(Latents(torch.zeros(1, 9, 8, dtype=torch.float16), SIZE, 2), [0])
    with pytest.raises(VtbenchError, match="takes 16 x 16 only"):
        tokenizer.encode(random_images(1, 32, 32), [0])
