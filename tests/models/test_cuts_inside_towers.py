"""Tokens cut between the blocks of a LLaVA's vision tower. Truth: transformers' own with the dropped tokens masked, its
own projector and its own packing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_language_models as tiny
import torch
from seen_by_reducers import item, method, opened, picture

from vtbench.models.language_operations import language_operations
from vtbench.models.operations import layer_operations
from vtbench.types.errors import VtbenchError
from vtbench.types.reading import Point
from vtbench.types.reduction import Reducer, ReducerCard, Reduction, TowerView

BLOCK = 1
SHARE = 1e-5
"""Of logits of order 1, in float32, whose sums have another number of terms."""


class Half(Reducer):
    """Every second token, at any stage."""

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        return Reduction(kept=torch.arange(0, len(view), 2))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        "llava": tiny.llava(root / "llava"),
        "llava-next": tiny.llava_next(root / "n"),
        "qwen2": tiny.qwen(root / "q"),
    }


def masked_tower(subject: Any, inputs: Any, kept: torch.Tensor) -> torch.Tensor:
    """(tiles, N, D): projected features, where from BLOCK on nobody reads but the CLS token and the kept ones."""
    model = subject.attached.model.model
    blocks, pixels = model.vision_tower.encoder.layers, subject.attached.pixels(inputs)

    def before(_: Any, arguments: Any, more: dict[str, Any]) -> Any:
        bias = torch.full((1, 1, 1, arguments[0].shape[1]), torch.finfo(torch.float32).min)
        bias[..., torch.cat([torch.zeros(1, dtype=torch.int64), 1 + kept])] = 0.0
        return (arguments[0], bias), more

    handles = [block.register_forward_pre_hook(before, with_kwargs=True) for block in list(blocks)[BLOCK:]]
    with torch.inference_mode():
        hidden = model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2]
        out: torch.Tensor = model.multi_modal_projector(hidden[:, 1:])
    for handle in handles:
        handle.remove()
    return out


def half(stage: Any = "vit") -> Reducer:
    return Half(ReducerCard("half", "Every second token", (stage,), "select"))


def test_a_selection_is_the_masked_tower(folders: dict[str, Path]) -> None:
    subject = opened(folders["llava"])
    inputs, kept = subject.inputs(picture(), item()), torch.arange(0, 36, 2)
    with torch.inference_mode():
        chosen, row = subject.cut_row(inputs, Point(half(), 18, "vit", BLOCK), 0, [])
    wanted = masked_tower(subject, inputs, kept)[0, kept]
    assert torch.allclose(chosen.tokens, wanted, rtol=0, atol=SHARE)
    assert (chosen.of, chosen.kept.tolist(), chosen.policy) == (36, kept.tolist(), "renumbered")
    assert subject.attached.decoder.prefill([row]).image_tokens == [[18] * 4]
    unmoved = subject.attached.look(inputs, half().needs, 0)[0].features[kept]
    assert not torch.allclose(chosen.tokens, subject.attached.project(unmoved), rtol=0, atol=1e-3)


def test_tiles_are_laid_on_their_grid_again(folders: dict[str, Path]) -> None:
    """A picture and 2 x 2 tiles of 16 tokens: all of the picture's chosen ones, then rows with their own ends."""
    subject = opened(folders["llava-next"])
    inputs, kept = subject.inputs(picture(), item()), torch.arange(0, 16, 2)
    with torch.inference_mode():
        chosen, _ = subject.cut_row(inputs, Point(half(), 44, "vit", BLOCK), 0, [])
        features = masked_tower(subject, inputs, kept)
        packed, sources = subject.attached.pack(inputs, list(features))
    stays = torch.isin(sources, torch.cat([kept + 16 * tile for tile in range(len(features))])) | (sources < 0)
    assert torch.allclose(chosen.tokens, packed[stays], rtol=0, atol=SHARE)
    assert "5 tiles were reduced one by one" in chosen.fallbacks[0]


@pytest.mark.parametrize(("kind", "keep", "of"), [("llava", 20, 36), ("llava-next", 40, 70)])
def test_merged_tokens_are_counted_where_the_language_model_takes_them(
    folders: dict[str, Path], kind: str, keep: int, of: int
) -> None:
    """ToMe, spread over the tiles; nothing is cut where all are asked for."""
    subject, tome = opened(folders[kind]), method("tome")
    asked = [Point(tome, count, "vit") for count in (keep, None)]
    cut, whole = (subject.read(picture()[None], one, [0], [item()]) for one in asked)
    assert (cut.rates[0].tokens, whole.rates[0].tokens) == (keep, of)
    assert cut.answers[0].kl > 0
    assert whole.answers[0].kl == 0
    with pytest.raises(VtbenchError, match="merged tokens have no position of their own"):
        opened(folders[kind], positions="original").read(picture()[None], asked[0], [0], [item()])


@pytest.mark.parametrize(
    ("kind", "name", "block", "said"),
    [
        ("qwen2", "tome", None, "its merger joins four neighbours of the whole grid to a token"),
        ("llava", "uniform", 2, "--option block=2: give 0 to 1"),
        ("llava", "tome", 1, "tome has a schedule of its own"),
    ],
)
def test_what_cannot_be_cut_inside_is_said(
    folders: dict[str, Path], kind: str, name: str, block: int | None, said: str
) -> None:
    with pytest.raises(VtbenchError) as bad:
        opened(folders[kind]).check(Point(method(name), 9, "vit", block), [item()])
    assert said in str(bad.value)


def test_operations_inside_are_the_closed_form(folders: dict[str, Path]) -> None:
    """Three layers of the tower, of which the last is run and not read; the patches' convolution stays what it was."""
    subject = opened(folders["llava"])
    full, less = language_operations(subject, Point(half(), 18, "vit", BLOCK), picture(), 0, item())
    size = {"width": 24, "inner": 32}
    saved = (len(range(BLOCK, 3))) * (layer_operations(37, **size) - layer_operations(19, **size))
    parts, whole = less.operations.parts, full.operations.parts
    assert parts["tower"] == whole["tower"] - saved
    assert parts["projector"] == whole["projector"] / 2
    assert parts["score and reduce"] == 0
