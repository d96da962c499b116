"""vtbench runs and vtbench cache: what they list, what they delete, and what they leave alone."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import filelock
import pytest
from support import command, cuts

import vtbench
from vtbench.results.cache_files import prune
from vtbench.results.record import read_run

RUNS = Path(__file__).resolve().parents[1] / "data" / "runs_schema1" / "runs"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    images = cuts(folder / "images", 3, ((64, 64),))
    for quality in (20, 80):
        vtbench.evaluate(
            "jpeg",
            images=images,
            view="native",
            tasks=["compression"],
            options={"quality": quality},
            save=["images"] if quality == 20 else [],
            out=folder / "out",
        )
    return folder / "out"


@pytest.fixture
def out(evaluated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(evaluated, tmp_path / "out"))


def listed(*words: object) -> list[dict[str, Any]]:
    code, text, _ = command("runs", *words, "--json")
    assert code == 0
    return json.loads(text)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# -- runs --------------------------------------------------------------------------------------------------------------


def test_every_run_is_listed_with_its_facts(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, text, _ = command("runs", out)
    assert code == 0
    runs = sorted(out.iterdir())
    for word in ("jpeg quality=20", "jpeg quality=80", "compression", "images", "complete", vtbench.__version__):
        assert word in text
    for run in runs:
        assert str(run) in text
        assert read_run(run).info.provenance.finished[:10] in text  # type: ignore[index]
    one, two = listed(out)
    assert [one["path"], two["path"]] == [str(run) for run in runs]
    assert {one["images"], two["images"]} == {3}
    assert one["bytes"] == sum(len(data) for data in contents(runs[0]).values())
    assert one["stale"] == two["stale"] == {}
    # `out` is the default, `list` may be named, and a folder that is called like a verb is given by its path.
    monkeypatch.chdir(out.parent)
    assert [r["path"] for r in listed()] == [f"out/{run.name}" for run in runs]
    assert listed("list", out) == listed(out)
    out.rename(out.parent / "rm")
    assert len(listed("./rm")) == 2


def test_scores_of_other_versions_are_named_with_what_renews_them(out: Path) -> None:
    (old,) = RUNS.glob("saved_images/*")
    (entry,) = listed(old)
    stated = {s["metric"]: s["version"] for s in map(json.loads, (old / "scores.jsonl").read_text().splitlines())}
    assert entry["stale"] == {"tokens": {"measured": stated["tokens"], "installed": 2}}
    code, text, _ = command("runs", old)
    assert code == 0
    assert "tokens 1 (here 2); renew with: vtbench score" in text
    # A score of a version that is not here yet, and one of a metric that is not here at all.
    run = next(p for p in out.iterdir() if not (p / "images").exists())
    scores = [json.loads(line) for line in (run / "scores.jsonl").read_text().splitlines()]
    changed = [{**s, "version": 9} if s["metric"] == "bpp" else s for s in scores]
    strange = {**scores[0], "metric": "of-a-plug-in", "value": 1.0}
    (run / "scores.jsonl").write_text("".join(json.dumps(s) + "\n" for s in [*changed, strange]))
    assert list(listed(run)[0]["stale"]) == ["bpp"]
    assert "upgrade vtbench" in command("runs", run)[1]


def test_a_record_that_cannot_be_read_is_a_line_and_stops_nothing(out: Path) -> None:
    first = sorted(out.iterdir())[0]
    (first / "run.json").write_text("{")
    code, text, err = command("runs", out)
    assert code == 1
    assert "quality=" in text
    assert "not valid JSON" in err
    code, _, err = command("runs", out.parent / "nowhere")
    assert (code, "holds no run" in err) == (2, True)


def test_a_run_is_deleted_and_nothing_else(out: Path) -> None:
    first, second = sorted(out.iterdir())
    before = contents(second)
    size = listed(first)[0]["bytes"]
    code, text, _ = command("runs", "rm", first)
    assert code == 0
    assert "deleted" in text
    assert size > 0
    assert [p.name for p in out.iterdir()] == [second.name]
    assert contents(second) == before
    assert command("runs", "rm", f"{second}/")[0] == 0
    assert list(out.iterdir()) == []


def foreign_file(run: Path) -> Path:
    (run / "notes.txt").write_text("mine")
    return run


def link_inside(run: Path) -> Path:
    (run.parent / "elsewhere").mkdir()
    (run / "samples").rename(run.parent / "elsewhere" / "samples")
    (run / "samples").symlink_to(run.parent / "elsewhere" / "samples")
    return run


def link_to_it(run: Path) -> Path:
    link = run.parent / "link"
    link.symlink_to(run)
    return link


def no_record(run: Path) -> Path:
    (run / "run.json").unlink()
    return run


def others_record(run: Path) -> Path:
    (run / "run.json").write_text('{"name": "an experiment of mine"}')
    return run


REFUSED = {
    "a file of somebody's": (foreign_file, "notes.txt, which vtbench did not write"),
    "a link inside": (link_inside, "samples, which vtbench did not write"),
    "a link": (link_to_it, "is a link"),
    "no record": (no_record, "is no run"),
    "somebody's run.json": (others_record, "states no schema number"),
    "the folder of runs": (lambda run: run.parent, "is no run"),
    "nothing": (lambda run: run.parent / "nowhere", "is no run"),
    "a file": (lambda run: run / "rows.jsonl", "is no run"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_run_is_refused_and_left_as_it_is(out: Path, case: str) -> None:
    spoil, sentence = REFUSED[case]
    target = spoil(sorted(out.iterdir())[0])
    before = contents(out)
    code, _, err = command("runs", "rm", target)
    assert code == 1
    assert sentence in err
    assert contents(out) == before


def test_a_run_that_is_being_written_is_refused_and_one_that_was_killed_is_not(out: Path) -> None:
    first, second = sorted(out.iterdir())
    lock = filelock.FileLock(first / "lock")
    with lock:
        code, _, err = command("runs", "rm", first, second)
    assert code == 1
    assert "another process is writing" in err
    assert [p.name for p in out.iterdir()] == [first.name], "the other one of the same call went"
    info = json.loads((first / "run.json").read_text())
    (first / "run.json").write_text(json.dumps({**info, "status": "running"}))
    assert command("runs", "rm", first)[0] == 0


# -- cache -------------------------------------------------------------------------------------------------------------

DAY = 86_400


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files of features of 1, 10 and 100 days, readings, digests, and what nobody makes again."""
    root = tmp_path / "cache"
    monkeypatch.setenv("VTBENCH_CACHE", str(root))
    ages = {
        "features/a.f32": 1,
        "features/b.f32": 10,
        "features/c.f32": 100,
        "features/.d.f32.x1": 100,
        "features/.e.f32.x2": 0,
        "features/mine.npy": 100,
        "hashes/f.txt": 50,
        "readings/ab/ab12.json": 100,
        "readings/ab/tmpxyz": 0,
        "weights/0123/model.pt": 400,
        "metrics/inception.pth": 400,
        "prompts/geneval.jsonl": 400,
    }
    for name, days in ages.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
        os.utime(path, (time.time() - days * DAY,) * 2)
    return root


