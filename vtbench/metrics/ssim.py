"""Structural similarity: the canonical form, the other forms found in the field under names of their own, MS-SSIM.

For windows w over the image: m = E[x], v = E[x²] - m², c = E[xy] - m_x m_y, and

    SSIM = (2 m_x m_y + C1) (2 c + C2) / ((m_x² + m_y² + C1) (v_x + v_y + C2)),   C = (K L)², K = 0.01, 0.03.

ssim           Gaussian 11 x 11, sigma 1.5, L = 255, population covariance, valid windows only, mean over RGB
               (Wang et al. 2004; scikit-image with gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
ssim-y         the same on BT.601 luma
ssim-uniform7  7 x 7 uniform, sample covariance: scikit-image's defaults; SEED-Voken
ssim-range2    ssim-uniform7 with L = 2 on images in [0, 1], that is L = 510 on grey levels: LlamaGen (data_range=2.0)
ms-ssim        Wang et al. 2003, five scales, valid windows at every scale, negative terms clipped at 0; piq in float64

Window sums are separable and in float64: E[x²] - m² cancels about seven digits where L = 255, so float32 would leave
none. The terms are computed once per pair and kind of window, whatever metrics read them.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal

from vtbench.metrics import _on_device
from vtbench.metrics._pixels import OfPair, luma, planes, values
from vtbench.types.metric import Batch, ImageMetric, MetricCard, Value

Window = Literal["gauss11", "uniform7"]
K1, K2 = 0.01, 0.03
RANGE2 = 510.0
"""data_range=2 on images in [0, 1], in grey levels."""
SIGMA = 1.5
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales: Wang, Simoncelli, Bovik 2003."""
MS_MIN_SIZE = 176
"""11 * 2^4: the coarsest scale then holds a whole window of image, without help from samples repeated at odd sizes."""


@functools.cache
def taps() -> Any:
    """The 11 weights of the Gaussian, float64, sum 1."""
    import numpy as np

    g = np.exp(-0.5 * (np.arange(-5, 6) / SIGMA) ** 2)
    return g / g.sum()


STRIP, LEAST_ROWS = 24576, 32
"""Windows are summed in strips of about so many pixels, and at least so many rows: what a strip needs stays in the
cache, which is worth a quarter of the time; each strip reads the rows around it again."""


class _Scratch(threading.local):
    """Seven float64 planes of one strip, kept: fresh pages cost more than the arithmetic that fills them."""

    def __init__(self) -> None:
        self.planes: Any = None

    def get(self, rows: int, columns: int) -> Any:
        import numpy as np

        if self.planes is None or self.planes.shape[1] < rows or self.planes.shape[2] != columns:
            self.planes = np.empty((7, rows, columns))
        return self.planes[:, :rows]


_scratch = _Scratch()


