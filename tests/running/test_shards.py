"""Batches and shards move no number, and shards merge to what one pass gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import command, evaluate, stable

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


def test_an_empty_shard_is_a_shard(images: Path, tmp_path: Path) -> None:
    """22 images in batches of 8 are three batches: of eight shards five are empty, the first among them."""
    whole = evaluate("slow", images, tmp_path / "whole", batch_size=8).runs[0]
    counts = []
    for part in range(1, 9):
        run = evaluate("slow", images, tmp_path / "shards", batch_size=8, shard=(part, 8)).runs[0]
        assert run.info.status == "complete"
        counts.append(run.info.n)
        if not run.info.n:
            assert list(run.rows()) == []
            assert all(s.value is None and s.why for s in run.scores if s.metric in run.info.metrics)
    assert counts == [0, 0, 8, 0, 0, 8, 0, 6]
    assert evaluate("slow", images, tmp_path / "shards", batch_size=8, shard=(5, 8)).runs[0].info.n == 0
    (merged,) = merge([tmp_path / "shards"], tmp_path / "merged")
    assert stable(merged) == stable(whole.path)
    joined = read_run(merged)
    assert (joined.info.n, joined.info.status, joined.info.model.kind) == (22, "complete", whole.info.model.kind)
    values = {s.metric: (s.value, s.low, s.high, s.n) for s in whole.scores if s.metric in whole.info.metrics}
    assert {s.metric: (s.value, s.low, s.high, s.n) for s in joined.scores if s.metric in values} == values
    # Pictures for the page are those of the first images, which are the third shard's.
    assert (merged / "samples" / "samples.json").read_text() == (whole.path / "samples" / "samples.json").read_text()


def test_empty_shards_with_features_tokens_and_a_limit(images: Path, tmp_path: Path, seeded_inception: Path) -> None:
    """Sets' features and tokens are joined where some shards have none; metrics of rows are null with a reason."""
    import vtbench

    options = {"images": images, "view": "native", "tasks": ["reconstruction"], "limit": 9, "save": ["tokens"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VTBENCH_METRIC_WEIGHTS", f"inception-2015-12-05={seeded_inception}")
        whole = vtbench.evaluate("kmeans-vq", out=tmp_path / "whole", **options).runs[0]
        for part in range(1, 6):
            vtbench.evaluate("kmeans-vq", out=tmp_path / "shards", shard=(part, 5), **options)
        (merged,) = merge([tmp_path / "shards"], tmp_path / "merged")
    assert stable(merged) == stable(whole.path)
    for metric in ("rfid", "kid", "codebook-usage", "bpp"):
        ours, theirs = read_run(merged).score(metric), whole.score(metric)
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            assert (ours.value, ours.n) == (theirs.value, theirs.n)


def test_merging_again_says_so_and_a_killed_merge_is_done_anew(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in (1, 2):
        evaluate("right", images, tmp_path / "shards", batch_size=8, shard=(part, 2))
    words = ("merge", tmp_path / "shards", "--out", tmp_path / "merged")
    assert command(*words)[::2] == (0, "")
    (merged,) = (tmp_path / "merged").iterdir()
    before = {p.name: p.read_bytes() for p in merged.iterdir() if p.is_file()}
    code, out, err = command(*words)
    assert (code, out.strip()) == (0, str(merged))
    assert "is joined from these 2 shards already: nothing to do" in err
    assert {p.name: p.read_bytes() for p in merged.iterdir() if p.is_file()} == before
    # Killed before its last step, with whatever it had written by then.
    for left in ("run.json", "scores.jsonl"):
        (merged / left).unlink()
    (merged / ".rows.ab12_xyz").write_text("half")
    (merged / "rows.jsonl").write_bytes(before["rows.jsonl"][:100])
    assert command(*words)[::2] == (0, "")
    assert {p.name for p in merged.iterdir() if p.is_file()} == {*before}
    assert (merged / "rows.jsonl").read_bytes() == before["rows.jsonl"]
    # What is no whole of these shards is refused, as before.
    record = json.loads((merged / "run.json").read_text())
    for change in ({"merged_from": 3}, {"n": 5}, {"status": "running"}, {"merged_from": None}):
        (merged / "run.json").write_text(json.dumps({**record, **change}))
        code, _, err = command(*words)
        assert code == 2, change
        assert "exists already, and is not these shards joined" in err
