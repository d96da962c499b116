"""Reducers on the page: curves over counted tokens, baselines, and what stands in no one ranking."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_runs
import pytest

from vtbench.leaderboard.context import Context
from vtbench.leaderboard.labels import labels
from vtbench.leaderboard.reduction import BASELINE, NO_BASELINES, token_curves
from vtbench.leaderboard.site import site_files
from vtbench.reporting.reading import read_runs
from vtbench.reporting.runs import kind, question, task_title
from vtbench.results.record import Run

TOWER = {"files": "a" * 64, "class": "CLIPVisionModel", "attention": "eager", "pool": "mean"}


def reducer(
    folder: Path, name: str, keep: int | None, tokens: float, cosine: float, *, tower: Any = None, **more: Any
) -> Path:
    """A run's folder. more: facts of the reducer's card, and its options."""
    facts = {"title": name, "training": "training-free", "query_aware": False}
    facts |= {k: v for k, v in more.items() if k not in ("draw", "positions")}
    options = {"keep": keep, "stage": "vit"} | {k: v for k, v in more.items() if k in ("draw", "positions")}
    scores = [made_runs.score("visual-tokens", tokens), made_runs.score("centred-cosine", cosine, half=0.01)]
    path = folder / f"{name}-{keep}-{len(list(folder.iterdir())) if folder.exists() else 0}"
    made_runs.write(
        path,
        name=name,
        kind="reducer",
        family="",
        title=name,
        options=options,
        knob="keep",
        task="understanding",
        scores=scores,
    )
    info = json.loads((path / "run.json").read_text())
    info["model"] |= {"reducer": facts, "tower": {"name": "clip"}}
    info["question"] = {**info.get("question", {}), "model": {"tower": tower or TOWER}, "at": path.name}
    info["id"] = hashlib.sha256(str(path).encode()).hexdigest()[:24]
    (path / "run.json").write_text(json.dumps(info))
    return path


def runs(folder: Path) -> list[Run]:
    return read_runs(sorted(folder.iterdir()))


@pytest.fixture
def several(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    reducer(folder, "full", None, 64, 1.0, baseline=True)
    for keep, y in ((36, 0.8), (16, 0.5)):
        reducer(folder, "fastervlm", keep, keep - 1, y)
        for draw in range(3):
            reducer(folder, "random", keep, keep, y - 0.1 * draw, baseline=True, spread_over="draw", draw=draw)
    reducer(folder, "fastv", 16, 16, 0.9, query_aware=True)
    reducer(folder, "m3", 16, 16, 0.7, training="trained")
    return folder


def test_draws_are_one_point_and_tokens_are_those_counted(several: Path) -> None:
    all_runs = runs(several)
    curves = {curve.title: curve for curve in token_curves(all_runs, "centred-cosine", Context(all_runs, {}))}
    assert [(p.x, p.y) for p in curves["fastervlm"].points] == [(15, 0.5), (35, 0.8)]
    random = curves["random"].points
    numbers = [number for p in random for number in (p.x, p.y, p.low, p.high)]
    assert numbers == pytest.approx([16, 0.4, 0.3, 0.5, 36, 0.7, 0.6, 0.8])
    assert curves["random"].kind == curves["full"].kind == BASELINE
    assert curves["fastv"].kind == "query-aware reducer"
    assert curves["m3"].kind == "trained reducer"


def test_draws_are_told_apart_by_their_number(several: Path) -> None:
    drawn = [run for run in runs(several) if run.path.name.startswith("random")]
    texts = sorted(label.setting for label in labels(drawn, {}).values())
    assert texts == [f"keep {keep}, stage vit, draw {draw}" for keep in (16, 36) for draw in range(3)]


def test_a_title_says_what_is_read(several: Path) -> None:
    """A tokenizer's pictures have all their tokens."""
    first = runs(several)[0]
    title = "Understanding with fewer visual tokens"
    task = {**first.info["task"], "title": title}
    reduced, read = (
        {**first.info, "task": task, "model": {**first.info["model"], "kind": k}} for k in ("reducer", "codec")
    )
    assert task_title(replace(first, info=reduced)) == title
    assert task_title(replace(first, info=read)) == "Understanding from reconstructions"


def test_no_ranking_joins_towers_ways_of_reading_or_positions(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    for tower in (TOWER, TOWER | {"files": "b" * 64}, TOWER | {"pool": "model"}):
        reducer(folder, "fastervlm", 16, 16, 0.5, tower=tower)
    for positions in ("original", "renumbered"):
        reducer(folder, "fastv", 16, 16, 0.5, positions=positions)
    assert len({question(run) for run in runs(folder)}) == 5
    reducer(folder, "divprune", 16, 16, 0.5, tower=TOWER | {"attention": "sdpa"})
    assert len({question(run) for run in runs(folder)}) == 5, "attention's implementation moves rounding alone"


def test_the_page(several: Path) -> None:
    page = site_files(runs(several))["task/understanding.html"].decode()
    assert "read by clip" in page
    assert "Centred cosine against visual tokens" in page
    assert 'class="k6 baseline"' in page
    assert {kind(run) for run in runs(several)} == {"reducer", "query-aware reducer", "trained reducer"}
    assert NO_BASELINES not in page
    for title in ("Reducers that read the question", "Reducers, trained"):
        assert title in page


def test_a_table_without_baselines_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    for keep in (36, 16):
        reducer(folder, "fastervlm", keep, keep, 0.5)
    reducer(folder, "full", None, 64, 1.0, baseline=True)
    assert NO_BASELINES in site_files(runs(folder))["task/understanding.html"].decode()
