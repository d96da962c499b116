"""Run folders of schema 1, as commit 8f55388 wrote them, are read, compared, merged, published and exported as then.

The truth is what stands in the recorded files, read here by `json` alone, and arithmetic on their rows.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vtbench.results.record import find_runs, read_run

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "tests" / "data" / "runs_schema1"
RUNS = {
    path.parent.relative_to(RECORDED / "runs").as_posix(): path.parent
    for path in sorted((RECORDED / "runs").glob("*/*/run.json"))
}
"""{kind/folder's name: folder}"""
STATED = {
    "curve/jpeg--reconstruction--de68661ad2b3": {"psnr": 25.333743146585515, "bpp": 1.44287109375, "rfid": None},
    "curve/jpeg--reconstruction--e52d703f008f": {"psnr": 34.40616417010011, "bpp": 2.04931640625, "kid": None},
    "generation/ngram-kmeans--generation--8e0c0434c60c": {"fid": None, "nfe": 0.0},
    "incomplete/jpeg--reconstruction--07cf21f6f89d": {"psnr": 39.92991664344734, "bpp": 2.30078125},
    "limited/dct--reconstruction--17447be4ff70": {"psnr": 22.15496138603647, "ssim": 0.6076843984926075},
    "merged/residual-vq--reconstruction--155c4ded7c7a": {"psnr": 27.110629751647366, "bpp": 0.5},
    "pictures/folder-candidates--reconstruction--f35ffa12523d": {"psnr": 26.293133313050674, "bpp": None},
    "rescored/kmeans-vq--detail--65760a545c53": {"ssim": 0.5430411615094142, "mse": 442.2584025065104},
    "saved_images/kmeans-vq--compression--08398f3a1dfc": {"coded-bpp": 0.16015625, "entropy-bpp": None},
    "saved_tokens/kmeans-vq--reconstruction--c37686de3663": {"psnr": 22.539136772567318, "bpp": 0.15625},
    "shards/residual-vq--reconstruction--155c4ded7c7a--shard-1-of-2": {"rfid": 0.7124846165546863},
    "shards/residual-vq--reconstruction--155c4ded7c7a--shard-2-of-2": {"rfid": 0.06981445091026606},
}
"""Some numbers written out, so that data and reader cannot drift together."""
STATES = {"incomplete": ("incomplete", 3, 1), "limited": ("complete", 2, 0), "shards": ("complete", 2, 0)}
"""{kind: (status, images, images without a PSNR)}; every other kind is complete, of four images."""
INFERRED = {"low", "high", "p", "p_holm", "sign_p", "sign_p_holm"}
"""What rests on quantiles and tails of Student's t, which scipy's releases compute with differences up to 2e-11."""


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def scores_in(folder: Path) -> dict[str, dict[str, Any]]:
    return {score["metric"]: score for score in lines(folder / "scores.jsonl")}


def of_kind(kind: str) -> list[Path]:
    return [path for name, path in RUNS.items() if name.startswith(f"{kind}/")]


def near(key: str, wanted: Any) -> Any:
    return pytest.approx(wanted, rel=1e-9 if key in INFERRED else 1e-12) if isinstance(wanted, float) else wanted


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of everything recorded, as current folder: the records name the originals relative to it."""
    target = tmp_path / "recorded"
    shutil.copytree(RECORDED, target)
    monkeypatch.chdir(target)
    return target


def vtbench(*words: object, cwd: Path) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "vtbench", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_records_are_whole_and_name_nobodys_machine() -> None:
    assert set(RUNS) == set(STATED)
    texts = [p for p in RECORDED.rglob("*") if p.suffix in (".json", ".jsonl")]
    assert len(texts) > 3 * len(RUNS)
    absolute = re.compile(r'["= ]/[A-Za-z]')
    assert [p.name for p in texts if absolute.search(p.read_text())] == []


@pytest.mark.parametrize("name", RUNS)
def test_it_is_read(name: str) -> None:
    folder = RUNS[name]
    stored = json.loads((folder / "run.json").read_text())
    assert stored["schema"] == 1
    assert "identity_rule" not in stored
    run = read_run(folder)
    assert run.name == stored["model"]["name"]
    assert [dict(row) for row in run.rows()] == lines(folder / "rows.jsonl")
    stored_scores = scores_in(folder)
    assert [score["metric"] for score in run.scores] == list(stored_scores)
    for metric, score in stored_scores.items():
        read = run.score(metric)
        assert read is not None
        assert {key: read[key] for key in score} == score
    for metric, number in STATED[name].items():
        read = run.score(metric)
        assert read is not None
        assert read["value"] == number
        assert number is not None or read["why"]
    status, images, missing = STATES.get(name.partition("/")[0], ("complete", 4, 0))
    assert (run.info["status"], run.info["n"]) == (status, images)
    psnr = run.score("psnr")
    if psnr is not None:
        assert (psnr["n"], psnr["missing"]) == (images - missing, missing)


@pytest.mark.parametrize("name", [n for n in RUNS if not n.startswith(("generation/", "shards/"))])
def test_the_mean_is_that_of_its_rows(name: str) -> None:
    run = read_run(RUNS[name])
    values = [row["values"]["psnr"] for row in run.rows() if "psnr" in row["values"]]
    psnr = run.score("psnr")
    assert psnr is not None
    assert psnr["value"] == pytest.approx(math.fsum(values) / len(values), rel=1e-12)


def test_every_run_below_a_folder_is_found() -> None:
    assert find_runs([RECORDED / "runs"]) == sorted(RUNS.values())


def test_a_rescored_run_says_what_was_added() -> None:
    (folder,) = of_kind("rescored")
    assert read_run(folder).info["added"] == ["mse", "ssim"]


def test_two_points_of_a_curve_are_compared(place: Path) -> None:
    low, high = (Path("runs") / path.relative_to(RECORDED / "runs") for path in of_kind("curve"))
    vtbench("compare", low, high, "--json-file", "compare.json", cwd=place)
    compared = json.loads((place / "compare.json").read_text())
    before = json.loads((RECORDED / "expected" / "compare.json").read_text())
    assert compared["runs"] == before["runs"] == ["jpeg (quality=5)", "jpeg (quality=50)"]
    assert compared["images"] == 4
    now = {d["metric"]: d for d in compared["differences"]}
    then = {d["metric"]: d for d in before["differences"]}
    assert list(now) == list(then)
    for metric, difference in then.items():
        for key, value in difference.items():
            if key not in ("p", "p_holm", "verdict"):
                assert now[metric][key] == near(key, value), metric
        # Four images may change places in 16 ways, of which the one at hand and its mirror are two.
        assert now[metric]["p"] >= 2 / 2**4
        assert now[metric]["verdict"] == "no verdict below 6 images"
    pairs = zip(lines(place / low / "rows.jsonl"), lines(place / high / "rows.jsonl"), strict=True)
    gaps = [a["values"]["psnr"] - b["values"]["psnr"] for a, b in pairs]
    assert now["psnr"]["difference"] == pytest.approx(math.fsum(gaps) / len(gaps), rel=1e-12)


def test_runs_of_different_tasks_are_not_compared(place: Path) -> None:
    runs = [path for kind in ("saved_images", "saved_tokens") for path in of_kind(kind)]
    ran = subprocess.run(
        [sys.executable, "-m", "vtbench", "compare", *map(str, runs)],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "compression" in ran.stderr
    assert "reconstruction" in ran.stderr


def of_the_logarithm(decibels: float, low: float) -> tuple[float, float]:
    """The ends of a pooled PSNR by its rule of today, from its value and the lower end that the old rule gave: half of
    Student's interval of the squared error, once added to it, is now divided by it, as that of its logarithm."""
    error, most = (255**2 / 10 ** (x / 10) for x in (decibels, low))
    half = 10 / math.log(10) * (most - error) / error
    return decibels - half, decibels + half


def test_shards_are_merged(place: Path) -> None:
    """Into the run that the recording code merged them to: the same rows, features, scores and record."""
    vtbench("merge", "runs/shards", "--out", "merged_again", cwd=place)
    (joined,) = (place / "merged_again").iterdir()
    (before,) = of_kind("merged")
    assert joined.name == before.name
    parts = of_kind("shards")
    assert lines(joined / "rows.jsonl") == [row for part in parts for row in lines(part / "rows.jsonl")]
    features = sorted(p.name for p in (before / "features").iterdir())
    assert len(features) == 2
    for name in features:
        whole = (joined / "features" / name).read_bytes()
        assert whole == b"".join((part / "features" / name).read_bytes() for part in parts)
        assert len(whole) == 4 * 2048 * 4, "four images, 2048 float32 numbers each"
    now, then = scores_in(joined), scores_in(before)
    assert list(now) == list(then)
    pooled = then["psnr-pooled"]
    pooled["low"], pooled["high"] = of_the_logarithm(pooled["value"], pooled["low"])
    for metric, score in then.items():
        for key in ("value", "low", "high", "n", "missing"):
            assert now[metric][key] == near(key, score[key]), metric
    info, info_then = (json.loads((p / "run.json").read_text()) for p in (joined, before))
    for key in ("schema", "id", "n", "shard", "merged_from", "status", "ranked", "why_not_ranked", "question", "view"):
        assert info[key] == info_then[key], key


def test_the_page_and_its_tables_show_the_recorded_numbers(place: Path) -> None:
    published = [path for name, path in RUNS.items() if not name.startswith("shards/")]
    vtbench("leaderboard", "build", *published, "--out", "site", cwd=place)
    with (place / "site" / "data" / "scores.csv").open(newline="") as source:
        table = {(row["run"], row["metric"]): row for row in csv.DictReader(source)}
    exported = {(r["run"], r["metric"]): r for r in json.loads((place / "site" / "data" / "scores.json").read_text())}
    wanted = {}
    for folder in published:
        run = json.loads((folder / "run.json").read_text())
        wanted.update({(run["id"], metric): (score, run) for metric, score in scores_in(folder).items()})
    assert set(table) == set(exported) == set(wanted)
    for key, (score, run) in wanted.items():
        for column in ("value", "low", "high"):
            cell = table[key][column]
            assert (float(cell) if cell else None) == score[column] == exported[key][column]
        assert (table[key]["model"], table[key]["status"]) == (run["model"]["name"], run["status"])
        assert table[key]["ranked"] == str(run["ranked"] and run["status"] == "complete")
    index = (place / "site" / "index.html").read_text()
    for shown in ("34.41", "25.33", "26.29"):
        assert shown in index, f"PSNR {shown} dB of two JPEG points and of the folder's pictures"
    pages = "".join(p.read_text() for p in (place / "site" / "model").glob("*.html"))
    for run in {run["id"]: run for _, run in wanted.values()}.values():
        assert f'id="r-{run["id"][:12]}"' in pages, run["model"]["name"]


def test_saved_tokens_are_still_unpacked() -> None:
    """1024 codes a picture of 64 x 64, one for each 8 x 8 patch: 64 numbers of 10 bits."""
    from vtbench.results.stores import TokenFile

    (folder,) = of_kind("saved_tokens")
    kept = TokenFile(folder)
    for index, row in enumerate(read_run(folder).rows()):
        tokens = kept[index]
        assert tokens is not None
        assert tuple(tokens.indices.shape) == (1, 64, 1)  # type: ignore[union-attr]
        assert float(tokens.bits()[0]) == row["bits"] == 640.0
