"""Per-image metrics against the libraries that they follow, computed live on photographs: rows of docs/metrics.md.

Networks run with seeded random weights, the same on both sides: what is compared is the arithmetic around them.
PSNR, SSIM and MS-SSIM are compared in vtbench.metrics_report through the same calls as a run.
"""

from __future__ import annotations

import importlib.metadata
import io
import math
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench.types.metric import Batch, ImageMetric, Reference

SIZE = 128
QUALITY = 30


@dataclass(frozen=True)
class Comparison:
    """`difference`: the largest seen, in the metric's unit, or relative to the reference's value."""

    metric: str
    reference: str
    on: str
    difference: float
    tolerance: float
    reason: str
    relative: bool = False


def version(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


def originals() -> list[Any]:
    """Three photographs that ship with scikit-image, uint8 (SIZE, SIZE, 3)."""
    from skimage import data

    found = (data.astronaut()[:SIZE, 130 : 130 + SIZE], data.chelsea()[:SIZE, 60 : 60 + SIZE])  # type: ignore[no-untyped-call]
    return [*found, data.coffee()[60 : 60 + SIZE, 200 : 200 + SIZE]]  # type: ignore[no-untyped-call]


def jpeg(image: Any) -> Any:
    """The picture after JPEG at QUALITY."""
    import numpy as np
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(image).save(held, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(held).convert("RGB"))


def stack(images: Sequence[Any]) -> Any:
    """uint8 (H, W, 3) each -> tensor (B, 3, H, W)."""
    import numpy as np
    import torch

    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def values(metric: ImageMetric, xs: Sequence[Any], ys: Sequence[Any]) -> list[float]:
    """The metric's values of pairs, as one batch."""
    batch = Batch(Reference(stack(xs), [], [str(k) for k in range(len(xs))]), stack(ys))
    return [float(v.value) for v in metric.measure(batch) if v.value is not None]


def random_backbone(net: str, path: Path) -> None:
    """Saves seeded random features of a torchvision network under its own names."""
    import torch
    import torchvision

    name = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}[net]
    with torch.device("meta"):
        model = getattr(torchvision.models, name)()
    generator = torch.Generator().manual_seed(0)
    state = {
        k: torch.randn(v.shape, generator=generator) * ((2 / v[0].numel()) ** 0.5 if v.ndim == 4 else 0.1)
        for k, v in model.state_dict().items()
        if k.startswith("features.")
    }
    torch.save(state, path)


def _lpips(xs: Sequence[Any], ys: Sequence[Any], on: str) -> list[Comparison]:
    import lpips as package
    import torch

    from vtbench.metrics.lpips import METRICS

    out = []
    for kind in METRICS[:3]:
        with tempfile.TemporaryDirectory(prefix="vtbench-") as folder:
            path = Path(folder) / "random.pth"
            random_backbone(kind.net, path)
            ours = values(kind(path), xs, ys)
            with warnings.catch_warnings():
                # The package asks torchvision by a name that it deprecates.
                warnings.simplefilter("ignore")
                model = package.LPIPS(net=kind.net, pnet_rand=True, verbose=False)
            state = torch.load(path, weights_only=True)
            model.net.load_state_dict({k: state["features." + k.split(".", 1)[1]] for k in model.net.state_dict()})
            with torch.inference_mode():
                theirs = model(stack(xs).float() / 127.5 - 1, stack(ys).float() / 127.5 - 1).flatten().tolist()
        gap = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
        out.append(
            Comparison(
                kind.card.name,
                version("lpips"),
                f"{on}; random backbone",
                gap,
                1e-6,
                "float32 both, other memory layout and order of sums",
            )
        )
    return out


def _recurrence(a: str, b: str) -> int:
    """Levenshtein distance by its definition."""
    row = list(range(len(b) + 1))
    for i, c in enumerate(a, 1):
        above, row = row, [i]
        for j, d in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (c != d)))
    return row[-1]


