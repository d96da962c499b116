"""Comparisons of runs written here by hand, so that every number is known."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from vtbench.reporting.compare import compare
from vtbench.reporting.measured import value
from vtbench.types.errors import VtbenchError

INFO: dict[str, Any] = {
    "schema": 1,
    "model": {"name": "a", "options": {}},
    "protocol": "vtbench",
    "task": {"name": "reconstruction", "version": 1, "fit": "resize"},
    "suite": {"name": "mine", "hash": "abc", "n": 40},
    "view": {"name": "256", "fingerprint": "f1"},
    "metrics": {"psnr": {"version": 1, "better": "higher"}, "lpips-alex": {"version": 1, "better": "lower"}},
}


def run(folder: Path, name: str, values: dict[str, list[float | None]], why: str | None = None, **info: Any) -> Path:
    """A run's folder: image i has value i of every list."""
    path = folder / name
    path.mkdir()
    record = copy.deepcopy(INFO)
    record["model"]["name"] = name
    for key, stated in info.items():
        record[key] = {**record[key], **stated} if isinstance(stated, dict) else stated
    (path / "run.json").write_text(json.dumps(record))
    count = len(next(iter(values.values())))
    with (path / "rows.jsonl").open("w") as out:
        for i in range(count):
            # As the runner writes it: what has no value stands in `why` alone.
            measured = {m: v[i] for m, v in values.items() if v[i] is not None}
            reasons = {m: why or "not measured" for m in values if m not in measured}
            row = {"item": f"{i:03}.png", "bits": None, "values": measured, "why": reasons}
            out.write(json.dumps(row) + "\n")
    (path / "scores.jsonl").write_text("")
    return path


