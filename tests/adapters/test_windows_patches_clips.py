"""Tokenizers with windows, patches or whole pictures a code, and those of videos that take a picture as one frame."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_networks import arch_of, filled, four_times_one, of_fixture, random_images, random_tensor

from vtbench import registry
from vtbench.models.arch import flatten, own_card
from vtbench.models.names import manifest, names_of
from vtbench.models.network import build_network, load_class
from vtbench.proving import fixtures
from vtbench.types.cards import Card, Multiple
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents, unpack

FOUR = [
    ("iter__swin-f8-v128", (64, 96), (128,)),
    ("put__tpami2024", (24, 40), (112,)),
    ("qg-vae__main", (16, 16), (32,)),
    ("orbis__if-v128", (32, 48), (128, 128)),
    ("vidtok__fsq-causal-image", (12, 16), (8 * 8 * 8 * 5 * 5 * 5,)),
]


@pytest.mark.parametrize(("fixture", "size", "alphabets"), FOUR, ids=[name for name, *_ in FOUR])
def test_four_images_are_four_times_one(fixture: str, size: tuple[int, int], alphabets: tuple[int, ...]) -> None:
    """Rectangles where the network takes them; a decoder that gets only the packed bytes."""
    tokenizer = of_fixture(fixture)
    codes = four_times_one(tokenizer, random_images(4, *size), [5, 6, 7, 8])
    assert codes.alphabets == alphabets
    wanted = sum(h * w for h, w in codes.grids) or tokenizer.network.positions
    assert codes.indices.shape == (4, wanted, len(alphabets))
    with pytest.raises(VtbenchError, match=r"must be multiples|takes \d+ x \d+ only"):
        tokenizer.encode(random_images(1, size[0] + 1, size[1]), [0])
    with pytest.raises(VtbenchError, match="tokens"):
        tokenizer.decode(Codes(codes.indices[:, 1:], codes.alphabets, size), [5, 6, 7, 8])


def small(family: str, arch: dict[str, Any], kind: str = "discrete", **options: Any) -> Any:
    one = registry.family(family)
    return filled(one, Card(name="small", family=family, kind=kind, title="small", arch=arch, options=options))  # type: ignore[arg-type]


# -- ITER ------------------------------------------------------------------------------------------------------------


def test_a_window_is_the_smallest_step_of_a_side() -> None:
    """Also of one's own sizes, where windows of 4 cells of 8 pixels want multiples of 32."""
    family = registry.family("iter")
    card = own_card(family.cards[0], family, arch_of("iter__swin-f8-v128"))
    assert (card.sizes, card.downsample, card.tokens_at_256) == (Multiple(of=32, at_least=32), 8, 1024)
    with pytest.raises(VtbenchError, match="40 x 64, but both sides must be multiples of 32"):
        of_fixture("iter__swin-f8-v128").encode(random_images(1, 40, 64), [0])
    # A nominal resolution of no more than a window: it is the window, and nothing is shifted.
    network = small("iter", fixtures.merge(arch_of("iter__swin-f8-v128"), {"nominal_resolution": [16, 32]})).network
    assert network.multiple == 16
    assert {block.shift for block in network.modules() if hasattr(block, "shift")} == {0}


def test_the_generator_is_the_decoder() -> None:
    """Files hold it under both names; its numbers are counted once."""
    tokenizer = of_fixture("iter__swin-f8-v128")
    names = set(tokenizer.network.state_dict())
    assert {n.replace("decoder.", "generator.") for n in names if n.startswith("decoder.")} <= names
    once = sum(t.numel() for n, t in tokenizer.network.named_parameters() if not n.startswith("generator."))
    assert tokenizer.parameter_count() == once


# -- PUT -------------------------------------------------------------------------------------------------------------


