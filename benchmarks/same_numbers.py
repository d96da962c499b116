"""Runs the whole quickstart and holds every score to tests/data/quickstart_numbers.json.

    python benchmarks/same_numbers.py                    # runs `vtbench quickstart` in a scratch folder, 3 to 4 minutes
    python benchmarks/same_numbers.py --runs out/quick   # compares runs that are there already
    python benchmarks/same_numbers.py --runs out/quick --record tests/data/quickstart_numbers.json

Wanted: the same runs, the same metrics, every value equal to 1e-12 (relative), every bound of an interval to 1e-9 and
every count exactly, on the machine and with the libraries that the file states. Elsewhere other decoders and other
kernels may move a digit, so a difference there is to be judged against a second recording with the commit before.
Times and memory are not compared.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RECORD = Path(__file__).resolve().parents[1] / "tests" / "data" / "quickstart_numbers.json"
TOLERANCES = {"value": 1e-12, "low": 1e-9, "high": 1e-9, "n": 0.0, "missing": 0.0}
"""Relative. The same operations in the same order give the same float64: a value allows for nothing but their order.
The quantile of Student's t in a bound comes from scipy, whose releases 1.14 and 1.17 differ by up to 2e-11 in it."""
MEASURED_ANEW = ("seconds", "per-second", "peak-memory")
"""Parts of the names of metrics that differ from one run to the next: times and memory."""
FIELDS = ("value", "n", "missing", "low", "high")

Key = tuple[str, str, str, str]
"""(model, options as JSON, task, suite)"""


def numbers(folder: Path) -> dict[Key, dict[str, list[Any]]]:
    """{run: {metric: [value, n, missing, low, high]}} of every run below `folder`, read by json alone."""
    out = {}
    for path in sorted(folder.glob("**/run.json")):
        info = json.loads(path.read_text())
        options = json.dumps(info["model"]["options"], sort_keys=True)
        key = (info["model"]["name"], options, info["task"]["name"], info["suite"]["name"])
        if key in out:
            raise SystemExit(f"{path.parent} answers a question that another run below {folder} answers: {key}")
        scores = [json.loads(line) for line in (path.parent / "scores.jsonl").read_text().splitlines()]
        out[key] = {s["metric"]: [s[f] for f in FIELDS] for s in scores if not measured_anew(s["metric"])}
    return out


def measured_anew(metric: str) -> bool:
    return any(part in metric for part in MEASURED_ANEW)


def circumstances(folder: Path) -> dict[str, Any]:
    """Where the numbers come from: commit, processor, threads and libraries of the first run."""
    info = json.loads(min(folder.glob("**/run.json")).read_text())
    return {
        "git": info["provenance"]["git"],
        "python": info["provenance"]["python"],
        "cpu": info["device"]["cpu"],
        "threads": info["device"]["threads"],
        "packages": info["provenance"]["packages"],
    }


def write(path: Path, folder: Path) -> None:
    """Records the runs below `folder`: one line a run, so that a later change is seen in the diff."""
    head = json.dumps({"recorded": circumstances(folder), "fields": FIELDS})
    runs = [
        json.dumps({"model": model, "options": json.loads(options), "task": task, "suite": suite, "scores": scores})
        for (model, options, task, suite), scores in numbers(folder).items()
    ]
    path.write_text(head[:-1] + ', "runs": [\n' + ",\n".join(runs) + "\n]}\n")


def recorded(path: Path = RECORD) -> dict[Key, dict[str, list[Any]]]:
    record = json.loads(path.read_text())
    assert tuple(record["fields"]) == FIELDS
    return {
        (r["model"], json.dumps(r["options"], sort_keys=True), r["task"], r["suite"]): r["scores"]
        for r in record["runs"]
    }


def differences(
    before: Mapping[Key, Mapping[str, Sequence[Any]]], now: Mapping[Key, Mapping[str, Sequence[Any]]]
) -> list[str]:
    """One sentence for every run, metric or number of `before` that is not in `now` as it was; new metrics are fine."""
    out = []
    for key, scores in before.items():
        name = " ".join(key)
        if key not in now:
            out.append(f"{name}: there is no such run any more")
            continue
        for metric, values in scores.items():
            if metric not in now[key]:
                out.append(f"{name}: {metric} is gone")
                continue
            for field, old, new in zip(FIELDS, values, now[key][metric], strict=True):
                if not _equal(old, new, TOLERANCES[field]):
                    out.append(f"{name}: {field} of {metric} was {old!r} and is {new!r}")
    return out


def _equal(old: float | None, new: float | None, tolerance: float) -> bool:
    if old is None or new is None:
        return old is new
    return math.isclose(old, new, rel_tol=tolerance, abs_tol=0.0)


def run_quickstart(out: Path) -> Path:
    """On one thread, as the record was made: the number of threads decides in which order sums are taken."""
    environment = {**os.environ, "VTBENCH_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "vtbench", "quickstart", "--out", str(out)], check=True, env=environment)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="Folder of a quickstart that was run already.")
    parser.add_argument("--record", type=Path, help="Write the numbers to this file instead of comparing them.")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vtbench-numbers-") as scratch:
        folder = words.runs or run_quickstart(Path(scratch) / "quick")
        if words.record:
            write(words.record, folder)
            return
        before, now = recorded(), numbers(folder)
        for line in (unlike := differences(before, now)):
            print(line)
        checked = sum(len(scores) for scores in before.values())
        print(f"{len(before)} runs, {checked} scores, {len(unlike)} differences; recorded and compared on:")
        print(json.dumps(json.loads(RECORD.read_text())["recorded"]))
        print(json.dumps(circumstances(folder)))
    if unlike:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
