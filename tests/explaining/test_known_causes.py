"""Claims whose true cause was put there, by code that is not ours: it comes first; a claim without one is told so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.signal import convolve2d
from skimage.data import astronaut, chelsea, coffee
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vtbench.explaining.claims import Claim
from vtbench.explaining.explain import explain

Pair = tuple[np.ndarray, np.ndarray]
ORIGINALS = {"wide": chelsea()[:211, :300], "tall": coffee()[:300, 40:251], "square": astronaut()[:230, 100:330]}
SIDE = 64


def read(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(p)) for p in sorted(folder.glob("*.png"))]


def only(answer_to: dict[str, str | float], pair: tuple[Path, Path]) -> Claim:
    (claim,) = explain(f"folder:{pair[1]}", answer_to, images=str(pair[0])).claims
    return claim


def unit(pairs: list[Pair]) -> list[Pair]:
    return [(a / 255, b / 255) for a, b in pairs]


def signed(pairs: list[Pair]) -> list[Pair]:
    return [(a / 127.5 - 1, b / 127.5 - 1) for a, b in pairs]


def mean(measure: Callable[..., float], pairs: list[Pair], **options: object) -> float:
    return float(np.mean([measure(a, b, **options) for a, b in pairs]))


def pooled(pairs: list[Pair]) -> float:
    """torchmetrics' PeakSignalNoiseRatio(data_range=255) over the whole set."""
    return float(10 * np.log10(255**2 / np.mean([((a.astype(float) - b) ** 2).mean() for a, b in pairs])))


def by_batches(pairs: list[Pair]) -> float:
    """The mean of the pooled PSNR of batches of two."""
    return float(np.mean([pooled(pairs[i : i + 2]) for i in range(0, len(pairs), 2)]))


