"""The pictures that most of these tests explain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut, chelsea, coffee, rocket

from vtbench.images.views import View


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Four photographs of 128 px and a blurred, noisy copy of each."""
    folder = tmp_path_factory.mktemp("pair")
    for name in ("ref", "cand"):
        (folder / name).mkdir()
    rng = np.random.default_rng(0)
    for i, whole in enumerate((astronaut(), chelsea(), coffee(), rocket())):
        image = View.parse("128").apply(whole)[0]
        noisy = np.clip(image * 0.9 + 12 + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "ref" / f"{i}.png")
        Image.fromarray(noisy).save(folder / "cand" / f"{i}.png")
    return folder / "ref", folder / "cand"
