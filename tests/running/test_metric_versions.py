"""A metric's version raised: `score RUN` renews what the run kept allows, and no file mixes two versions."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import command, cuts

import vtbench
from vtbench import registry
from vtbench.metrics.psnr import PSNR
from vtbench.results.record import Run, read_run
from vtbench.running.merge import merge
from vtbench.running.rescore import add_metrics
from vtbench.types.errors import VtbenchError


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cuts(tmp_path_factory.mktemp("originals") / "images", 6, ((64, 64),))


def evaluated(images: Path, out: Path, model: str = "jpeg", **more: Any) -> Run:
    (run,) = vtbench.evaluate(
        model, images=images, view="native", tasks=["reconstruction"], out=out, batch_size=2, **more
    ).runs
    return run


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> int:
    """From now on PSNR is of a newer version, which says 100 dB more; bits per pixel too, as they are."""
    version = PSNR.card.version + 1
    real = PSNR.measure

    def measure(self: PSNR, batch: Any) -> Any:
        return [dataclasses.replace(v, value=v.value + 100) for v in real(self, batch)]  # type: ignore[operator]

    monkeypatch.setattr(PSNR, "card", dataclasses.replace(PSNR.card, version=version))
    monkeypatch.setattr(PSNR, "measure", measure)
    return version


def psnr_of(run: Run) -> tuple[int, Any, Any, list[float | None]]:
    score: Any = run.score("psnr")
    rows = [row.values.get("psnr") for row in run.rows()]
    return score.version, run.info.metrics["psnr"]["version"], score.value, rows


@pytest.mark.parametrize("save", ["images", "tokens"])
def test_what_was_saved_renews_it(originals: Path, tmp_path: Path, save: str, request: pytest.FixtureRequest) -> None:
    run = evaluated(originals, tmp_path / "out", "kmeans-vq", save=[save])
    others = {s.metric: s for s in run.scores if s.metric != "psnr" and s.value is not None}
    _, _, before, rows = psnr_of(run)
    version = request.getfixturevalue("raised")
    assert "psnr 1 (here 2); renew with: vtbench score" in command("runs", run.path)[1]
    code, out, _ = command("score", run.path)
    assert code == 0
    assert "psnr" in out
    renewed = read_run(run.path)
    assert psnr_of(renewed)[:2] == (version, version)
    assert psnr_of(renewed)[2] == pytest.approx(before + 100, abs=1e-6)
    assert psnr_of(renewed)[3] == pytest.approx([r + 100 for r in rows if r is not None], abs=1e-6)
    assert {s.metric: s for s in renewed.scores if s.metric in others} == others
    assert renewed.info.id == run.info.id
    assert json.loads(command("runs", run.path, "--json")[1])[0]["stale"] == {}


def test_without_pictures_or_tokens_it_is_said_and_nothing_changes(
    originals: Path, tmp_path: Path, raised: int
) -> None:
    run = evaluated(originals, tmp_path / "out")
    old = Path(shutil.copytree(run.path, tmp_path / "old"))
    lines = [json.loads(line) for line in (old / "scores.jsonl").read_text().splitlines()]
    stated = [{**line, "version": 1} if line["metric"] == "psnr" else line for line in lines]
    (old / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in stated))
    before = {p.name: p.read_bytes() for p in old.iterdir() if p.is_file()}
    assert "it kept neither images nor tokens: evaluate again" in command("runs", old)[1]
    with pytest.raises(VtbenchError, match="kept neither images nor tokens"):
        add_metrics(old, None)
    assert {p.name: p.read_bytes() for p in old.iterdir() if p.is_file()} == before


def test_what_cannot_be_had_again_keeps_its_number_its_version_and_its_rows(
    originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate cannot be had from pictures alone: its old number stays, of the old version, and is marked so."""
    run = evaluated(originals, tmp_path / "out", save=["images"])
    bpp, rows = run.score("bpp"), [row.values["bpp"] for row in run.rows()]
    assert bpp is not None
    factory = registry.metrics().get("bpp")
    newer = dataclasses.replace(registry.card_of(factory), version=bpp.version + 1)
    real = factory()
    real.card = newer
    monkeypatch.setitem(registry.metrics()._entries, "bpp", lambda: real)
    added = add_metrics(run.path, ["bpp", "mse"])
    again: Any = added.score("bpp")
    assert (again.value, again.version, added.info.metrics["bpp"]["version"]) == (bpp.value, 1, 1)
    assert "of version 1: what this run kept gives no number of version 2" in again.warning
    assert [row.values["bpp"] for row in added.rows()] == rows
    assert added.score("mse").value is not None  # type: ignore[union-attr]
    assert added.info.added == ["mse"]
    # Asked twice, it is said once.
    assert add_metrics(run.path, ["bpp"]).score("bpp").warning == again.warning  # type: ignore[union-attr]


def test_a_picture_that_is_damaged_by_now_leaves_no_old_value_among_new_ones(
    originals: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run = evaluated(originals, tmp_path / "out", save=["images"])
    sorted((run.path / "images").iterdir())[2].write_bytes(b"no picture")
    request.getfixturevalue("raised")
    renewed = add_metrics(run.path, None)
    score: Any = renewed.score("psnr")
    assert (score.n, score.missing) == (5, 1)
    rows = list(renewed.rows())
    assert "psnr" not in rows[2].values
    assert "02" in rows[2].why["psnr"]
    assert rows[2].failed is None, "its other values are as they were"
    assert rows[2].values["ssim"] == list(run.rows())[2].values["ssim"]
    assert all(row.values["psnr"] > 100 for k, row in enumerate(rows) if k != 2)  # type: ignore[operator]


def test_shards_of_two_versions_are_not_merged(originals: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    shards = [evaluated(originals, tmp_path / "shards", shard=(k, 2), save=["images"]) for k in (1, 2)]
    version = request.getfixturevalue("raised")
    add_metrics(shards[0].path, None)
    with pytest.raises(VtbenchError, match=r"measured psnr by versions \['1', '2'\]"):
        merge([tmp_path / "shards"], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    add_metrics(shards[1].path, None)
    (merged,) = merge([tmp_path / "shards"], tmp_path / "merged")
    joined = read_run(merged)
    assert psnr_of(joined)[:2] == (version, version)
    assert all(value > 100 for value in psnr_of(joined)[3])  # type: ignore[operator]


def test_shards_of_an_older_version_give_no_number_of_a_newer_name(
    originals: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The rows are of version 1: their mean is no number of version 2."""
    for part in (1, 2):
        run = evaluated(originals, tmp_path / "shards", shard=(part, 2))
    request.getfixturevalue("raised")
    (merged,) = merge([tmp_path / "shards"], tmp_path / "merged")
    joined = read_run(merged)
    score: Any = joined.score("psnr")
    assert score.value is None
    assert "measured psnr by version 1, and this vtbench has version 2" in score.why
    assert joined.info.metrics["psnr"]["version"] == 1
    assert joined.score("ssim").value == pytest.approx(  # type: ignore[union-attr]
        sum(row.values["ssim"] for row in joined.rows()) / 6  # type: ignore[misc]
    )
    assert run.info.n == 2 or run.info.n == 4
