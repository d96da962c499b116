"""Tokenizers around a frozen DINOv2, which has a file of its own: Hita and VFMTok."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from small_networks import arch_of, assert_loads, of_fixture, random_images, random_tensor, state_of

from vtbench import registry
from vtbench.adapters.networks.parts import cvmi, dinov2
from vtbench.adapters.networks.parts.deformable import DeformableAttention
from vtbench.models import weights
from vtbench.models.identify import identify
from vtbench.models.made_weights import fill_
from vtbench.models.names import names_of
from vtbench.models.network import load_class, on_meta
from vtbench.types.cards import Weights
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, unpack

FIXTURES = [("hita__vanilla", 32), ("vfmtok__main", 16)]


@pytest.mark.parametrize(("fixture", "positions"), FIXTURES)
def test_four_images_are_four_times_one(fixture: str, positions: int) -> None:
    tokenizer = of_fixture(fixture)
    images, seeds = random_images(4, 64, 64), [0, 1, 2, 3]
    codes = tokenizer.encode(images, seeds)
    assert isinstance(codes, Codes)
    assert codes.indices.shape == (4, positions, 1)
    assert tokenizer.network.positions == positions
    together = tokenizer.decode(codes, seeds)
    assert together.shape == images.shape
    for i in (0, 3):
        alone = tokenizer.encode(images[i : i + 1], [0])
        assert isinstance(alone, Codes)
        assert torch.equal(alone.indices, codes.indices[i : i + 1])
        # Another batch size may run another kernel: rounding only.
        assert torch.allclose(tokenizer.decode(unpack(alone.pack()[0]), [0]), together[i : i + 1], atol=3e-5)
    with pytest.raises(VtbenchError, match="the image is 64 x 80, but this network takes"):
        tokenizer.encode(random_images(1, 64, 80), [0])
    with pytest.raises(VtbenchError, match=f"there are {positions - 1} tokens"):
        tokenizer.decode(Codes(codes.indices[:, 1:], codes.alphabets, (64, 64)), seeds)


@pytest.mark.parametrize(("fixture", "positions"), FIXTURES)
def test_the_encoder_comes_from_its_own_file(fixture: str, positions: int, tmp_path: Path) -> None:
    """The tokenizer's file leaves DINOv2 out, Meta's has it at its top level, with a mask token that nobody needs."""
    state, inside = state_of(fixture), f"{cvmi.BACKBONE}."
    theirs = {n.removeprefix(inside): t for n, t in state.items() if n.startswith(inside)}
    own = {n: t for n, t in state.items() if not n.startswith(inside)}
    files = {"model": {"ema": own}, "dinov2": {**theirs, "mask_token": torch.zeros(1, theirs["norm.weight"].shape[0])}}
    both = (Weights(file="a.pt", key=("ema",)), Weights(file="b.pth", role="dinov2"))
    assert_loads(fixture, files, both, tmp_path)
    files["dinov2"].pop("norm.bias")
    with pytest.raises(VtbenchError, match=r"does not fit \(1 missing: encode_transformer.backbone.*norm.bias"):
        assert_loads(fixture, files, both, tmp_path)
    # A file that holds everything, as a training loop would save it, needs no other.
    assert_loads(fixture, {"model": {"ema": state}}, both[:1], tmp_path)


def test_each_of_the_two_files_is_identified(shared: Path) -> None:
    for name in ("hita-vanilla", "hita-ultra", "vfmtok-tokenizer"):
        names = json.loads((shared / "official" / f"{name}.json").read_text())["state_dict"]
        inside = f"{cvmi.BACKBONE}."
        own = {n: s for n, s in names.items() if not n.startswith(inside)}
        # Hita-U needs what Hita-V needs: its second task's head is left out.
        assert (name, "exact") in {(m.name, m.how) for m in identify(own)}
        theirs = {n.removeprefix(inside): s for n, s in names.items() if n.startswith(inside)}
        assert (name, "exact") in {(m.name, m.how) for m in identify(theirs)}


def test_a_folder_without_the_encoder_is_refused(tmp_path: Path) -> None:
    card = registry.model("vfmtok").card
    (tmp_path / "vfmtok-tokenizer.pt").write_bytes(b"")
    with pytest.raises(
        VtbenchError, match=r"does not hold dinov2_vitl14_reg4_pretrain\.pth, which vfmtok-tokenizer needs"
    ):
        weights.find(card, tmp_path)
    with pytest.raises(VtbenchError, match="needs 2 files: give --checkpoint a folder with"):
        weights.find(card, tmp_path / "vfmtok-tokenizer.pt")


# -- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(336, 336), (300, 200), (512, 100)])
def test_pictures_are_blurred_before_they_shrink(size: tuple[int, int]) -> None:
    """scipy's mirrored convolution with the Gaussian of kornia's rule, axis by axis; then torch's bicubic resize."""
    x = random_tensor(1, 2, *size).double()
    wanted = x.numpy()
    for axis, length in zip((2, 3), size, strict=True):
        deviation = max((length / 224 - 1) / 2, 0.001)
        taps = int(max(4 * deviation, 3)) // 2 * 2 + 1
        weights = np.exp(-((np.arange(taps) - taps // 2) ** 2) / (2 * deviation**2))
        wanted = ndimage.convolve1d(wanted, weights / weights.sum(), axis=axis, mode="mirror")
    expected = F.interpolate(torch.from_numpy(wanted), size=(224, 224), mode="bicubic", align_corners=True)
    assert torch.allclose(dinov2.blurred_resize(x, 224), expected, atol=1e-12)


def test_pictures_that_grow_or_fit_are_not_blurred() -> None:
    x = random_tensor(1, 3, 100, 90)
    plain = F.interpolate(x, size=(224, 224), mode="bicubic", align_corners=True)
    assert torch.equal(dinov2.blurred_resize(x, 224), plain)
    fits = random_tensor(1, 3, 224, 224)
    assert dinov2.blurred_resize(fits, 224) is fits
    with pytest.raises(VtbenchError, match="a side of 2 pixels is too short for a blur that reaches 6 pixels"):
        dinov2._blur(random_tensor(1, 1, 2, 9), 2, 3.0, 6)


def test_positions_are_interpolated_in_float32() -> None:
    table = random_tensor(1, 16, 8)
    for dtype in (torch.float16, torch.bfloat16):
        half = dinov2.resized_table(table.to(dtype), (6, 6), antialias=True)
        assert half.dtype == dtype
        assert torch.equal(half, dinov2.resized_table(table.to(dtype).float(), (6, 6), antialias=True).to(dtype))
    assert dinov2.resized_table(table, (4, 4), offset=0.1) is table


def test_deformable_attention_samples_where_its_offsets_say() -> None:
    """Against plain loops: bilinear between cell centres, zero outside, softmax over the points of all levels."""
    layer = fill_(DeformableAttention(8, 2, points=3, levels=2, centre=True)).double()
    grids, query, reference = [(3, 4), (2, 2)], random_tensor(1, 5, 8).double(), torch.rand(1, 5, 2).double()
    memory = random_tensor(1, 16, 8, seed=3).double()

    def at(level: torch.Tensor, x: float, y: float) -> torch.Tensor:
        h, w = level.shape[:2]
        total = torch.zeros(level.shape[2], dtype=torch.float64)
        for row in range(h):
            for column in range(w):
                near = max(0.0, 1 - abs(x * w - 0.5 - column)) * max(0.0, 1 - abs(y * h - 0.5 - row))
                total += near * level[row, column]
        return total

    with torch.no_grad():
        value = layer.value_proj(memory)[0].reshape(16, 2, 4)
        planes = [value[:12].reshape(3, 4, 2, 4), value[12:].reshape(2, 2, 2, 4)]
        offsets = layer.sampling_offsets(query)[0].reshape(5, 2, 2, 3, 2)
        scores = layer.attention_weights(query)[0].reshape(5, 2, 8).softmax(-1).reshape(5, 2, 2, 4)
        fixed = layer.fixed_offsets
        rows = []
        for n in range(5):
            heads = []
            for head in range(2):
                total = torch.zeros(4, dtype=torch.float64)
                for level, (h, w) in enumerate(grids):
                    points = torch.cat([fixed, offsets[n, head, level]])
                    for p in range(4):
                        x, y = (reference[0, n] + points[p] / torch.tensor([w, h])).tolist()
                        total += scores[n, head, level, p] * at(planes[level][:, :, head], x, y)
                heads.append(total)
            rows.append(torch.cat(heads))
        wanted = layer.output_proj(torch.stack(rows))[None]
        assert torch.allclose(layer(query, reference, memory, grids), wanted, atol=1e-12)


@pytest.mark.parametrize(
    ("fixture", "changed", "said"),
    [
        ("hita__vanilla", {"dinov2": {"width": 96}}, "dinov2 is 96 channels wide, but encoder.feature_width is 48"),
        ("hita__vanilla", {"dinov2": {"levels": [0]}}, r"dinov2's levels are \[0\], but must rise and end with 1"),
        ("hita__vanilla", {"decoder": {"shift_k": 17}}, "shift_k is 17, but there are only 16 slots"),
        ("hita__vanilla", {"decoder": {"n_carrier": 9}}, "disagree on levels, image_size or n_carrier"),
        ("hita__vanilla", {"encoder": {"points": 4}}, "arch.encoder.points is 4, but must be null"),
        ("vfmtok__main", {"dinov2": {"levels": [5, 23]}}, "levels are .*, but there must be 4"),
        ("vfmtok__main", {"encoder": {"n_carrier": 15}, "decoder": {"n_carrier": 15}}, "must be a square"),
        ("vfmtok__main", {"cnn": {"encoder_ch_mult": [1, 2]}}, "VFMTok reads DINOv2 and has no encoder of its own"),
        ("vfmtok__main", {"decoder": {"shift_k": 4}}, "arch.decoder.shift_k is a key that this network does not know"),
    ],
)
def test_what_cannot_be_built_is_refused(fixture: str, changed: dict[str, dict[str, Any]], said: str) -> None:
    arch = arch_of(fixture)
    for key, value in changed.items():
        arch[key] = {**arch[key], **value}
    family = registry.family(fixture.split("__")[0])
    with pytest.raises(VtbenchError, match=said):
        on_meta(family, arch)


@pytest.mark.parametrize(("fixture", "_"), FIXTURES)
def test_a_size_of_ones_own_is_read_off_the_shapes(fixture: str, _: int) -> None:
    family = registry.family(fixture.split("__")[0])
    shapes = {n: list(t.shape) for n, t in state_of(fixture).items()}
    inferred = load_class(family.network or "").infer_arch(shapes, family.cards[0].arch)
    assert names_of(on_meta(family, inferred)) == shapes
    assert {m.name for m in identify(shapes)} == {f"family:{family.name}"}
