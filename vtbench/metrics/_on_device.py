"""Pixel metrics in torch, float64, where the pixels are: the same numbers as the OpenCV forms, within 1e-9 relative.

For CUDA devices. A CPU keeps OpenCV (30 times as fast there), and so does a device without float64. Nothing here adds
with atomics, so that a device gives the same digits every time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vtbench.types.metric import Batch

if TYPE_CHECKING:
    import torch

DEVICES = ("cuda",)
"""Kinds of devices whose pixels are measured where they are."""
SAMPLES = 1 << 23
"""Samples at a time: 64 MB a float64 plane, of which some ten are needed at once."""


def on_device(batch: Batch) -> bool:
    """Whether the pixels of a batch are measured by this file."""
    return measured_on(batch.candidate.device.type)


def measured_on(device: str) -> bool:
    """Whether pixels that lie on a device are."""
    return device.partition(":")[0] in DEVICES


def luma(images: torch.Tensor) -> torch.Tensor:
    """uint8 (N, 3, H, W) -> float64 (N, H, W) in [0, 255]: Y of ITU-R BT.601, full range, not rounded."""
    red, green, blue = images.double().unbind(1)
    return red * 0.299 + green * 0.587 + blue * 0.114


def chunks(batch: Batch) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(references, candidates) of the batch, uint8 (n, 3, H, W), so many at a time as fit in SAMPLES."""
    step = max(1, SAMPLES // max(1, batch.candidate[0].numel()))
    for start in range(0, len(batch), step):
        yield batch.reference.images[start : start + step], batch.candidate[start : start + step]


def squared_errors(batch: Batch) -> list[float]:
    """Mean over all samples of (x - y)² of each image, exact: sums of integers."""
    out: list[float] = []
    for x, y in chunks(batch):
        difference = x.int() - y.int()
        out += (difference * difference).flatten(1).sum(1).tolist()
    return [total / batch.candidate[0].numel() for total in out]


def terms(
    x: torch.Tensor, y: torch.Tensor, taps: Sequence[float], sample: float, constants: Sequence[tuple[float, float]]
) -> torch.Tensor:
    """(SSIM, contrast term), means over valid windows: planes (N, H, W) each -> float64 (N, len(constants), 2).

    taps: the window's weights along one axis. sample: by which moments of second order are multiplied (1, or n / (n -
    1)). constants: (C1, C2) of each L. The moments are those of `ssim._strip`.
    """
    import torch
    from torch.nn import functional

    weights = torch.tensor(list(taps), dtype=torch.float64, device=x.device)

    def mean(plane: torch.Tensor) -> torch.Tensor:
        rows = functional.conv2d(plane[:, None], weights.view(1, 1, -1, 1))
        return functional.conv2d(rows, weights.view(1, 1, 1, -1))[:, 0]

    x, y = x.double(), y.double()
    difference = x - y
    left, right = mean(x), mean(y)
    light, offset = 2 * left * right, (left - right) ** 2
    covariance = 2 * mean(x * y) - light
    spread = mean(difference * difference) - offset
    if sample != 1.0:
        covariance, spread = covariance * sample, spread * sample
    out = []
    for c1, c2 in constants:
        contrast = (covariance + c2) / (spread + covariance + c2)
        ssim = (light + c1) / (offset + light + c1) * contrast
        out.append(torch.stack([ssim.flatten(1).mean(1), contrast.flatten(1).mean(1)], dim=1))
    return torch.stack(out, dim=1)


def of_channels(batch: Batch, measure: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> list[Any]:
    """`measure` of every channel's planes (n, H, W) -> (n, …), as arrays (3, …) of float64, one an image."""
    out: list[Any] = []
    for x, y in chunks(batch):
        values = measure(x.flatten(0, 1), y.flatten(0, 1))
        out += list(values.reshape(len(x), 3, *values.shape[1:]).cpu().numpy())
    return out


def of_luma(batch: Batch, measure: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> list[Any]:
    """`measure` of the lumas (n, H, W) -> (n, …), as arrays (…) of float64, one an image."""
    out: list[Any] = []
    for x, y in chunks(batch):
        out += list(measure(luma(x), luma(y)).cpu().numpy())
    return out


def halve(planes: torch.Tensor) -> torch.Tensor:
    """(N, H, W) -> means of 2 x 2 samples, as `ssim.halve` of each plane."""
    from torch.nn import functional

    if planes.shape[1] % 2 or planes.shape[2] % 2:
        planes = functional.pad(planes[:, None], (1, 0, 1, 0), mode="replicate")[:, 0]
    planes = planes[:, : planes.shape[1] // 2 * 2, : planes.shape[2] // 2 * 2]
    rows = planes[:, 0::2] + planes[:, 1::2]
    return (rows[:, :, 0::2] + rows[:, :, 1::2]) * 0.25


def percentile(values: torch.Tensor, share: float) -> torch.Tensor:
    """(N, n) -> (N): numpy.percentile of 100 share, linear between neighbours."""
    ordered = values.sort(dim=1).values
    place = share * (values.shape[1] - 1)
    low = int(place)
    high = min(low + 1, values.shape[1] - 1)
    return ordered[:, low] + (ordered[:, high] - ordered[:, low]) * (place - low)