def test_a_codec_knows_no_pixel_but_by_its_codes() -> None:
    """The second book is for unknown pixels and never used; what the reference branch knows is side information."""
    network = of_fixture("put__tpami2024").network
    x = random_images(2, 16, 24)
    tokens = network.encode(x).tokens
    assert int(tokens.max()) < network.quantize.known == 112
    mask = torch.ones(2, 1, 16, 24)
    mask[:, :, 3, 5] = 0
    hidden = network.encode(x, mask=mask).tokens
    assert (hidden >= 112).tolist() == [[True] + [False] * 5] * 2, "the one patch with an unknown pixel"
    plain = network.decode(tokens, size=(16, 24))
    pasted = network.decode(tokens, size=(16, 24), masked_image=x, mask=torch.ones_like(mask))
    assert float((plain - pasted).abs().max()) > 0.05, "upstream's reconstruction is another picture"
    with pytest.raises(VtbenchError, match="come together"):
        network.decode(tokens, size=(16, 24), mask=mask)
    bare = {"decoder": {"reference_branch": False, "reference_downsample": None}}
    without = small("put", fixtures.merge(arch_of("put__tpami2024"), bare)).network
    assert torch.equal(without.decode(tokens, size=(16, 24)), plain), "the branch does not count without a mask"
    with pytest.raises(VtbenchError, match="no reference branch"):
        without.decode(tokens, size=(16, 24), masked_image=x, mask=mask)


# -- Orbis -----------------------------------------------------------------------------------------------------------


def test_codes_and_latents_of_the_same_weights_are_two_models() -> None:
    arch = arch_of("orbis__if-v128")
    codes = small("orbis", arch)
    latents = small("orbis", {**arch, "continuous": True}, "continuous", latent_dtype="float32")
    images = random_images(2, 64, 64)
    discrete, continuous = codes.encode(images, [0, 0]), latents.encode(images, [0, 0])
    assert isinstance(continuous, Latents)
    assert continuous.values.shape == (2, 16, 4, 4)
    assert discrete.bits()[0] == 16 * 2 * 7
    assert continuous.bits()[0] == 16 * 16 * 32
    rounded = codes.network.encode(images * 2 - 1).quantized
    assert float((continuous.values - rounded).abs().max()) > 0.05
    assert not torch.allclose(codes.decode(discrete, [0, 0]), latents.decode(continuous, [0, 0]), atol=0.05)
    # A row's length says nothing.
    codes.network.quantize.embedding.weight.mul_(3.0)
    assert torch.equal(codes.encode(images, [0, 0]).indices, discrete.indices)


def test_the_table_of_positions_is_resized_by_its_own_ratio() -> None:
    """At its own size it is the file's; at another, corner cells stay near what they were."""
    vit = of_fixture("orbis__if-v128").network.encoder["encoder"]
    assert torch.equal(vit.positions((4, 4)), vit.pos_embed)
    wide = vit.positions((4, 8))
    assert wide.shape == (1, 33, 48)
    assert torch.equal(wide[:, 0], vit.pos_embed[:, 0])


# -- VidTok ----------------------------------------------------------------------------------------------------------


def vidtok(**changes: Any) -> Any:
    base = arch_of("vidtok__fsq-causal-image")
    return small("vidtok", {**base, **changes}, "continuous", latent_dtype="float32", posterior="mode")


KL = {"quantizer": None, "posterior": "diagonal gaussian, mean taken", "z_channels": 4}


def test_one_frame_is_a_picture_where_the_network_is_causal() -> None:
    """Both versions pad; the mean is taken unless a sample is asked for, which the seed decides."""
    images = random_images(2, 16, 16)
    for version, interpolation in (("1.0", "nearest"), ("1.1", "trilinear")):
        tokenizer = vidtok(**KL, version=version, interpolation=interpolation)
        latents = tokenizer.encode(images, [1, 2])
        assert latents.values.shape == (2, 4, 4, 4)
        assert tokenizer.decode(unpack(latents.pack()[0]), [1]).shape == (1, 3, 16, 16)
        tokenizer.options = {**tokenizer.options, "posterior": "sample"}
        first, again, other = (tokenizer.encode(images, seeds).values for seeds in ([1, 2], [1, 2], [3, 2]))
        assert torch.equal(first, again)
        assert not torch.equal(first[0], other[0])
        assert torch.equal(first[1], other[1])
    forward = vidtok(**KL, causal=False, init_pad=None)
    with pytest.raises(VtbenchError, match="1 frame, but this network is not causal"):
        forward.encode(images, [1, 2])


