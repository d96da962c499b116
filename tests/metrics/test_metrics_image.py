"""PSNR, SSIM, MS-SSIM, colour and LPIPS against scikit-image, piq, lpips, and arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from backbones import random_backbone
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vtbench.metrics import colour, lpips, psnr, ssim, weights
from vtbench.types.metric import Batch, Reference, Value


def stack(*images: Any) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.ascontiguousarray(i)).permute(2, 0, 1) for i in images])


def batch_of(x: Any, y: Any) -> Batch:
    """A batch of one pair, or of lists of pairs of equal size: uint8 (H, W, 3)."""
    xs, ys = (x, y) if isinstance(x, list) else ([x], [y])
    return Batch(Reference(stack(*xs), [None] * len(xs), [str(k) for k in range(len(xs))]), stack(*ys))  # type: ignore[list-item]


def one(metric: Any, x: Any, y: Any) -> Value:
    return metric.measure(batch_of(x, y))[0]


def noisy(x: Any, sigma: float, seed: int = 0) -> Any:
    noise = np.random.default_rng(seed).normal(0, sigma, x.shape)
    return np.clip(np.rint(x + noise), 0, 255).astype(np.uint8)


ASTRONAUT, CAT, COFFEE = data.astronaut(), data.chelsea(), data.coffee()
PAIRS = {
    "photograph 256x256": (ASTRONAUT[:256, 100:356], noisy(ASTRONAUT[:256, 100:356], 6)),
    "odd 299x251": (CAT[:299, :251], noisy(CAT[:299, :251], 20)),
    "odd height 201x180": (COFFEE[:201, :180], noisy(COFFEE[:201, :180], 3)),
    "odd width 200x201": (COFFEE[:200, :201], np.roll(COFFEE[:200, :201], 2, axis=1)),
    "unrelated 180x180": (ASTRONAUT[:180, :180], CAT[:180, :180]),
    "negative 176x176": (CAT[:176, :176], 255 - CAT[:176, :176]),
    "constant 181x177": (np.full((181, 177, 3), 37, np.uint8), np.full((181, 177, 3), 41, np.uint8)),
    "saturated 176x190": (np.full((176, 190, 3), 255, np.uint8), np.zeros((176, 190, 3), np.uint8)),
}
pair = pytest.mark.parametrize(("x", "y"), PAIRS.values(), ids=PAIRS.keys())
# Both sides are float64; the variances cancel to about 1e-11 of 255², which C2 = 58.5 divides: 1e-9 leaves room.
CLOSE = 1e-9


@pair
def test_psnr_is_scikit_images(x: Any, y: Any) -> None:
    assert one(psnr.PSNR(), x, y).value == pytest.approx(peak_signal_noise_ratio(x, y, data_range=255), abs=1e-10)


@pair
def test_ssim_is_scikit_images(x: Any, y: Any) -> None:
    wanted = structural_similarity(
        x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2
    )
    assert one(ssim.SSIM(), x, y).value == pytest.approx(wanted, abs=CLOSE)


@pair
def test_ssim_conventions_are_scikit_images(x: Any, y: Any) -> None:
    default = structural_similarity(x, y, data_range=255, channel_axis=2)
    assert one(ssim.SSIMUniform(), x, y).value == pytest.approx(default, abs=CLOSE)
    range2 = structural_similarity(x / 255, y / 255, data_range=2.0, channel_axis=2)
    assert one(ssim.SSIMRange2(), x, y).value == pytest.approx(range2, abs=CLOSE)
    weights = np.array([0.299, 0.587, 0.114])
    luma = structural_similarity(
        x @ weights, y @ weights, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert one(ssim.SSIMLuma(), x, y).value == pytest.approx(luma, abs=CLOSE)


@pair
def test_ms_ssim_is_piqs(x: Any, y: Any) -> None:
    import piq

    wanted = float(piq.multi_scale_ssim(stack(x).double(), stack(y).double(), data_range=255.0))
    assert one(ssim.MSSSIM(), x, y).value == pytest.approx(wanted, abs=CLOSE)


@pytest.mark.parametrize("size", [(11, 11), (11, 40), (13, 12)])
def test_smallest_ssim(size: tuple[int, int]) -> None:
    x = ASTRONAUT[100 : 100 + size[0], 200 : 200 + size[1]]
    y = noisy(x, 10)
    wanted = structural_similarity(
        x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2
    )
    assert one(ssim.SSIM(), x, y).value == pytest.approx(wanted, abs=CLOSE)


@pytest.mark.parametrize("d", [1, 2, 7, 40])
def test_constant_offset(d: int) -> None:
    x = np.clip(CAT, 0, 200).astype(np.uint8)
    assert one(psnr.PSNR(), x, x + np.uint8(d)).value == pytest.approx(20 * math.log10(255 / d), abs=1e-12)


def test_identical_and_tiny() -> None:
    assert one(psnr.PSNR(), CAT, CAT) == Value(None, why="lossless (identical pixels)")
    assert one(psnr.MSE(), CAT, CAT).value == 0
    for metric in (ssim.SSIM(), ssim.SSIMUniform(), ssim.SSIMLuma(), ssim.SSIMRange2(), ssim.MSSSIM()):
        assert one(metric, CAT, CAT).value == pytest.approx(1, abs=1e-12)
    dot = np.array([[[10, 20, 30]]], np.uint8)
    # 3, 4 and 0 levels: MSE 25 / 3.
    assert one(psnr.PSNR(), dot, dot + np.array([3, 4, 0], np.uint8)).value == pytest.approx(
        10 * math.log10(255**2 / (25 / 3)), abs=1e-12
    )


def test_squared_error_is_exact_on_large_images() -> None:
    x = np.zeros((2500, 2500, 3), np.uint8)
    y = np.full_like(x, 255)
    y[0, 0, 0] = 254
    assert psnr.squared_error(x, y) == (255**2 * (x.size - 1) + 254**2) / x.size


def test_pooled_psnr() -> None:
    rows = [
        {"values": {"mse": 4.0}, "size": [10, 10]},
        {"values": {"mse": 0.0}, "size": [10, 20]},
        {"values": {}, "size": [5, 5], "why": {"mse": "broken"}},
        {"values": {"mse": 16.0}, "size": [30, 10]},
    ]
    score = psnr.PooledPSNR().finish(rows, [None] * 4)  # type: ignore[list-item]
    pooled = (4 * 100 + 16 * 300) / 600
    assert score.value == pytest.approx(10 * math.log10(255**2 / pooled), abs=1e-12)
    assert score.n == 3
    assert score.details["n_lossless"] == 1
    assert score.low is not None
    assert score.low < score.value
    nothing = psnr.PooledPSNR().finish([{"values": {"mse": 0.0}, "size": [4, 4]}], [None])  # type: ignore[list-item]
    assert nothing.value is None
    assert nothing.why == "lossless (identical pixels)"


def test_pooled_psnr_of_nothing_is_null() -> None:
    for rows in ([], [{"values": {}, "size": [2, 2]}]):
        nothing = psnr.PooledPSNR().finish(rows, [])
        assert (nothing.value, nothing.n, nothing.why) == (None, 0, "no image has a squared error")


def test_pooled_psnr_says_how_its_interval_was_had() -> None:
    rows = [{"values": {"mse": error}, "size": [2, 2]} for error in (10.0, 0.0, 30.0)]
    several, single = (psnr.PooledPSNR().finish(part, []).details for part in (rows, rows[:1]))
    assert several == {"mse": pytest.approx(40 / 3), "n_lossless": 1, "interval": "Student's t of the logarithm"}
    assert single["interval"] == "one image has no interval"


def test_pooled_psnr_is_torchmetrics_arithmetic() -> None:
    """Pooled over two images of one size is the PSNR of both images in one array."""
    x, y = PAIRS["unrelated 180x180"]
    z = noisy(x, 2)
    rows = [{"values": {"mse": one(psnr.MSE(), x, v).value}, "size": [180, 180]} for v in (y, z)]
    wanted = peak_signal_noise_ratio(np.stack([x, x]), np.stack([y, z]), data_range=255)
    assert psnr.PooledPSNR().finish(rows, [None] * 2).value == pytest.approx(wanted, abs=1e-10)  # type: ignore[list-item]


def test_batches_and_candidates_do_not_mix() -> None:
    """A batch of three, and a second candidate on the same Reference, give what single pairs give."""
    xs = [ASTRONAUT[:200, :190], CAT[50:250, 100:290], COFFEE[:200, 300:490]]
    first, second = [noisy(x, 5) for x in xs], [noisy(x, 30, seed=3) for x in xs]
    shared = batch_of(xs, first)
    again = Batch(shared.reference, stack(*second))
    for metric in (psnr.PSNR(), ssim.SSIM(), ssim.SSIMUniform(), ssim.SSIMLuma(), ssim.MSSSIM()):
        for batch, ys in ((shared, first), (again, second)):
            together = [v.value for v in metric.measure(batch)]
            assert together == [one(metric, x, y).value for x, y in zip(xs, ys, strict=True)]


@pytest.fixture(scope="module", params=["alex", "vgg", "squeeze"])
def perceptual(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(net, metric, path) with a random backbone."""
    path = random_backbone(request.param, tmp_path_factory.mktemp("backbone"))
    kind = {"alex": lpips.LPIPSAlex, "vgg": lpips.LPIPSVgg, "squeeze": lpips.LPIPSSqueeze}[request.param]
    metric = kind(path)
    metric.load()
    return request.param, metric, path


