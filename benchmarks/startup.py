"""CPU and wall time of the commands that answer without torch.

    python benchmarks/startup.py [--rounds 5]

Wanted: `vtbench --help` and `vtbench list` under 0.5 s of CPU time, `list models --json` under a second.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

COMMANDS = (
    ["--help"],
    ["list", "models"],
    ["list", "models", "--json"],
    *(["list", what] for what in ("families", "metrics", "suites", "tasks")),
)


def once(words: list[str]) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of one command in its own process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "vtbench", *words], check=True, capture_output=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print("| command | CPU, s | wall, s |\n|---|---|---|")
    for words in COMMANDS:
        cpu, wall = zip(*(once(words) for _ in range(rounds)), strict=True)
        print(f"| vtbench {' '.join(words)} | {min(cpu):.2f} | {min(wall):.2f} |")


if __name__ == "__main__":
    main()
