"""Another object in the same folder: the number is that of the object as it is now, whatever changed in it."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from object_models import Convolution, Steps, numbers
from torch import nn

GLOBAL = 7.0


def _nested(n: float) -> Steps:
    class Quantizer(nn.Module):
        levels = 0.0

    class Mine(Steps):
        def __init__(self) -> None:
            super().__init__()
            self.q = Quantizer()
            self.q.levels = n

        def steps(self) -> float:
            return self.q.levels

    return Mine()


def _private(n: float) -> Steps:
    class Mine(Steps):
        _levels = 0.0

        def steps(self) -> float:
            return self._levels

    mine = Mine()
    mine._levels = n
    return mine


def _config(n: float, config: Callable[[float], Any], read: Callable[[Any], float]) -> Steps:
    class Mine(Steps):
        config: Any = None

        def steps(self) -> float:
            return read(self.config)

    mine = Mine()
    mine.config = config(n)
    return mine


def _buffer(n: float) -> Steps:
    class Mine(Steps):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("levels", torch.tensor(n), persistent=False)

        def steps(self) -> float:
            return float(self.levels)  # type: ignore[arg-type]

    return Mine()


def _code(n: float) -> Steps:
    if n == 7:

        class Mine(Steps):
            def steps(self) -> float:
                return 7.0
    else:

        class Mine(Steps):  # type: ignore[no-redef]
            def steps(self) -> float:
                return 1.0

    return Mine()


def _closure(n: float) -> Steps:
    class Mine(Steps):
        def steps(self) -> float:
            return n

    return Mine()


def _global(n: float) -> Steps:
    global GLOBAL
    GLOBAL = n

    class Mine(Steps):
        def steps(self) -> float:
            return GLOBAL

    return Mine()


CHANGED: dict[str, Callable[[float], Steps]] = {
    "a nested attribute": _nested,
    "a private attribute": _private,
    "a dict of settings": lambda n: _config(n, lambda v: {"a": {"levels": v}}, lambda c: c["a"]["levels"]),
    "a namespace": lambda n: _config(n, lambda v: types.SimpleNamespace(levels=v), lambda c: c.levels),
    "a buffer that is not kept": _buffer,
    "the code of its class": _code,
    "a closure": _closure,
    "a global": _global,
}


@pytest.mark.parametrize("how", CHANGED)
def test_a_changed_object_gives_its_own_number(how: str, images: Path, tmp_path: Path) -> None:
    first = numbers(CHANGED[how](7.0), images, "reconstruction", out=tmp_path / "same")
    second = numbers(CHANGED[how](1.0), images, "reconstruction", out=tmp_path / "same")
    assert second == numbers(CHANGED[how](1.0), images, "reconstruction", out=tmp_path / "fresh")
    assert first["psnr"] is not None
    assert second["psnr"] is not None
    assert first["psnr"] > second["psnr"] + 3


def test_an_identity_is_vouched_for_and_weights_still_count(images: Path, tmp_path: Path) -> None:
    model = Convolution()

    def runs() -> int:
        return len(list(tmp_path.glob("*/run.json")))

    more: dict[str, Any] = {"out": tmp_path, "identity": "step 1000"}
    first = numbers(model, images, **more)
    assert numbers(model, images, **more) == first
    assert runs() == 1
    with torch.no_grad():
        model.d.weight.mul_(2)
    numbers(model, images, **more)
    assert runs() == 2
    numbers(model, images, out=tmp_path)
    assert runs() == 3
