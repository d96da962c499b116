"""Operations of tiny vision-language models, whole and reduced, against the closed form; and their caches' bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_language_models as tiny
import torch

from vtbench import registry
from vtbench.models.answering import VisionLanguage
from vtbench.models.language_operations import Answering, language_costs, language_operations
from vtbench.models.language_seconds import language_seconds
from vtbench.models.operations import layer_operations
from vtbench.models.tower_files import model_files
from vtbench.types.item import Item
from vtbench.types.reading import Point
from vtbench.types.reduction import Cut, Needs, Reducer, ReducerCard, Reduction, TowerView

MAKERS: dict[str, Any] = {"llava": tiny.llava, "llava-next": tiny.llava_next, "qwen2": tiny.qwen}
MAKERS["qwen2.5"] = lambda folder: tiny.qwen(folder, version="2.5")
WIDTH, LAYERS, HEAD = 32, 4, 2 * 32 * len(tiny.WORDS)
FORM: dict[str, Any] = {"width": WIDTH, "inner": 48, "key_width": 16, "gated": True}
"""Four heads of 8 channels, two of keys and values."""
KEY = 2 * 16 * 4
"""Bytes of one token's keys and values in one layer, float32."""
KEPT, CUT = 5, 2
IMAGES = torch.rand(1, 3, 112, 140, generator=torch.Generator().manual_seed(0))
ITEM = Item("q", "q.png", meta={"question": "is there a cat ?"})


class First(Reducer):
    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        return Reduction(kept=torch.arange(budget))

    def schedule(self, depth: int, n: int, budget: int) -> list[tuple[int, Cut]]:
        return [(CUT, lambda view: self.reduce(view, budget, view.seed))]


class Attended(First):
    needs = Needs(rows=(-1, CUT - 1))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: make(root / kind) for kind, make in MAKERS.items()}


def subject(folder: Path, kind: str = "eager") -> VisionLanguage:
    return VisionLanguage(model_files(str(folder)), "cpu", "float32", {"attention": kind})


def point(stage: Any, keep: int | None = KEPT, reducer: type[Reducer] = First) -> Point:
    return Point(reducer(ReducerCard("first", "the first tokens", (stage,), "select")), keep, stage)


def of(model: VisionLanguage, at: Point) -> tuple[Answering, Answering]:
    return language_operations(model, at, IMAGES[0], 0, ITEM)


def prompt(model: VisionLanguage) -> tuple[int, int]:
    """(tokens of the whole prompt, of the picture)."""
    ids = model.inputs(IMAGES[0], ITEM)["input_ids"]
    return ids.shape[1], int((ids == model.attached.placeholder).sum())


def holds(one: Answering, lengths: list[int]) -> None:
    """lengths: tokens that go into each layer."""
    parts = one.operations.parts
    assert parts["prefill"] == HEAD + sum(layer_operations(n, **FORM) for n in lengths)
    assert parts["decoded token"] == HEAD + sum(layer_operations(1, keys=n + 1, **FORM) for n in lengths)
    assert one.kv_bytes == KEY * sum(lengths)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("stage", ["tower", "projector", "llm"])
def test_prefill_token_and_cache_are_the_closed_form(folders: dict[str, Path], kind: str, stage: str) -> None:
    model = subject(folders[kind])
    full, less = of(model, point(stage))
    length, count = prompt(model)
    holds(full, [length] * LAYERS)
    short = length - count + KEPT
    if kind == "llava-next" and stage == "tower":
        # What is left of five tiles when padding is cut off, and ends of rows.
        with torch.inference_mode():
            short = len(model.cut_row(model.inputs(IMAGES[0], ITEM), point(stage), 0, [])[1].embeds)
        assert length - count < short < length
    holds(less, [length] * CUT + [short] * (LAYERS - CUT) if stage == "llm" else [short] * LAYERS)
    assert less.operations.parts["tower"] == full.operations.parts["tower"] > 0
    assert less.operations.parts["score and reduce"] == 0


@pytest.mark.parametrize("stage", ["tower", "llm"])
def test_other_attention_counts_the_same_and_stays(folders: dict[str, Path], stage: str) -> None:
    models = [subject(folders["qwen2"], kind) for kind in ("eager", "sdpa")]
    assert of(models[0], point(stage)) == of(models[1], point(stage))
    assert models[1].attached.decoder.kind == "sdpa"
    assert models[1].attached.decoder.decoder.config._attn_implementation == "sdpa"
    assert "reduce" not in vars(point(stage).reducer)


