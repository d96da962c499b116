"""Gaussians as tokens: GPSToken, all floats, and GaussianToken, codes with floats beside them."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import FIXTURES, arch_of, assert_loads, filled, of_fixture, random_images, random_tensor, state_of

from vtbench import registry
from vtbench.adapters.networks.parts.regions import detail, split
from vtbench.adapters.networks.parts.splatting import draw_bounded, draw_tiled
from vtbench.adapters.tokenizers.gaussiantoken import from_books, to_books
from vtbench.models.identify import identify
from vtbench.models.network import on_meta
from vtbench.types.cards import Card, Weights
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents, unpack

GPS, GAUSSIAN = "gpstoken__main", "gaussiantoken__main"


def _uniform(*shape: int, low: float, high: float, seed: int) -> torch.Tensor:
    return low + (high - low) * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- drawing ---------------------------------------------------------------------------------------------------------


def test_bounded_gaussians_are_drawn_as_the_kernel_draws_them() -> None:
    """Pixel by pixel, as gscuda/gs.cu says it: unnormalised, cut at `reach` deviations of either coordinate."""
    count, (h, w), reach = 9, (7, 11), 1.5
    shapes = torch.cat(
        [_uniform(2, count, 2, low=0.1, high=0.6, seed=0), _uniform(2, count, 1, low=-0.9, high=0.9, seed=1)], 2
    )
    centres, values = _uniform(2, count, 2, low=-1.2, high=1.2, seed=2), random_tensor(2, count, 3).double()
    wanted, cut = torch.zeros(2, 3, h, w, dtype=torch.float64), 0
    for b in range(2):
        for n in range(count):
            (sx, sy, rho), (cx, cy) = shapes[b, n].tolist(), centres[b, n].tolist()
            for i in range(h):
                for j in range(w):
                    dx, dy = 2 * j / (w - 1) - 1 - cx, 2 * i / (h - 1) - 1 - cy
                    if abs(dx) > reach * sx or abs(dy) > reach * sy:
                        cut += 1
                        continue
                    q = (dx / sx) ** 2 - 2 * rho * dx * dy / (sx * sy) + (dy / sy) ** 2
                    wanted[b, :, i, j] += math.exp(-q / (2 * (1 - rho**2))) * values[b, n]
    assert 0 < cut < 2 * count * h * w
    assert torch.allclose(draw_bounded(shapes, centres, values, (h, w), reach), wanted, atol=1e-12)
    with pytest.raises(VtbenchError, match="a map of 1 x 4 has no distance between its pixels"):
        draw_bounded(shapes, centres, values, (1, 4), reach)


@pytest.mark.parametrize(("channels", "count"), [(4, 40), (3, 400)])
@pytest.mark.parametrize("faint", [False, True])
def test_tiled_gaussians_are_drawn_as_the_kernel_draws_them(channels: int, count: int, faint: bool) -> None:
    """Pixel by pixel, as helpers.cuh, foward2d.cu and forward.cu say it; three channels stop at 256 a tile."""
    h, w = 20, 37
    means, scales = _uniform(count, 2, low=-1.3, high=1.3, seed=3), _uniform(count, 2, low=0.1, high=4, seed=4)
    turns, values = _uniform(count, 1, low=0, high=math.pi, seed=5), random_tensor(count, channels).double()
    opacities = _uniform(count, 1, low=0.0, high=1.0, seed=6) if faint else None
    wanted = torch.zeros(channels, h, w, dtype=torch.float64)
    tiles, drawn = (-(-h // 16), -(-w // 16)), np.zeros((2, 3), dtype=int)
    for n in range(count):
        x, y = (float(means[n, 0]) + 1) / 2 * w, (float(means[n, 1]) + 1) / 2 * h
        cos, sin = math.cos(turns[n]), math.sin(turns[n])
        root = np.array([[cos, sin], [-sin, cos]]) @ np.diag(scales[n].numpy())
        covariance = root @ root.T
        inverse, b = np.linalg.inv(covariance), covariance.trace() / 2
        radius = math.ceil(3 * math.sqrt(b + math.sqrt(max(0.1, b * b - np.linalg.det(covariance)))))
        rows, columns = (
            range(min(max(0, int((c - radius) / 16)), t), min(max(0, int((c + radius) / 16 + 1)), t))
            for c, t in zip((y, x), tiles, strict=True)
        )
        for row in rows:
            for column in columns:
                drawn[row, column] += 1
                if channels == 3 and drawn[row, column] > 256:
                    continue
                for i in range(row * 16, min(h, row * 16 + 16)):
                    for j in range(column * 16, min(w, column * 16 + 16)):
                        away = np.array([x - j, y - i])
                        alpha = math.exp(-away @ inverse @ away / 2) * (1 if opacities is None else float(opacities[n]))
                        if alpha >= 1 / 255:
                            wanted[:, i, j] += min(1.0, alpha) * values[n]
    if channels == 3:
        assert drawn.max() > 256
    weights = None if opacities is None else opacities[None]
    picture = draw_tiled(means[None], scales[None], turns[None], values[None], weights, (h, w))
    assert torch.allclose(picture[0], wanted, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_drawing_is_in_float32_whatever_the_network_computes_in(dtype: torch.dtype) -> None:
    shapes, centres = torch.full((1, 4, 3), 0.3), _uniform(1, 4, 2, low=-1, high=1, seed=7).to(dtype)
    scales, values = _uniform(1, 4, 2, low=1, high=3, seed=8).to(dtype), random_tensor(1, 4, 5).to(dtype)
    turns = torch.full((1, 4, 1), 0.5)
    half = draw_bounded(shapes, centres, values, (9, 9), 3), draw_tiled(centres, scales, turns, values, None, (20, 20))
    wide = (
        draw_bounded(shapes, centres.float(), values.float(), (9, 9), 3),
        draw_tiled(centres.float(), scales.float(), turns, values.float(), None, (20, 20)),
    )
    for one, other in zip(half, wide, strict=True):
        assert one.dtype == dtype
        assert torch.equal(one, other.to(dtype))


# -- where GPSToken's Gaussians begin --------------------------------------------------------------------------------


def test_pictures_are_split_as_upstream_splits_them() -> None:
    """The fixture holds what upstream's dataset class gave for its input."""
    network = of_fixture(GPS).network
    with np.load(FIXTURES / f"{GPS}.npz") as arrays:
        codes, boxes = network.start(torch.from_numpy(arrays["input"]))
        assert np.allclose(codes.numpy(), arrays["init_gpscodes"], atol=1e-6)
        assert np.allclose(boxes.numpy(), arrays["regions"], atol=1e-6)


