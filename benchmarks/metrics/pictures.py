"""What everything is compared on: photographs that ship inside scikit-image, their JPEGs, and random weights."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtbench.images.views import View
from vtbench.metrics.weights import VARIABLE
from vtbench.types.metric import Batch, ImageMetric, Reference

Pixels = NDArray[np.uint8]
SIZE = 128
QUALITY = 30
"""JPEG quality of the candidates in comparisons of single images."""
SET_QUALITY = 5
"""JPEG quality of the candidates in comparisons of sets: far enough from the originals that FID is not rounding."""
GREY = np.array([0.299, 0.587, 0.114])
"""Luma of BT.601."""


def photographs(size: int) -> list[Pixels]:
    """Photographs that ship inside scikit-image, ADM crop at `size`."""
    from skimage import data

    view = View.parse(str(size))
    names = ("astronaut", "chelsea", "coffee", "rocket", "retina", "hubble_deep_field", "immunohistochemistry")
    return [view.apply(np.asarray(getattr(data, name)())[..., :3])[0] for name in names]


def pages(size: int) -> list[Pixels]:
    """Photographed and scanned text that ships inside scikit-image, ADM crop: pictures of low contrast."""
    from skimage import data

    view = View.parse(str(size))
    grey = [np.asarray(getattr(data, name)()) for name in ("page", "text")]
    return [view.apply(np.repeat(image[..., None], 3, axis=2))[0] for image in grey]


def crops(count: int, size: int, seed: int = 0) -> list[Pixels]:
    """Random crops of the photographs: many distinct real images."""
    rng = np.random.default_rng(seed)
    whole = photographs(512)
    out = []
    for i in range(count):
        image = whole[i % len(whole)]
        y, x = rng.integers(0, 512 - size, 2)
        out.append(image[y : y + size, x : x + size])
    return out


def originals() -> list[Pixels]:
    """Cuts of three photographs, uint8 (SIZE, SIZE, 3)."""
    from skimage import data

    astronaut: Any = data.astronaut
    chelsea: Any = data.chelsea
    coffee: Any = data.coffee
    return [
        astronaut()[:SIZE, 130 : 130 + SIZE],
        chelsea()[:SIZE, 60 : 60 + SIZE],
        coffee()[60 : 60 + SIZE, 200 : 200 + SIZE],
    ]


def jpeg(image: Pixels, quality: int = QUALITY) -> Pixels:
    """The picture after JPEG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def stacked(images: Sequence[Pixels]) -> Any:
    """uint8 (H, W, 3) each -> tensor (B, 3, H, W)."""
    import torch

    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def values(metric: ImageMetric, xs: Sequence[Pixels], ys: Sequence[Pixels]) -> list[float]:
    """The metric's values of pairs, as one batch."""
    batch = Batch(Reference(stacked(xs), [], [str(k) for k in range(len(xs))]), stacked(ys))
    return [float(v.value) for v in metric.measure(batch) if v.value is not None]


@contextlib.contextmanager
def own_weights(**files: Path) -> Iterator[None]:
    """Names these files in VTBENCH_METRIC_WEIGHTS for a while; `vgg_16` stands for `vgg-16`."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = os.pathsep.join(f"{n.replace('_', '-')}={p}" for n, p in files.items())
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


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


def pairs_of_pictures() -> tuple[list[Pixels], list[Pixels], str]:
    """(originals, their JPEGs, what they are)."""
    xs = originals()
    return xs, [jpeg(x) for x in xs], f"{len(xs)} photographs of {SIZE} px against their JPEGs (quality {QUALITY})"