def package_lpips(net: str, path: Any, spatial: bool = False) -> Any:
    """The lpips package's own model with the same backbone."""
    import warnings

    import lpips as package

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = package.LPIPS(net=net, pnet_rand=True, verbose=False, spatial=spatial)
    state = torch.load(path, weights_only=True)
    own = model.net.state_dict()
    model.net.load_state_dict({k: state["features." + k.split(".", 1)[1]] for k in own})
    return model


LPIPS_SIZE = (48, 61)


def crops(n: int = 3) -> tuple[list[Any], list[Any]]:
    height, width = LPIPS_SIZE
    xs = [ASTRONAUT[k * 60 : k * 60 + height, 80 : 80 + width] for k in range(n)]
    return xs, [noisy(x, 12, seed=k) for k, x in enumerate(xs)]


def test_lpips_is_the_packages(perceptual: Any) -> None:
    net, metric, path = perceptual
    assert "unverified" in metric.unverified
    xs, ys = crops()
    model = package_lpips(net, path)
    with torch.inference_mode():
        wanted = model(stack(*xs).float() / 127.5 - 1, stack(*ys).float() / 127.5 - 1).flatten().tolist()
    ours = [v.value for v in metric.measure(batch_of(xs, ys))]
    # Both float32; layouts and the order of sums differ.
    assert ours == pytest.approx(wanted, rel=2e-6, abs=1e-6)
    assert min(wanted) > 1e-3


