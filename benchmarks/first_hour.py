"""The first hour, done and written down: docs/first_hour.md, from a new clone to one's own checkpoint on a page.

    python -m benchmarks.first_hour --seconds 60 > docs/first_hour.md

Clones the commit that is checked out here into a temporary folder and does there what README.md says, word for word:
`make demo`, a tiny LlamaGen trained for a minute, and the commands of the journeys "My checkpoint" and "The page, and
comparing". RUN, RUN_A and RUN_B become the runs that are there by then. VTBENCH_OFFLINE=1 and an empty cache
throughout; the package index is asked by pip alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINES = 24
"""Lines of a command's output that are kept; of longer ones the first and the last."""
LAST = 6
MINE, PAGE = 1, 4
"""The journeys of README.md that are made."""
TRAIN = "python benchmarks/tiny_llamagen.py mine.pt"


@dataclass(frozen=True)
class Done:
    """A command, what it said, and how long it took (seconds of the clock)."""

    command: str
    said: str
    seconds: float


def journeys(readme: str) -> dict[int, list[str]]:
    """{number: its commands, without their comments} of the journeys in README.md."""
    out: dict[int, list[str]] = {}
    for number, text in re.findall(r"^### (\d)\. .*?\n(.*?)(?=^##)", readme, re.MULTILINE | re.DOTALL):
        blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        out[int(number)] = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines() if line]
    return out


def with_runs(command: str, folder: Path) -> str:
    """The command with the runs that lie in `folder` by now: RUN is the checkpoint's own, RUN_B the first of JPEG."""
    runs = sorted(p.parent for p in folder.glob("out/mine/*/run.json"))
    own = [p.relative_to(folder).as_posix() for p in runs if not p.name.startswith("jpeg")]
    jpeg = [p.relative_to(folder).as_posix() for p in runs if p.name.startswith("jpeg")]
    for name, meant in (("RUN_A", own), ("RUN_B", jpeg), ("RUN", own)):
        if meant:
            command = re.sub(rf"\b{name}\b", meant[0], command)
    return command


def do(command: str, folder: Path, scratch: Path) -> Done:
    """Runs a command as a user would, in the clone, with the clone's own environment first in the path."""
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")},
        "PATH": f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "VTBENCH_OFFLINE": "1",
        "VTBENCH_CACHE": str(scratch / "cache"),
        "COLUMNS": "100",
    }
    begin = time.perf_counter()
    ran = subprocess.run(
        shlex.split(command), cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    seconds = time.perf_counter() - begin
    if ran.returncode:
        raise SystemExit(f"{command}: exit code {ran.returncode}\n{ran.stdout}")
    said = ran.stdout.replace(f"{folder.resolve()}/", "").replace(f"{folder}/", "").replace(str(scratch), "…")
    return Done(command, said, seconds)


def shortened(said: str) -> str:
    """A command's output as the page shows it."""
    # What pip says of its own places is of this machine alone.
    lines = [line.rstrip()[:140] for line in said.strip().splitlines() if not line.startswith("WARNING: ")]
    if len(lines) > LINES:
        lines = [*lines[: LINES - LAST], f"… {len(lines) - LINES} lines …", *lines[-LAST:]]
    return "\n".join(lines)


def steps(folder: Path, scratch: Path, seconds: float) -> Iterator[tuple[str, str, list[Done]]]:
    """(title, what it is for, commands done) of every stage."""
    commands = journeys((ROOT / "README.md").read_text(encoding="utf-8"))

    def journey(number: int) -> list[Done]:
        return [do(with_runs(command, folder), folder, scratch) for command in commands[number]]

    clone = do(f"git clone -q {ROOT} {folder}", ROOT, scratch)
    yield "Clone", "", [Done("git clone https://github.com/vtbench/vtbench", clone.said, clone.seconds)]
    about = "Creates `.venv`, installs, and evaluates the built-in tokenizers. Then `. .venv/bin/activate`."
    yield "The demo", about, [do("make demo", folder, scratch)]
    about = (
        "`benchmarks/tiny_llamagen.py` stands for a training script of one's own: LlamaGen's tokenizer with a quarter "
        "of the channels, four built-in photographs, a minute of this CPU. **It is judged below on photographs that it "
        "was trained on**; this is the way of a checkpoint, not a result."
    )
    train = do(f"{TRAIN} --seconds {seconds:g}", folder, scratch)
    yield "A checkpoint of one's own", about, [Done(TRAIN, train.said, train.seconds)]
    yield "What it is, its numbers, its page", "", journey(MINE)
    yield "Beside JPEG", "", journey(PAGE)


def page(stages: list[tuple[str, str, list[Done]]], note: str = "") -> str:
    """The recording as Markdown."""
    machine = f"{os.cpu_count()} cores, no GPU, Python {platform.python_version()}, {platform.system()}"
    out = [
        "# The first hour, recorded",
        "",
        "`python -m benchmarks.first_hour > docs/first_hour.md` did all of this and wrote it down: a new clone, a new "
        "environment,",
        f"an empty cache, `VTBENCH_OFFLINE=1`; {machine}. Outputs are shortened, times are those of the clock. Every "
        "command is",
        "one of [README.md](../README.md).",
        *(["", note] if note else []),
        "",
        "| stage | seconds |",
        "|---|---|",
        *(f"| {title} | {sum(one.seconds for one in done):.0f} |" for title, _, done in stages),
        f"| all | {sum(one.seconds for _, _, done in stages for one in done):.0f} |",
    ]
    for title, about, done in stages:
        out += ["", f"## {title}", *(["", about] if about else [])]
        for one in done:
            said = shortened(one.said)
            out += ["", "```console", f"$ {one.command}", *([said] if said else []), "```", f"{one.seconds:.1f} s"]
    return "\n".join(out) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of training")
    parser.add_argument("--note", default="", help="a sentence on the machine, such as what else it did")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        stages = []
        for stage in steps(Path(scratch) / "vtbench", Path(scratch), args.seconds):
            print(stage[0], f"{sum(one.seconds for one in stage[2]):.0f} s", file=sys.stderr)
            stages.append(stage)
        print(page(stages, args.note), end="")


if __name__ == "__main__":
    main()
