"""Transformers that see a whole picture: AToken's cells, of pictures and of clips, and RepTok's single token."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_networks import arch_of, filled, four_times_one, of_fixture, random_images, random_tensor

from vtbench import registry
from vtbench.models.arch import flatten
from vtbench.models.names import manifest, names_of
from vtbench.models.network import build_network, load_class
from vtbench.proving import fixtures
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents, unpack

SOD, REPTOK = "atoken__sod", "reptok__main"


def small(fixture: str, changes: dict[str, Any], **options: Any) -> Any:
    """A fixture's tokenizer with its arch changed, continuous."""
    tokenizer = of_fixture(fixture)
    arch = fixtures.merge(arch_of(fixture), changes)
    return filled(tokenizer.family, replace(tokenizer.card, kind="continuous", arch=arch, options=options))


def atoken(**changes: Any) -> Any:
    return small(
        SOD,
        {"quantizer": None, "posterior": "diagonal gaussian, mean taken", **changes},
        latent_dtype="float32",
        posterior="mode",
    )


# -- AToken ----------------------------------------------------------------------------------------------------------


def test_four_images_are_four_times_one() -> None:
    tokenizer = of_fixture(SOD)
    codes = four_times_one(tokenizer, random_images(4, 24, 40), [5, 6, 7, 8])
    assert codes.alphabets == (4096, 4096)
    assert codes.indices.shape == (4, 15, 2)
    with pytest.raises(VtbenchError, match="both sides must be multiples of 8"):
        tokenizer.encode(random_images(1, 25, 40), [0])
    with pytest.raises(VtbenchError, match="14 tokens for an image of 24 x 40, which needs 15"):
        tokenizer.decode(Codes(codes.indices[:, 1:], codes.alphabets, (24, 40)), [5, 6, 7, 8])
    with pytest.raises(VtbenchError, match="1 books, but this network has 2"):
        tokenizer.network.decode(codes.indices[..., :1], size=(24, 40))


def test_a_sample_of_the_posterior_is_the_seeds() -> None:
    tokenizer, images = atoken(), random_images(2, 16, 24)
    mean = tokenizer.encode(images, [1, 2])
    assert isinstance(mean, Latents)
    assert mean.values.shape == (2, 6, 12)
    assert tokenizer.decode(unpack(mean.pack()[1]), [2]).shape == (1, 3, 16, 24)
    tokenizer.options = {**tokenizer.options, "posterior": "sample"}
    first, again, other = (tokenizer.encode(images, seeds).values for seeds in ([1, 2], [1, 2], [3, 2]))
    assert torch.equal(first, again)
    assert not torch.equal(first[0], mean.values[0])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(first[1], other[1])


def test_a_picture_is_the_first_of_four_frames_and_windows_do_not_see_each_other() -> None:
    network = atoken().network
    picture = random_tensor(1, 3, 16, 16)
    clip = torch.cat([picture[:, :, None], torch.zeros(1, 3, 3, 16, 16)], dim=2)
    latent = network.encode(picture).latent_mean
    assert torch.equal(latent, network.encode(clip).latent_mean)
    frames = network.decode(latent, size=(4, 16, 16))
    assert frames.shape == (1, 3, 4, 16, 16)
    assert torch.equal(network.decode(latent, size=(16, 16)), frames[:, :, 0])
    # 16 frames are a window: what follows them changes nothing in it, and frames behind the last patch are left out.
    long = random_tensor(1, 3, 22, 16, 16)
    whole = network.encode(long).latent_mean
    assert whole.shape == (1, 5 * 4, 12)
    assert torch.equal(whole[:, :16], network.encode(long[:, :, :16]).latent_mean)
    assert torch.equal(whole[:, 16:], network.encode(long[:, :, 16:20]).latent_mean), "its own time starts at 0"
    back = network.decode(whole, size=(22, 16, 16))
    assert back.shape == (1, 3, 20, 16, 16)
    assert torch.equal(back[:, :, 16:], network.decode(whole[:, 16:], size=(4, 16, 16)))


def test_a_decoder_may_give_fewer_frames_than_it_is_shown() -> None:
    network = atoken(out_channels=192).network
    assert network.frames_back == 1
    assert network.decode(torch.zeros(1, 4, 12), size=(16, 16)).shape == (1, 3, 16, 16)


# -- RepTok ----------------------------------------------------------------------------------------------------------


