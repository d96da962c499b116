"""Time and memory of reading a run of a million rows: list, scores, compare and the page.

    python -m benchmarks.million_rows [ROWS]

The run is the recorded one of tests/data with its rows repeated under names of their own. Each step is made in a
process of its own, whose peak memory is stated beside that of a run of a thousand rows.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECORDED = Path(__file__).resolve().parents[1] / "tests" / "data" / "runs_schema1" / "runs" / "saved_images"
STEPS = {
    "read_run and every row": "from vtbench.results.record import read_run; print(sum(1 for _ in read_run(P).rows()))",
    "runs list": "from vtbench.reporting.inventory import inventory; print(inventory([P])[0].why)",
    "compare with itself": "from vtbench.reporting.compare import compare; print(compare([P, Q]).images)",
    "leaderboard build": "from vtbench import leaderboard; print(leaderboard.build([P], P.parent / 'site'))",
}


def enlarged(folder: Path, rows: int) -> Path:
    """A copy of the recorded run with so many rows."""
    run = Path(shutil.copytree(sorted(RECORDED.iterdir())[0], folder / f"run-{rows}"))
    lines = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    with (run / "rows.jsonl").open("w") as out:
        for number in range(rows):
            row = lines[number % len(lines)]
            out.write(json.dumps({**row, "item": f"{number:07d}.png"}) + "\n")
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "n": rows}))
    return run


def measured(step: str, run: Path, other: Path) -> tuple[float, float]:
    """(seconds, peak MiB) of a step in a process of its own."""
    code = (
        f"import resource; from pathlib import Path; P = Path({str(run)!r}); Q = Path({str(other)!r}); {STEPS[step]}; "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{step}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, int(done.stdout.split()[-1]) / 1024


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="vtbench-rows-") as scratch:
        for count in (1000, rows):
            begun = time.monotonic()
            run = enlarged(Path(scratch), count)
            other = Path(shutil.copytree(run, Path(scratch) / f"other-{count}"))
            size = (run / "rows.jsonl").stat().st_size / (1 << 20)
            print(f"{count} rows, {size:.0f} MiB (written in {time.monotonic() - begun:.0f} s)", flush=True)
            for step in STEPS:
                seconds, peak = measured(step, run, other)
                print(f"  {step}: {seconds:.1f} s of CPU, {peak:.0f} MiB at most", flush=True)


if __name__ == "__main__":
    main()
