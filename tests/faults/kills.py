"""Kills at random moments: what was written stays, the same command goes on to what one pass gives, nothing is left."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny_features
import torch
from damaged_runs import RECORDED
from harness import BUSY, SECONDS, Kind, ended
from PIL import Image
from support import cuts, stable

import vtbench
from vtbench import leaderboard
from vtbench.explaining.claims import Explanation
from vtbench.explaining.explain import explain
from vtbench.images.prompts import open_prompts
from vtbench.models.load import Loaded, load
from vtbench.results.cache_files import IN_WORK
from vtbench.results.files import read_lines
from vtbench.results.record import read_run
from vtbench.results.sums import SUMS, differences, read_sums
from vtbench.running import folders, rescore, sets
from vtbench.running.draw import Order, draw
from vtbench.running.merge import merge
from vtbench.types.environment import cache_dir

EACH = 4
"""Kills of a case."""
TIMED = ("second", "peak-memory")
"""Parts of the names of scores that no two passes share."""


@dataclass(frozen=True)
class Work:
    """What is killed. begin: lays out what it works on in a new folder; do: the work, which goes on by itself where it
    was killed; holds: raises unless what lies there right after a kill is whole as far as it goes."""

    begin: Callable[[Path, Path], object]
    """(inputs, place)"""
    do: Callable[[Path, Path], object]
    holds: Callable[[Path, Path], object]


def _run_of(place: Path) -> Path | None:
    runs = [path.parent for path in place.glob("out/*/run.json")]
    assert len(runs) <= 1
    return runs[0] if runs else None


def _images(inputs: Path, place: Path) -> None:
    more: dict[str, Any] = {"view": "native", "tasks": ["compression"], "batch_size": 3, "out": place / "out"}
    vtbench.evaluate("jpeg", images=inputs / "images", save=["tokens", "images"], **more)


def _rows_are_whole(inputs: Path, place: Path) -> None:
    path = _run_of(place)
    if path is None:
        return
    run = read_run(path)
    there, wanted = _stable(path), _stable(next((inputs / "evaluate" / "out").glob("jpeg--*")))
    assert there == wanted[: len(there)]
    assert run.info.status == "running" or len(there) == len(wanted)
    _sums_hold(path)


def _sums_hold(path: Path) -> None:
    """Whatever is killed, the sums that stand there are those of the files."""
    sums = read_sums(path)
    assert sums is None or differences(path, sums) == []


def _score(inputs: Path, place: Path) -> None:
    rescore.add_metrics(next(place.glob("out/*/run.json")).parent, ["mse", "ms-ssim", "bits"])


def _scores_stay(inputs: Path, place: Path) -> None:
    before = read_run(next((inputs / "evaluate" / "out").glob("jpeg--*")))
    after = read_run(next(place.glob("out/*/run.json")).parent)
    assert after.info.finished
    _sums_hold(after.path)
    assert {s.metric for s in before.scores} <= {s.metric for s in after.scores}
    assert [row.values["psnr"] for row in before.rows()] == [row.values["psnr"] for row in after.rows()]


def _draw(inputs: Path, place: Path) -> None:
    draw(_generator(), Order(open_prompts("classes:2"), per_prompt=4, batch_size=2), place / "drawn")


@functools.cache
def _generator() -> Loaded:
    return load("ngram-kmeans", generator=True)


def _pictures_stay(inputs: Path, place: Path) -> None:
    for line in read_lines(place / "drawn" / "samples.jsonl"):
        assert (place / "drawn" / line["file"]).read_bytes() == (inputs / "draw/drawn" / line["file"]).read_bytes()


def _merge(inputs: Path, place: Path) -> None:
    merge([inputs / "shards"], place / "out")


def _merged_or_not(inputs: Path, place: Path) -> None:
    path = _run_of(place)
    if path is not None:
        assert read_run(path).info.finished
        assert len(list(read_run(path).rows())) == len(list((inputs / "images").iterdir()))


def _page(inputs: Path, place: Path) -> None:
    leaderboard.build([inputs / "runs"], place / "site")


def _old_page_or_new(inputs: Path, place: Path) -> None:
    if (place / "site").exists():
        assert _content(place / "site") == _content(inputs / "page" / "site")


def _folders(inputs: Path, place: Path) -> None:
    names = ["psnr", "ms-ssim", f"{_metrics(inputs)}-fid"]
    _answered(place, folders.score(inputs / "many", [inputs / "one", inputs / "two"], names))


def _sets(inputs: Path, place: Path) -> None:
    _answered(place, sets.score(inputs / "many", [inputs / "one", inputs / "two"], [f"{_metrics(inputs)}-fid"]))


def _explain(inputs: Path, place: Path) -> None:
    _answered(place, explain("jpeg", {"psnr": 30.0}, images=str(inputs / "many"), batch_size=8))


def _answered(place: Path, scored: folders.Scored | Explanation) -> None:
    """What the command would print; what it kept while it worked is gone by now."""
    kept = cache_dir() / IN_WORK
    assert not [*kept.glob("*")]
    (place / "answer.json").write_text(json.dumps(scored.as_dict()))


def _no_answer_yet(inputs: Path, place: Path) -> None:
    """These print at their end alone, and keep their work in the cache."""
    assert {path.name for path in place.iterdir()} <= {"answer.json"}


def _generation(inputs: Path, place: Path) -> None:
    more: dict[str, Any] = {"tasks": [str(_prepared["task"])], "images": inputs / "many", "view": "native"}
    vtbench.evaluate("ngram-kmeans", options={"size": "64"}, per_prompt=20, batch_size=8, **more, out=place / "out")


def _drawings_and_rows_stay(inputs: Path, place: Path) -> None:
    path, whole = _run_of(place), next((inputs / "generation" / "out").iterdir())
    if path is None:
        return
    there, wanted = _stable(path), _stable(whole)
    assert there == wanted[: len(there)]
    for picture in (path / "generated" / "images").rglob("[!.]*.png"):
        assert picture.read_bytes() == (whole / picture.relative_to(path)).read_bytes()


def _metrics(inputs: Path) -> str:
    return f"{inputs / 'code' / 'metrics_of_killed.py'}@killed"


WORKS: dict[str, Work] = {
    "evaluate": Work(lambda inputs, place: None, _images, _rows_are_whole),
    "score": Work(
        lambda inputs, place: shutil.copytree(inputs / "evaluate" / "out", place / "out"), _score, _scores_stay
    ),
    "draw": Work(lambda inputs, place: None, _draw, _pictures_stay),
    "merge": Work(lambda inputs, place: None, _merge, _merged_or_not),
    "folders": Work(lambda inputs, place: None, _folders, _no_answer_yet),
    "sets": Work(lambda inputs, place: None, _sets, _no_answer_yet),
    "explain": Work(lambda inputs, place: None, _explain, _no_answer_yet),
    "generation": Work(lambda inputs, place: None, _generation, _drawings_and_rows_stay),
    "page": Work(lambda inputs, place: None, _page, _old_page_or_new),
}
IN_TURN = (*("evaluate", "score", "draw", "merge", "folders", "sets", "explain", "generation") * 2, "page")
"""A page takes ten times as long as the others."""
_prepared: dict[str, Any] = {}
"""The folder of inputs and of what one pass gives, and how long that took; set before anything forks."""


def whole(folder: Path) -> int:
    """Every work in one pass, twice: what a second pass of a finished one leaves is the same. The first is made here,
    so that what forks has everything imported."""
    torch.set_num_threads(1)
    cuts(folder / "images", 12)
    cuts(folder / "many", 70)
    for name, colours in (("one", 16), ("two", 4)):
        (folder / name).mkdir()
        for path in (folder / "many").iterdir():
            Image.open(path).quantize(colours).convert("RGB").save(folder / name / path.name)
    _prepared["task"] = tiny_features.task(folder / "code", tag="killed", dim=4, prompts="classes:2")
    for i, of in ((1, 2), (2, 2)):
        _shard(folder, i, of)
    for kind in ("curve", "saved_images", "generation"):
        shutil.copytree(sorted((RECORDED / kind).iterdir())[0], folder / "runs" / kind)
    _prepared["folder"] = folder
    for name, work in WORKS.items():
        place = folder / name
        place.mkdir()
        work.begin(folder, place)
        work.do(folder, place)
        before = _content(place)
        assert before, name
        if name != "score":
            _in_process(lambda: work.do(folder, place))  # noqa: B023
            assert _content(place) == before, name
        work.holds(folder, place)
        _prepared[name] = _seconds(work, folder, folder / f"timed-{name}")
    return len(WORKS)


def _seconds(work: Work, inputs: Path, place: Path) -> float:
    """Of one pass in a process of its own."""
    place.mkdir()
    work.begin(inputs, place)
    begun = time.monotonic()
    _in_process(lambda: work.do(inputs, place))
    return time.monotonic() - begun


def _shard(folder: Path, i: int, of: int) -> None:
    more: dict[str, Any] = {"view": "native", "tasks": ["compression"], "batch_size": 3, "out": folder / "shards"}
    vtbench.evaluate("jpeg", images=folder / "images", shard=(i, of), **more)


def _in_process(work: Callable[[], object]) -> None:
    assert ended(_begun(work), BUSY * SECONDS) == 0


def _begun(work: Callable[[], object]) -> int:
    """A forked process that does the work."""
    import traceback

    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def case(seed: int, number: int, folder: Path) -> str:
    rng = random.Random(f"{seed} kill {number}")
    name = IN_TURN[number % len(IN_TURN)]
    work, inputs = WORKS[name], _prepared["folder"]
    work.begin(inputs, folder)
    for _ in range(EACH):
        child = _begun(lambda: work.do(inputs, folder))
        time.sleep(rng.random() * _prepared[name])
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        work.holds(inputs, folder)
    _in_process(lambda: work.do(inputs, folder))
    work.holds(inputs, folder)
    ours, theirs = _content(folder), _content(inputs / name)
    assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())
    others = [path for path in ours if ours[path] != theirs[path]]
    assert not others, others
    return name


def _stable(path: Path) -> list[dict[str, Any]]:
    rows = stable(path)
    for row in rows:
        row.pop("seconds", None)
    return rows


def _content(place: Path) -> dict[str, Any]:
    """{file: what two passes share of it}; every file counts, also those that begin with a dot."""
    out: dict[str, Any] = {}
    for path in sorted(p for p in place.rglob("*") if p.is_file()):
        name = path.relative_to(place).as_posix()
        if path.name == "rows.jsonl":
            out[name] = _stable(path.parent)
        elif path.name == "samples.jsonl":
            out[name] = [
                {k: v for k, v in line.items() if k not in ("seconds", "warm_up")} for line in read_lines(path)
            ]
        elif path.name == "scores.jsonl":
            scores = list(read_lines(path))
            kept = [s for s in scores if not any(t in s["metric"] + s["unit"] for t in TIMED)]
            out[name] = {s["metric"]: s["value"] for s in kept}
        elif path.name in ("run.json", "generate.json"):
            info = json.loads(path.read_text())
            out[name] = [info["id"], info["status"], info.get("n"), sorted(info.get("metrics", ()))]
        elif path.name == SUMS:
            _sums_hold(path.parent)
            out[name] = sorted(read_sums(path.parent) or {})
        else:
            out[name] = path.read_bytes()
    return out


KIND = Kind(
    "kills",
    "A kill at any moment loses no row, score, token, image or page that was finished; the same command goes on to "
    "what one pass gives, byte for byte but for times, and no file is left over.",
    f"evaluate (tokens and images kept; a generator), score of runs, folders and sets, explain, generate, merge, "
    f"leaderboard build; SIGKILL at a random moment of the pass, {EACH} times a case, what lies there is read each "
    "time; then one pass to the end, compared by file",
    whole,
    case,
    together=10,
    seconds=60.0,
)
