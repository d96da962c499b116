"""Run folders from elsewhere on one page: good ones stand, bad ones are named, a browser runs nothing of theirs."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path

from damaged_runs import KINDS, MARKUP, RECORDED, damaged_run, seeds
from harness import Kind
from pictures import check_sentence

from vtbench import leaderboard
from vtbench.leaderboard.site import MARKER
from vtbench.reporting.compare import compare
from vtbench.reporting.inventory import inventory
from vtbench.results.record import read_run
from vtbench.running.merge import merge
from vtbench.types.errors import VtbenchError

MARK = "document.documentElement.setAttribute('data-ran','1')"
"""What the hostile markup does if a browser runs it."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_SECONDS = 120


def whole(folder: Path) -> int:
    for kind, path in seeds().items():
        left_out: dict[Path, str] = {}
        copy = Path(shutil.copytree(path, folder / kind))
        assert leaderboard.build([copy], folder / f"site-{kind}", left_out).is_file()
        assert not left_out, left_out
    return len(seeds())


def hostile_run(seed: int, number: int, folder: Path) -> Path:
    """A damaged run, or every third one with markup in every text; the markup marks a page that runs it."""
    rng = random.Random(f"{seed} run {number}")
    kind = KINDS[number % len(KINDS)]
    if number % 3 == 0:
        shutil.copytree(seeds()[kind], folder)
        _mark_every_text(folder, f"{number:064x}")
        return folder
    damaged_run(kind, rng.randrange(1 << 30), folder)
    for name in ("run.json", "rows.jsonl", "scores.jsonl", "samples/samples.json"):
        path = folder / name
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 24:
            data = path.read_bytes()
            path.write_bytes(data.replace(b"alert(1)", MARK.encode()).replace(b"alert(2)", MARK.encode()))
    return folder


def _mark_every_text(folder: Path, identifier: str) -> None:
    """Where a record may hold any text. It is of an id of its own, so that it is read beside the whole run."""
    evil = MARKUP.replace("alert(1)", MARK).replace("alert(2)", MARK)

    def marked(value: object, key: str = "") -> object:
        if isinstance(value, dict):
            return {k: marked(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [marked(v, key) for v in value]
        return f"{value}{evil}" if isinstance(value, str) and key not in ("status", "metric", "better") else value

    for name in ("run.json", "rows.jsonl", "scores.jsonl"):
        text = (folder / name).read_text()
        parts = text.splitlines() if name.endswith("l") else [text]
        (folder / name).write_text("".join(json.dumps(marked(json.loads(part))) + "\n" for part in parts))
    info = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**info, "id": identifier}))


def case(seed: int, number: int, folder: Path) -> str:
    """Every verb that reads runs, of one bad folder: each answers, or refuses in one sentence."""
    path = hostile_run(seed, number, folder / "run")
    kind = KINDS[number % len(KINDS)]
    beside = sorted((RECORDED / "shards").iterdir())[1]
    refused = 0
    for verb in (
        lambda: [*read_run(path).rows()],
        lambda: compare([path, seeds()[kind]], resamples=10),
        lambda: inventory([path]),
        lambda: merge([path, beside], folder / "merged"),
        lambda: leaderboard.build([path], folder / "site", {}),
    ):
        try:
            verb()
        except VtbenchError as bad:
            check_sentence(bad)
            refused += 1
    return "refused by all" if refused == 5 else "read by some" if refused else "read by all"


def page(seed: int, first: int, hostile: int, good: int, folder: Path) -> tuple[Path, int]:
    """A page of good and hostile folders. Returns it, and how many of the hostile ones were named and left out; raises
    unless every good one stands on it."""
    wanted = set()
    for number in range(good):
        source = list(seeds().values())[number % len(KINDS)]
        copy = Path(shutil.copytree(source, folder / "runs" / f"good-{number:03d}"))
        info = json.loads((copy / "run.json").read_text())
        wanted.add(f"{number:064x}")
        (copy / "run.json").write_text(json.dumps({**info, "id": f"{number:064x}"}))
    bad = [hostile_run(seed, first + k, folder / "runs" / f"bad-{k:03d}") for k in range(hostile)]
    left_out: dict[Path, str] = {}
    index = leaderboard.build([folder / "runs"], folder / "site", left_out)
    shown = set(json.loads((index.parent / MARKER).read_text())["runs"])
    assert wanted <= shown, f"{len(wanted - shown)} good runs are missing"
    assert left_out.keys() <= {*bad}, "a good run was left out"
    for path, why in left_out.items():
        assert str(path) in why
        assert "the secret" not in why
    for path in index.parent.rglob("*.html"):
        assert "the secret" not in path.read_text(encoding="utf-8")
    return index, len(left_out)


def browser() -> str | None:
    return next((place for name in BROWSERS if (place := shutil.which(name))), None)


def ran(program: str, document: Path, profile: Path) -> bool:
    """Whether a browser that opened the document ran the mark in it."""
    command = [
        program, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
        "--virtual-time-budget=3000", "--dump-dom", document.resolve().as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=BROWSER_SECONDS, check=False)
    assert "<html" in done.stdout, done.stderr[-300:]
    return 'data-ran="1"' in done.stdout


def browsed(program: str, index: Path, folder: Path) -> int:
    """How many documents of the site a browser opened; raises if it ran anything of the runs' in one of them, or does
    not run what it should in a document of the markup alone."""
    bait = folder / "bait.html"
    evil = MARKUP.replace("alert(1)", MARK).replace("alert(2)", MARK)
    bait.write_text(f'<!doctype html><html><body><p title="{evil}</body></html>')
    assert ran(program, bait, folder / "profile"), "the browser does not run the markup where it may"
    documents = sorted(index.parent.rglob("*.html"))
    # The first ones, and those that show the markup itself.
    marked = [path for path in documents if "data-ran" in path.read_text(encoding="utf-8")]
    chosen = list(dict.fromkeys([*documents[:3], *marked[:9]]))
    assert marked, "no document shows the markup: nothing was tried"
    for document in chosen:
        assert not ran(program, document, folder / "profile"), f"{document.name} ran a run's markup"
    return len(chosen)


KIND = Kind(
    "run folders",
    "A run folder from elsewhere is shown or named and left out; its text stays text, and no file outside it is read.",
    "five kinds of recorded runs with one node of JSON, some bytes or a whole file replaced: markup, long numbers, "
    "deep nesting, half characters, pipes, devices, links, terabytes of nothing; through page, compare, list, merge",
    whole,
    case,
)