def test_frames_of_clips() -> None:
    """1.1 gives every frame back; 1.0 adds three in front where they are wanted, and drops three always."""
    for version, interpolation, frames, given in (
        ("1.1", "trilinear", 6, 6),
        ("1.1", "nearest", 4, 4),
        ("1.0", "nearest", 5, 5),
        ("1.0", "nearest", 8, 5),
    ):
        network = vidtok(**KL, version=version, interpolation=interpolation).network
        encoded = network.encode(random_tensor(1, 3, frames, 16, 16))
        back = network.decode(encoded.latent_mean, size=(frames, 16, 16))
        assert back.shape == (1, 3, given, 16, 16), (version, frames)


def test_group_norms_are_of_a_frame_a_clip_or_a_cell() -> None:
    """Frames do not see each other through the norms of a causal network, and do through those of the other."""
    from vtbench.adapters.networks.parts.clips import Rules, norm

    clip = random_tensor(1, 32, 2, 4, 4)
    changed = clip.clone()
    changed[:, :, 1] *= 3
    seen = {}
    for over in ("frame", "clip", "place", "cell"):
        layer = norm(Rules(True, False, "groupnorm", 4, 1e-6), 32, over)
        seen[over] = not torch.allclose(layer(clip)[:, :, 0], layer(changed)[:, :, 0], atol=1e-4)
    assert seen == {"frame": False, "clip": True, "place": True, "cell": False}


# -- archs -----------------------------------------------------------------------------------------------------------

REFUSED = [
    ("iter", {"norm_groups": "16"}, "arch.norm_groups is '16'"),
    ("iter", {"z_channels": 64}, "embed_dim 128 must equal z_channels 64"),
    ("iter", {"swin": None}, "arch.swin is null"),
    ("iter", {"swin": {"heads": 7}}, "7 heads do not divide"),
    ("iter", {"ch": 40}, "norm groups do not divide"),
    ("iter", {"nominal_resolution": [4, 4]}, "leaves no cell"),
    ("put", {"encoder": {"type": "conv"}}, "must be 'patch mlp'"),
    ("put", {"decoder": {"upsample": "pixel shuffle"}}, "'deconv' or 'nearest' or 'bilinear'"),
    ("put", {"decoder": {"stride": 16}}, "another size"),
    ("put", {"encoder": {"stride": 6}, "decoder": {"stride": 6}}, "power of two"),
    ("put", {"quantizer": {"unmasked": 2048}}, "more than the table's 1024 rows"),
    ("put", {"quantizer": {"l2_norm": True}}, "arch.quantizer.l2_norm"),
    ("put", {"pixel_mean": [0.5, 0.5, 0.5]}, "come together"),
    ("put", {"decoder": {"reference_downsample": "pool"}}, "'conv' or 'downsample'"),
    ("qg-vae", {"heads": 7}, "7 heads do not divide 64 codes"),
    ("qg-vae", {"image_size": 34, "down_factor": 2}, "cannot be halved 2 times"),
    ("qg-vae", {"image_size": 36}, "a map of 9 pixels cannot be halved"),
    ("qg-vae", {"quantizer": {"type": "vq"}}, "arch.quantizer.type"),
    ("orbis", {"encoders": {"count": 1}}, "arch.encoders.count is 1"),
    ("orbis", {"encoders": {"resolution": [288, 500]}}, "do not divide the resolution 288 x 500"),
    ("orbis", {"decoder": {"ch_mult": [1, 2]}}, "another size"),
    ("orbis", {"decoder": {"resolution": "256"}}, "arch.decoder.resolution"),
    ("vidtok", {"quantizer": {"type": "fsq", "levels": [8]}}, "arch.posterior"),
    ("vidtok", {"quantizer": {"type": "lfq", "levels": [8]}, "posterior": None}, "must be 'fsq'"),
    ("vidtok", {"quantizer": {"type": "fsq", "levels": [8]}, "posterior": None}, "they must agree"),
    ("vidtok", {"causal": False}, "no such network that is not causal"),
    ("vidtok", {"version": "1.0"}, "version 1.0 has 'nearest' alone"),
    ("vidtok", {"init_pad": "reflect"}, "arch.init_pad"),
    ("vidtok", {"time_downsample": 8}, "they must agree"),
    ("vidtok", {"spatial_downsample_levels": [0, 1, 7]}, "only 4 levels"),
    ("vidtok", {"norm": "batchnorm"}, "'layernorm' or 'groupnorm'"),
]


