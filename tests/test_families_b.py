"""TAESD, Open-MAGVIT2, WeTok, ImageFolder, Infinity, DALL-E and UniTok: parts against arithmetic, and from end to end.

That the networks compute what upstream computes is the matter of test_parity.py, whose fixtures hold their outputs.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from vtbench import parity, registry, weights
from vtbench.adapters.networks import infinity, magvit2
from vtbench.adapters.networks.parts import multiscale, vit
from vtbench.adapters.networks.parts import quantizers as qz
from vtbench.models.identify import identify
from vtbench.models.native import NetworkTokenizer
from vtbench.models.network import build_network, load_class
from vtbench.types.cards import Card, Family, Weights
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents, unpack

FIXTURES = Path(__file__).parent / "parity"


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _images(count: int, height: int, width: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def _filled(family: Family, card: Card) -> NetworkTokenizer:
    made: NetworkTokenizer = family.build(card, {})
    made.network = parity.fill_(build_network(family, card.arch or {}))
    made.network.requires_grad_(False)
    return made


def _tokenizer(fixture: str) -> NetworkTokenizer:
    facts: dict[str, Any] = json.loads((FIXTURES / f"{fixture}.json").read_text())
    family = registry.family(facts["family"])
    return _filled(family, Card(name=fixture, family=family.name, kind="discrete", title="small", arch=facts["arch"]))


# TAESD


def test_taef2_reconstructs_the_astronaut(shared: Path) -> None:
    """Real weights: upstream's own class (taesd.py at 5cccb12, float32) gives 31.18 dB after uint8 rounding.

    The tolerance covers our float16 latents and other convolution kernels, each a few thousandths.
    """
    from skimage import data

    entry = registry.model("taef2")
    found = weights.find(entry.card, shared / "weights" / "taef2")
    assert found.status == "official"
    made = entry.family.build(entry.card, {})
    made.load(found.files)
    picture = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float()
    tokens = made.encode(picture / 255, [0])
    assert isinstance(tokens, Latents)
    assert tokens.values.shape == (1, 32, 64, 64)
    assert tokens.values.dtype == torch.float16
    assert tokens.bits().tolist() == [16 * 32 * 64 * 64]
    back = (made.decode(unpack(tokens.pack()[0]), [0]).clamp(0, 1) * 255).round()
    psnr = 10 * math.log10(255**2 / float((back.double() - picture).square().mean()))
    assert psnr == pytest.approx(31.18, abs=0.02)


def test_taesd_has_the_size_its_readme_states() -> None:
    """README, comparison table: 1,222,532 parameters in the encoder, 1,222,531 in the decoder."""
    family = registry.family("taesd")
    network = build_network(family, registry.model("taesd").card.arch or {})
    sizes = [sum(p.numel() for p in part.parameters()) for part in (network.encoder, network.decoder)]
    assert sizes == [1_222_532, 1_222_531]


@pytest.mark.parametrize(("name", "channels", "factor"), [("taesd3", 16, 8), ("taef2", 32, 8), ("taesana", 32, 32)])
def test_taesd_latents_of_rectangles(name: str, channels: int, factor: int) -> None:
    entry = registry.model(name)
    made = _filled(entry.family, entry.card)
    images = _images(2, 64, 96)
    latents = made.encode(images, [0, 1])
    assert isinstance(latents, Latents)
    assert latents.values.shape == (2, channels, 64 // factor, 96 // factor)
    back = made.decode(latents, [0, 1])
    assert back.shape == images.shape
    # Another batch size may run another kernel: rounding, here of values up to some 50, before the float16 latents.
    alone = made.decode(made.encode(images[1:], [1]), [1])
    assert torch.allclose(alone, back[1:], rtol=1e-2, atol=1e-2)
    with pytest.raises(VtbenchError, match=f"multiples of {factor}"):
        made.encode(_images(1, 64, 100), [0])


def test_taesd_squeezes_latents_into_three() -> None:
    """The decoder's first layer is 3 tanh(x / 3): latents far outside decode like the limit."""
    entry = registry.model("taesd")
    network = _filled(entry.family, entry.card).network
    outside, limit = torch.full((1, 4, 2, 2), 300.0), torch.full((1, 4, 2, 2), 30.0)
    with torch.no_grad():
        assert torch.allclose(
            network.decode(outside, size=(16, 16)), network.decode(limit, size=(16, 16)), rtol=1e-5, atol=1e-4
        )