def _cer() -> Comparison:
    import numpy as np

    from vtbench.metrics.text import edits

    rng = np.random.default_rng(0)
    gap = 0
    for _ in range(300):
        a, b = ("".join(rng.choice(list("abcd "), rng.integers(0, 30))) for _ in range(2))
        gap = max(gap, abs(edits(a, b) - _recurrence(a, b)))
    return Comparison(
        "cer, cer-ceiling, cer-self, cer-page, cer-rapidocr, cer-rapidocr-ceiling, cer-tesseract",
        "the recurrence of Wagner and Fischer",
        "300 pairs of random strings",
        gap,
        0.0,
        "integers",
    )


def _mtf50() -> Comparison:
    import numpy as np
    from scipy.ndimage import gaussian_filter

    from vtbench.metrics.detail import MTF50

    gap = 0.0
    noise = np.random.default_rng(0).normal(128, 50, (512, 512)).clip(0, 255).round()
    for sigma in (1.0, 1.5, 2.0, 3.0):
        blurred = gaussian_filter(noise, sigma, mode="wrap", truncate=6).round()
        pair = [np.repeat(p[..., None], 3, axis=2).astype(np.uint8) for p in (noise, blurred)]
        wanted = math.sqrt(math.log(2) / 2) / (math.pi * sigma) * 512
        gap = max(gap, abs(values(MTF50(), [pair[0]], [pair[1]])[0] / wanted - 1))
    return Comparison(
        "mtf50",
        "sqrt(ln 2 / 2) / (pi sigma) of a Gaussian blur",
        "white noise of 512 px, sigma 1 to 3 px",
        gap,
        0.02,
        "bands of an eighth of an octave, linear between their centres",
        True,
    )


def comparisons() -> list[Comparison]:
    """Every row, computed now; a difference over its tolerance is a defect."""
    import numpy as np
    import piq
    from skimage import color, metrics

    from vtbench.metrics import colour, detail, ssim
    from vtbench.metrics.psnr import MSE, PooledPSNR

    library: Any = metrics
    xs = originals()
    ys = [jpeg(x) for x in xs]
    on = f"{len(xs)} photographs of {SIZE} px against their JPEGs (quality {QUALITY})"
    weights = np.array([0.299, 0.587, 0.114])

    def luma_ssim(x: Any, y: Any) -> float:
        return float(
            library.structural_similarity(
                x @ weights, y @ weights, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
            )
        )

    def difference(x: Any, y: Any) -> Any:
        rgb2lab: Any = color.rgb2lab
        ciede2000: Any = color.deltaE_ciede2000
        return ciede2000(rgb2lab(x), rgb2lab(y))

    def piqs(call: Any) -> Callable[[Any, Any], float]:
        # Other precision and other range than ours.
        return lambda x, y: float(call(stack([x]).float() / 255, stack([y]).float() / 255, data_range=1.0))

    scikit = version("scikit-image")
    table: list[tuple[ImageMetric, str, Callable[[Any, Any], float], float, str]] = [
        (ssim.SSIMLuma(), scikit, luma_ssim, 1e-9, "float64 both"),
        (colour.DeltaE(), scikit, lambda x, y: float(difference(x, y).mean()), 1e-6, "float64 both"),
        (colour.DeltaEP95(), scikit, lambda x, y: float(np.percentile(difference(x, y), 95)), 1e-6, "float64 both"),
        (detail.GMSD(), version("piq"), piqs(piq.gmsd), 1e-5, "piq's usual float32 against float64"),
        (detail.HaarPSI(), version("piq"), piqs(piq.haarpsi), 1e-5, "piq's usual float32 against float64"),
    ]
    out = []
    for metric, reference, call, tolerance, reason in table:
        theirs = [call(x, y) for x, y in zip(xs, ys, strict=True)]
        gap = max(abs(a - b) for a, b in zip(values(metric, xs, ys), theirs, strict=True))
        out.append(Comparison(metric.card.name, reference, on, gap, tolerance, reason))
    errors = values(MSE(), xs, ys)
    pooled = PooledPSNR().finish([{"values": {"mse": e}, "size": [SIZE, SIZE]} for e in errors], [])
    whole = float(library.peak_signal_noise_ratio(np.stack(xs), np.stack(ys), data_range=255))
    gap = abs((pooled.value or 0.0) - whole)
    out.append(Comparison("psnr-pooled", f"{scikit}, all images as one array", on, gap, 1e-9, "float64 both"))
    return [*out, *_lpips(xs, ys, on), _mtf50(), _cer()]