def terms(x: Any, y: Any, window: Window, levels: Sequence[float] = (255.0,)) -> Any:
    """(SSIM, contrast term) of one plane, means over valid windows: (H, W) each -> float64 (len(levels), 2).

    Planes are uint8 or float64 in grey levels; `levels` are values of L. Windows of "gauss11" take population moments,
    those of "uniform7" sample moments (49 / 48), as their references do.
    """
    import numpy as np

    radius = 5 if window == "gauss11" else 3
    valid = x.shape[0] - 2 * radius
    rows = max(LEAST_ROWS, STRIP // x.shape[1])
    sums = np.zeros((len(levels), 2))
    for top in range(0, valid, rows):
        strip = slice(top, min(top + rows, valid) + 2 * radius)
        sums += _strip(x[strip], y[strip], window, radius, levels)
    return sums / (valid * (x.shape[1] - 2 * radius))


def _strip(x: Any, y: Any, window: Window, radius: int, levels: Sequence[float]) -> Any:
    """Sums of (SSIM, contrast term) over the valid windows of a strip of rows: float64 (len(levels), 2).

    In the form that needs the fewest moments: v_x + v_y = v_d + 2 c for the difference d = x - y, and m_x² + m_y² =
    m_d² + 2 m_x m_y.
    """
    import cv2
    import numpy as np

    def blur(source: Any, out: Any) -> None:
        if window == "gauss11":
            cv2.sepFilter2D(source, cv2.CV_64F, taps(), taps(), dst=out)
        else:
            cv2.boxFilter(source, cv2.CV_64F, (7, 7), dst=out)

    # Products of bytes fit 16 bits, so that they are exact and a quarter of the size.
    wide = np.uint16 if x.dtype == np.uint8 else np.float64
    difference = cv2.absdiff(x, y)
    planes = _scratch.get(*x.shape)
    sources = (x, y, np.multiply(x, y, dtype=wide), np.multiply(difference, difference, dtype=wide))
    for source, plane in zip(sources, planes, strict=False):
        blur(source, plane)
    means, offset, covariance, spread, left, light, low = planes[:, radius:-radius]
    np.multiply(means, offset, out=left)
    left += left  # 2 m_x m_y
    np.subtract(means, offset, out=offset)
    offset *= offset  # m_d²
    covariance += covariance
    covariance -= left  # 2 c
    spread -= offset  # v_d
    if window == "uniform7":
        covariance *= 49 / 48
        spread *= 49 / 48
    out = np.empty((len(levels), 2))
    inside = (slice(None), slice(radius, -radius))
    contrast = means
    for index, level in enumerate(levels):
        c1, c2 = (K1 * level) ** 2, (K2 * level) ** 2
        np.add(covariance, c2, out=contrast)
        np.add(spread, contrast, out=low)
        contrast /= low
        out[index, 1] = cv2.sumElems(contrast[inside])[0]
        np.add(left, c1, out=light)
        np.add(offset, light, out=low)
        light /= low
        light *= contrast
        out[index, 0] = cv2.sumElems(light[inside])[0]
    return out


def _terms_there(window: Window, levels: Sequence[float]) -> Callable[[Any, Any], Any]:
    """`terms` of many planes at once, as tensors on their device."""
    weights = taps().tolist() if window == "gauss11" else [1 / 7] * 7
    constants = [((K1 * level) ** 2, (K2 * level) ** 2) for level in levels]
    return lambda x, y: _on_device.terms(x, y, weights, 1.0 if window == "gauss11" else 49 / 48, constants)


LEVELS: dict[Window, tuple[float, ...]] = {"gauss11": (255.0,), "uniform7": (255.0, RANGE2)}


def channel_terms(x: Any, y: Any, window: Window) -> Any:
    """(levels, 3, 2) of a pair: L, channel, (SSIM, contrast term); uint8 (3, H, W) each."""
    import numpy as np

    return np.stack([terms(a, b, window, LEVELS[window]) for a, b in zip(x, y, strict=True)], axis=1)


_CHANNELS: dict[Window, OfPair] = {
    window: OfPair(("ssim", window), functools.partial(channel_terms, window=window), planes) for window in LEVELS
}


def rgb_terms(batch: Batch, window: Window) -> list[Any]:
    """(levels, 3, 2) an image: L, channel, (SSIM, contrast term); computed once for the metrics that share a window."""
    import numpy as np

    levels = LEVELS[window]
    if _on_device.on_device(batch):
        there: list[Any] = batch.once(
            ("ssim", window),
            lambda: [np.swapaxes(t, 0, 1) for t in _on_device.of_channels(batch, _terms_there(window, levels))],
        )
        return there
    return _CHANNELS[window].of(batch)


def ssim_card(name: str, title: str, source: str, smallest: int, **more: Any) -> MetricCard:
    """The card of a convention of SSIM; smallest: the side in pixels below which it has no window."""
    return MetricCard(
        name=name,
        title=title,
        version=1,
        unit="",
        better="higher",
        source=source,
        bounds=(-1.0, 1.0),
        min_size=smallest,
        **more,
    )


class SSIM(ImageMetric):
    card = ssim_card(
        "ssim",
        "SSIM",
        "Wang et al. 2004; scikit-image structural_similarity(gaussian_weights=True, sigma=1.5, "
        "use_sample_covariance=False, data_range=255, channel_axis=2)",
        11,
        conventions={"window": "gaussian", "colour": "rgb", "data_range": 1.0},
    )
    of_pairs = (_CHANNELS["gauss11"],)

    def measure(self, batch: Batch) -> Sequence[Value]:
        return values(lambda t: Value(float(t[0, :, 0].mean())), rgb_terms(batch, "gauss11"))


def luma_ssim(x: Any, y: Any) -> float:
    """SSIM on luma of a pair: uint8 (H, W, 3) each."""
    return float(terms(luma(x), luma(y), "gauss11")[0, 0])


_LUMA = OfPair("ssim-y", luma_ssim)


class SSIMLuma(ImageMetric):
    card = ssim_card(
        "ssim-y",
        "SSIM on luma",
        "SSIM of BT.601 full-range luma, not rounded",
        11,
        convention_of="ssim",
        conventions={"window": "gaussian", "colour": "luma", "data_range": 1.0},
    )
    of_pairs = (_LUMA,)

    def measure(self, batch: Batch) -> Sequence[Value]:
        if _on_device.on_device(batch):
            return [Value(float(t[0, 0])) for t in _on_device.of_luma(batch, _terms_there("gauss11", (255.0,)))]
        return values(Value, _LUMA.of(batch))


class SSIMUniform(ImageMetric):
    card = ssim_card(
        "ssim-uniform7",
        "SSIM, 7x7 uniform",
        "scikit-image structural_similarity(data_range=255, channel_axis=2) with "
        "its other defaults; SEED-Voken evaluation_image.py",
        7,
        convention_of="ssim",
        conventions={"window": "uniform", "colour": "rgb", "data_range": 1.0},
    )
    of_pairs = (_CHANNELS["uniform7"],)

    def measure(self, batch: Batch) -> Sequence[Value]:
        return values(lambda t: Value(float(t[0, :, 0].mean())), rgb_terms(batch, "uniform7"))


class SSIMRange2(ImageMetric):
    card = ssim_card(
        "ssim-range2",
        "SSIM, 7x7 uniform, data range 2",
        "scikit-image structural_similarity(data_range=2.0) on "
        "images in [0, 1]: LlamaGen tokenizer/validation (ce98ec4); its constants are four times too large",
        7,
        convention_of="ssim",
        conventions={"window": "uniform", "colour": "rgb", "data_range": 2.0},
    )
    of_pairs = (_CHANNELS["uniform7"],)

    def measure(self, batch: Batch) -> Sequence[Value]:
        return values(lambda t: Value(float(t[1, :, 0].mean())), rgb_terms(batch, "uniform7"))


def halve(x: Any) -> Any:
    """Means of 2 x 2 samples of a plane (H, W). If either side is odd, the first row and column are repeated first, as
    piq does (ms_ssim.py), and what then remains over on the other side is dropped."""
    import numpy as np

    height, width = x.shape
    if height % 2 or width % 2:
        x = np.pad(x, ((1, 0), (1, 0)), mode="edge")
    x = x[: x.shape[0] // 2 * 2, : x.shape[1] // 2 * 2]
    rows = x[0::2] + x[1::2]
    return (rows[:, 0::2] + rows[:, 1::2]) * 0.25


def pyramid(plane: Any) -> list[Any]:
    """uint8 (H, W) -> its four halvings, float64."""
    scales = [plane.astype("float64")]
    for _ in SCALES[1:]:
        scales.append(halve(scales[-1]))
    return scales[1:]


def _scales_there(x: Any, y: Any) -> Any:
    """(SSIM, contrast term) of the four halvings: planes (n, H, W) as tensors -> float64 (n, 4, 2)."""
    import torch

    measure = _terms_there("gauss11", (255.0,))
    x, y, out = x.double(), y.double(), []
    for _ in SCALES[1:]:
        x, y = _on_device.halve(x), _on_device.halve(y)
        out.append(measure(x, y)[:, 0])
    return torch.stack(out, dim=1)


def _scales(left: Sequence[Sequence[Any]], y: Any) -> list[list[Any]]:
    """(SSIM, contrast term) by channel and scale of the halvings: the original's pyramids, the candidate (3, H, W)."""
    return [
        [terms(a, b, "gauss11")[0] for a, b in zip(scales, pyramid(plane), strict=True)]
        for scales, plane in zip(left, y, strict=True)
    ]


def pair_scales(x: Any, y: Any) -> list[list[Any]]:
    """The same of a pair: uint8 (3, H, W) each."""
    return _scales([pyramid(plane) for plane in x], y)


def _scales_here(batch: Batch) -> Callable[[int], Any]:
    """The same of an image of a batch, whose originals' pyramids all candidates share."""
    both = planes(batch)
    left = batch.reference.once("pyramid", lambda: [[pyramid(c) for c in x] for x, _ in both])
    return lambda k: _scales(left[k], both[k][1])


_SCALES = OfPair("ms-ssim", pair_scales, planes, _scales_here)


class MSSSIM(ImageMetric):
    card = MetricCard(
        name="ms-ssim",
        title="MS-SSIM",
        version=1,
        unit="",
        better="higher",
        bounds=(0.0, 1.0),
        min_size=MS_MIN_SIZE,
        source="Wang, Simoncelli, Bovik 2003; piq.multi_scale_ssim in float64",
    )
    of_pairs = (_CHANNELS["gauss11"], _SCALES)

    def measure(self, batch: Batch) -> Sequence[Value]:
        first = rgb_terms(batch, "gauss11")
        if _on_device.on_device(batch):
            coarser = _on_device.of_channels(batch, _scales_there)
            return [self._value(first[k][0], coarser[k]) for k in range(len(batch))]
        return values(lambda full, halved: self._value(full[0], halved), first, _SCALES.of(batch))

    @staticmethod
    def _value(first: Any, coarser: Any) -> Value:
        """Of (SSIM, contrast term) by channel at full size, and by channel and scale of the halvings."""
        import numpy as np

        channels = []
        for c, scales in enumerate(coarser):
            factors = [first[c, 1], *(contrast for _, contrast in scales[:-1]), scales[-1][0]]
            channels.append(np.prod(np.maximum(factors, 0.0) ** np.array(SCALES)))
        return Value(float(np.mean(channels)))


METRICS = (SSIM, SSIMUniform, SSIMLuma, SSIMRange2, MSSSIM)