# Parts, against arithmetic


def test_depth_to_space_counts_rows_columns_channels() -> None:
    layer = magvit2._Upsampler(2)
    with torch.no_grad():
        layer.conv1.weight.zero_()
        # Channel k of the convolution's 8 is the constant k.
        layer.conv1.bias.copy_(torch.arange(8.0))
        out = layer(torch.zeros(1, 2, 3, 5))
    assert out.shape == (1, 2, 6, 10)
    for row in range(2):
        for column in range(2):
            for channel in range(2):
                wanted = (row * 2 + column) * 2 + channel
                assert (out[0, channel, row::2, column::2] == wanted).all()


def test_style_norm_takes_the_unbiased_deviation() -> None:
    layer = magvit2._StyleNorm(2, 32, groups=32, eps=1e-6)
    x, code = (
        _random(1, 32, 2, 3),
        torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, 1.0]).reshape(1, 1, 2, 3).repeat(1, 2, 1, 1),
    )
    with torch.no_grad():
        layer.gamma.weight.copy_(torch.ones(32, 2))
        layer.gamma.bias.zero_()
        layer.beta.weight.zero_()
        layer.beta.bias.zero_()
        out = layer(x, code)
    # Four +1 and two -1: the squares sum to 16/3, over 5 and not over 6.
    scale = 2 * math.sqrt(16 / 3 / 5)
    flat = x.reshape(32, 6)
    wanted = (flat - flat.mean(1, keepdim=True)) / flat.std(1, unbiased=False, keepdim=True) * scale
    assert torch.allclose(out.reshape(32, 6), wanted, atol=1e-4)


def test_signs_of_a_pyramid_by_hand() -> None:
    """Two scales without refinement: the signs of the mean, then the signs of what is left, a smaller step."""
    quantizer = multiscale.MultiScaleSigns(2, [(1, 1), (2, 2)], l2_norm=False, scale=0.5, ratio=0.0)
    z = torch.tensor([[[2.0, 1.2], [0.8, -0.4]], [[-3.0, -1.0], [0.5, 0.5]]])[None]
    tokens, back = quantizer(z)
    # Means 0.9 and -0.75: the first scale is +1, -1 everywhere; residuals then have these signs.
    assert tokens[0].tolist() == [[1, 0], [1, 0], [1, 0], [0, 1], [0, 1]]
    assert back[0, 0].tolist() == [[1.5, 1.5], [0.5, 0.5]]
    assert back[0, 1].tolist() == [[-1.5, -1.5], [-0.5, -0.5]]
    assert torch.equal(quantizer.lookup(tokens, (2, 2)), back)
    assert quantizer.state_dict() == {}


def test_normalised_signs_have_unit_length() -> None:
    """l2_norm: what a scale adds at a cell is a unit vector, whatever the latent's length."""
    quantizer = multiscale.MultiScaleSigns(9, [(1, 1), (2, 2)], l2_norm=True, ratio=0.0)
    z = _random(1, 9, 2, 2)
    one, _ = quantizer(z)
    many, _ = quantizer(1000 * z)
    assert torch.equal(one, many)
    rows = quantizer.codes(one[0, :1], 0)
    assert float(rows.norm()) == pytest.approx(1.0)