def test_lpips_batches_stages_and_identity(perceptual: Any) -> None:
    """Alone, together, from kept stages of the original: the same; an image against itself: 0."""
    _, metric, _ = perceptual
    xs, ys = crops()
    batch = batch_of(xs, ys)
    together = [v.value for v in metric.measure(batch)]
    assert together == pytest.approx([one(metric, x, y).value for x, y in zip(xs, ys, strict=True)], rel=1e-6)
    again = metric.measure(Batch(batch.reference, batch.candidate))
    assert [v.value for v in again] == together
    assert [v.value for v in metric.measure(Batch(batch.reference, batch.reference.images))] == [0, 0, 0]


def test_worst_tile_lpips(tmp_path: Any) -> None:
    """A disturbance in one tile only; the value is the mean of the package's spatial map over that tile."""
    path = random_backbone("alex", tmp_path)
    metric = lpips.WorstTileLPIPS(path)
    x = ASTRONAUT[:150, :200]
    y = x.copy()
    y[70:120, 70:120] = noisy(y[70:120, 70:120], 40)
    value = one(metric, x, y).value
    with torch.inference_mode():
        model = package_lpips("alex", path, spatial=True)
        whole = model(stack(x).float() / 127.5 - 1, stack(y).float() / 127.5 - 1)[0, 0]
    corners = [(a, b) for a in (0, 64, 86) for b in (0, 64, 128, 136)]
    tiles = [float(whole[a : a + 64, b : b + 64].double().mean()) for a, b in corners]
    assert value == pytest.approx(max(tiles), rel=1e-5)
    assert value > float(whole.mean())


