"""Curves, the Pareto front and savings: against arithmetic and brute force."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import made_runs
import pytest
from made_runs import run_of, score

from vtbench import leaderboard
from vtbench.reporting.curves import bd_table, curves, pareto, rate
from vtbench.reporting.reading import read_runs
from vtbench.reporting.runs import suite_name, task_name


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

            front = pareto(points, better)
            assert sorted(front) == [i for i, p in enumerate(points) if not beaten(p)]
            assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)


def test_curves_join_runs_that_differ_in_the_knob_only(tmp_path: Path) -> None:
    for quality, bpp in ((90, 2.0), (10, 0.25), (50, 1.0)):
        options = {"quality": quality, "subsampling": "4:2:0"}
        scores = [score("psnr", 20 + bpp), score("bpp", bpp)]
        made_runs.write(tmp_path / f"q{quality}", options=options, knob="quality", scores=scores)
    options, scores = {"quality": 50, "subsampling": "4:4:4"}, [score("psnr", 23.0), score("bpp", 1.5)]
    made_runs.write(tmp_path / "other", options=options, knob="quality", scores=scores)
    made_runs.write(tmp_path / "rateless", name="api", kind="closed", scores=[score("psnr", 25.0)])
    drawn = curves(read_runs([tmp_path]))
    assert sorted([[(p.x, p.y) for p in c.points] for c in drawn], key=len) == [
        [(1.5, 23.0)],
        [(0.25, 20.25), (1.0, 21.0), (2.0, 22.0)],
    ]


def test_a_rate_is_borrowed_only_from_the_same_system_on_the_same_images(tmp_path: Path) -> None:
    made_runs.write(tmp_path / "a", task="detail", scores=[score("psnr", 30.0)])
    made_runs.write(tmp_path / "b", task="compression", scores=[score("bpp", 0.7)])
    made_runs.write(tmp_path / "c", task="detail", suite="starter-text", scores=[score("psnr", 30.0)])
    runs = {(task_name(r), suite_name(r)): r for r in read_runs([tmp_path])}
    everyone = list(runs.values())
    assert rate(runs["detail", "starter-natural"], everyone) == 0.7
    assert rate(runs["detail", "starter-text"], everyone) is None
    assert rate(runs["detail", "starter-natural"]) is None


@pytest.mark.parametrize(
    "other",
    [
        {"limit": 2},
        {"view": "512"},
        {"suite": "starter-text"},
        {"options": {"quality": 50}},
        {"weights": {"status": "own", "files": [{"file": "a.pt", "sha256": "ab" * 32}]}},
        {"extra": {"task": {"name": "compression", "version": 1, "fit": "tiles"}}},
        {"extra": {"view": {"name": "256", "protocol": "titok", "fingerprint": "another"}}},
        {"extra": {"dtype": "float16"}},
    ],
    ids=lambda other: next(iter(other.get("extra", other))),
)
def test_no_rate_is_borrowed_from_other_pixels_or_another_system(tmp_path: Path, other: dict[str, Any]) -> None:
    """The first two of an image's bits are not those of all; what went in and what sent it must both be the same."""
    made_runs.write(tmp_path / "a", task="detail", scores=[score("psnr", 30.0)])
    made_runs.write(tmp_path / "b", **{"task": "compression", "scores": [score("bpp", 0.7)], **other})
    runs = {str(r.path.name): r for r in read_runs([tmp_path])}
    assert rate(runs["a"], runs.values()) is None
    made_runs.write(tmp_path / "c", task="compression", seed=1, scores=[score("bpp", 0.9)])
    runs = {str(r.path.name): r for r in read_runs([tmp_path])}
    assert rate(runs["a"], runs.values()) == 0.9


def test_half_the_bits_at_every_quality_is_a_bd_rate_of_minus_fifty(tmp_path: Path) -> None:
    """By arithmetic: log rates differ by a constant, so any interpolation gives exactly that constant."""
    for name, factor in (("jpeg", 1.0), ("avif", 0.5)):
        for quality in range(5):
            folder, options = tmp_path / f"{name}{quality}", {"quality": quality}
            scores = [score("psnr", 25.0 + 3 * quality), score("bpp", factor * 0.2 * 2**quality)]
            made_runs.write(folder, name=name, knob="quality", options=options, scores=scores)
    # The anchor is the first of equals in page order: the other one then needs twice or half the bits.
    savings = bd_table(curves(read_runs([tmp_path])), "psnr")
    assert savings is not None
    expected = {"jpeg": 100.0, "avif": -50.0}[savings.lines[0].curve.points[0].run.name]
    assert savings.lines[0].percent == pytest.approx(expected, abs=1e-9)


def test_no_codec_curve_no_bd_rate(tmp_path: Path) -> None:
    run_of(tmp_path, "a", [30.0] * 6, kind="discrete")
    assert bd_table(curves(read_runs([tmp_path])), "psnr") is None


