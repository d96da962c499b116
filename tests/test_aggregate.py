"""Tables, curves, the Pareto front and ranks: against arithmetic, brute force and known differences."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import made_runs
import pytest
from made_runs import score

from vtbench import aggregate
from vtbench.aggregate import identity
from vtbench.results import Run
from vtbench.types.errors import VtbenchError


def one(root: Path, name: str, values: list[float | None], *, metric: str = "psnr", **more: Any) -> Run:
    """A run of six images whose score is the mean of its values."""
    present = [v for v in values if v is not None]
    mean = sum(present) / len(present) if present else None
    line = score(metric, mean, n=len(present), missing=len(values) - len(present), why=None if present else "lossless")
    more.setdefault("scores", [line, score("bpp", 1.0)])
    made_runs.write(root / name, name=name, values={metric: values}, **more)
    return aggregate.read([root / name])[0]


def test_pareto_is_what_its_definition_says() -> None:
    """Brute force over random points on a coarse grid, so that equal rates, equal qualities and doubles occur."""
    rng = random.Random(0)
    for better, sign in (("higher", 1), ("lower", -1)):
        for _ in range(200):
            points = [(rng.randint(1, 6) / 2, float(rng.randint(0, 5))) for _ in range(rng.randint(1, 9))]

            def beaten(p: tuple[float, float], points: Any = points, sign: int = sign) -> bool:
                return any(
                    q[0] <= p[0] and sign * q[1] >= sign * p[1] and (q[0] < p[0] or sign * q[1] > sign * p[1])
                    for q in points
                )

            front = aggregate.pareto(points, better)
            assert sorted(front) == [i for i, p in enumerate(points) if not beaten(p)]
            assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)


def test_table_has_a_line_a_score_and_says_what_is_missing(tmp_path: Path) -> None:
    made_runs.write(
        tmp_path / "a",
        scores=[score("psnr", 30.0, half=1.0), score("lpips-alex", None, n=0, missing=6, why="no weights")],
    )
    table = aggregate.scores_table(aggregate.read([tmp_path]))
    assert list(table.columns) == list(aggregate.COLUMNS)
    assert table.loc[0, ["metric", "value", "low", "high"]].tolist() == ["psnr", 30.0, 29.0, 31.0]
    assert math.isnan(table.loc[1, "value"])
    assert table.loc[1, "why"] == "no weights"
    assert aggregate.records(aggregate.read([tmp_path]))[1]["value"] is None


def test_not_a_number_is_missing_not_a_value(tmp_path: Path) -> None:
    made_runs.write(tmp_path / "a", scores=[score("psnr", float("nan")), score("ssim", float("inf"))])
    records = aggregate.records(aggregate.read([tmp_path]))
    assert [r["value"] for r in records] == [None, None]
    assert all(r["why"] for r in records)


def test_curves_join_runs_that_differ_in_the_knob_only(tmp_path: Path) -> None:
    for quality, bpp in ((90, 2.0), (10, 0.25), (50, 1.0)):
        made_runs.write(
            tmp_path / f"q{quality}", options={"quality": quality, "subsampling": "4:2:0"}, knob="quality",
            scores=[score("psnr", 20 + bpp), score("bpp", bpp)],
        )  # fmt: skip
    made_runs.write(
        tmp_path / "other", options={"quality": 50, "subsampling": "4:4:4"}, knob="quality",
        scores=[score("psnr", 23.0), score("bpp", 1.5)],
    )  # fmt: skip
    made_runs.write(tmp_path / "rateless", name="api", kind="closed", scores=[score("psnr", 25.0)])
    found = aggregate.curves(aggregate.read([tmp_path]))
    assert sorted([[(p.x, p.y) for p in c.points] for c in found], key=len) == [
        [(1.5, 23.0)],
        [(0.25, 20.25), (1.0, 21.0), (2.0, 22.0)],
    ]


def test_a_rate_is_borrowed_only_from_the_same_system_on_the_same_images(tmp_path: Path) -> None:
    made_runs.write(tmp_path / "a", task="detail", scores=[score("psnr", 30.0)])
    made_runs.write(tmp_path / "b", task="compression", scores=[score("bpp", 0.7)])
    made_runs.write(tmp_path / "c", task="detail", suite="starter-text", scores=[score("psnr", 30.0)])
    runs = {(r.info["task"]["name"], r.info["suite"]["name"]): r for r in aggregate.read([tmp_path])}
    everyone = list(runs.values())
    assert aggregate.rate(runs["detail", "starter-natural"], everyone) == 0.7
    assert aggregate.rate(runs["detail", "starter-text"], everyone) is None
    assert aggregate.rate(runs["detail", "starter-natural"]) is None


def test_questions_keep_views_versions_and_suites_apart(tmp_path: Path) -> None:
    a = one(tmp_path, "a", [30.0] * 6)
    assert aggregate.question(a) == aggregate.question(one(tmp_path, "b", [31.0] * 6, kind="discrete"))
    assert aggregate.question(a) != aggregate.question(one(tmp_path, "c", [30.0] * 6, view="512"))
    assert aggregate.question(a) != aggregate.question(one(tmp_path, "d", [30.0] * 6, suite="kodak"))
    newer = one(tmp_path, "e", [30.0] * 6, extra={"task": {"name": "reconstruction", "version": 2}})
    assert aggregate.question(a) != aggregate.question(newer)


BASE = [28.0, 29.5, 30.8, 31.4, 32.3, 34.0]


def test_places_tell_a_real_difference_from_a_tie(tmp_path: Path) -> None:
    """A constant gain on every image is a difference however far the images scatter; a wobble around zero is none."""
    wobble = [+0.3, -0.3, +0.2, -0.2, +0.1, -0.08]
    runs = [
        one(tmp_path, "base", list(BASE)),
        one(tmp_path, "better", [v + 1 + 0.01 * i for i, v in enumerate(BASE)]),
        one(tmp_path, "same", [v + d for v, d in zip(BASE, wobble, strict=True)]),
        one(tmp_path, "worse", [v - 2 - 0.01 * i for i, v in enumerate(BASE)]),
        one(tmp_path, "limited", [40.0] * 6, ranked=False, why_not_ranked="limited to 2 of 6 images", limit=2),
    ]
    found = aggregate.ranking(runs, "psnr")
    by_name = {r.name: found.places.get(identity(r)) for r in runs}
    ranks = {name: place.rank if place else None for name, place in by_name.items()}
    assert ranks == {"better": 1, "same": 2, "base": 2, "worse": 4, "limited": None}
    assert by_name["base"] is not None
    assert by_name["base"].shared
    assert by_name["better"] is not None
    assert by_name["better"].best
    assert not by_name["better"].shared
    assert (by_name["better"].low, by_name["better"].high) == (1, 1)
    assert "paired on the same 6 images" in found.how


def test_places_follow_the_direction_of_the_metric(tmp_path: Path) -> None:
    runs = [
        one(tmp_path, "low", [0.10, 0.11, 0.12, 0.10, 0.11, 0.12], metric="lpips-alex"),
        one(tmp_path, "high", [0.30, 0.31, 0.32, 0.30, 0.31, 0.32], metric="lpips-alex"),
    ]
    found = aggregate.ranking(runs, "lpips-alex")
    assert {r.name: found.places[identity(r)].rank for r in runs} == {"low": 1, "high": 2}
    assert found.better == "lower"


def test_without_values_to_pair_only_equal_values_tie_and_the_page_is_told(tmp_path: Path) -> None:
    for name, value in (("a", 3.0), ("b", 3.0), ("c", 3.1)):
        made_runs.write(tmp_path / name, name=name, scores=[score("rfid", value)])
    runs = aggregate.read([tmp_path])
    found = aggregate.ranking(runs, "rfid")
    assert {r.name: found.places[identity(r)].rank for r in runs} == {"a": 1, "b": 1, "c": 3}
    assert "ties not computed" in found.how


def test_values_over_different_images_are_not_paired(tmp_path: Path) -> None:
    runs = [one(tmp_path, "a", [30.0, 31.0, None, 31.5, 32.0, 30.5]), one(tmp_path, "b", list(BASE))]
    assert "different images" in aggregate.ranking(runs, "psnr").how


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
    runs = aggregate.read([tmp_path])
    found = aggregate.ranking(runs, "psnr")
    assert found.metric == "psnr-pooled"
    assert {r.name: found.places[identity(r)].rank for r in runs} == {"png": 1, "part": 2, "lossy": 3}


def test_pooled_errors_come_from_psnr_and_count_lossless_images_as_zero(tmp_path: Path) -> None:
    """A constant offset of d grey levels has mean squared error d^2, hence PSNR 20 log10(255 / d)."""
    folder = made_runs.write(
        tmp_path / "a", values={"psnr": [20 * math.log10(255 / d) for d in (1, 2, 3, 4, 5)] + [None]}
    )
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        row["size"] = [2, 8]
    rows[5]["why"] = {"psnr": "lossless (identical pixels)"}
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    errors = list(aggregate.RowValues().errors(aggregate.read([folder])[0]).values())
    assert [e for e, _ in errors] == pytest.approx([1, 4, 9, 16, 25, 0])
    assert {w for _, w in errors} == {16.0}


def test_versions_of_a_metric_are_not_ranked_together(tmp_path: Path) -> None:
    for name, value, version in (("old", 40.0, 1), ("new", 30.0, 2)):
        made_runs.write(tmp_path / name, name=name, scores=[score("psnr", value, version=version)])
    runs = aggregate.read([tmp_path])
    found = aggregate.ranking(runs, "psnr")
    assert [r.name for r in runs if identity(r) in found.places] == ["new"]


@pytest.mark.parametrize("state", ["running", "failed", "incomplete", "interrupted"])
def test_only_complete_runs_are_ranked(tmp_path: Path, state: str) -> None:
    run = one(tmp_path, "a", list(BASE), status=state, ranked=True)
    assert not aggregate.is_ranked(run)
    assert state in (aggregate.why_not_ranked(run) or "")
    assert aggregate.ranking([run], "psnr").places == {}


def test_order_and_choice_of_copies_do_not_depend_on_paths(tmp_path: Path) -> None:
    for root, order in (("one", "abc"), ("two", "cab")):
        for place, name in enumerate(order):
            made_runs.write(tmp_path / root / str(place), name=name, scores=[score("psnr", 30.0)])
    first, second = (aggregate.read([tmp_path / r]) for r in ("one", "two"))
    assert [r.info for r in first] == [r.info for r in second]
    made_runs.write(tmp_path / "one" / "copy", name="a", status="running", ranked=False)
    again = aggregate.read([tmp_path])
    assert [(r.name, r.info["status"]) for r in again] == [(n, "complete") for n in "abc"]


def test_a_newer_schema_and_half_a_record_are_refused_by_name(tmp_path: Path) -> None:
    made_runs.write(tmp_path / "new", schema=99)
    with pytest.raises(VtbenchError, match="schema 99"):
        aggregate.read([tmp_path / "new"])
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "run.json").write_text(json.dumps({"schema": 1, "id": "x", "model": {"name": "a"}}))
    with pytest.raises(VtbenchError, match=r"states no task\.name"):
        aggregate.read([tmp_path / "half"])


def test_half_the_bits_at_every_quality_is_a_bd_rate_of_minus_fifty(tmp_path: Path) -> None:
    """By arithmetic: log rates differ by a constant, so any interpolation gives exactly that constant."""
    for name, factor in (("jpeg", 1.0), ("avif", 0.5)):
        for quality in range(5):
            made_runs.write(
                tmp_path / f"{name}{quality}", name=name, knob="quality", options={"quality": quality},
                scores=[score("psnr", 25.0 + 3 * quality), score("bpp", factor * 0.2 * 2**quality)],
            )  # fmt: skip
    # The anchor is the first of equals in page order: the other one then needs twice or half the bits.
    found = aggregate.bd_table(aggregate.curves(aggregate.read([tmp_path])), "psnr")
    assert found is not None
    expected = {"jpeg": 100.0, "avif": -50.0}[found.lines[0].curve.points[0].run.name]
    assert found.lines[0].percent == pytest.approx(expected, abs=1e-9)


def test_no_codec_curve_no_bd_rate(tmp_path: Path) -> None:
    one(tmp_path, "a", list(BASE), kind="discrete")
    assert aggregate.bd_table(aggregate.curves(aggregate.read([tmp_path])), "psnr") is None
