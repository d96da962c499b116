"""What the command prints: tables of scores, reasons once, and how far it is."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich import console as rich_console

from vtbench.cli import progress as progress_bars
from vtbench.cli import text
from vtbench.reporting.inventory import Listed
from vtbench.results.record import SCHEMA, Run, RunInfo, Score, validated
from vtbench.running.evaluation import Evaluation


def run(scores: Sequence[Score] = (), **facts: Any) -> Run:
    stated = {
        "schema": SCHEMA,
        "model": {"name": "jpeg", "options": {"quality": 30}, "weights": {"status": "none"}},
        "task": {"name": "reconstruction"},
        "suite": {"name": "faces"},
        "view": {"name": "256"},
        "n": 4,
        "status": "complete",
        "ranked": True,
        **facts,
    }
    return Run(Path("out"), validated(RunInfo, stated, "a test"), tuple(scores))


def test_a_score_states_value_unit_direction_interval_and_number() -> None:
    score = Score(metric="psnr", value=31.23456, low=30.0, high=32.5, n=4, unit="dB", better="higher")
    head, names, _, line = text.run_scores(run([score])).splitlines()
    assert head == "jpeg (quality=30) · reconstruction on faces at 256 · 4 images · weights none · complete"
    assert names.split() == ["metric", "value", "95", "%", "interval", "n"]
    assert line.split() == ["psnr", "31.235", "dB↑", "[30,", "32.5]", "n=4"]


def test_reasons_and_warnings_are_said_once_for_all_their_metrics() -> None:
    scores = [
        Score(metric="fid", why="no weights"),
        Score(metric="kid", why="no weights"),
        Score(metric="cer", value=0.25, n=3, missing=1, warning="few", details={"missing": {"no text": 1}}),
        Score(metric="wer", value=0.5, n=2, missing=2, warning="few; new", details={"missing": {"no text": 2}}),
        Score(metric="ssim", value=0.9, n=4, details={"resize_only": 0.95}),
    ]
    said = text.run_scores(run(scores)).splitlines()
    assert said[-5:] == [
        "fid, kid: null, because no weights",
        "missing (cer): 1 image: no text",
        "missing (wer): 2 images: no text",
        "warning (cer, wer): few",
        "warning (wer): new",
    ]
    assert any(line.startswith("cer") and line.endswith("1 missing") for line in said)
    assert any(line.startswith("ssim") and line.endswith("resize only: 0.95") for line in said)
    assert not any(line.startswith(("fid ", "kid ")) for line in said)


def test_what_keeps_a_run_from_the_ranking_stands_below_it() -> None:
    said = text.run_scores(
        run(
            model={"name": "mine", "weights": {"status": "own", "note": "a file of the user's"}},
            ranked=False,
            why_not_ranked="limited to 4 of 50 images",
            enlarged=1,
            served={"resized to 256": 3},
        )
    )
    assert said.splitlines()[-4:] == [
        "1 of 4 images are smaller than the view and were enlarged",
        "3 of 4 images: resized to 256",
        "weights: a file of the user's",
        "not ranked: limited to 4 of 50 images",
    ]


def sweep(*values: tuple[int, float | None]) -> Evaluation:
    runs = []
    for quality, value in values:
        model = {"name": "jpeg", "options": {"quality": quality, "mode": "a"}, "weights": {"status": "none"}}
        scores = [
            Score(
                metric="psnr", value=value, why=None if value is not None else "no pixels", unit="dB", better="higher"
            ),
            Score(metric="fid", why="no weights"),
        ]
        runs.append(run(scores, model=model, ranked=False, why_not_ranked="few"))
    return Evaluation(tuple(runs), {})


def test_a_sweep_is_one_table_with_a_column_a_run() -> None:
    said = text.evaluation(sweep((10, 25.5), (50, None), (90, 40.25)), Path("out")).splitlines()
    assert said[0] == "jpeg · reconstruction on faces at 256 · 4 images"
    assert said[1].split() == ["metric", "quality=10", "quality=50", "quality=90"]
    assert said[3].split() == ["psnr", "dB↑", "25.5", "—", "40.25"]
    # What is the same of all is said once.
    assert said[4:7] == ["fid: null, because no weights", "psnr: null, because no pixels", "not ranked: few"] or said[
        4:7
    ] == ["psnr: null, because no pixels", "fid: null, because no weights", "not ranked: few"]


def test_other_suites_and_models_are_no_sweep() -> None:
    one, two = run([Score(metric="psnr", value=1.0)]), run([Score(metric="psnr", value=2.0)], suite={"name": "towns"})
    said = text.evaluation(Evaluation((one, two), {}), Path("out"))
    assert said.count("jpeg (quality=30) · reconstruction on") == 2


def test_a_log_gets_a_line_for_every_finished_job(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars.progress() as update:
        for done in (0, 2, 4):
            update("jpeg", "detail", done, 4)
    with progress_bars.counter("score") as tick:
        tick(1, 1)
    assert capsys.readouterr().err.splitlines() == ["jpeg · detail: 4 images", "score · images: 1 images"]


def test_a_terminal_gets_one_bar_for_the_job_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    terminal = rich_console.Console(file=shown, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(progress_bars, "console", lambda: terminal)
    with progress_bars.progress() as update:
        update("jpeg", "detail", 0, 4)
        update("jpeg", "detail", 3, 4)
        # Another job takes the bar's place; one that begins again does too.
        for done in (1, 0):
            update("jpeg", "text", done, 2)
            tasks = update._display.tasks  # type: ignore[attr-defined]
            assert [(t.fields["job"], t.completed, t.total) for t in tasks] == [("text", done, 2)]
    assert "jpeg · text" in shown.getvalue()


def test_runs_of_one_name_are_told_apart_by_their_times() -> None:
    """As before and after an edit of a model's code."""
    first, second, other = (
        Listed(Path(f"out/{k}"), 1, "lev", {"steps": k // 2}, "t", "s", 2, "complete", f"2026-01-02T03:04:0{k}Z")
        for k in (0, 1, 2)
    )
    table = text.runs([second, first, other])
    assert "2026-01-02 03:04:01" in table
    assert "2026-01-02 03:04:02" not in table
    assert (
        "2 runs are of lev steps=0, t, s, the newest being out/1; in what two differ: vtbench explain RUN RUN" in table
    )
    assert "the newest" not in text.runs([first, dataclasses.replace(first, path=Path("out/9"))])
    assert "runs are of" not in text.runs([first, other])