APART: dict[str, dict[str, Any]] = {
    "weights": {"weights": {"status": "own", "files": [{"file": "model.pt", "sha256": "ab" * 32}]}},
    "state of the weights": {"weights": {"status": "unverified", "files": [{"file": "model.pt", "sha256": "cd" * 32}]}},
    "dtype": {"extra": {"dtype": "float16"}},
    "adapter": {"extra": {"adapter": "ef" * 32}},
    "fixed option": {"options": {"subsampling": "4:4:4"}},
    "a fixed option more": {"options": {"subsampling": "4:2:0", "progressive": True}},
    "object": {"extra": {"question": {"model": {"name": "jpeg", "identity": "step 2000"}}}},
    "pictures": {"extra": {"question": {"model": {"name": "jpeg", "content": "12" * 32}}}},
}


@pytest.mark.parametrize("with_knob", [True, False])
@pytest.mark.parametrize("apart", [*APART, "nothing", "the name of the file"])
def test_curves_join_only_what_is_of_the_same_weights_dtype_adapter_and_options(
    tmp_path: Path, apart: str, with_knob: bool
) -> None:
    same: dict[str, Any] = {
        "weights": {"status": "own", "files": [{"file": "model.pt", "sha256": "cd" * 32}]},
        "options": {"subsampling": "4:2:0"},
        "extra": {"question": {"model": {"name": "jpeg", "identity": "step 1000", "content": "34" * 32}}},
    }
    for number, (quality, bpp) in enumerate(((90, 2.0), (10, 0.25), (50, 1.0))):
        facts = {**same, **(APART.get(apart, {}) if number == 1 else {})}
        if apart == "the name of the file" and number == 1:
            facts["weights"] = {"status": "own", "files": [{"file": "copy of model.pt", "sha256": "cd" * 32}]}
        adapter = facts["extra"].get("adapter")
        if with_knob:
            facts["options"] = {**facts["options"], "quality": quality}
        scores = [score("psnr", 20 + bpp), score("bpp", bpp)]
        folder = made_runs.write(
            tmp_path / f"q{quality}", knob="quality" if with_knob else None, scores=scores, **facts, seed=number
        )
        info = json.loads((folder / "run.json").read_text())
        info["id"] = f"{number}" * 64
        if adapter:
            info["model"]["adapter_sha256"] = adapter
        (folder / "run.json").write_text(json.dumps(info))
    drawn = curves(read_runs([tmp_path]))
    assert sorted(len(c.points) for c in drawn) == ([3] if apart in ("nothing", "the name of the file") else [1, 2])
    titles = [c.title for c in drawn]
    assert len({*titles}) == len(titles), "a legend tells them apart"
    leaderboard.build([tmp_path], tmp_path / "site")
    page = (tmp_path / "site" / "task" / "reconstruction.html").read_text()
    points = re.findall(r"<title>([^<]*): [^<]*bit/px", page)
    assert len(points) == 3
    assert len({*points}) >= len(titles), "what tells curves apart stands at their points"


def test_a_knob_that_chooses_the_weights_makes_one_curve(tmp_path: Path) -> None:
    """A network a quality: released files are one curve, one folder of the user's is another, another training a third;
    of files that stand under no option, every one is a curve of its own."""

    def write(name: str, quality: int, status: str, checkpoint: str | None, when: Any) -> None:
        digest = f"{name}{quality}"
        weights = {"status": status, "files": [{"file": "w", "role": "model", "sha256": digest}], "why": digest}
        weights = weights if status == "unverified" else {**weights, "why": None}
        folder = made_runs.write(
            tmp_path / name / str(quality),
            name="codec",
            options={"quality": quality},
            knob="quality",
            weights=weights,
            scores=[score("psnr", 20.0 + quality), score("bpp", 0.1 * quality)],
        )
        info = json.loads((folder / "run.json").read_text())
        info["id"] = f"{name}{quality}"
        info["model"]["checkpoint"] = checkpoint
        info["model"]["card"]["weights"] = [{"file": "w", "when": when}]
        info["question"] = {"model": {"name": "codec", "weights": [digest], "options": {"quality": quality}}}
        (folder / "run.json").write_text(json.dumps(info))

    for quality in (1, 2, 3):
        write("released", quality, "official", None, {"quality": quality})
        write("mine", quality, "unverified", "mine", {"quality": quality})
        write("other", quality, "unverified", "other", {"quality": quality})
    assert sorted(len(curve.points) for curve in curves(read_runs([tmp_path]))) == [3, 3, 3]
    for quality in (1, 2):
        write("plain", quality, "official", None, {})
        write("hostile", quality, "official", None, ["quality"])
    lengths = sorted(len(curve.points) for curve in curves(read_runs([tmp_path])))
    assert lengths == [1, 1, 1, 1, 3, 3, 3]