def names(root: Path) -> set[str]:
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}


WRITING = {"features/.e.f32.x2", "readings/ab/tmpxyz"}
STAYS = {"features/mine.npy", "weights/0123/model.pt", "metrics/inception.pth", "prompts/geneval.jsonl", *WRITING}
"""What somebody put there, what was downloaded, and what a process is writing."""


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ((), {"features/a.f32", "features/b.f32"}),
        (("--older-than", 5), {"features/a.f32"}),
        (("--older-than", 1000), None),
        (("--all",), set()),
        (("--older-than", 0), set()),
        (("--max-size", 0.000003), {"features/a.f32", "features/b.f32", "hashes/f.txt"}),
        (("--max-size", 0.0000015), {"features/a.f32"}),
        (("--max-size", 0), set()),
        (("--max-size", 1), None),
        (("--older-than", 60, "--max-size", 0.000002), {"features/a.f32", "features/b.f32"}),
        (("--all", "--dry-run"), None),
    ],
)
def test_what_goes_by_age_and_by_size(cache: Path, words: tuple[Any, ...], left: set[str] | None) -> None:
    before = names(cache)
    code, text, _ = command("cache", "prune", *words)
    assert code == 0
    assert names(cache) == (before if left is None else left | STAYS)
    gone = len(before) - len(names(cache)) if "--dry-run" not in words else 6
    assert text.startswith(f"{gone} file")


def test_what_the_cache_holds_is_listed(cache: Path) -> None:
    code, text, _ = command("cache")
    assert code == 0
    assert str(cache) in text
    held = {part["name"]: part for part in json.loads(command("cache", "list", "--json")[1])}
    assert (held["features"]["files"], held["features"]["size"], held["features"]["pruned"]) == (6, 6000, True)
    assert (held["weights"]["files"], held["weights"]["pruned"]) == (1, False)
    assert held["features"]["oldest"] == pytest.approx(time.time() - 100 * DAY, abs=60)


def test_links_lead_nowhere(cache: Path, tmp_path: Path) -> None:
    """A link in the cache, or in the place of a part of it: what it leads to is not the cache's."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.f32").write_bytes(bytes(10))
    (cache / "features" / "link.f32").symlink_to(outside / "mine.f32")
    (cache / "features" / "folder").symlink_to(outside)
    shutil.rmtree(cache / "readings")
    (cache / "readings").symlink_to(outside)
    assert command("cache", "prune", "--all")[0] == 0
    assert (outside / "mine.f32").exists()
    assert (cache / "features" / "link.f32").is_symlink()


@pytest.mark.parametrize("words", [("--older-than", -1), ("--max-size", "nan"), ("--older-than", "inf")])
def test_amounts_that_mean_nothing_are_refused(cache: Path, words: tuple[Any, ...]) -> None:
    before = names(cache)
    code, _, err = command("cache", "prune", *words)
    assert (code, names(cache)) == (2, before)
    assert "give 0 or more" in err


def test_pruning_while_others_evaluate_costs_time_and_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tiny_features

    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    images = cuts(tmp_path / "images", 8, ((64, 64),))
    task = tiny_features.task(tmp_path, tag="pruned")
    stop = threading.Event()

    def pruning() -> None:
        while not stop.is_set():
            prune(everything=True)
            time.sleep(0.001)

    values = []
    others = [threading.Thread(target=pruning) for _ in range(2)]
    try:
        for turn in range(4):
            if turn == 1:
                for thread in others:
                    thread.start()
            choices: dict[str, Any] = {"view": "native", "tasks": [task], "options": {"quality": 20}}
            (run,) = vtbench.evaluate("jpeg", images=images, out=tmp_path / f"out-{turn}", **choices).runs
            values.append([s.value for s in run.scores if s.metric.startswith("pruned")])
            assert run.info.notes == []
    finally:
        stop.set()
        for thread in others[: 2 * bool(values)]:
            if thread.ident is not None:
                thread.join()
    assert values == [values[0]] * 4