def test_metric_weights_are_refused_by_name_and_hash(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from vtbench.types.errors import Unavailable, VtbenchError

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    with pytest.raises(Unavailable, match=r"alexnet-owt-7be5be79\.pth .* is not here, and VTBENCH_OFFLINE"):
        lpips.LPIPSAlex().load()
    wrong = tmp_path / "torch" / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(b"not AlexNet")
    with pytest.raises(Unavailable, match=r"alexnet-owt-7be5be79\.pth has sha256 [0-9a-f]{16}…, wanted 7be5be79"):
        lpips.LPIPSAlex().load()
    states = {w["name"]: w["state"] for w in weights.status()}
    assert states["alexnet"] == "refused"
    assert states["vgg16"] == "missing"
    assert states["lpips-alex-linear"] == "verified"
    monkeypatch.setenv(weights.VARIABLE, f"alexnet={random_backbone('alex', tmp_path)}")
    metric = lpips.LPIPSAlex()
    metric.load()
    assert metric.unverified is not None
    monkeypatch.setenv(weights.VARIABLE, "alexnett=x")
    with pytest.raises(VtbenchError, match="did you mean alexnet"):
        weights.find("alexnet")


def test_weights_table_is_whole() -> None:
    """Hub names carry the first digits of the hash that the table states; every metric's needs are in the table."""
    import re

    from vtbench import registry

    for name, w in weights.TABLE.items():
        assert name == w.name
        assert re.fullmatch(r"[0-9a-f]{8}([0-9a-f]{56})?", w.sha256) or re.fullmatch("[0-9a-f]{32}", w.md5 or "")
        digits = re.search(r"-([0-9a-f]{8})\.pth$", w.file)
        assert digits is None or w.sha256.startswith(digits[1])
    extras = {"hub", "offline", "webdataset", "formats", "test"}
    for name, factory in registry.metrics().items():
        for need in registry.card_of(factory).needs:
            assert need in weights.TABLE or need in extras, (name, need)
    needed = {w["name"]: w["needed_by"] for w in weights.status()}
    assert "rfid" in needed["inception-2015-12-05"]
    assert needed["alexnet"] == ["lpips-alex", "worst-tile-lpips"]


SHARMA = [
    # Sharma, Wu, Dalal 2005, table 1: L a b, L a b, difference.
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, 3.1571, -77.2803), (50, 0, -82.7485), 2.8615),
    ((50, 2.8361, -74.0200), (50, 0, -82.7485), 3.4412),
    ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((50, 2.5, 0), (61, -5, 29), 22.8977),
    ((50, 2.5, 0), (56, -27, -3), 31.9030),
    ((50, 2.5, 0), (58, 24, 15), 19.4535),
]


@pytest.mark.parametrize(("left", "right", "wanted"), SHARMA)
def test_ciede2000_table(left: Any, right: Any, wanted: float) -> None:
    # The table states four digits.
    assert float(colour.ciede2000(np.array(left, float), np.array(right, float))) == pytest.approx(wanted, abs=5.1e-5)


@pair
def test_delta_e_is_scikit_images(x: Any, y: Any) -> None:
    from skimage.color import deltaE_ciede2000, rgb2lab

    wanted = deltaE_ciede2000(rgb2lab(x), rgb2lab(y))
    # Both float64; hues of almost grey pixels round differently.
    assert one(colour.DeltaE(), x, y).value == pytest.approx(wanted.mean(), abs=1e-6)
    assert one(colour.DeltaEP95(), x, y).value == pytest.approx(np.percentile(wanted, 95), abs=1e-6)


def test_bias() -> None:
    x = np.clip(CAT, 10, 240).astype(np.uint8)
    y = x + np.array([3, 0, 0], np.uint8)
    y[..., 2] -= 7
    shifts = [one(f(), x, y).value for f in colour.METRICS[2:]]
    assert shifts == pytest.approx([3, 0, -7], abs=1e-9)
    assert [f().card.name for f in colour.METRICS[2:]] == ["bias-r", "bias-g", "bias-b"]
    assert one(colour.DeltaE(), x, x).value == 0
