"""Models are explained at the size, the rounding and the protocol that they have, or that a claim states of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut, chelsea
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vtbench.explaining.claims import Claim
from vtbench.explaining.explain import explain
from vtbench.images.rounding import rounded

MODEL = """
from vtbench import Card, Conditions, Family, Fixed, Latents, Multiple, Published, Tokenizer

CARD = Card(
    name="blocks", family="blocks", kind="continuous", title="Means of blocks", sizes={sizes}, latent_channels=3,
    downsample=2, published=({published}),
)


class Blocks(Tokenizer):
    def encode(self, images, seeds, budget=None):
        import torch.nn.functional as F

        return Latents(F.avg_pool2d(images, 2), tuple(images.shape[2:]))

    def decode(self, tokens, seeds):
        import torch.nn.functional as F

        return F.interpolate(tokens.values, size=tokens.size, mode="nearest") + {lift} / 255


FAMILY = Family("blocks", "Blocks", (CARD,), Blocks)
"""
PICTURES = {"a": astronaut(), "b": chelsea()}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for name, rgb in PICTURES.items():
        Image.fromarray(rgb).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., str]:
    """Writes the adapter; returns what names the model."""

    def write(sizes: str = "Multiple(of=2)", published: str = "", lift: float = 0.0) -> str:
        path = tmp_path / "blocks.py"
        path.write_text(MODEL.format(sizes=sizes, published=published, lift=lift))
        return f"{path}@blocks"

    return write


def adm(rgb: np.ndarray, side: int) -> np.ndarray:
    """guided-diffusion's center_crop_arr, as its authors wrote it."""
    image = Image.fromarray(rgb)
    while min(*image.size) >= 2 * side:
        image = image.resize(tuple(x // 2 for x in image.size), resample=Image.BOX)
    scale = side / min(*image.size)
    image = image.resize(tuple(round(x * scale) for x in image.size), resample=Image.BICUBIC)
    whole = np.array(image)
    top, left = (whole.shape[0] - side) // 2, (whole.shape[1] - side) // 2
    return whole[top : top + side, left : left + side]


def blocks(view: np.ndarray, lift: float = 0.0) -> np.ndarray:
    """What the model decodes, in grey levels, float64."""
    halves = view.reshape(view.shape[0] // 2, 2, view.shape[1] // 2, 2, 3).mean((1, 3), dtype=float)
    return np.clip(halves.repeat(2, 0).repeat(2, 1) + lift, 0, 255)


def psnr_at(side: int) -> float:
    """Of both pictures at a side, rounded."""
    values = []
    for rgb in PICTURES.values():
        view = adm(rgb, side)
        values.append(peak_signal_noise_ratio(view, np.rint(blocks(view)).astype(np.uint8), data_range=255))
    return float(np.mean(values))


def only(spec: str, claims: dict[str, str | float], images: Path) -> Claim:
    (claim,) = explain(spec, claims, images=str(images)).claims
    return claim


@pytest.mark.parametrize(("sizes", "side"), [("Fixed(64)", 64), ("Fixed(512)", 512), ("Multiple(of=2)", 256)])
def test_a_model_is_explained_at_its_own_size(sizes: str, side: int, model: Callable[..., str], images: Path) -> None:
    """One of 512 at 512, and one of no one size at 256."""
    claim = only(model(sizes), {"psnr": f"{psnr_at(side):.3f}"}, images)
    # A mean of four levels that ends in .5 may be rounded either way by the model's float32.
    assert claim.value == pytest.approx(psnr_at(side), abs=0.01)
    assert f"view {side} px" in claim.default
    assert abs(psnr_at(256) - psnr_at(512)) > 1
    assert abs(psnr_at(64) - psnr_at(256)) > 1


@pytest.mark.parametrize("rounding", ["truncate", "truncate-both"])
def test_a_truncating_convention_truncates(rounding: str, model: Callable[..., str], images: Path) -> None:
    """A decoder that is 0.7 of a level too bright: cut, it is right; rounded, it is one level off."""
    lift, values = 0.7, []
    for rgb in PICTURES.values():
        view = adm(rgb, 256)
        floats = (blocks(view, lift) / 255).astype(np.float32)
        if rounding == "truncate":
            values.append(peak_signal_noise_ratio(view, (floats * 255).astype(np.uint8), data_range=255))
        else:
            # SEED-Voken's evaluation_image.py: both sides through [-1, 1].
            both = (view / 127.5 - 1).astype(np.float32), floats * 2 - 1
            cut = [((side + 1) / 2 * 255).astype(np.uint8) for side in both]
            values.append(peak_signal_noise_ratio(*cut, data_range=255))
    claim = only(model(lift=lift), {"psnr": f"{np.mean(values):.3f}"}, images)
    moves = {m.choice: m for m in claim.moves}
    assert moves[rounding].value == pytest.approx(float(np.mean(values)), abs=0.005)
    assert claim.moves[0].choice == rounding
    assert abs(moves[rounding].difference or 0) > 0.01


def test_roundings_give_the_pixels_that_they_name() -> None:
    """Level 100.7 of 255 and its original 101: cut, 100; rounded, 101."""
    import torch

    original, candidate = torch.full((1, 3, 1, 1), 101, dtype=torch.uint8), torch.full((1, 3, 1, 1), 100.7 / 255)
    pixels = {r: [int(p.flatten()[0]) for p in rounded(original, candidate, r)] for r in ("round", "truncate")}
    assert pixels == {"round": [101, 101], "truncate": [101, 100]}
    # 101 / 127.5 - 1 in float32 comes back as 100.99999: cut, it is one level darker.
    ours, theirs = rounded(original, candidate, "truncate-both")
    assert (int(ours.flatten()[0]), int(theirs.flatten()[0])) == (
        int(np.float32(np.float32(101 / 127.5 - 1) + 1) / np.float32(2) * np.float32(255)),
        100,
    )


# -- what a card states ----------------------------------------------------------------------------------------------


def card(conditions: str, value: float, metric: str = "psnr", source: str = "A table") -> str:
    return f'Published("{metric}", {value}, "{source}", {conditions}),'


def dimensions(claim: Claim) -> dict[str, set[str]]:
    out: dict[str, set[str]] = {}
    for m in claim.moves:
        out.setdefault(m.dimension, set()).add(m.choice)
    return out


def test_a_claim_that_leaves_all_open_is_tried_under_everything(model: Callable[..., str], images: Path) -> None:
    tried = dimensions(only(model(published=card('Conditions("at 256", size=256)', 30.0)), {"psnr": "31"}, images))
    assert {"titok", "lanczos", "torch-bicubic", "crop-bicubic"} <= tried["view"]
    assert tried["rounding"] == {"truncate", "truncate-both"}
    assert {"psnr-pooled", "psnr-range2"} <= tried["metric"]


@pytest.mark.parametrize(
    ("stated", "closed", "open_"),
    [
        (
            'rounding="truncate"',
            {"rounding": {"truncate", "truncate-both"}},
            {"view": "titok", "metric": "psnr-pooled"},
        ),
        (
            'resampling="bilinear", antialias=True',
            {"view": {"titok", "lanczos", "torch-bilinear"}},
            {"view": "crop-bilinear"},
        ),
        ('order="crop first"', {"view": {"titok", "var", "lanczos"}}, {"view": "crop-lanczos"}),
        ("antialias=False", {"view": {"titok", "crop-bicubic"}}, {"view": "torch-bilinear"}),
        ('reduction="pooled"', {"metric": {"psnr-range2", "psnr-range1"}}, {"view": "titok"}),
        ("data_range=2.0", {"metric": {"psnr-pooled", "psnr-range1"}}, {"rounding": "truncate"}),
        ("size=64", {"view": {"native"}}, {"view": "titok"}),
        (
            'named="titok"',
            {"view": {"lanczos", "crop-bicubic"}, "rounding": {"truncate"}, "metric": {"psnr-range2"}},
            {},
        ),
    ],
)
def test_only_what_a_claim_leaves_open_is_tried(
    stated: str, closed: dict[str, set[str]], open_: dict[str, str], model: Callable[..., str], images: Path
) -> None:
    """And what it states is the default that the rest is compared with."""
    conditions = f'Conditions("as the table says", {stated})'
    claim = only(model(published=card(conditions, 30.5)), {"PSNR": "30.5"}, images)
    assert claim.source == "A table"
    tried = dimensions(claim)
    assert not {d: tried.get(d, set()) & names for d, names in closed.items() if tried.get(d, set()) & names}
    assert all(name in tried[d] for d, name in open_.items())


def test_a_claims_size_is_the_size_that_is_scored(model: Callable[..., str], images: Path) -> None:
    published = card('Conditions("at 64", size=64)', round(psnr_at(64), 2))
    claim = only(model(published=published), {"psnr": round(psnr_at(64), 2)}, images)
    assert "view 64 px" in claim.default
    assert "nothing to explain" in claim.verdict


def test_a_size_that_the_model_does_not_take_is_said(model: Callable[..., str], images: Path) -> None:
    published = card('Conditions("at 512", size=512, options=(("tokens", 64),))', 30.5) + card(
        'Conditions("384 to 256", size=256, model_size=384)', 0.5, "ssim"
    )
    answer = explain(model("Fixed(64)", published), {"psnr": "30.5", "ssim": "0.5"}, images=str(images))
    notes = " ".join(answer.notes)
    assert "psnr: the source is of at 512" in notes
    assert "psnr: the source is of tokens=64, and here it is None" in notes
    assert "psnr: for the size the source states 512, which cannot be made here; it is 64" in notes
    assert "ssim: the source gave the model pictures of 384 x 384 and resized them back" in notes
    assert all(dimensions(claim)["view"] for claim in answer.claims), "the rest is tried all the same"


def test_a_number_of_two_tables_states_what_both_say(model: Callable[..., str], images: Path) -> None:
    twice = card('Conditions("a", size=64, rounding="truncate")', 30.5, source="One") + card(
        'Conditions("b", size=64, rounding="round")', 30.5, source="Two"
    )
    claim = only(model(published=twice), {"psnr": 30.5}, images)
    assert claim.source == "One; Two"
    assert "view 64 px, rounded" in claim.default
    assert "truncate" in dimensions(claim)["rounding"]


def test_a_card_that_names_a_convention_is_found_by_the_plain_name(model: Callable[..., str], images: Path) -> None:
    """LlamaGen's SSIM is on its card as ssim-range2; people claim it as SSIM."""
    values = []
    for rgb in PICTURES.values():
        view = adm(rgb, 64)
        pair = view / 255, np.rint(blocks(view)) / 255
        values.append(structural_similarity(*pair, channel_axis=2, data_range=2))
    value = round(float(np.mean(values)), 4)
    published = card('Conditions("range 2", size=64, data_range=2.0)', value, "ssim-range2")
    claim = only(model(published=published), {"SSIM": str(value)}, images)
    assert claim.default.endswith("ssim-range2")
    assert "nothing to explain" in claim.verdict
    assert claim.source == "A table"


@pytest.mark.parametrize(("value", "split"), [(7.41, "training"), (4.98, "validation")])
def test_the_reference_set_that_a_source_names_is_not_tried_for_another(
    value: float, split: str, model: Callable[..., str], images: Path
) -> None:
    """A card with both of an rFID's reference sets, as taming-transformers prints them."""
    both = card('Conditions("v", reference="ImageNet validation")', 4.98, "rfid") + card(
        'Conditions("t", reference="ImageNet training")', 7.41, "rfid"
    )
    claim = only(model("Fixed(64)", both), {"rFID": value}, images)
    (reference,) = [m for m in claim.moves if m.dimension == "reference set"]
    assert reference.choice == f"ImageNet {split}"
    assert f"the source takes it against ImageNet {split}" in str(reference.why)
    assert "--reference" in str(reference.why)
    assert "none of these could be measured here" in claim.verdict