def test_paired_difference_equals_scipy_and_counts_wins(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(30, 4, 20)
    a, b = list(base + rng.normal(0.5, 0.3, 20)), list(base)
    (difference,) = compare([run(tmp_path, "a", {"psnr": a}), run(tmp_path, "b", {"psnr": b})]).differences
    reference = stats.ttest_rel(a, b)
    interval = reference.confidence_interval(0.95)
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    # No exchange of 10,000 is as far apart, so that Student's t says how small p is.
    assert difference.p == pytest.approx(reference.pvalue, rel=1e-9)
    assert difference.difference == pytest.approx(np.mean(a) - np.mean(b))
    assert difference.wins == int((np.array(a) > np.array(b)).sum())
    assert difference.sign_p == pytest.approx(stats.binomtest(difference.wins, 20).pvalue)
    assert difference.verdict == "a is better"
    gaps = np.abs(np.array(a) - np.array(b))
    assert [e.item for e in difference.examples] == [f"{i:03}.png" for i in np.argsort(-gaps)[:10]]


def test_lower_is_better_and_holm_runs_over_everything(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(0.2, 0.05, 60)
    folders = [
        run(tmp_path, n, {"lpips-alex": list(base + s), "psnr": list(rng.normal(30, 1, 60))})
        for n, s in (("x", 0.0), ("y", 0.02), ("z", 0.04))
    ]
    comparison = compare(folders, resamples=2000)
    assert len(comparison.differences) == 6
    first = comparison.differences[0]
    assert (first.metric, first.a, first.b) == ("lpips-alex", "x", "y")
    assert first.verdict == "x is better"
    assert (first.wins, first.win_rate) == (60, 1.0)
    assert all(d.p_holm >= d.p for d in comparison.differences if d.p is not None and d.p_holm is not None)
    assert first.p_holm == pytest.approx(6 * (first.p or 0))
    assert "Holm over all 6" in comparison.notes[-1]
    assert json.loads(json.dumps(comparison.as_dict()))["differences"][0]["verdict"] == "x is better"


def test_lossless_wins_the_sign_test_and_psnr_is_pooled(tmp_path: Path) -> None:
    """Errors 100 and 0 pool to 50: 31.14 dB; 100 and 100 pool to 28.13 dB."""
    psnr = 10 * np.log10(255**2 / 100)
    a = run(tmp_path, "a", {"psnr": [psnr, None] * 20}, why="lossless: identical to the original")
    b = run(tmp_path, "b", {"psnr": [psnr, psnr] * 20})
    (difference,) = compare([a, b]).differences
    assert difference.metric == "psnr-pooled"
    assert difference.value_a == pytest.approx(10 * np.log10(255**2 / 50))
    assert difference.difference == pytest.approx(10 * np.log10(2))
    assert (difference.wins, difference.losses, difference.ties) == (20, 0, 20)
    assert difference.verdict == "a is better"
    assert difference.examples[0].a is None
    assert difference.examples[0].b == pytest.approx(psnr)


def test_lossless_images_of_a_real_run_are_counted(tmp_path: Path) -> None:
    """Half of the copies are identical: the runner's own rows must say so to the comparison."""
    from PIL import Image
    from skimage import data

    from vtbench import evaluate

    rng = np.random.default_rng(0)
    whole = data.astronaut()
    for kind in ("ref", "half", "noisy"):
        (tmp_path / kind).mkdir()
    for i in range(4):
        image = whole[32 * i : 32 * i + 32, :32]
        noisy = (image.astype(int) + rng.integers(-9, 10, image.shape)).clip(0, 255).astype(np.uint8)
        for kind, pixels in (("ref", image), ("half", image if i % 2 else noisy), ("noisy", noisy)):
            Image.fromarray(pixels).save(tmp_path / kind / f"{i}.png")
    copies = [f"folder:{tmp_path / kind}" for kind in ("half", "noisy")]
    originals, out = tmp_path / "ref", tmp_path / "runs"
    evaluation = evaluate(copies, tasks=["reconstruction"], images=originals, view="native", out=out)
    differences = {d.metric: d for d in compare(list(evaluation.runs), ["psnr", "bias-r"]).differences}
    pooled = differences["psnr-pooled"]
    assert (pooled.n, pooled.wins, pooled.losses, pooled.ties) == (4, 2, 0, 2)
    assert pooled.value_a == pytest.approx(value(evaluation.runs[0], "psnr-pooled"))
    assert pooled.value_b == pytest.approx(value(evaluation.runs[1], "psnr-pooled"))
    assert "higher on" in compare(list(evaluation.runs), ["bias-r"]).text()


def with_sizes(path: Path, sizes: list[tuple[int, int]]) -> Path:
    """The run with (width, height) of every image in its rows."""
    rows = [json.loads(line) for line in (path / "rows.jsonl").read_text().splitlines()]
    lines = [json.dumps({**row, "size": list(size)}) for row, size in zip(rows, sizes, strict=True)]
    (path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(("metric", "by_pixels"), [("psnr", True), ("drift-psnr-5", True), ("worst-tile-psnr", False)])
def test_where_images_are_lossless_errors_pool_by_what_they_are_of(
    tmp_path: Path, metric: str, by_pixels: bool
) -> None:
    """An image's error counts by its pixels, its worst tile's like every other tile; scipy's exact test says p."""
    rng = np.random.default_rng(4)
    errors = {"a": rng.gamma(2, 40, 8), "b": rng.gamma(2, 60, 8)}
    errors["a"][3] = errors["b"][5] = 0.0
    sizes = [(64, 64), (256, 128)] * 4
    folders = []
    for name, of_name in errors.items():
        values = [None if e == 0 else float(10 * np.log10(255**2 / e)) for e in of_name]
        folder = run(tmp_path, name, {metric: values}, "lossless", metrics={metric: {"version": 1, "better": "higher"}})
        folders.append(with_sizes(folder, sizes))
    (difference,) = compare(folders).differences
    weights = np.array([w * h for w, h in sizes], dtype=float) if by_pixels else np.ones(8)

    def statistic(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return 10 * np.log10((weights * y).sum(axis=axis) / (weights * x).sum(axis=axis))

    settings = {"permutation_type": "samples", "n_resamples": np.inf, "vectorized": True}
    reference = stats.permutation_test((errors["a"], errors["b"]), statistic, **settings)
    assert difference.metric == f"{metric}-pooled"
    assert difference.difference == pytest.approx(float(statistic(errors["a"], errors["b"])), rel=1e-9)
    assert difference.p == pytest.approx(reference.pvalue, rel=1e-9)
    assert difference.n == 8


@pytest.mark.parametrize("metric", ["psnr", "bias-r"])
def test_a_few_images_decide_nothing(tmp_path: Path, metric: str) -> None:
    info = {"metrics": {metric: {"version": 1, "better": "higher" if metric == "psnr" else None}}}
    few = [run(tmp_path, n, {metric: [v + 0.1 * i for i in range(5)]}, **info) for n, v in (("a", 31.0), ("b", 30.0))]
    (difference,) = compare(few).differences
    assert difference.verdict == "no verdict below 6 images"
    more = [run(tmp_path, n, {metric: [v + 0.1 * i for i in range(7)]}, **info) for n, v in (("c", 31.0), ("d", 30.0))]
    (difference,) = compare(more).differences
    assert difference.p == pytest.approx(2 / 2**7)
    wanted = "c is better" if metric == "psnr" else "told apart, and neither end is better"
    assert difference.verdict == wanted


def test_all_lossless_has_no_difference_but_wins(tmp_path: Path) -> None:
    a = run(tmp_path, "a", {"psnr": [None] * 12}, why="lossless")
    b = run(tmp_path, "b", {"psnr": [30.0] * 12})
    (difference,) = compare([a, b]).differences
    assert difference.difference is None
    assert "a returns every image identical" in (difference.why or "")
    assert (difference.wins, difference.sign_p) == (12, pytest.approx(2 / 2**12))
    assert difference.verdict == "a is better"
    json.dumps(dataclasses.asdict(difference), allow_nan=False)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"protocol": "titok"}, "protocol is 'vtbench'"),
        ({"suite": {"hash": "other"}}, "suite hash"),
        ({"task": {"version": 2}}, "task version is 1"),
        ({"view": {"fingerprint": "f2"}}, "view fingerprint"),
        ({"metrics": {"psnr": {"version": 2}}}, "version of psnr is 1"),
    ],
)
def test_other_protocols_are_refused_by_field(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    values = {"psnr": [30.0, 31.0]}
    with pytest.raises(VtbenchError, match=named):
        compare([run(tmp_path, "a", values), run(tmp_path, "b", values, **changed)])


def test_only_common_images_and_metrics_are_compared(tmp_path: Path) -> None:
    a = run(tmp_path, "a", {"psnr": [30.0, 31.0, 32.0], "ssim": [0.9, 0.8, 0.7]})
    b = run(tmp_path, "b", {"psnr": [30.5, 31.5], "ssim": [None, None]})
    comparison = compare([a, b])
    assert (comparison.images, comparison.differences[0].n) == (2, 2)
    assert "3 images" in comparison.notes[0]
    assert "b holds no per-image value" in comparison.left_out["ssim"]
    with pytest.raises(VtbenchError, match="two runs"):
        compare([a])


def with_pictures(path: Path, pictures: str, kind: str = "discrete") -> Path:
    """Row i of the run states the sha256 that begins with letter i."""
    lines = [json.loads(line) for line in (path / "rows.jsonl").read_text().splitlines()]
    rows = [{**row, "sha256": letter * 64} for row, letter in zip(lines, pictures, strict=True)]
    (path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = json.loads((path / "run.json").read_text())
    record["model"]["kind"] = kind
    (path / "run.json").write_text(json.dumps(record))
    return path


def test_other_pictures_under_the_same_name_are_not_compared(tmp_path: Path) -> None:
    """A file that changed, or that an older release read otherwise, is another picture by its pixels."""
    values = {"psnr": [30.0, 31.0, 32.0]}
    a, b, c, d = (run(tmp_path, name, values) for name in "abcd")
    comparison = compare([with_pictures(a, "123"), with_pictures(b, "143")])
    assert comparison.images == 2
    assert "1 images are other pictures in one run than in another, and left out: 001.png" in comparison.notes
    with pytest.raises(VtbenchError, match=r"other pictures under the same names \(sha256 of 000\.png\)"):
        compare([a, with_pictures(c, "456")])
    # What a generator drew is a picture of its own in every run.
    assert compare([with_pictures(c, "456", "generator"), with_pictures(d, "789", "generator")]).images == 3


def test_runs_of_one_model_are_told_apart_by_options(tmp_path: Path) -> None:
    folders = [
        run(tmp_path, f"q{q}", {"psnr": [float(q), q + 1.0]}, model={"name": "jpeg", "options": {"quality": q}})
        for q in (50, 75)
    ]
    assert compare(folders).runs == ("jpeg (quality=50)", "jpeg (quality=75)")
