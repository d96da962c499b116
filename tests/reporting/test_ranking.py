"""Places: against arithmetic and known differences."""

from __future__ import annotations

from pathlib import Path

import made_runs
import numpy as np
import pytest
from made_runs import run_of, score

from vtbench.reporting.compare import compare
from vtbench.reporting.ranking import ranking
from vtbench.reporting.reading import read_runs
from vtbench.reporting.runs import identity

BASE = [28.0, 29.5, 30.8, 31.4, 32.3, 34.0]


def test_places_tell_a_real_difference_from_a_tie(tmp_path: Path) -> None:
    """A constant gain on every image is a difference however far the images scatter; a wobble around zero is none."""
    wobble = [+0.3, -0.3, +0.2, -0.2, +0.1, -0.08]
    runs = [
        run_of(tmp_path, "base", list(BASE)),
        run_of(tmp_path, "better", [v + 1 + 0.01 * i for i, v in enumerate(BASE)]),
        run_of(tmp_path, "same", [v + d for v, d in zip(BASE, wobble, strict=True)]),
        run_of(tmp_path, "worse", [v - 2 - 0.01 * i for i, v in enumerate(BASE)]),
        run_of(tmp_path, "limited", [40.0] * 6, ranked=False, why_not_ranked="limited to 2 of 6 images", limit=2),
    ]
    result = ranking(runs, "psnr")
    by_name = {r.name: result.places.get(identity(r)) for r in runs}
    ranks = {name: (place.low, place.high, place.best) if place else None for name, place in by_name.items()}
    assert ranks == {
        "better": (1, 1, True),
        "same": (2, 3, False),
        "base": (2, 3, False),
        "worse": (4, 4, False),
        "limited": None,
    }
    assert by_name["base"] is not None
    assert by_name["base"].shared
    assert by_name["better"] is not None
    assert not by_name["better"].shared
    assert by_name["better"].of == 4
    assert "every pair tested on the same 6 images" in result.how


def test_places_follow_the_direction_of_the_metric(tmp_path: Path) -> None:
    runs = [
        run_of(tmp_path, "low", [0.10, 0.11, 0.12, 0.10, 0.11, 0.12], metric="lpips-alex"),
        run_of(tmp_path, "high", [0.30, 0.31, 0.32, 0.30, 0.31, 0.32], metric="lpips-alex"),
    ]
    result = ranking(runs, "lpips-alex")
    assert {r.name: result.places[identity(r)].rank for r in runs} == {"low": 1, "high": 2}
    assert result.better == "lower"


def test_without_values_to_pair_only_equal_values_tie_and_the_page_is_told(tmp_path: Path) -> None:
    for name, value in (("a", 3.0), ("b", 3.0), ("c", 3.1)):
        made_runs.write(tmp_path / name, name=name, scores=[score("rfid", value)])
    runs = read_runs([tmp_path])
    result = ranking(runs, "rfid")
    assert {r.name: result.places[identity(r)].rank for r in runs} == {"a": 1, "b": 1, "c": 3}
    assert "ties not computed" in result.how


def test_systems_are_placed_by_the_images_that_all_have_a_value_for(tmp_path: Path) -> None:
    """`picky` has the best mean, since it lacks the two images on which everybody is worst; on the others it is the
    worse one."""
    hard = [20.0, 20.5, *(30.0 + 0.5 * i for i in range(10))]
    easy = [None, None, *(v - 1 - 0.01 * i for i, v in enumerate(hard[2:]) if v)]
    runs = [run_of(tmp_path, "whole", list(hard), n=12), run_of(tmp_path, "picky", easy, n=12)]
    means = {r.name: r.scores[0]["value"] if isinstance(r.scores[0], dict) else r.scores[0].value for r in runs}
    assert means["picky"] > means["whole"]
    result = ranking(runs, "psnr")
    places = {r.name: result.places[identity(r)] for r in runs}
    assert (places["whole"].rank, places["picky"].rank) == (1, 2)
    assert (places["whole"].best, places["picky"].best, places["picky"].as_scored) == (True, False, False)
    assert "tested on the 10 images that all have a value for" in result.how
    # Rows that are not those of the scores are not trusted, nor is anybody placed by images that nobody else has.
    other = run_of(tmp_path, "other", easy, n=12, scores=[score("psnr", 99.0)])
    assert "not those of the scores" in ranking([runs[0], other], "psnr").how
    apart = [
        run_of(tmp_path, n, v, n=12)
        for n, v in (("first", [*hard[:6], *[None] * 6]), ("last", [*[None] * 6, *hard[6:]]))
    ]
    result = ranking(apart, "psnr")
    assert (result.places, set(result.alone)) == ({}, {identity(r) for r in apart})
    assert "of other images than" in next(iter(result.alone.values()))


