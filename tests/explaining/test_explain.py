"""Explanations of numbers whose cause is known because it was put there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import coffee, rocket
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vtbench.explaining import measure
from vtbench.explaining.explain import explain
from vtbench.images.views import View
from vtbench.types.errors import VtbenchError


def images(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(p)) for p in sorted(folder.glob("*.png"))]


def test_a_folders_ssim_is_explained_by_the_data_range(pair: tuple[Path, Path]) -> None:
    """The claim is skimage's SSIM with data_range=2 on [0, 1] images, LlamaGen's: that choice leaves no gap."""
    pairs = list(zip(images(pair[0]), images(pair[1]), strict=True))
    claimed = np.mean([structural_similarity(a / 255, b / 255, channel_axis=2, data_range=2.0) for a, b in pairs])
    answer = explain(f"folder:{pair[1]}", {"ssim": str(claimed)}, images=str(pair[0]))
    (claim,) = answer.claims
    moves = {m.choice: m for m in claim.moves}
    assert moves["ssim-range2"].left == pytest.approx(0, abs=1e-6)
    assert (moves["ssim-range2"].low or 0) > 0
    canonical = np.mean(
        [
            structural_similarity(
                a, b, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
            )
            for a, b in pairs
        ]
    )
    assert claim.value == pytest.approx(canonical, abs=1e-6)
    assert moves["ssim-range2"].difference == pytest.approx(claimed - canonical, abs=1e-6)
    left = [abs(m.left) for m in claim.moves if m.left is not None]
    assert left == sorted(left)
    assert moves["titok"].value is None
    assert "saved pictures" in (moves["titok"].why or "")
    text = answer.text()
    assert text.index("ssim-range2") < text.index("not measured")


def test_pooled_psnr_and_truncation_are_moves_of_psnr(pair: tuple[Path, Path]) -> None:
    answer = explain(f"folder:{pair[1]}", {"psnr": 20.0}, images=str(pair[0]))
    (claim,) = answer.claims
    moves = {m.choice: m for m in claim.moves}
    pairs = list(zip(images(pair[0]), images(pair[1]), strict=True))
    mean = np.mean([peak_signal_noise_ratio(a, b, data_range=255) for a, b in pairs])
    pooled = 10 * np.log10(255**2 / np.mean([((a.astype(float) - b) ** 2).mean() for a, b in pairs]))
    assert claim.value == pytest.approx(mean, abs=1e-6)
    assert moves["psnr-pooled"].value == pytest.approx(pooled, abs=1e-6)
    cut = [[((x / 127.5 - 1).astype(np.float32) + 1) / 2 * 255 for x in p] for p in pairs]
    wanted = np.mean([peak_signal_noise_ratio(*(x.astype(np.uint8) for x in p), data_range=255) for p in cut])
    assert moves["truncate-both"].value == pytest.approx(wanted, abs=1e-6)


def test_rfid_is_null_under_ten_thousand_images(pair: tuple[Path, Path]) -> None:
    answer = explain(f"folder:{pair[1]}", {"rfid": 2.19}, images=str(pair[0]))
    (claim,) = answer.claims
    assert claim.value is None
    assert all(m.value is None for m in claim.moves)
    assert "10,000" in next(m.why or "" for m in claim.moves if m.choice == "rfid-clean")
    assert any(m.dimension == "reference set" for m in claim.moves)


def test_a_model_is_run_again_at_every_crop(tmp_path: Path) -> None:
    """JPEG at 256: VAR's crop zooms in, so its number is another; the default equals skimage on the ADM crop."""
    Image.fromarray(coffee()).save(tmp_path / "coffee.png")
    answer = explain("jpeg", {"psnr": "30"}, images=str(tmp_path), options={"quality": "50"})
    (claim,) = answer.claims
    moves = {(m.dimension, m.choice): m for m in claim.moves}
    for protocol, value in (("vtbench", claim.value), ("var", moves["view", "var"].value)):
        view = View.parse("256", protocol).apply(coffee())[0]
        Image.fromarray(view).save(tmp_path.parent / "view.jpg", quality=50)
        wanted = peak_signal_noise_ratio(view, np.asarray(Image.open(tmp_path.parent / "view.jpg")), data_range=255)
        assert value == pytest.approx(wanted, abs=1e-6)
    assert moves["view", "var"].difference != 0
    assert moves["view", "llamagen"].difference == pytest.approx(0, abs=1e-9)
    assert ("view", "native") in moves
    assert ("rounding", "truncate") in moves


def test_originals_of_another_size_are_cropped_by_every_named_crop(tmp_path: Path) -> None:
    """The pictures are TiTok's crop of the originals: under that crop they are lossless, under ADM's they are not."""
    for name in ("ref", "cand"):
        (tmp_path / name).mkdir()
    for i, whole in enumerate((coffee(), rocket())):
        Image.fromarray(whole).save(tmp_path / "ref" / f"{i}.png")
        picture = View.parse("128", "titok").apply(whole)[0].astype(int)
        picture[::2, ::2] += 1
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(tmp_path / "cand" / f"{i}.png")
    # A quarter of the samples is one level off, but where the picture is white already.
    answer = explain(f"folder:{tmp_path / 'cand'}", {"psnr": "54.2"}, images=str(tmp_path / "ref"))
    moves = {m.choice: m for m in answer.claims[0].moves}
    assert moves["titok"].value == pytest.approx(10 * np.log10(255**2 / 0.25), abs=0.1)
    assert (answer.claims[0].value or 99) < 45
    assert answer.claims[0].moves[0].choice in ("titok", "clean")
    assert "cropped to 128 x 128" in answer.notes[0]


@pytest.mark.parametrize(
    ("claims", "more", "message"),
    [
        ({}, {}, "nothing to explain"),
        ({"sssim": "1"}, {}, "did you mean ssim"),
        ({"ssim": "high"}, {}, "give a number"),
        ({"ssim": "nan"}, {}, "finite"),
        ({"ssim": "0.5"}, {"limit": 0}, "1 or more"),
        ({"ssim": "0.5"}, {"images": None}, "needs its originals"),
    ],
)
def test_wrong_questions_are_refused(pair: tuple[Path, Path], claims: dict, more: dict, message: str) -> None:
    with pytest.raises(VtbenchError, match=message):
        explain(f"folder:{pair[1]}", claims, **{"images": str(pair[0]), **more})


def test_rfid_is_measured_where_there_are_images_enough(
    pair: tuple[Path, Path], seeded_inception: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar is lowered to the four images here; each resize is then the number that `score` gives."""
    from vtbench.running import folders

    monkeypatch.setenv("VTBENCH_METRIC_WEIGHTS", f"inception-2015-12-05={seeded_inception}")
    monkeypatch.setattr(measure, "FID_IMAGES", 4)
    (claim,) = explain(f"folder:{pair[1]}", {"rfid": "2.19"}, images=str(pair[0])).claims
    wanted = folders.score(pair[0], [pair[1]], ["rfid", "rfid-clean", "rfid-bilinear"]).candidates[0].scores
    moves = {m.choice: m for m in claim.moves}
    assert claim.value == pytest.approx(wanted[0].value, rel=1e-6)
    assert moves["rfid-clean"].value == pytest.approx(wanted[1].value, rel=1e-6)
    assert moves["rfid-bilinear"].difference == pytest.approx(wanted[2].value - wanted[0].value, rel=1e-4)
    assert moves["truncate-both"].value not in (None, claim.value)
