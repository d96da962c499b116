"""Samples: the crop that is enlarged."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vtbench.leaderboard import gallery


def test_the_crop_is_where_the_systems_fail() -> None:
    reference = np.full((128, 256, 3), 100, np.uint8)
    broken = reference.copy()
    broken[80:96, 200:216] = 255
    box = gallery.worst_box(Image.fromarray(reference), [Image.fromarray(broken), Image.fromarray(reference)])
    assert box is not None
    left, top, side = box
    assert left <= 200
    assert left + side >= 216
    assert top <= 80
    assert top + side >= 96
    assert gallery.worst_box(Image.fromarray(reference), [Image.fromarray(reference)]) is None