def test_binary_spherical_codes_come_nearer_scale_by_scale() -> None:
    scales = [(1, 1), (2, 3), (4, 6)]
    quantizer = multiscale.MultiScaleBSQ(8, lambda grid: [s for s in scales if s[0] < grid[0]] + [grid])
    z = _random(2, 8, 4, 6)
    tokens, back = quantizer(z)
    assert tokens.shape == (2, 1 + 6 + 24, 8)
    assert torch.allclose(quantizer.lookup(tokens, (4, 6)), back, atol=1e-6)
    # By hand, with upstream's own call: a time axis of one, trilinear.
    rest, at = z[:, :, None], 0
    for h, w in scales:
        seen = F.interpolate(rest, size=(1, h, w), mode="area")
        bits = (seen > 0).flatten(2).transpose(1, 2).long()
        assert torch.equal(tokens[:, at : at + h * w], bits)
        code = (torch.where(seen > 0, 1.0, -1.0)) / math.sqrt(8)
        assert torch.allclose(code.norm(dim=1), torch.ones(2, 1, h, w))
        rest = rest - F.interpolate(code, size=(1, 4, 6), mode="trilinear")
        at += h * w
    assert torch.allclose(z - rest[:, :, 0], back, atol=1e-6)


def test_each_codebook_sees_its_own_channels() -> None:
    quantizer = qz.MultiCodebookVQ(3, 16, 6)
    parity.fill_(quantizer)
    z = _random(2, 6, 2, 3)
    with torch.no_grad():
        tokens, back = quantizer(z)
    assert tokens.shape == (2, 6, 3)
    for book in range(3):
        rows = quantizer.codebooks[book].codebook.weight.double()
        chunk = z[1, 2 * book : 2 * book + 2, 1, 2].double()
        cosine = (rows @ chunk) / (rows.norm(dim=1) * chunk.norm())
        assert int(tokens[1, 5, book]) == int(cosine.argmax())
        unit = rows[cosine.argmax()] / rows[cosine.argmax()].norm()
        assert torch.allclose(back[1, 2 * book : 2 * book + 2, 1, 2].double(), unit, atol=1e-6)
    with pytest.raises(VtbenchError, match="do not divide"):
        qz.MultiCodebookVQ(4, 16, 6)


def test_transformer_block_is_torchs() -> None:
    """The same weights in torch's own pre-norm layer; LayerScale only multiplies what the two halves add."""
    width, heads, hidden = 24, 3, 40
    ours = vit.Block(width, heads, hidden, eps=1e-6, layer_scale=True)
    parity.fill_(ours)
    theirs = torch.nn.TransformerEncoderLayer(
        width, heads, hidden, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    ).eval()
    names = {
        "attn.qkv.weight": "self_attn.in_proj_weight",
        "attn.qkv.bias": "self_attn.in_proj_bias",
        "attn.proj": "self_attn.out_proj",
        "mlp.fc1": "linear1",
        "mlp.fc2": "linear2",
    }
    state = {name: tensor for name, tensor in ours.state_dict().items() if ".gamma" not in name}
    for one, other in names.items():
        state = {name.replace(one, other): tensor for name, tensor in state.items()}
    for half, last in ((ours.ls1, "self_attn.out_proj"), (ours.ls2, "linear2")):
        state[f"{last}.weight"] = state[f"{last}.weight"] * half.gamma.detach()[:, None]
        state[f"{last}.bias"] = state[f"{last}.bias"] * half.gamma.detach()
    theirs.load_state_dict(state)
    x = _random(2, 5, width)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), atol=1e-6)


# Infinity's scales