@pytest.mark.parametrize(("family", "change", "said"), REFUSED)
def test_archs_that_no_network_has_are_refused(family: str, change: dict[str, Any], said: str) -> None:
    one = registry.family(family)
    with pytest.raises(VtbenchError, match=said), torch.device("meta"):
        build_network(one, fixtures.merge(one.cards[0].arch or {}, change))


UNTOLD = {
    "iter": {"nominal_resolution"},
    "put": {"pixel_mean", "pixel_std", "quantizer.unmasked"},
    "qg-vae": set(),
    "orbis": {"encoders.heads", "decoder.attn_resolutions", "decoder.resolution", "continuous"},
    "vidtok": {"version", "interpolation", "temporal_downsample_levels", "quantizer.levels"},
}
"""What no shape tells, and stays as in the arch that is changed (VidTok's levels are a set)."""


@pytest.mark.parametrize("fixture", [name for name, *_ in FOUR])
def test_own_sizes_are_read_off_the_shapes(fixture: str) -> None:
    tokenizer = of_fixture(fixture)
    shapes, family = names_of(tokenizer.network), tokenizer.family
    infer, wanted = type(tokenizer.network).infer_arch, flatten(arch_of(fixture))
    read = flatten(infer(shapes, json.loads(json.dumps(family.cards[0].arch))))
    assert {key for key in wanted if read.get(key) != wanted[key]} <= UNTOLD[family.name]
    assert infer({"encoder.conv_in.weight": [1, 1, 3, 3]}, family.cards[0].arch) is None
    assert names_of(build_network(family, infer(shapes, family.cards[0].arch))) == shapes


@pytest.mark.parametrize("name", list(UNTOLD))
def test_released_archs_are_read_off_their_shapes(name: str) -> None:
    """Every kind of card's arch from its network's shapes and another card's arch."""
    family = registry.family(name)
    infer = load_class(family.network or "").infer_arch
    for card in family.cards[:: 5 if name == "vidtok" else 1]:
        shapes = manifest(family, card)
        read = infer(shapes, json.loads(json.dumps(family.cards[-1].arch)))
        off = {key for key, value in flatten(card.arch or {}).items() if flatten(read).get(key) != value}
        assert off <= UNTOLD[name], card.name
        with torch.device("meta"):
            assert names_of(build_network(family, read)) == shapes


def test_a_change_of_the_card_is_a_model_of_its_own() -> None:
    """Facts follow the arch, as for --option codebook_size."""
    family = registry.family("vidtok")
    base = next(card for card in family.cards if card.name == "vidtok-fsq-causal-488-4096")
    arch = fixtures.merge(base.arch or {}, {"quantizer": {"levels": [8, 8, 8, 5]}})
    card = own_card(replace(base, name="own"), family, arch)
    assert (card.alphabets, card.tokens_at_256, card.sizes) == ((2560,), 1024, Multiple(of=8, at_least=8))
