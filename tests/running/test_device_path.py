"""The way of pixels on a device: they cross once, as bytes, and what is measured there is what the CPU measures.

No GPU is needed: `sent` is replaced by a copy that is counted, and the torch forms of the metrics take CPU tensors.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vtbench.images.rounding import to_float
from vtbench.images.stream import Original
from vtbench.metrics import _on_device
from vtbench.models import devices
from vtbench.models.outputs import Output
from vtbench.models.system import ModelSystem, System
from vtbench.running import folders, pipeline
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Card, Multiple
from vtbench.types.item import Item
from vtbench.types.tokens import Codes, Tokens


class Crossing:
    """Counts what is sent to a device, and by whom."""

    def __init__(self) -> None:
        self.tensors: list[torch.Tensor] = []

    def __call__(self, images: torch.Tensor, device: str) -> torch.Tensor:
        if not device.startswith("cuda"):
            return images
        assert images.dtype == torch.uint8
        self.tensors.append(images.clone())
        return self.tensors[-1]


@pytest.fixture
def crossing(monkeypatch: pytest.MonkeyPatch) -> Crossing:
    counted = Crossing()
    monkeypatch.setattr(pipeline, "sent", counted)
    monkeypatch.setattr(_on_device, "DEVICES", ("cpu",))
    return counted


class Inverts(System):
    """A model on a device: notes the memory of what it is given."""

    def __init__(self, device: str) -> None:
        self.card = Card(name="inverts", family="test", kind="closed", title="Inverts", sizes=Multiple(1))
        self.options: dict[str, Any] = {}
        self.device = device
        self.seen: list[torch.Tensor] = []

    def produce(
        self, images: torch.Tensor, seeds: Sequence[int], items: Sequence[Item], *, count_macs: bool = False
    ) -> Output:
        self.seen.append(images)
        return Output(1 - images)


class Kept:
    def __init__(self) -> None:
        self.works: list[pipeline.Work] = []

    def write(self, work: pipeline.Work) -> None:
        self.works.append(work)


def originals(count: int) -> list[Original]:
    rng = np.random.default_rng(0)
    sizes = [(4, 4), (4, 6)]
    return [Original(Item(str(k), k), rng.integers(0, 256, (*sizes[k % 2], 3), np.uint8)) for k in range(count)]


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("model", ["cuda", "cpu"])
def test_pixels_cross_once_and_stay(model: str, overlap: bool, crossing: Crossing) -> None:
    pictures = originals(11)
    system, sink = Inverts(model), Kept()
    batches = [[(o,) for o in pictures[k : k + 4]] for k in (0, 4, 8)]
    lanes = [pipeline.Lane("inverts", system, sink)]
    pipeline.run(lanes, batches, pipeline.Pace(4, 11), device="cuda", overlap=overlap)
    # One crossing a batch and size.
    assert len(crossing.tensors) == 6
    parts = [part for work in sink.works for part in work.parts]
    assert all(any(part.reference.images is t for t in crossing.tensors) for part in parts)
    assert [o.item.place for work in sink.works for o in work.originals] == list(range(11))
    for part, given in zip(parts, system.seen, strict=True):
        assert torch.equal(given, to_float(part.reference.images))
        assert torch.equal(part.output.images, 1 - given)


def test_a_folder_is_scored_there_as_here(tmp_path: Path, crossing: Crossing, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    for k in range(5):
        pixels = rng.integers(0, 256, (180, 184, 3), np.uint8)
        for name, image in (("ref", pixels), ("cand", np.clip(pixels + rng.normal(0, 4, pixels.shape), 0, 255))):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(image.astype(np.uint8)).save(tmp_path / name / f"{k}.png")
    names = ["psnr", "psnr-pooled", "ssim", "ms-ssim", "delta-e", "coherent-gain"]
    there = folders.score(tmp_path / "ref", [tmp_path / "cand"], names, device="cuda")
    assert len(crossing.tensors) == 2
    monkeypatch.setattr(_on_device, "DEVICES", ("cuda",))
    here = folders.score(tmp_path / "ref", [tmp_path / "cand"], names)
    assert len(crossing.tensors) == 2
    for one, other in zip(here.candidates[0].rows, there.candidates[0].rows, strict=True):
        assert [*one["values"]] == [*other["values"]]
        assert other["values"] == pytest.approx(one["values"], rel=1e-9)
    assert [s.value for s in there.candidates[0].scores] == pytest.approx(
        [s.value for s in here.candidates[0].scores], rel=1e-9
    )


class Halves(Tokenizer):
    """A codec on a CPU: it would not take tensors from elsewhere."""

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        codes = torch.from_numpy((images.numpy() * 3).round().astype(np.int64))
        return Codes(codes.flatten(1)[..., None], (4,), (int(images.shape[2]), int(images.shape[3])))

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        assert isinstance(tokens, Codes)
        return (tokens.indices.float() / 3).reshape(len(tokens), 3, *tokens.size)


def test_a_model_on_the_cpu_gets_its_pixels_there(crossing: Crossing) -> None:
    card = Card(name="halves", family="test", kind="discrete", title="Halves", sizes=Multiple(1))
    system, sink = ModelSystem(Halves(card), "resize"), Kept()
    lane = pipeline.Lane("halves", system, sink)
    pipeline.run([lane], [[(o,) for o in originals(4)]], pipeline.Pace(4, 4), device="cuda")
    assert [tuple(p.output.images.shape) for p in sink.works[0].parts] == [(2, 3, 4, 4), (2, 3, 4, 6)]
    assert isinstance(sink.works[0].parts[0].output.encode_seconds, float)


def test_a_metric_that_asks_the_model_again_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the device's turn when it asks, and the model's own thread wants that turn too."""
    card = Card(name="halves", family="test", kind="discrete", title="Halves", sizes=Multiple(1))
    model = Halves(card)
    model.device = "cuda"
    system = ModelSystem(model, "resize")
    monkeypatch.setattr(system, "_encode_and_decode", lambda *_: time.sleep(0.001))
    images, asked = torch.zeros(1, 3, 4, 4), []

    def ask(within: Any) -> None:
        for _ in range(30):
            with within():
                time.sleep(0.001)
                asked.append(system.produce(images, [0], []))

    turns = (lambda: devices.turn("cuda"), contextlib.nullcontext)
    threads = [threading.Thread(target=ask, args=(turn,), daemon=True) for turn in turns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(asked) == 60


def test_elsewhere_nothing_is_sent() -> None:
    images = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    assert devices.sent(images, "cpu") is images
    assert devices.sent(images, "mps") is images