@pytest.mark.parametrize(("side", "scales", "positions"), [(256, 7, 521), (512, 10, 2521), (1024, 13, 10521)])
def test_infinity_has_upstreams_scales(side: int, scales: int, positions: int) -> None:
    """Counts as families.md states them from upstream's tables."""
    made = infinity.scales_of((side // 16, side // 16))
    assert len(made) == scales
    assert sum(h * w for h, w in made) == positions


def test_infinity_formats_are_upstreams_lists() -> None:
    """3:2 and its turn, up to the first end of the table (dynamic_resolution.py:10); two of them written out."""
    tall = [(1, 1), (2, 2), (3, 2), (6, 4), (9, 6), (15, 10), (21, 14)]
    assert list(infinity.scales_of((21, 14))) == tall
    assert list(infinity.scales_of((14, 21))) == [(w, h) for h, w in tall]
    doubled = [(2, 2), (4, 4), (8, 8), (12, 12), (16, 16), (24, 24), (32, 32)]
    assert list(infinity.scales_of((32, 32), step=2)) == doubled


@pytest.mark.parametrize("grid", [(1, 1), (3, 50), (17, 30), (24, 24), (33, 31), (200, 64)])
def test_other_sizes_grow_to_the_whole_grid(grid: tuple[int, int]) -> None:
    scales = infinity.scales_of(grid)
    assert scales[-1] == grid
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(scales))
    assert all(h <= grid[0] and w <= grid[1] for h, w in scales)


# From images to tokens and back

SMALL = [
    ("magvit2__lfq-f4-10bit", (24, 40), (2,) * 10),
    ("wetok__gq-f4-g4x4", (24, 40), (2,) * 16),
    ("wetok__gq-f8-g2x6-gandecoder", (24, 40), (2,) * 12),
    ("dalle-dvae__f8-v512", (24, 40), (512,)),
    ("infinity__bsq-d10-ps8", (40, 24), (2,) * 10),
    ("unitok__linear-c5", (32, 48), (64,) * 5),
    ("unitok__attn-pooled-heads", (32, 48), (64,) * 2),
    ("imagefolder__msbr4p2", (64, 64), (2,) * 12),
    ("imagefolder__vp3-raw-latentpos", (64, 64), (64,) * 3),
    ("imagefolder__msvr3p1-shared", (64, 64), (48,)),
]


@pytest.mark.parametrize(("fixture", "size", "alphabets"), SMALL, ids=[name for name, *_ in SMALL])
def test_four_images_are_four_times_one(fixture: str, size: tuple[int, int], alphabets: tuple[int, ...]) -> None:
    """Rectangles where the network takes them; a decoder that gets only the packed bytes and the image's seed."""
    made = _tokenizer(fixture)
    images, seeds = _images(4, *size), [5, 6, 7, 8]
    codes = made.encode(images, seeds)
    assert isinstance(codes, Codes)
    assert codes.alphabets == alphabets
    assert codes.indices.shape == (4, sum(h * w for h, w in codes.grids), len(alphabets))
    together = made.decode(codes, seeds)
    assert together.shape == images.shape
    assert torch.equal(made.decode(codes, seeds), together)
    for i in (0, 3):
        alone = made.encode(images[i : i + 1], seeds[i : i + 1])
        assert isinstance(alone, Codes)
        assert torch.equal(alone.indices, codes.indices[i : i + 1])
        # Another batch size may run another kernel: rounding only.
        bytes_only = made.decode(unpack(alone.pack()[0]), seeds[i : i + 1])
        assert torch.allclose(bytes_only, together[i : i + 1], atol=2e-5)
    with pytest.raises(VtbenchError, match=r"must be multiples|takes \d+ x \d+ only"):
        made.encode(_images(1, size[0] + 1, size[1]), [0])
    with pytest.raises(VtbenchError, match="tokens"):
        made.decode(Codes(codes.indices[:, 1:], codes.alphabets, size), seeds)


def test_the_noise_of_a_generative_decoder_is_the_seeds() -> None:
    made = _tokenizer("wetok__gq-f8-g2x6-gandecoder")
    codes = made.encode(_images(1, 32, 32).repeat(2, 1, 1, 1), [1, 2])
    assert made.network.noise_shape((32, 32)) == (12, 4, 4)
    one, other = made.decode(codes, [1, 2])
    assert float((one - other).abs().max()) > 1e-3, "two seeds, two pictures"
    swapped = made.decode(codes, [2, 1])
    assert torch.equal(swapped, torch.stack([other, one]))
    plain = _tokenizer("wetok__gq-f4-g4x4")
    assert plain.network.noise_shape((32, 32)) is None
    with pytest.raises(VtbenchError, match="takes no noise"):
        plain.network.decode(torch.zeros(1, 64, 16), size=(32, 32), noise=torch.zeros(1, 16, 8, 8))
    with pytest.raises(VtbenchError, match="needs noise"):
        made.network.decode(codes.indices, size=(32, 32))


def test_a_single_cell_has_no_deviation() -> None:
    with pytest.raises(VtbenchError, match="single latent cell"):
        _tokenizer("magvit2__lfq-f4-10bit").encode(_images(1, 4, 4), [0])


# Checkpoints in upstream's containers


def _loads(fixture: str, content: dict[str, Any], files: tuple[Weights, ...], folder: Path) -> None:
    """The family's tokenizer loads `content` ({role: object}) from disk and then does what the one in memory does."""
    made = _tokenizer(fixture)
    paths = {}
    for role, thing in content.items():
        paths[role] = folder / f"{fixture}-{role}.pt"
        torch.save(thing, paths[role])
    card = replace(made.card, weights=files)
    loaded = registry.family(card.family).build(card, {})
    loaded.load(paths)
    side = made.network.fixed_size or 32
    images = _images(1, side, side, seed=2)
    wanted, found = made.encode(images, [0]), loaded.encode(images, [0])
    assert torch.equal(found.indices, wanted.indices)
    assert torch.equal(loaded.decode(found, [0]), made.decode(wanted, [0]))


def _state(fixture: str) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in _tokenizer(fixture).network.state_dict().items()}


