"""Mutates what decides numbers with cosmic-ray and writes the table of docs/mutation.md.

    pip install -e '.[test,mutate]'
    python -m benchmarks.mutate --sample 25 --seed 0 --results out/mutants.json > docs/mutation.md

A mutant is one small change of the code (`<` for `<=`, 1 for 0, `not` before a condition). Every group of modules has
one test command (plan.py); a mutant that passes it has survived. Places are drawn by the seed, one mutant a place; a
sample of 0 takes every mutant, which takes a day. Everything happens in a copy of the tracked files, never in the
checkout. What `--results` holds is not tried again where the module is the same, but for survivors: after a new test,
run the same command.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.mutate.mutants import mutants, sampled, tried
from benchmarks.mutate.plan import GROUPS, Group
from benchmarks.mutate.suite import Suite
from benchmarks.mutate.table import page


def try_group(suite: Suite, group: Group, sample: int, seed: int, results: dict[str, Any], save: Path) -> None:
    """Tries the group's mutants, and writes every outcome as soon as there is one."""
    every = mutants(suite.folder, group)
    known = results.get(group.name, {}).get("outcomes", {})
    chosen = sampled(every, sample, seed, known)
    outcomes = {m.key: known[m.key] for m in chosen if m.key in known}
    results[group.name] = {"possible": len(every), "places": len({m.place for m in every}), "outcomes": outcomes}
    left = [m for m in chosen if outcomes.get(m.key, {}).get("outcome") != "killed"]
    if not left:
        return
    seconds = suite.baseline(group)
    print(f"{group.name}: {len(left)} of {len(chosen)} to try, {seconds:.0f} s the whole tests", file=sys.stderr)
    for number, mutant in enumerate(left, 1):
        outcome = tried(suite, group, mutant, 60 + 5 * seconds)
        outcomes[mutant.key] = outcome
        save.write_text(json.dumps(results, indent=1))
        print(
            f"{number}/{len(left)} {outcome['outcome']}: {outcome['file']}: {outcome['to']}",
            file=sys.stderr,
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--group", action="append", choices=list(GROUPS), help="only this one (repeatable)")
    parser.add_argument("--sample", type=int, default=25, help="mutants a group; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=Path("out/mutants.json"))
    asked = parser.parse_args(arguments)
    save = asked.results.resolve()
    save.parent.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = json.loads(save.read_text()) if save.exists() else {}
    with tempfile.TemporaryDirectory(prefix="vtbench-mutants-") as scratch:
        suite = Suite.copied(Path(scratch))
        for name in asked.group or GROUPS:
            try_group(suite, GROUPS[name], asked.sample, asked.seed, results, save)
    save.write_text(json.dumps(results, indent=1))
    sys.stdout.write(page(results, asked.sample, asked.seed))


if __name__ == "__main__":
    main()
