"""Places, tints and `compare` say the same of the same runs: eight models whose truth is known, and rate bands."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import made_runs
import numpy as np
import pytest
from made_runs import score
from scipy import stats

from vtbench import leaderboard
from vtbench.reporting.compare import compare
from vtbench.reporting.ranking import ranking, rate_band
from vtbench.reporting.reading import read_runs
from vtbench.reporting.runs import identity
from vtbench.results.record import Run

TRUTH = {"a": 32.0, "b": 31.99, "c": 31.0, "d": 30.0, "e": 29.0, "f": 28.99, "g": 28.0, "h": 24.0}
TWINS = [{"a", "b"}, {"e", "f"}]
"""0.01 dB apart, where single images scatter by 0.3."""
PLACES = {"a": (1, 2), "b": (1, 2), "c": (3, 3), "d": (4, 4), "e": (5, 6), "f": (5, 6), "g": (7, 7), "h": (8, 8)}
N = 20


def eight(root: Path, metric: str = "psnr") -> list[Run]:
    """Eight models on 20 images; their means are exactly TRUTH, single images scatter around it."""
    rng = np.random.default_rng(12)
    images = rng.normal(0, 3, N)
    for name, truth in TRUTH.items():
        noise = rng.normal(0, 0.2, N)
        values = [float(v) for v in truth + images + noise - noise.mean()]
        values = values if metric == "psnr" else [50 - v for v in values]
        scores = [score(metric, float(np.mean(values)), n=N), score("bpp", 0.4)]
        made_runs.write(root / name, name=name, title=f"Model {name}", n=N, values={metric: values}, scores=scores)
    return read_runs([root])


@pytest.mark.parametrize("metric", ["psnr", "lpips-alex"])
def test_places_ties_and_compare_agree_with_the_truth(tmp_path: Path, metric: str) -> None:
    runs = eight(tmp_path / "runs", metric)
    result = ranking(runs, metric, rates={identity(run): 0.4 for run in runs})
    places = {run.name: result.places[identity(run)] for run in runs}
    assert {name: (place.low, place.high) for name, place in places.items()} == PLACES
    assert {name for name, place in places.items() if place.best} == {"a", "b"}
    compared = compare(runs, [metric]).differences
    verdicts = {frozenset((d.a, d.b)): d.verdict for d in compared}
    for one, two in itertools.combinations(TRUTH, 2):
        better = "not told apart" if {one, two} in TWINS else f"{one} is better"
        assert verdicts[frozenset((one, two))] == better
        # scipy, with Bonferroni's adjustment, which is harder than Holm's.
        values = [[row["values"][metric] for row in runs_of.rows()] for runs_of in runs if runs_of.name in (one, two)]
        assert (stats.ttest_rel(*values).pvalue * 28 < 0.05) == ({one, two} not in TWINS)
    leaderboard.build([tmp_path / "runs"], tmp_path / "site")
    page = (tmp_path / "site" / "task" / "reconstruction.html").read_text()
    table = page.split('aria-label="Reconstruction on starter-natural, 256"', 1)[1].split("</table>", 1)[0]
    rows = {row.split(">Model ")[1][0]: row for row in table.split("<tr")[1:] if ">Model " in row}
    shown = {name: re.search(r'class="rank"[^>]*>([^<]*)<', row) for name, row in rows.items()}
    in_words = {name: f"{low}–{high}" if low < high else f"{low}" for name, (low, high) in PLACES.items()}
    assert {name: found[1] for name, found in shown.items() if found} == in_words
    marked = {name for name, row in rows.items() if "(best)" in row or "(not told apart from the best)" in row}
    assert marked == {"a", "b"}
    assert sum("(best)" in row for row in rows.values()) == 1


def test_bands_end_where_the_page_says() -> None:
    rates = (0.05, 0.1, 0.1004, 0.11, 0.25, 0.26, 0.5, 0.50004, 0.51, 1.0, 1.01, 24.0)
    ends = ("≤ 0.1", "≤ 0.1", "≤ 0.1", *["0.1–0.25"] * 2, *["0.25–0.5"] * 3, *["0.5–1"] * 2, *["> 1"] * 2)
    assert [rate_band(rate) for rate in rates] == [f"{end} bit/px" for end in ends]


def test_more_bits_do_not_buy_a_better_place(tmp_path: Path) -> None:
    """Systems are placed among those of their band; one alone there, or without a rate, has no place."""
    bits = {"small": 0.2, "small2": 0.15, "large": 0.9, "large2": 0.8, "huge": 12.0, "unknown": None}
    for i, (name, rate) in enumerate(bits.items()):
        scores = [score("psnr", 20.0 + 10 * i), score("bpp", rate, why=None if rate else "not known")]
        made_runs.write(tmp_path / name, name=name, kind="discrete", scores=scores)
    runs = read_runs([tmp_path])
    result = ranking(runs, "psnr", rates={identity(run): bits[run.name] for run in runs})
    by_name = {run.name: result.places.get(identity(run)) for run in runs}
    assert {name: (p.rank, p.of, p.band) if p else None for name, p in by_name.items()} == {
        "small": (2, 2, "0.1–0.25 bit/px"),
        "small2": (1, 2, "0.1–0.25 bit/px"),
        "large": (2, 2, "0.5–1 bit/px"),
        "large2": (1, 2, "0.5–1 bit/px"),
        "huge": None,
        "unknown": None,
    }
    why = {run.name: result.alone.get(identity(run)) for run in runs}
    assert why["huge"] == "no other ranked system of this kind at > 1 bit/px"
    assert why["unknown"] == "no rate, and places are within bands of rate"


def test_settings_of_one_system_are_no_rivals(tmp_path: Path) -> None:
    for quality in (10, 20):
        scores = [score("psnr", 20.0 + quality), score("bpp", 0.3 + quality / 1000)]
        made_runs.write(tmp_path / f"{quality}", options={"quality": quality}, knob="quality", scores=scores)
    assert ranking(read_runs([tmp_path]), "psnr", rates={}).places == {}


def test_without_rates_all_stand_together(tmp_path: Path) -> None:
    for i in range(3):
        made_runs.write(tmp_path / f"{i}", name=f"g{i}", kind="generator", scores=[score("rfid", 9.0 - i)])
    runs = read_runs([tmp_path])
    result = ranking(runs, "rfid", rates={identity(run): None for run in runs})
    assert {run.name: result.places[identity(run)].rank for run in runs} == {"g0": 3, "g1": 2, "g2": 1}
    assert json.dumps(result.how).count("ties not computed") == 1


@pytest.mark.parametrize(("n", "apart"), [(8, True), (5, False)])
def test_lossless_is_told_apart_where_compare_tells_it_apart(tmp_path: Path, n: int, apart: bool) -> None:
    """A system that is lossless on every image, against one that never is: the sign test, which needs six images."""
    made_runs.CARDS["psnr-pooled"] = ("Pooled PSNR", "dB", "higher", "run")
    lossless = [
        score("psnr", None, n=0, missing=n, why="lossless", details={"n_lossless": n}),
        score("psnr-pooled", None, n=0, why="lossless"),
    ]
    values = {"exact": [None] * n, "lossy": [30.0 + 0.3 * i for i in range(n)]}
    errors = [255.0**2 / 10 ** (v / 10) for v in values["lossy"] if v is not None]
    pooled = float(10 * np.log10(255.0**2 / np.mean(errors)))
    lossy = [score("psnr", 31.0, n=n), score("psnr-pooled", pooled, n=n)]
    for name, scores in (("exact", lossless), ("lossy", lossy)):
        folder = made_runs.write(tmp_path / name, name=name, n=n, scores=scores, values={"psnr": values[name]})
        rows = folder / "rows.jsonl"
        rows.write_text(rows.read_text().replace("identical to the original", "lossless"))
    runs = read_runs([tmp_path])
    result = ranking(runs, "psnr")
    places = {run.name: result.places[identity(run)] for run in runs}
    assert [places[name].rank for name in ("exact", "lossy")] == [1, 2]
    assert places["lossy"].best is not apart
    (difference,) = compare(runs, ["psnr"]).differences
    assert (difference.verdict == "exact is better") is apart
