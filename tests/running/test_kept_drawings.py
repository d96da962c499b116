"""A generation that is stopped while its images are scored goes on where it was: with the drawn images, with those of
the reference, with the tokenizer's own reconstructions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_features
from PIL import Image
from support import stable

from vtbench import api
from vtbench.models.system import ModelSystem
from vtbench.results import cache_files
from vtbench.results.record import Run
from vtbench.running import drawn

GENERATOR = """
import torch

from vtbench import Card, Family, Generator, Multiple


class Seeds(Generator):
    def generate(self, prompts, seeds):
        noise = [torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.stack(noise) * (1 + torch.tensor([p.label for p in prompts])[:, None, None, None]) / 2


CARD = Card("kept-seeds", "kept-seeds", "generator", "Seeds", sizes=Multiple(), conditioning="class")
FAMILY = Family("kept-seeds", "Seeds", (CARD,), Seeds)
"""
DRAWN = 70
"""Three batches of those that are scored at a time."""
WHOLE = [32, 32, 6, 32, 8]
"""The drawn ones, then those of the reference."""


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A generator, and a task with a network that counts."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "kept_seeds.py").write_text(GENERATOR)
    task = tiny_features.counting(folder, tiny_features.STOPPED, tag="keptdrawn", dim=4, prompts="classes:2")
    return {"models": f"{folder / 'kept_seeds.py'}@kept-seeds", "tasks": [task]}


@pytest.fixture
def ask(code: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VTBENCH_TEST_CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("VTBENCH_TEST_LAST", "1000")
    (tmp_path / "reference").mkdir()
    for k, rgb in enumerate(np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)):
        Image.fromarray(rgb).save(tmp_path / "reference" / f"{k:03d}.png")
    return {
        **code,
        "images": str(tmp_path / "reference"),
        "view": "native",
        "per_prompt": DRAWN // 2,
        "batch_size": 8,
    }


def said(run: Run) -> dict[str, Any]:
    """Rows and scores without the times, and what was kept beside them."""
    names = ("metric", "value", "low", "high", "n", "missing", "why", "warning")
    scores = [{n: s[n] for n in names} for s in run.scores if s.metric in (*run.info.metrics, drawn.SHARE, drawn.GAP)]
    rows = [{**row, "seconds": 0} for row in stable(run.path)]
    kept = {p.name: p.read_bytes() for p in (run.path / "features").iterdir()}
    return {"rows": rows, "scores": scores, "status": run.info.status, **kept}


def stopped(ask: dict[str, Any], out: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run of a command that Ctrl-C ends when the network is asked once more than `after` times."""
    tiny_features.calls(out.parent)
    monkeypatch.setenv("VTBENCH_TEST_LAST", str(after))
    with pytest.raises(KeyboardInterrupt):
        api.evaluate(**ask, out=out)
    monkeypatch.setenv("VTBENCH_TEST_LAST", "1000")
    assert len(tiny_features.calls(out.parent)) == after + 1
    (path,) = out.glob("kept-seeds*")
    return path


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4])
def test_what_was_scored_is_not_scored_again(
    after: int, ask: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = said(api.evaluate(**ask, out=tmp_path / "whole").runs[0])
    assert tiny_features.calls(tmp_path) == WHOLE
    stopped(ask, tmp_path / "out", after, monkeypatch)
    found = api.evaluate(**ask, out=tmp_path / "out").runs[0]
    # Batches that are not whole are made again.
    assert (
        tiny_features.calls(tmp_path)
        == {
            0: WHOLE,
            1: WHOLE[1:],
            2: WHOLE[2:],
            3: WHOLE[2:],
            4: [6, 8],
        }[after]
    )
    assert said(found) == whole
    assert not [*(tmp_path / "cache" / cache_files.IN_WORK).glob("*")]


@pytest.mark.parametrize("what", ["drawn", "features", "reference"])
def test_what_changed_in_between_is_made_again(
    what: str, ask: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = said(api.evaluate(**ask, out=tmp_path / "whole").runs[0])
    path = stopped(ask, tmp_path / "out", 4, monkeypatch)
    if what == "drawn":
        # It is drawn anew, the same but for its time, which its row states.
        (path / "generated" / "images" / "class-0001" / "00000.png").unlink()
    elif what == "features":
        (file,) = (path / "features").glob("*.f32")
        file.write_bytes(b"\1" + file.read_bytes()[1:])
    else:
        (file,) = (tmp_path / "cache").rglob("reference/features/*.f32")
        file.write_bytes(b"\1" + file.read_bytes()[1:])
    tiny_features.calls(tmp_path)
    found = api.evaluate(**ask, out=tmp_path / "out").runs[0]
    assert (
        tiny_features.calls(tmp_path)
        == {"drawn": [32, 6, 8], "features": [32, 32, 6, 8], "reference": [6, 32, 8]}[what]
    )
    assert said(found) == whole


def test_another_reference_is_another_question(
    ask: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(ask, tmp_path / "out", 4, monkeypatch)
    Image.new("RGB", (16, 16), (9, 9, 9)).save(tmp_path / "reference" / "003.png")
    found = api.evaluate(**ask, out=tmp_path / "out").runs[0]
    assert tiny_features.calls(tmp_path) == WHOLE
    again = api.evaluate(**ask, out=tmp_path / "anew").runs[0]
    assert said(found) == said(again)


def test_the_tokenizers_share_goes_on(tmp_path: Path, seeded_inception: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokenizer's reconstructions, one at a time: those that were finished are not made again."""
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VTBENCH_METRIC_WEIGHTS", f"inception-2015-12-05={seeded_inception}")
    (tmp_path / "reference").mkdir()
    for k, rgb in enumerate(np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8)):
        Image.fromarray(rgb).save(tmp_path / "reference" / f"{k}.png")
    images = str(tmp_path / "reference")
    ask = {
        "models": "ngram-kmeans",
        "options": {"size": "64"},
        "view": "64",
        "batch_size": 1,
        "images": images,
        "per_prompt": 2,
    }
    asked, last, produce = list[int](), 1000, ModelSystem.produce

    def counted(self: ModelSystem, *args: Any, **more: Any) -> Any:
        asked.append(1)
        if len(asked) > last:
            raise KeyboardInterrupt
        return produce(self, *args, **more)

    monkeypatch.setattr(ModelSystem, "produce", counted)
    whole = said(api.evaluate(**ask, out=tmp_path / "whole").runs[0])
    count = len(asked)
    assert count >= 6
    last = count + 3
    with pytest.raises(KeyboardInterrupt):
        api.evaluate(**ask, out=tmp_path / "out")
    asked.clear()
    last = 1000
    assert said(api.evaluate(**ask, out=tmp_path / "out").runs[0]) == whole
    assert len(asked) == count - 3
    assert {drawn.SHARE, drawn.GAP} <= {score["metric"] for score in whole["scores"] if score["value"] is not None}
