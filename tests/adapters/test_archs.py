"""Archs: what the released ones come to, which are refused, and how one is read off a checkpoint's shapes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small_networks import arch_of, of_fixture

from vtbench import registry
from vtbench.models.identify import identify
from vtbench.models.names import manifest, manifest_of, names_of
from vtbench.models.network import build_network, load_class
from vtbench.proving import fixtures
from vtbench.types.errors import VtbenchError


def test_sizes_of_the_released_ones() -> None:
    """Positions and bits as READMEs and papers state them, from the cards alone."""
    stated = {
        "llamagen-vq-ds16-c2i": (256, 14 * 256),
        "llamagen-vq-ds8-c2i": (1024, 14 * 1024),
        "var-vae-256": (680, 12 * 680),
        "var-vae-512": (2240, 12 * 2240),
        "rqvae-imagenet-8x8x4": (64, 4 * 14 * 64),
        "maskbit-18bit": (256, 18 * 256),
        "ibq-262144": (256, 18 * 256),
        "vqgan-gumbel-f8": (1024, 13 * 1024),
        "open-magvit2-256-262144": (256, 18 * 256),
        "wetok-general-cr24": (1024, 64 * 1024),
        "wetok-general-cr768": (64, 32 * 64),
        "infinity-vae-d32": (521, 32 * 521),
        # Four cells of 14 bits are one token of 56.
        "infinity-vae-d56-f8-14-patchify": (4 * 521, 56 * 521),
        "unitok-large": (256, 8 * 12 * 256),
        "imagefolder-msvr10p2-4096": (286, 2 * 12 * 286),
        "xqgan-msbr10p2-16384": (286, 2 * 14 * 286),
        "openai-dalle-dvae": (1024, 13 * 1024),
    }
    for name, (tokens, bits) in stated.items():
        card = registry.model(name).card
        assert card.tokens_at_256 == tokens, name
        assert tokens * sum(math.log2(a) for a in card.alphabets) == bits, name
    # The compression ratios in WeTok's file names are 24 bits a pixel over the code's.
    for ratio in (24, 48, 192, 768):
        card = registry.model(f"wetok-general-cr{ratio}").card
        assert 24 * 256**2 / ((card.tokens_at_256 or 0) * len(card.alphabets)) == ratio


@pytest.mark.parametrize(
    ("family", "change", "said"),
    [
        ("var", {"quantizer": {"v_patch_nums": [16]}}, "two scales or more"),
        ("var", {"quantizer": {"v_patch_nums": [1, 2, 16]}}, "phi_index"),
        ("var", {"quantizer": {"embed_dim": 8}}, "must equal z_channels"),
        ("var", {"attention": "everywhere"}, "last level and middle"),
        ("llamagen", {"decoder_ch_mult": [1, 2]}, "another size"),
        ("llamagen", {"quantizer": {"type": "fsq"}}, "must be 'vq'"),
        ("rqvae", {"quantizer": {"code_shape": [3, 3, 4]}}, "does not divide"),
        ("rqvae", {"quantizer": {"depth": 3}}, "positions of depth 3"),
        ("rqvae", {"quantizer": {"embed_dim": 100}}, "latent_shape"),
        ("maskbit", {"quantizer": {"codebook_size": 4096}}, "14 sign bits make 16384 codes"),
        ("maskgit-vqgan", {"quantizer": {"embed_dim": 64}}, "must equal z_channels"),
        ("vqgan", {"quantizer": {"type": "gumbel", "embed_dim": 8}}, "embed_dim = z_channels"),
        ("taesd", {"downsample": 16}, "8 or 32"),
        ("taesd", {"depth": 3}, "arch.depth is a key that this network does not know"),
        ("open-magvit2", {"quantizer": {"bits": 17}}, "disagree"),
        ("open-magvit2", {"quantizer": {"groups": 4}}, "disagree"),
        ("open-magvit2", {"quantizer": {"type": "fsq"}}, "must be 'lfq'"),
        ("open-magvit2", {"ch": 100}, "norm groups do not divide"),
        ("wetok", {"gan_decoder": True}, "arch.gan_decoder"),
        ("infinity", {"patch_size": 12}, "power of two"),
        ("infinity", {"patch_size": 32}, "power of two"),
        ("infinity", {"attention": "yes"}, "must be 'none'"),
        ("infinity", {"base_ch": 20}, "norm groups do not divide"),
        ("infinity", {"quantizer": {"scales": [[1, 1], 16]}}, "pair of positive integers"),
        ("dalle-dvae", {"decoder": {"vocab_size": 512}}, "must agree"),
        ("dalle-dvae", {"encoder": {"n_hid": 66}, "decoder": {"n_hid": 66}}, "multiple of 4"),
        ("unitok", {"quantizer": {"l2_norm": False}}, "must be True"),
        ("unitok", {"quantizer": {"num_codebooks": 7}}, "do not divide"),
        ("unitok", {"quant_proj": "conv"}, "'attn' or 'linear'"),
        ("unitok", {"quant_proj_heads": 3}, "heads do not divide"),
        ("unitok", {"encoder": {"num_heads": 7}}, "heads do not divide"),
        ("unitok", {"encoder": {"stage_widths": [160]}}, "list of 2 integers"),
        ("imagefolder", {"num_latent_tokens": 120}, "latent_grid 11 squared"),
        ("imagefolder", {"patch_size": 15}, "do not divide"),
        ("imagefolder", {"encoder": {"class_token": False}}, "must be True"),
        ("imagefolder", {"quantizer": {"v_patch_nums": [1, 2, 16]}}, "must agree"),
        ("imagefolder", {"quantizer": {"type": "multi-scale lfq", "scale": 1.0}}, r"is not 2\*\*32"),
        ("imagefolder", {"quantizer": {"type": "vq"}}, "one scale"),
        ("imagefolder", {"quantizer": {"type": "bsq"}}, "must be 'vq' or"),
        ("imagefolder", {"quantizer": {"scale": 2.0}}, "arch.quantizer.scale"),
        # Keys that another option makes meaningless.
        ("unitok", {"quant_proj": "linear"}, "arch.quant_proj_heads is 16, but must be null: quant_proj is 'linear'"),
        ("vqgan", {"attn_type": "none"}, r"arch.attn_resolutions is \[16\], but must be null: attn_type is 'none'"),
        ("vqgan", {"quantizer": {"depth": 4}}, "arch.quantizer.depth is 4, but must be null: type is 'vq'"),
        ("ibq", {"quantizer": {"l2_norm": True}}, "arch.quantizer.l2_norm is True, but must be null"),
        ("imagefolder", {"quantizer": {"l2_norm": False}}, "arch.quantizer.l2_norm is False, but must be True"),
        (
            "imagefolder",
            {"quantizer": {"type": "vq", "v_patch_nums": [11]}},
            "arch.quantizer.quant_resi is 0.5, but must be null: type is 'vq'",
        ),
    ],
)
def test_archs_that_no_network_has_are_refused(family: str, change: dict[str, Any], said: str) -> None:
    one = registry.family(family)
    base = one.cards[0].arch
    assert base is not None
    with pytest.raises(VtbenchError, match=said), torch.device("meta"):
        build_network(one, fixtures.merge(base, change))


@pytest.mark.parametrize("family", ["open-magvit2", "wetok", "infinity", "unitok", "imagefolder"])
def test_released_archs_are_read_off_their_shapes(family: str) -> None:
    """Every card's arch from its network's shapes and another card of the family, with a quantizer of the same kind."""
    one = registry.family(family)
    infer = load_class(one.network or "").infer_arch
    for card in one.cards:
        assert card.arch is not None
        likes = [c.arch for c in one.cards if c.arch and c.arch["quantizer"]["type"] == card.arch["quantizer"]["type"]]
        arch = infer(manifest(one, card), likes[-1])
        if family == "infinity":
            # Which size the listed scales belong to is no shape.
            arch["quantizer"]["scales"] = card.arch["quantizer"]["scales"]
        assert arch == card.arch, card.name


OWN = [
    "magvit2__lfq-f4-10bit",
    "wetok__gq-f4-g4x4",
    "wetok__gq-f8-g2x6-gandecoder",
    "infinity__bsq-d10-ps8",
    "unitok__linear-c5",
    "unitok__attn-pooled-heads",
    "imagefolder__msbr4p2",
    "imagefolder__vp3-raw-latentpos",
    "imagefolder__msvr3p1-shared",
    "mingtok__mlp",
    "seed__causal32-reverse",
    "tokenflow__siglip-v128",
    "vqkd__features",
]


@pytest.mark.parametrize("fixture", OWN)
def test_own_configurations_are_identified(fixture: str) -> None:
    """A checkpoint that nobody released is known by its family, and the answer builds just these names and shapes."""
    tokenizer = of_fixture(fixture)
    shapes = names_of(tokenizer.network)
    infer = type(tokenizer.network).infer_arch
    wanted = arch_of(fixture)
    arch = infer(shapes, wanted)
    with torch.device("meta"):
        assert names_of(build_network(tokenizer.family, arch)) == shapes
    assert infer({"encoder.conv_in.weight": [1, 1, 3, 3]}, wanted) is None
    if not fixture.startswith("imagefolder__ms"):
        # Their scales end in another grid than those of the released ones, which no shape tells.
        assert f"family:{tokenizer.family.name}" in [match.name for match in identify(shapes)]


@pytest.mark.parametrize("model", ["taef2", "taesana", "openai-dalle-dvae"])
@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_one_of_two_files_is_identified(model: str, half: str) -> None:
    """The files have no `encoder.` or `decoder.` in front of their names."""
    start = f"{half}."
    names = {n.removeprefix(start): s for n, s in manifest_of(model).items() if n.startswith(start)}
    assert [match.name for match in identify(names)] == [model]