def test_regions_cover_the_picture_and_are_small_where_there_is_detail() -> None:
    grey = np.zeros((64, 96), dtype=np.float32)
    grey[:32, :48] = np.random.default_rng(0).uniform(-1, 1, (32, 48))
    codes, boxes = split(grey, 24, shortest=4, weight=2.5)
    pixels = np.round((boxes + 1) / 2 * [95, 63, 95, 63]).astype(int)
    painted = np.zeros(grey.shape, dtype=int)
    for left, top, right, bottom in pixels:
        painted[top : bottom + 1, left : right + 1] += 1
    assert (painted == 1).all()
    inside = (codes[:, 3] < 0) & (codes[:, 4] < 0)
    assert inside.sum() >= 18
    assert (codes[:, 2] == 0).all()
    assert detail(grey[:32, :48], 2.5) > 100 * detail(grey[32:, 48:], 2.5)
    with pytest.raises(VtbenchError, match="has no 3000 regions of at least 4 pixels"):
        split(grey, 3000, shortest=4, weight=2.5)


# -- the tokenizers --------------------------------------------------------------------------------------------------


def test_every_number_of_a_gps_token_is_counted() -> None:
    tokenizer = of_fixture(GPS)
    images, seeds = random_images(4, 64, 64), [0, 1, 2, 3]
    latents = tokenizer.encode(images, seeds)
    assert isinstance(latents, Latents)
    assert latents.values.shape == (4, 16, 21)
    assert latents.positions == [16] * 4
    assert latents.bits().tolist() == [16 * 21 * 16.0] * 4
    together = tokenizer.decode(latents, seeds)
    for i in (0, 3):
        alone = tokenizer.encode(images[i : i + 1], [0])
        assert isinstance(alone, Latents)
        # Half precision: a rounding of the sum may fall on the other side.
        assert torch.allclose(alone.values.float(), latents.values[i : i + 1].float(), rtol=2e-3, atol=1e-3)
        back = tokenizer.decode(unpack(latents[i].pack()[0]), [0])
        assert torch.allclose(back, together[i : i + 1], atol=3e-5)
    fewer = tokenizer.decode(Latents(latents.values[:, :5], (64, 64), channel_axis=2), seeds)
    assert fewer.shape == images.shape
    with pytest.raises(VtbenchError, match="the image is 64 x 80, but this network takes 64 x 64 only"):
        tokenizer.encode(random_images(1, 64, 80), [0])
    with pytest.raises(VtbenchError, match=r"must be \(images, Gaussians, 21\)"):
        tokenizer.decode(Latents(latents.values[..., 1:], (64, 64), channel_axis=2), seeds)