def test_tower_and_projector_of_llava_are_the_closed_form(folders: dict[str, Path]) -> None:
    model, patches = subject(folders["llava"]), 36
    full, less = of(model, point("tower"))
    # All three layers run, though the second one's output is read.
    embedding = 2 * patches * 24 * 3 * 4 * 4
    projector = 2 * (24 * WIDTH + WIDTH * WIDTH)
    assert full.operations.parts["tower"] == embedding + 3 * layer_operations(patches + 1, 24, 32)
    assert full.operations.parts["projector"] == patches * projector
    assert less.operations.parts["projector"] == KEPT * projector
    _, behind = of(model, point("projector"))
    assert behind.operations.parts["projector"] == patches * projector


def test_a_row_of_attention_counts_with_the_rule(folders: dict[str, Path]) -> None:
    model = subject(folders["llava"])
    length, _ = prompt(model)
    _, tower = of(model, point("tower", reducer=Attended))
    # One query, the CLS token's, with all keys of the tower's last layer, and of the second.
    assert tower.operations.parts["score and reduce"] == 2 * 2 * 24 * 37
    full, inside = of(model, point("llm", reducer=Attended))
    # q and k of the whole sequence computed again, the last token's scores; of layer 1, and nothing of the last.
    again = 2 * length * WIDTH * (WIDTH + 16) + 2 * WIDTH * length
    assert inside.operations.parts["score and reduce"] == again
    assert full.operations.parts["score and reduce"] == 0


def test_what_a_run_states(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model, at = subject(folders["llava"]), point("llm")
    full, less = of(model, at)
    stated = language_costs(model, at, IMAGES, [0], [ITEM])
    assert (stated["flops"], stated["flops-full"]) == (less.operations.total, full.operations.total)
    assert stated["flops-prefill"] < stated["flops-prefill-full"] < stated["flops-full"]
    assert stated["kv-bytes"] < stated["kv-bytes-full"] == full.kv_bytes
    from torch.utils.flop_counter import flop_registry

    def stumbles(*_: Any, **__: Any) -> int:
        raise ValueError("a shape that the formula does not know")

    monkeypatch.setitem(flop_registry, torch.ops.aten.mm, stumbles)
    assert set(language_costs(model, at, IMAGES, [0], [ITEM])) == {"kv-bytes", "kv-bytes-full"}


@pytest.mark.parametrize("kind", ["llava", "qwen2"])
def test_a_smaller_picture_is_counted_alone(folders: dict[str, Path], kind: str) -> None:
    from vtbench import registry

    card = registry.reducers().get("resize")
    assert card.build is not None
    model = subject(folders[kind])
    full, less = of(model, Point(card.build(card, {}), 4, "input"))
    length, count = prompt(model)
    kept = less.kv_bytes // KEY // LAYERS - (length - count)
    assert 0 < kept <= 4
    holds(less, [length - count + kept] * LAYERS)
    whole, small = full.operations.parts, less.operations.parts
    assert small["projector"] == whole["projector"] * kept / count
    assert 0 < small["tower"] < whole["tower"] * 2 * kept / count


@pytest.mark.parametrize(("stage", "most"), [("llm", 2), ("tower", 2), ("input", 2), ("tower", 1)])
def test_prompt_and_answer_are_timed_apart(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, stage: Any, most: int
) -> None:
    """By a clock that counts the layers' passes, of sdpa half a second each: of four layers, each time one pass."""
    model = VisionLanguage(model_files(str(folders["llava"])), "cpu", "float32", {"answer_tokens": most})
    decoder, passed = model.attached.decoder, [0.0]
    weights = {"eager": 1.0, "sdpa": 0.5}
    for layer in decoder.layers:
        layer.register_forward_hook(lambda *_: passed.__setitem__(0, passed[0] + weights[decoder.kind]))
    monkeypatch.setattr("vtbench.models.clocks.time.perf_counter", lambda: passed[0])
    reducer = registry.reducers().get("resize" if stage == "input" else "uniform")
    assert reducer.build is not None
    seconds = language_seconds(model, Point(reducer.build(reducer, {}), 9, stage), IMAGES, [0], [ITEM])
    wanted = {"seconds-prefill": 4.0, "seconds-prefill-full": 2.0}
    if most > 1:
        wanted |= {"seconds-decoded-token": 4.0, "seconds-decoded-token-full": 2.0}
    assert seconds == wanted
    assert decoder.kind == "eager"
