"""Operations as torch counts them against the closed form, on tiny towers of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vtbench.models.operations import Operations, attention, costs, counted, layer_operations, tower_operations
from vtbench.models.tower_files import model_files
from vtbench.models.tower_reading import TowerSubject
from vtbench.models.towers import Tower
from vtbench.types.reading import Point
from vtbench.types.reduction import Needs, Reducer, ReducerCard, Reduction, TowerView

DEPTH, WIDTH, INNER, SIDE, PATCH = 3, 16, 24, 32, 4
TOKENS = (SIDE // PATCH) ** 2
EMBEDDING = 2 * TOKENS * WIDTH * 3 * PATCH * PATCH
CARD = ReducerCard("first", "the first tokens", ("vit", "tower"), "select")


class First(Reducer):
    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        return Reduction(kept=torch.arange(budget))


class Attended(First):
    needs = Needs(rows=(-1,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    path = tmp_path_factory.mktemp("towers") / "clip"
    sizes = {"hidden_size": WIDTH, "num_attention_heads": 2, "num_hidden_layers": DEPTH, "intermediate_size": INNER}
    CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=SIDE, patch_size=PATCH)).save_pretrained(path)
    return path


def subject(folder: Path, kind: str = "eager") -> TowerSubject:
    return TowerSubject(Tower(model_files(str(folder)), "cpu", "float32", {"attention": kind}))


def of(tower: TowerSubject, point: Point) -> tuple[Operations, Operations]:
    return tower_operations(tower, point, torch.rand(1, 3, SIDE, SIDE), [0])


@pytest.mark.parametrize("kind", ["eager", "sdpa"])
def test_the_whole_tower_is_its_closed_form(folder: Path, kind: str) -> None:
    tower = subject(folder, kind)
    whole, kept = of(tower, Point(First(CARD), None, "tower"))
    assert whole.parts["tower"] == EMBEDDING + DEPTH * layer_operations(TOKENS + 1, WIDTH, INNER)
    assert kept.parts["tower"] == whole.parts["tower"]
    assert kept.parts["score and reduce"] == 0
    assert tower.tower.network.config._attn_implementation == kind, "and nothing has changed"


def test_a_cut_before_a_block_is_its_closed_form(folder: Path) -> None:
    whole, cut = of(subject(folder), Point(First(CARD), 9, "vit", block=1))
    layers = [layer_operations(n + 1, WIDTH, INNER) for n in (TOKENS, 9, 9)]
    assert cut.parts["tower"] == EMBEDDING + sum(layers)
    assert cut.total < whole.total


@pytest.mark.parametrize("stage", ["tower", "vit"])
def test_a_row_of_attention_counts_with_the_rule_that_reads_it(folder: Path, stage: str) -> None:
    # The scores of one query with all keys, over all heads; nothing of the values.
    _, reduced = of(subject(folder), Point(Attended(CARD), 9, stage))  # type: ignore[arg-type]
    assert reduced.parts["score and reduce"] == 2 * WIDTH * (TOKENS + 1)


@pytest.mark.parametrize("stage", ["tower", "vit"])
def test_what_a_run_states(folder: Path, stage: str) -> None:
    tower, point = subject(folder), Point(Attended(CARD), 9, stage)  # type: ignore[arg-type]
    stated = costs(tower, point, torch.rand(1, 3, SIDE, SIDE), [0], [])
    whole, reduced = of(tower, point)
    assert (stated["flops"], stated["flops-full"]) == (reduced.total, whole.total)
    assert stated["flops-score"] == reduced.parts["score and reduce"]
    assert stated["seconds-full"] > 0
    assert stated["seconds-reduced"] > 0


def test_the_closed_form_with_shared_keys_and_a_gate() -> None:
    """A whole layer of Qwen2, of one decoded token beside a cache too."""
    from transformers import Qwen2Config, Qwen2Model

    sizes = {"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 20}
    model = Qwen2Model(Qwen2Config(**sizes, num_hidden_layers=1, vocab_size=11)).eval()
    with torch.inference_mode(), attention(model, "eager"):
        out, prefill = counted(lambda: model(torch.zeros(1, 12, dtype=torch.int64), use_cache=True))
        more = {"past_key_values": out.past_key_values, "use_cache": True}
        _, decoded = counted(lambda: model(torch.zeros(1, 1, dtype=torch.int64), **more))
    form = {"width": 16, "inner": 20, "key_width": 8, "gated": True}
    assert prefill == layer_operations(12, **form)
    assert decoded == layer_operations(1, keys=13, **form)
