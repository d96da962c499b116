"""The layout of tokens says nothing of a picture: images of one size have one, whatever they show.

What `Tokens.bits` does not count (shapes, grids, alphabets, dtypes) reaches the decoder as well. It is held to what the
same encoder gives for a plain grey image of the size, which is asked before any picture of that size is seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Tokens

if TYPE_CHECKING:
    import torch

GREY = 0.5


class Layouts:
    """The layouts of one model by image size, (height, width) as the model takes it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._of: dict[tuple[int, int], dict[str, Any]] = {}

    def learn(self, size: tuple[int, int], device: str, encode: Callable[[torch.Tensor], Tokens]) -> None:
        """Asks for the tokens of a grey image (1, 3, H, W), once a size; the caller's random numbers stay what they
        are."""
        import torch

        if size in self._of:
            return
        with _random_numbers_kept(device):
            self._of[size] = encode(torch.full((1, 3, *size), GREY)).layout()

    def check(self, tokens: Tokens) -> None:
        """Refuses tokens whose layout is not that of the grey image."""
        layout = tokens.layout()
        known = self._of[tokens.size]
        differing = sorted(key for key in {*layout, *known} if layout.get(key) != known.get(key))
        if differing:
            first = differing[0]
            raise VtbenchError(
                f"{self._name}: {', '.join(differing)} of the tokens differs from image to image of one size "
                f"({first} {_short(layout.get(first))}, of a grey image {_short(known.get(first))}), and no bit count "
                "sees it: put what the decoder needs into the indices, the latents or the bytes",
                code=1,
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


@contextlib.contextmanager
def _random_numbers_kept(device: str) -> Iterator[None]:
    """An encoder that draws from the global generators draws afterwards what it would have drawn."""
    import random

    import numpy as np
    import torch

    python, numbers = random.getstate(), np.random.get_state()
    devices = [torch.device(device)] if device.startswith("cuda") else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)