def test_one_token_paints_with_the_noise_of_its_seed() -> None:
    """Four images are four times one, and the steps are the card's option."""
    tokenizer = small(REPTOK, {}, steps=2, latent_dtype="float32")
    images, seeds = random_images(4, 64, 64), [5, 6, 7, 8]
    latents = tokenizer.encode(images, seeds)
    assert isinstance(latents, Latents)
    assert latents.values.shape == (4, 1, 48)
    assert latents.bits()[0] == 48 * 32
    together = tokenizer.decode(latents, seeds)
    assert tokenizer.cost() == {"nfe": 2.0}
    alone = tokenizer.decode(unpack(latents.pack()[2]), seeds[2:3])
    assert torch.allclose(alone, together[2:3], atol=2e-5)
    assert not torch.allclose(tokenizer.decode(latents, [9, 6, 7, 8])[0], together[0], atol=1e-2)
    with pytest.raises(VtbenchError, match="takes 64 x 64 only"):
        tokenizer.encode(random_images(1, 64, 96), [0])
    with pytest.raises(VtbenchError, match=r"decodes \(B, 1, 48\)"):
        tokenizer.decode(Latents(latents.values[..., :47], (64, 64), channel_axis=2), seeds)
    tokenizer.options = {**tokenizer.options, "steps": 0}
    with pytest.raises(VtbenchError, match="steps is 0"):
        tokenizer.decode(latents, seeds)
    tokenizer.options = {**tokenizer.options, "steps": 1}
    with pytest.raises(VtbenchError, match="NaN"):
        tokenizer.decode(Latents(latents.values * float("nan"), (64, 64), channel_axis=2), seeds)


def test_the_generators_scale_of_the_token_changes_no_picture() -> None:
    """scale_factor divides what the generator sees, and is undone."""
    plain, scaled = (small(REPTOK, {"scale_factor": s}, steps=1, latent_dtype="float32") for s in (1, 4))
    images = random_images(1, 64, 64)
    one, quarter = plain.encode(images, [3]), scaled.encode(images, [3])
    assert torch.equal(one.values, quarter.values * 4)
    assert torch.equal(plain.decode(one, [3]), scaled.decode(quarter, [3]))


# -- archs -----------------------------------------------------------------------------------------------------------

REFUSED = [
    ("atoken", {"patch_size": [3, 16, 16]}, "frames that divide 16"),
    ("atoken", {"patch_size": [4, 16, 8]}, "a square"),
    ("atoken", {"in_channels": 3000}, "no whole patches"),
    ("atoken", {"encoder": {"heads": 7}}, "7 heads do not divide"),
    ("atoken", {"encoder": {"heads": 96}}, "a head is 12 channels wide"),
    ("atoken", {"encoder": {"position": "rope"}}, "arch.encoder.position"),
    ("atoken", {"quantizer": {"type": "fsq"}}, "arch.posterior"),
    ("atoken", {"quantizer": {"type": "lfq"}, "posterior": None}, "must be 'fsq'"),
    (
        "atoken",
        {"quantizer": {"type": "fsq", "books": 2, "levels": [4], "chunk_size": 2}, "posterior": None},
        "arch.quantizer.chunk_size is 2",
    ),
    (
        "atoken",
        {"quantizer": {"type": "fsq", "books": 7, "levels": [4] * 6}, "posterior": None},
        "all three must agree",
    ),
    ("reptok", {"in_channels": 4}, "arch.in_channels is 4"),
    ("reptok", {"scale_factor": 0}, "must be above 0"),
    ("reptok", {"encoder": {"type": "dinov2"}}, "arch.encoder.type"),
    ("reptok", {"encoder": {"width": 1200}}, "more than the backbone's 1152"),
    ("reptok", {"condition": {"projection": "linear"}}, "arch.condition.projection"),
    ("reptok", {"backbone": {"head_dim": 100}}, "must divide a width of 1152"),
    ("reptok", {"backbone": {"patch_size": 3}}, "do not divide a latent of 32"),
    ("reptok", {"vae": {"latent_channels": 16}}, "they must agree"),
    ("reptok", {"mapping": {"width": 1023}}, "must be even"),
]


@pytest.mark.parametrize(("family", "change", "said"), REFUSED)
def test_archs_that_no_network_has_are_refused(family: str, change: dict[str, Any], said: str) -> None:
    one = registry.family(family)
    with pytest.raises(VtbenchError, match=said), torch.device("meta"):
        build_network(one, fixtures.merge(one.cards[0].arch or {}, change))


UNTOLD = {
    "atoken": {
        "posterior",
        *(f"quantizer.{k}" for k in ("type", "books", "levels", "eps", "feature_dim", "chunk_size")),
    },
    "reptok": {"encoder.image_size", "encoder.heads", "backbone.latent_size", "vae.norm_groups"},
}
"""What no shape tells, and stays as in the arch that is changed: also whether AToken's latents are quantized."""


@pytest.mark.parametrize("fixture", [SOD, REPTOK])
def test_sizes_are_read_off_the_shapes(fixture: str) -> None:
    """Of the fixture and of every released file, each from another card's arch."""
    tokenizer = of_fixture(fixture)
    family, infer = tokenizer.family, load_class(tokenizer.family.network or "").infer_arch
    for shapes, arch in [
        (names_of(tokenizer.network), arch_of(fixture)),
        *((manifest(family, c), c.arch) for c in family.cards),
    ]:
        read = infer(shapes, json.loads(json.dumps(family.cards[-1].arch)))
        off = {key for key, value in flatten(arch or {}).items() if flatten(read).get(key) != value}
        assert off <= UNTOLD[family.name]
        with torch.device("meta"):
            assert names_of(build_network(family, read)) == shapes
    assert infer({"encoder.conv_in.weight": [1, 1, 3, 3]}, family.cards[0].arch) is None