@pytest.mark.parametrize("metric", ["psnr-worst-tile", "drift-psnr"])
def test_where_images_come_back_identical_errors_are_pooled(tmp_path: Path, metric: str) -> None:
    """A mean over what is left of `half` says nothing of its identical images: 20 dB on half of all is 23 dB."""
    made_runs.CARDS[metric] = (metric, "dB", "higher", "image")
    values = {"half": [None, 20.0] * 6, "plain": [22.0 + 0.01 * i for i in range(12)], "exact": [None] * 12}
    for name, of in values.items():
        known = [v for v in of if v is not None]
        details = {"n_lossless": of.count(None)}
        mean = sum(known) / len(known) if known else None
        stated = score(metric, mean, n=len(known), details=details, why=None if known else "lossless")
        rows = made_runs.write(tmp_path / name, name=name, n=12, scores=[stated], values={metric: of}) / "rows.jsonl"
        rows.write_text(rows.read_text().replace("identical to the original", "lossless (identical pixels)"))
    runs = read_runs([tmp_path])
    result = ranking(runs, metric)
    places = {r.name: result.places[identity(r)] for r in runs}
    assert {name: place.rank for name, place in places.items()} == {"exact": 1, "half": 2, "plain": 3}
    assert not any(place.as_scored for place in places.values())
    assert "by pooled errors" in result.how
    pair = compare([r for r in runs if r.name != "exact"], [metric]).differences[0]
    # Half of its images: the tests cannot tell them apart, and say the same of it.
    assert (pair.verdict == "not told apart") == (places["half"].high == places["plain"].high)
    assert pair.value_a == pytest.approx(20 + 10 * np.log10(2))


def test_a_lossless_image_hands_the_decision_to_pooled_psnr(tmp_path: Path) -> None:
    """One identical image: the mean PSNR of the others says nothing about it, the pooled error does."""
    made_runs.CARDS["psnr-pooled"] = ("Pooled PSNR", "dB", "higher", "run")
    for name, mean, pooled, n_lossless in (("part", 30.0, 33.0, 3), ("lossy", 31.0, 31.5, 0)):
        details = {"n_lossless": n_lossless} if n_lossless else {}
        made_runs.write(
            tmp_path / name, name=name, scores=[score("psnr", mean, details=details), score("psnr-pooled", pooled)]
        )
    made_runs.write(
        tmp_path / "png",
        name="png",
        scores=[
            score("psnr", None, n=0, missing=6, why="lossless", details={"n_lossless": 6}),
            score("psnr-pooled", None, n=0, why="lossless"),
        ],
    )
    runs = read_runs([tmp_path])
    result = ranking(runs, "psnr")
    assert result.metric == "psnr-pooled"
    assert {r.name: result.places[identity(r)].rank for r in runs} == {"png": 1, "part": 2, "lossy": 3}


def test_versions_of_a_metric_are_not_ranked_together(tmp_path: Path) -> None:
    for name, value, version in (("old", 40.0, 1), ("new", 30.0, 2), ("newer", 31.0, 2)):
        made_runs.write(tmp_path / name, name=name, scores=[score("psnr", value, version=version)])
    runs = read_runs([tmp_path])
    result = ranking(runs, "psnr")
    assert {r.name for r in runs if identity(r) in result.places} == {"new", "newer"}