def _gaussian(**options: str) -> Any:
    family = registry.family("gaussiantoken")
    facts = json.loads((FIXTURES / f"{GAUSSIAN}.json").read_text())
    card = Card(
        name="small", family="gaussiantoken", kind="discrete", title="small", alphabets=(512,), arch=facts["arch"]
    )
    tokenizer = family.build(card, options)
    tokenizer.network = filled(family, card).network
    return tokenizer


@pytest.mark.parametrize(("dtype", "books"), [("float16", 5), ("bfloat16", 5), ("float32", 10)])
def test_a_gaussian_costs_its_code_and_its_geometry(dtype: str, books: int) -> None:
    tokenizer = _gaussian(geometry_dtype=dtype)
    images, seeds = random_images(4, 64, 64), [0, 1, 2, 3]
    codes = tokenizer.encode(images, seeds)
    assert codes.alphabets == tokenizer.card.alphabets == (512, *[65536] * books)
    assert codes.positions == [96] * 4
    assert codes.bits().tolist() == [96 * (9 + 16 * books)] * 4
    together = tokenizer.decode(codes, seeds)
    for i in range(4):
        alone = tokenizer.encode(images[i : i + 1], [0])
        assert torch.equal(alone.indices, codes.indices[i : i + 1]), "the bits of a float show its last rounding"
        assert torch.allclose(tokenizer.decode(unpack(alone.pack()[0]), [0]), together[i : i + 1], atol=3e-5)
    with pytest.raises(VtbenchError, match=f"decodes codes of {books + 1} books"):
        tokenizer.decode(Codes(codes.indices[..., :1], (512,), (64, 64)), seeds)
    with pytest.raises(VtbenchError, match="there are 95 tokens, but this network needs 96"):
        tokenizer.decode(Codes(codes.indices[:, 1:], codes.alphabets, (64, 64)), seeds)
    with pytest.raises(VtbenchError, match="takes 64 x 64 only"):
        tokenizer.encode(random_images(1, 64, 80), [0])


def test_the_geometry_is_upstreams() -> None:
    """Within what upstream itself moves between kernels (the tolerance of pre_quant); full precision loses nothing."""
    with np.load(FIXTURES / f"{GAUSSIAN}.npz") as arrays:
        image = torch.from_numpy(arrays["input"])
        encoded = of_fixture(GAUSSIAN).network.encode(image)
        for name in ("means", "scales", "rotations"):
            assert np.allclose(getattr(encoded.geometry, name).numpy(), arrays[name], atol=2e-4)
        exact = _gaussian(geometry_dtype="float32")
        codes = exact.encode((image + 1) / 2, [0])
        picture = exact.network.decode(
            torch.from_numpy(arrays["tokens_canonical"]),
            size=(64, 64),
            **{name: torch.from_numpy(arrays[name]) for name in ("means", "scales", "rotations")},
        )
        # The Gaussians' edges at 1/255 may fall on the other side: one such step is 1/255 of a feature.
        assert torch.allclose(exact.decode(codes, [0]) * 2 - 1, picture, atol=2e-2)


