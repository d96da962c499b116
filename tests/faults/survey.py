"""The long part: `make faults`, or one case alone. Prints a table and writes it into docs/reliability.md.

python tests/faults/survey.py                                   all of it
python tests/faults/survey.py --only images --cases 10000       one kind; the other lines of the page stay
python tests/faults/survey.py --only images --seed 7 --case 4711   one case again, with its traceback
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("VTBENCH_OFFLINE", "1")
os.environ.setdefault("VTBENCH_CACHE", tempfile.mkdtemp(prefix="vtbench-faults-cache-"))
# Damage to run folders and checkpoints lies beside the tests of these, pictures in benchmarks/.
sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("", "leaderboard", "models", ".."))

import checkpoints
import harness
import kills
import pictures
import run_folders
import texts
from harness import Kind, Outcome

ROOT = harness.TESTS.parent
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- written by make faults -->", "<!-- end -->"
KINDS: tuple[tuple[Kind, int], ...] = (
    (kills.KIND, 1000 // kills.EACH),
    (pictures.KIND, 10_000),
    (checkpoints.KIND, 1000),
    (run_folders.KIND, 500),
    (texts.KIND, 2000),
)
"""What is tried, and how many cases by default."""
HEAD = ("kind", "promise", "how it is tried", "tried", "came out as", "not survived", "minutes", "when")
PAGES = 5
"""Pages of 100 good and 100 hostile run folders."""
EACH_SIDE = 100
SERVERS = ("tests/adapters/test_image_api_key.py", "tests/adapters/test_image_api_hostile.py")


def line_of(outcome: Outcome, seed: int, tried: str | None = None) -> tuple[str, ...]:
    kind = outcome.kind
    came = ", ".join(f"{n} {word}" for word, n in sorted(outcome.outcomes.items()))
    when = f"{time.strftime('%Y-%m-%d')}, seed {seed}, {_commit()}"
    tried = tried or f"{outcome.tried} (and {outcome.whole} whole: all accepted)"
    minutes = f"{outcome.seconds / 60:.1f}"
    return (kind.name, kind.promise, kind.how, tried, came, str(len(outcome.failed)), minutes, when)


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "no commit"


def of_kind(kind: Kind, cases: int, seed: int, limit_s: float | None) -> tuple[Outcome, tuple[str, ...]]:
    with tempfile.TemporaryDirectory(prefix="vtbench-faults-") as scratch:
        outcome = harness.survey(kind, range(cases), seed, Path(scratch), limit_s)
    for number, why in outcome.failed.items():
        print(f"NOT SURVIVED: --only '{kind.name}' --seed {seed} --case {number}: {why}", flush=True)
    tried = None
    if kind is kills.KIND:
        tried = f"{outcome.tried * kills.EACH} kills in {outcome.tried} cases (and {outcome.whole} whole)"
    return outcome, line_of(outcome, seed, tried)


def pages(seed: int, count: int) -> tuple[int, tuple[str, ...]]:
    """Pages of good and hostile folders, and a browser that opens them."""
    begun, named, opened, failed = time.monotonic(), 0, 0, 0
    program = run_folders.browser()
    for number in range(count):
        with tempfile.TemporaryDirectory(prefix="vtbench-faults-") as scratch:
            folder = Path(scratch)
            try:
                index, out = run_folders.page(seed, 10_000 * (number + 1), EACH_SIDE, EACH_SIDE, folder)
                named += out
                opened += run_folders.browsed(program, index, folder) if program else 0
            except AssertionError as bad:
                failed += 1
                print(f"NOT SURVIVED: page {number}, --seed {seed}: {bad}", flush=True)
    came = f"{count * EACH_SIDE} good ones shown, {named} bad ones named and left out, the rest shown as text"
    seen = f"{opened} documents opened in a browser, 0 ran anything" if program else "NO BROWSER HERE: none was opened"
    minutes, when = f"{(time.monotonic() - begun) / 60:.1f}", f"{time.strftime('%Y-%m-%d')}, seed {seed}, {_commit()}"
    how = f"{EACH_SIDE} good and {EACH_SIDE} hostile folders a page; Chromium opens it, after a bait that it must run"
    promise = (
        "Bad folders take no page down: good runs all stand, bad ones are named, a browser runs nothing of theirs."
    )
    return failed, ("pages", promise, how, f"{count} pages", f"{came}; {seen}", str(failed), minutes, when)


def servers(seed: int) -> tuple[int, tuple[str, ...]]:
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", *SERVERS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    last = (done.stdout.strip().splitlines() or ["nothing"])[-1]
    print(last, flush=True)
    promise = "A server is told the key by its own origin alone, and gets no file, program, memory or time of ours."
    how = f"servers that redirect, echo the key, drip, flood, pack, answer EPS, PDF and SVG: {' and '.join(SERVERS)}"
    minutes = f"{(time.monotonic() - begun) / 60:.1f}"
    when = f"{time.strftime('%Y-%m-%d')}, {_commit()}"
    bad = int(done.returncode != 0)
    return bad, ("image servers", promise, how, last.partition(" in ")[0], "a reason each", str(bad), minutes, when)


def write(lines: list[tuple[str, ...]]) -> None:
    """Puts the lines in place of those of the same kinds in docs/reliability.md."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    table, after = rest.split(END)
    rows = [tuple(cell.strip() for cell in row.strip("| ").split(" | ")) for row in table.strip().splitlines()[2:]]
    kept = {row[0]: row for row in rows}
    kept.update({line[0]: line for line in lines})
    out = [HEAD, *kept.values()]
    printed = [f"| {' | '.join(row)} |" for row in out]
    printed.insert(1, "|" + "---|" * len(HEAD))
    PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(printed) + f"\n{END}{after}", encoding="utf-8")
    print("\n".join(printed))


def one_case(kind: Kind, seed: int, number: int) -> int:
    """Again, in a process of its own, and its folder stays."""
    folder = Path(tempfile.mkdtemp(prefix="vtbench-fault-"))
    outcome = harness.survey(kind, [number], seed, folder)
    print(outcome.failed.get(number) or f"survived: {[*outcome.outcomes]}", folder, sep="\n")
    return int(bool(outcome.failed))


def main() -> int:
    names = [kind.name for kind, _ in KINDS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*names, "pages", "image servers"])
    parser.add_argument("--seed", type=int, default=harness.SEED)
    parser.add_argument("--cases", type=int, help="cases of the kind (of kills: 4 kills each)")
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--minutes", type=float, help="no further process of a kind is begun after so long")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    if chosen.case is not None:
        return one_case(next(kind for kind, _ in KINDS if kind.name == chosen.only), chosen.seed, chosen.case)
    lines, failed = [], 0
    for kind, cases in KINDS:
        if chosen.only in (None, kind.name):
            limit_s = None if chosen.minutes is None else 60 * chosen.minutes
            outcome, line = of_kind(kind, chosen.cases or cases, chosen.seed, limit_s)
            lines.append(line)
            failed += len(outcome.failed)
    if chosen.only in (None, "pages"):
        bad, line = pages(chosen.seed, chosen.cases or PAGES)
        lines.append(line)
        failed += bad
    if chosen.only in (None, "image servers"):
        bad, line = servers(chosen.seed)
        lines.append(line)
        failed += bad
    write(lines)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