def reflected_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM with a window around every pixel, as torchmetrics has it: Gaussian 11 x 11, reflected borders."""
    g = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(g, g) / g.sum() ** 2

    def blur(plane: np.ndarray) -> np.ndarray:
        return convolve2d(np.pad(plane, 5, mode="reflect"), window, mode="valid")

    values = []
    for x, y in ((a[..., c].astype(float), b[..., c].astype(float)) for c in range(3)):
        mx, my = blur(x), blur(y)
        vx, vy, c = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        values.append(((2 * mx * my + c1) * (2 * c + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())
    return float(np.mean(values))


GAUSS = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 2}
METRIC_CAUSES: dict[str, tuple[str, str, Callable[[list[Pair]], float]]] = {
    "data range 2 on [0, 1]": (
        "psnr",
        "psnr-range2",
        lambda pairs: mean(peak_signal_noise_ratio, unit(pairs), data_range=2),
    ),
    "[-1, 1] with data range 1": (
        "psnr",
        "psnr-range1",
        lambda pairs: mean(peak_signal_noise_ratio, signed(pairs), data_range=1),
    ),
    "pooled": ("psnr", "psnr-pooled", pooled),
    "pooled by batches": ("psnr", "psnr-batches-2", by_batches),
    "SSIM to the borders": ("ssim", "ssim-reflect", lambda pairs: mean(reflected_ssim, pairs)),
    "luma": (
        "psnr",
        "psnr-y",
        lambda pairs: mean(
            peak_signal_noise_ratio, [tuple(p @ [0.299, 0.587, 0.114] for p in pair) for pair in pairs], data_range=255
        ),
    ),
    "SSIM with data range 2": (
        "ssim",
        "ssim-range2",
        lambda pairs: mean(structural_similarity, unit(pairs), channel_axis=2, data_range=2),
    ),
    "Gaussian SSIM with data range 2": (
        "ssim",
        "ssim-gauss-range2",
        lambda pairs: mean(structural_similarity, unit(pairs), data_range=2, **GAUSS),
    ),
    "SSIM of [-1, 1]": (
        "ssim",
        "ssim-signed",
        lambda pairs: mean(structural_similarity, signed(pairs), data_range=2, **GAUSS),
    ),
    "uniform SSIM of [-1, 1]": (
        "ssim",
        "ssim-uniform7-signed",
        lambda pairs: mean(structural_similarity, signed(pairs), channel_axis=2, data_range=2),
    ),
}


@pytest.mark.parametrize("cause", METRIC_CAUSES)
@pytest.mark.parametrize("digits", [None, 3])
def test_a_metrics_convention_comes_first(cause: str, digits: int | None, pair: tuple[Path, Path]) -> None:
    """Whole, and as a table prints it."""
    metric, convention, measure = METRIC_CAUSES[cause]
    value = measure(list(zip(read(pair[0]), read(pair[1]), strict=True)))
    claim = only({metric: str(value) if digits is None else f"{value:.{digits}f}"}, pair)
    assert (claim.moves[0].dimension, claim.moves[0].choice) == ("metric", convention)
    assert claim.moves[0].value == pytest.approx(value, abs=1e-6)
    assert claim.verdict.startswith(f"metric: {convention} ")
    assert "closes the gap" in claim.verdict


def test_a_psnr_of_values_in_minus_one_to_one_with_data_range_2_is_the_ordinary_one(pair: tuple[Path, Path]) -> None:
    """Range and peak are doubled together, so that there is nothing to explain."""
    value = mean(peak_signal_noise_ratio, signed(list(zip(read(pair[0]), read(pair[1]), strict=True))), data_range=2)
    claim = only({"PSNR": f"{value:.2f}"}, pair)
    assert "nothing to explain" in claim.verdict
    assert "none of these" not in claim.verdict


# -- the view --------------------------------------------------------------------------------------------------------


def interpolated(mode: str) -> Callable[[np.ndarray], np.ndarray]:
    def view(rgb: np.ndarray) -> np.ndarray:
        side = min(rgb.shape[:2])
        size = [round(n * SIDE / side) if n == side else int(n * SIDE / side) for n in rgb.shape[:2]]
        pixels = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
        whole = F.interpolate(pixels, size=size, mode=mode, align_corners=False, antialias=False)
        top, left = (round((n - SIDE) / 2) for n in size)
        cut = whole[0, :, top : top + SIDE, left : left + SIDE]
        return (cut.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()

    return view


def crop_first(resampling: Image.Resampling) -> Callable[[np.ndarray], np.ndarray]:
    def view(rgb: np.ndarray) -> np.ndarray:
        side = min(rgb.shape[:2])
        top, left = ((n - side) // 2 for n in rgb.shape[:2])
        square = Image.fromarray(rgb[top : top + side, left : left + side])
        return np.asarray(square.resize((SIDE, SIDE), resampling))

    return view


def lanczos(rgb: np.ndarray) -> np.ndarray:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    return np.asarray(Compose([Resize(SIDE, InterpolationMode.LANCZOS), CenterCrop(SIDE)])(Image.fromarray(rgb)))


def stretched(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


VIEW_CAUSES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "torch-bicubic": interpolated("bicubic"),
    "torch-bilinear": interpolated("bilinear"),
    "lanczos": lanczos,
    "crop-bicubic": crop_first(Image.Resampling.BICUBIC),
    "crop-lanczos": crop_first(Image.Resampling.LANCZOS),
    "stretch-bicubic": stretched,
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    for name, rgb in ORIGINALS.items():
        Image.fromarray(rgb).save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize(
    ("cause", "metric"),
    [*((cause, "psnr") for cause in VIEW_CAUSES), ("torch-bicubic", "ssim"), ("crop-bicubic", "ssim")],
)
def test_a_views_convention_comes_first(cause: str, metric: str, originals: Path, tmp_path: Path) -> None:
    """Pictures that a model made of that view, held against that view."""
    rng = np.random.default_rng(0)
    pairs = []
    for name, rgb in ORIGINALS.items():
        view = VIEW_CAUSES[cause](rgb)
        picture = np.clip(view * 0.95 + rng.normal(4, 6, view.shape), 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
        pairs.append((view, picture))
    measure, options = (
        (peak_signal_noise_ratio, {"data_range": 255})
        if metric == "psnr"
        else (structural_similarity, {"data_range": 255, **GAUSS})
    )
    claim = only({metric.upper(): f"{mean(measure, pairs, **options):.4f}"}, (originals, tmp_path))
    assert (claim.moves[0].dimension, claim.moves[0].choice) == ("view", cause)
    assert "closes the gap" in claim.verdict


# -- nothing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("claims", [{"psnr": 41.37}, {"psnr": "3.21"}, {"SSIM": 0.985}, {"ssim": "0.12"}])
def test_a_claim_that_nothing_explains_is_told_so(claims: dict[str, str | float], pair: tuple[Path, Path]) -> None:
    claim = only(claims, pair)
    assert claim.verdict.startswith("none of these closes the gap")
    assert "none of these" in claim.text()
    assert not any(move.closes for move in claim.moves)
    left = [abs(move.left) for move in claim.moves if move.left is not None]
    assert left == sorted(left)
    assert [move.left is None for move in claim.moves] == sorted(move.left is None for move in claim.moves)


def test_where_every_choice_leads_away_the_sentence_says_so(originals: Path, pair: tuple[Path, Path]) -> None:
    """A hair above the default, and below all that any convention gives."""
    first = only({"psnr": 0}, pair)
    assert first.value is not None
    higher = [m.difference for m in first.moves if m.difference is not None and m.difference > 1e-3]
    claim = only({"psnr": f"{first.value + min(higher) / 20:.6f}"}, pair)
    assert claim.verdict.startswith("none of these closes the gap")
    assert "within the interval" in claim.verdict, "four images tell a mean no better"


def test_no_remark_is_about_another_model(pair: tuple[Path, Path]) -> None:
    text = explain(f"folder:{pair[1]}", {"rFID": 2.1, "psnr": 20}, images=str(pair[0])).text()
    assert "LlamaGen:" not in text
    assert "none of these could be measured here" in text
    assert "reference set: another (training instead of validation): not measured" in text