def _files(name: str) -> tuple[Weights, ...]:
    return registry.model(name).card.weights


@pytest.mark.parametrize(
    ("fixture", "model"),
    [("magvit2__lfq-f4-10bit", "open-magvit2-256-262144"), ("wetok__gq-f4-g4x4", "wetok-imagenet-ds16")],
)
def test_averaged_copies_are_what_counts(fixture: str, model: str, tmp_path: Path) -> None:
    state = _state(fixture)
    averaged = {f"model_ema.{n.replace('.', '')}": t for n, t in state.items()}
    extra = {"model_ema.decay": torch.tensor(0.999), "loss.discriminator.weight": torch.ones(3)}
    raw = {n: t + 1 for n, t in state.items()}
    _loads(fixture, {"model": {"state_dict": {**raw, **averaged, **extra}}}, _files(model), tmp_path)


def test_infinity_loads_with_and_without_wrapped_names(tmp_path: Path) -> None:
    fixture = "infinity__bsq-d10-ps8"
    state = _state(fixture)
    masks = {f"{name}.lfq.mask": 2 ** torch.arange(9, -1, -1) for name in ("quantizer", "quantize")}
    bare = {}
    for name, tensor in state.items():
        stem, leaf = name.rsplit(".", 1)
        bare[f"{stem.removesuffix('.conv').removesuffix('.norm')}.{leaf}"] = tensor
    assert "encoder.conv_in.weight" in bare
    assert "decoder.up.1.upsample.conv.weight" in bare
    files = _files("infinity-vae-d32")
    _loads(fixture, {"model": {"vae": {**state, **masks}}}, files, tmp_path)
    _loads(fixture, {"model": {"vae": {**bare, **masks}, "opt": {"x": torch.ones(1)}}}, files, tmp_path)


def test_dalle_loads_from_two_pickled_modules(tmp_path: Path) -> None:
    fixture = "dalle-dvae__f8-v512"
    network = _tokenizer(fixture).network
    content = {"encoder": network.encoder, "decoder": network.decoder}
    _loads(fixture, content, _files("openai-dalle-dvae"), tmp_path)


def test_unitok_lies_two_keys_deep_beside_a_text_tower(tmp_path: Path) -> None:
    fixture = "unitok__attn-pooled-heads"
    others = {
        "text_encoder.x": torch.ones(2),
        "logit_scale": torch.ones(()),
        "quantizer.codebooks.1.vocab_usage": torch.ones(64),
    }
    content = {"trainer": {"unitok": {**_state(fixture), **others}, "step": 3}, "args": {"lr": 1.0}}
    _loads(fixture, {"model": content}, _files("unitok-large"), tmp_path)


