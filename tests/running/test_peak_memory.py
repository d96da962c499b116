"""Peak memory is a run's own: a small model after a large one has a small number, whatever ran before it."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import pytest
import torch

import vtbench
from vtbench.models import memory
from vtbench.models.memory import Memory
from vtbench.results import provenance
from vtbench.results.record import Score
from vtbench.types.tokens import Latents

MIB = 1 << 20
BIG = 400


class Hungry:
    """Takes so many MiB while it encodes, and gives them back."""

    def __init__(self, mebibytes: int) -> None:
        self.mebibytes = mebibytes

    def encode(self, x: torch.Tensor) -> Latents:
        torch.ones(self.mebibytes << 18)
        return Latents(x.half(), (int(x.shape[2]), int(x.shape[3])))

    def decode(self, tokens: Any) -> torch.Tensor:
        return tokens.values.float()


def peaks(models: list[Any], images: Path, **more: Any) -> list[Score]:
    made = vtbench.evaluate(models, images=images, view="64", tasks=["compression"], limit=2, **more)
    assert made.failures == {}
    return [next(s for s in run.scores if s.metric == "peak-memory") for run in made.runs]


def test_a_small_model_after_a_large_one(images: Path) -> None:
    alone = peaks([Hungry(1)], images)[0].value
    large, small = (score.value for score in peaks([Hungry(BIG), Hungry(1)], images))
    assert alone is not None
    assert large is not None
    assert small is not None
    assert large > alone + BIG * 0.9
    # Room for what the process itself came to hold in between.
    assert small < alone + BIG * 0.25


def test_of_weights_that_are_gone_nothing_is_left(images: Path) -> None:
    class Holding(Hungry):
        def __init__(self, mebibytes: int) -> None:
            super().__init__(1)
            self.weights = torch.nn.ParameterList(torch.ones(1 << 18) for _ in range(mebibytes))

    large = peaks([Holding(BIG)], images)[0].value
    small = peaks([Hungry(1)], images)[0].value
    assert large is not None
    assert small is not None
    assert small < large - BIG * 0.75


def test_where_the_mark_cannot_be_set_back_there_is_no_number(
    images: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On another system, or where a container forbids it: null with the reason, unless the mark rose meanwhile."""
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "nowhere" / "clear_refs")
    monkeypatch.setattr(provenance, "peak_memory", lambda: 900 * MIB)
    (score,) = peaks([Hungry(1)], images)
    assert score.value is None
    assert score.why == memory.NOT_KNOWN
    marks = iter([900 * MIB, 950 * MIB])
    monkeypatch.setattr(provenance, "peak_memory", lambda: next(marks))
    begun = Memory.begin("cpu")
    assert begun.most()["bytes"] == 950 * MIB


def test_a_file_that_takes_the_word_and_does_nothing_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in sandboxes that imitate /proc."""
    with mmap.mmap(-1, BIG * MIB) as block:
        block.write(b"1" * (BIG * MIB))
    (tmp_path / "clear_refs").write_text("")
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "clear_refs")
    monkeypatch.setattr(memory, "_give_back", lambda: None)
    assert Memory.begin("cpu").before is not None


def test_a_generators_drawing_has_its_own_mark(tmp_path: Path) -> None:
    from vtbench.images.prompts import open_prompts
    from vtbench.models.load import load
    from vtbench.running.draw import Order, draw

    (tmp_path / "two.jsonl").write_text(
        '{"prompts": "two", "version": "1", "title": "two", "licence": "CC0-1.0"}\n{"id": "a", "label": 0}\n'
    )
    torch.ones(BIG << 18)
    drawing = draw(
        load("ngram-kmeans", {"size": "64"}), Order(open_prompts(str(tmp_path / "two.jsonl"))), tmp_path / "d"
    )
    taken = drawing.info.peak_memory.bytes
    assert taken is not None
    assert "during this run" in drawing.info.peak_memory.what
    facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    assert taken < int(facts["VmRSS"].split()[0]) * 1024 + BIG * MIB * 0.5
