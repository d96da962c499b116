"""Batches and shards move no number, and shards merge to what one pass gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import evaluate, stable

from vtbench.results.record import read_run
from vtbench.running.merge import merge
from vtbench.types.errors import VtbenchError


def test_batch_size_does_not_move_scores(images: Path, tmp_path: Path) -> None:
    found = [stable(evaluate("slow", images, tmp_path / str(b), batch_size=b).runs[0].path) for b in (1, 4, 16)]
    assert found[0] == found[1] == found[2]


def test_shards_merge_to_one_pass(images: Path, tmp_path: Path) -> None:
    whole = evaluate("slow", images, tmp_path / "whole", batch_size=3).runs[0]
    for i in (1, 2, 3):
        evaluate("slow", images, tmp_path / "shards", batch_size=3, shard=(i, 3))
    (merged,) = merge([tmp_path / "shards"], tmp_path / "merged")
    assert stable(merged) == stable(whole.path)
    assert read_run(merged).info["shard"] is None
    one = {
        s["metric"]: (s["value"], s["low"], s["high"], s["n"])
        for s in whole.scores
        if s["metric"] in whole.info["metrics"]
    }
    joined = read_run(merged)
    assert {s["metric"]: (s["value"], s["low"], s["high"], s["n"]) for s in joined.scores if s["metric"] in one} == one
    with pytest.raises(VtbenchError, match="shard 2 of 3 is missing"):
        merge([p for p in (tmp_path / "shards").iterdir() if "shard-2" not in p.name], tmp_path / "other")


def test_a_merge_begins_anew_and_keeps_samples(images: Path, tmp_path: Path) -> None:
    whole = evaluate("slow", images, tmp_path / "whole", batch_size=3).runs[0].path
    for i in (1, 2):
        evaluate("slow", images, tmp_path / "shards", batch_size=3, shard=(i, 2))
    left = tmp_path / "merged" / whole.name
    left.mkdir(parents=True)
    (left / "rows.jsonl").write_text('{"item": "left by a merge that was killed", "why": {}}\n')
    (merged,) = merge([tmp_path / "shards"], tmp_path / "merged")
    assert merged == left
    assert stable(merged) == stable(whole)
    assert (merged / "samples" / "samples.json").read_text() == (whole / "samples" / "samples.json").read_text()