def test_floats_go_through_books_unchanged() -> None:
    values = torch.tensor([0.0, -0.0, 1.0, -1.5, 3.14159, 6e-5, -65504.0, 1e-7]).reshape(1, 4, 2)
    for dtype in ("float16", "bfloat16", "float32"):
        books = to_books(values, dtype)
        assert books.shape == (1, 4, 4 if dtype == "float32" else 2)
        assert int(books.min()) >= 0
        assert int(books.max()) < 65536
        assert torch.equal(from_books(books, dtype), values.to(getattr(torch, dtype)).float())
    assert to_books(torch.ones(1, 1, 1), "float16").tolist() == [[[0x3C00]]]
    with pytest.raises(VtbenchError, match="holds NaN or infinity: they are damaged"):
        from_books(torch.tensor([[[0x7C00]]]), "float16")
    with pytest.raises(VtbenchError, match="geometry_dtype='int8' is not known: give float16, bfloat16, float32"):
        _gaussian(geometry_dtype="int8")


def test_the_averaged_weights_are_read_and_what_has_none_is_plain(tmp_path: Path) -> None:
    """LitEma keeps trained parameters only: codebook, anchors' features, fixed offsets and buffers are plain."""
    state = state_of(GAUSSIAN)
    untrained = ("_codebook.embed", "instance_feature", "fixed_offsets", "current_range_max")
    kept = {n: t if n.endswith(untrained) else torch.zeros_like(t) for n, t in state.items()}
    averaged = {f"model_ema.{n.replace('.', '')}": t for n, t in state.items() if not n.endswith(untrained)}
    stray = {
        "model_ema.decay": torch.tensor(0.999),
        "model_ema.num_updates": torch.tensor(7),
        "loss.discriminator.main.0.bias": torch.zeros(2),
        "gs_embed.op_module_map.refine.layers.0.bias": torch.zeros(32),
        "quantize._codebook.initted": torch.ones(1),
    }
    weights = (Weights(file="a.ckpt", key=("state_dict",), ema=True),)
    assert_loads(GAUSSIAN, {"model": {"state_dict": {**kept, **averaged, **stray}}}, weights, tmp_path)


# -- archs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fixture", "changed", "said"),
    [
        (GPS, {"gps": {"feature_channels": 8}}, "a Gaussian carries 8 features, but the decoder takes 16"),
        (GPS, {"gps": {"adaptive_min_size": 1}}, "adaptive_min_size is 1, but must be an integer of at least 2"),
        (GPS, {"gps": {"quantizer": "vq"}}, "arch.gps.quantizer is a key that this network does not know"),
        (GAUSSIAN, {"operation_order": ["cross_attn", "ffn"]}, "must be a list of .* that ends with refine"),
        (GAUSSIAN, {"operation_order": ["spconv", "refine"]}, "must be a list of"),
        (GAUSSIAN, {"operation_order": ["cross_attn", "refine"]}, "cross_attn and ffn in turn"),
        (GAUSSIAN, {"operation_order": ["cross_attn", "refine", "ffn", "refine"]}, "refine behind cross_attn"),
        (GAUSSIAN, {"refine_state": [1, 0]}, "must be the first entries"),
        (GAUSSIAN, {"z_channels": 4}, "z_channels 4, quantizer.embed_dim 8"),
        (GAUSSIAN, {"quantizer": {"l2_norm": True}}, "arch.quantizer.l2_norm is True"),
        (GAUSSIAN, {"xy_range": [1, -1]}, "must be two numbers, the smaller first"),
        (GAUSSIAN, {"decoder": {"ch_mult": [1, 2, 2]}}, "the encoder halves to 1/2, the decoder doubles by 4"),
        (GAUSSIAN, {"attention": {"levels": 2}}, "arch.attention.levels is 2"),
    ],
)
def test_what_cannot_be_built_is_refused(fixture: str, changed: dict[str, Any], said: str) -> None:
    arch = copy.deepcopy(arch_of(fixture))
    for key, value in changed.items():
        arch[key] = {**arch[key], **value} if isinstance(value, dict) else value
    with pytest.raises(VtbenchError, match=said):
        on_meta(registry.family(fixture.split("__")[0]), arch)


@pytest.mark.parametrize("fixture", [GPS, GAUSSIAN])
def test_a_size_of_ones_own_is_identified(fixture: str) -> None:
    shapes = {n: list(t.shape) for n, t in state_of(fixture).items()}
    assert {m.name for m in identify(shapes)} == {f"family:{fixture.split('__')[0]}"}