def test_imagefolder_takes_the_averaged_model_and_leaves_the_teachers(tmp_path: Path) -> None:
    fixture = "imagefolder__msbr4p2"
    state = _state(fixture)
    others = {
        "semantic_model.blocks.0.x": torch.ones(2),
        "quantizes.1.scaler": torch.ones(4),
        "quantizes.0.ema_vocab_hit_SV": torch.ones(4, 64),
        "encoder.lvl1LC": torch.zeros(1, 97, dtype=torch.long),
    }
    raw = {n: t + 1 for n, t in state.items()}
    _loads(fixture, {"model": {"model": raw, "ema": {**state, **others}}}, _files("xqgan-msbr10p2-4096"), tmp_path)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    made = _tokenizer("magvit2__lfq-f4-10bit")
    torch.save({"state_dict": _state("wetok__gq-f4-g4x4")}, tmp_path / "file.ckpt")
    card = replace(made.card, weights=_files("open-magvit2-256-262144"))
    loaded = registry.family(card.family).build(card, {})
    with pytest.raises(VtbenchError, match="does not fit"):
        loaded.load({"model": tmp_path / "file.ckpt"})


# Cards and archs


def test_sizes_of_the_released_ones() -> None:
    """Positions and bits as READMEs and papers state them, from the cards alone."""
    stated = {
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
    ],
)
def test_archs_that_no_network_has_are_refused(family: str, change: dict[str, Any], said: str) -> None:
    one = registry.family(family)
    base = one.cards[0].arch
    assert base is not None
    with pytest.raises(VtbenchError, match=said), torch.device("meta"):
        build_network(one, parity.merge(base, change))


# Archs read off shapes


@pytest.mark.parametrize("family", ["open-magvit2", "wetok", "infinity", "unitok", "imagefolder"])
def test_released_archs_are_read_off_their_shapes(family: str) -> None:
    """Every card's arch from its network's shapes and another card of the family, with a quantizer of the same kind."""
    one = registry.family(family)
    infer = load_class(one.network or "").infer_arch
    for card in one.cards:
        assert card.arch is not None
        likes = [c.arch for c in one.cards if c.arch and c.arch["quantizer"]["type"] == card.arch["quantizer"]["type"]]
        found = infer(parity.manifest(one, card), likes[-1])
        if family == "infinity":
            # Which size the listed scales belong to is no shape.
            found["quantizer"]["scales"] = card.arch["quantizer"]["scales"]
        assert found == card.arch, card.name


@pytest.mark.parametrize("fixture", [name for name, *_ in SMALL if not name.startswith("dalle")])
def test_own_configurations_are_identified(fixture: str) -> None:
    """A checkpoint that nobody released is known by its family, and the answer builds just these names and shapes."""
    made = _tokenizer(fixture)
    shapes = parity.names_of(made.network)
    infer = type(made.network).infer_arch
    wanted: dict[str, Any] = json.loads((FIXTURES / f"{fixture}.json").read_text())["arch"]
    found = infer(shapes, wanted)
    with torch.device("meta"):
        assert parity.names_of(build_network(made.family, found)) == shapes
    assert infer({"encoder.conv_in.weight": [1, 1, 3, 3]}, wanted) is None
    if not fixture.startswith("imagefolder__ms"):
        # Their scales end in another grid than those of the released ones, which no shape tells.
        assert f"family:{made.family.name}" in [match.name for match in identify(shapes)]


@pytest.mark.parametrize("model", ["taef2", "taesana", "openai-dalle-dvae"])
@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_one_of_two_files_is_identified(model: str, half: str) -> None:
    """The files have no `encoder.` or `decoder.` in front of their names."""
    start = f"{half}."
    names = {n.removeprefix(start): s for n, s in parity.manifest_of(model).items() if n.startswith(start)}
    assert [match.name for match in identify(names)] == [model]
