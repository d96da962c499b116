"""The command line's face: what users type and what answers. Recorded once with commit 8f55388, held by tests/cli.

    PYTHONPATH=<a worktree of 8f55388> VTBENCH_OFFLINE=1 python tests/data/cli/record.py

`help/` (texts at 100 columns) and the messages in wrong_commands.json are kept to be read beside today's; what the
test demands are verbs, options, defaults, names and exit codes.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import runpy
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent / "runs_schema1" / "runs"
LISTS = {
    "models": ("name", "kind", "family", "tokens_at_256"),
    "families": ("name",),
    "suites": ("name", "n"),
    "tasks": ("name", "version", "metrics"),
    "metrics": ("name", "version", "unit", "better", "kind"),
}
"""{what `vtbench list` shows: the facts of it that are held}"""

WRONG: tuple[tuple[str, int, str], ...] = (
    ("--no-such-option", 2, "--no-such-option"),
    ("no-such-verb", 2, "no-such-verb"),
    ("list nothing", 2, "nothing"),
    ("evaluate", 2, "models"),
    ("evaluate no-such-model", 2, "no-such-model"),
    ("evaluate folder:no-such-folder --images pictures", 2, "no-such-folder"),
    ("evaluate jpeg --images no-such-folder", 2, "no-such-folder"),
    ("evaluate jpeg --images empty", 2, "empty"),
    ("evaluate jpeg --images pictures --task no-such-task", 2, "no-such-task"),
    ("evaluate jpeg --images pictures --view banana", 2, "banana"),
    ("evaluate jpeg --images pictures --protocol no-such-protocol", 2, "no-such-protocol"),
    ("evaluate jpeg --images pictures --option quality", 2, "quality"),
    ("evaluate jpeg --images pictures --option no_such=1", 2, "no_such"),
    ("evaluate jpeg --images pictures --option quality=500", 2, "500"),
    ("evaluate jpeg --images pictures --limit 0", 2, "0"),
    ("evaluate jpeg --images pictures --batch-size -1", 2, "-1"),
    ("evaluate jpeg --images pictures --device warp", 2, "warp"),
    ("evaluate jpeg --images pictures --dtype int8", 2, "int8"),
    ("evaluate jpeg --images pictures --shard 3", 2, "3"),
    ("evaluate jpeg --images pictures --shard 5/2", 2, "5/2"),
    ("evaluate jpeg --images pictures --save everything", 2, "everything"),
    ("evaluate jpeg --images pictures --fit stretch", 2, "stretch"),
    ("evaluate jpeg --images pictures --checkpoint no-such.pt", 2, "no-such.pt"),
    ("evaluate jpeg --images pictures --metric-weights alexnet=no-such.pth", 2, "no-such.pth"),
    ("evaluate sd-vae-ft-mse --images pictures", 2, "sd-vae-ft-mse"),
    ("score no-such-folder pictures", 2, "no-such-folder"),
    ("score pictures", 2, "candidate"),
    ("score pictures pictures --metrics no-such-metric", 2, "no-such-metric"),
    ("generate jpeg --suite classes:2 --out drawn", 2, "jpeg"),
    ("generate ngram-kmeans --suite no-such-suite --out drawn", 2, "no-such-suite"),
    ("generate ngram-kmeans --suite classes:banana --out drawn", 2, "classes:banana"),
    ("generate no-such-generator --suite classes:2 --out drawn", 2, "no-such-generator"),
    ("statistics pictures", 2, "--out"),
    ("check no-such-model", 2, "no-such-model"),
    ("quickstart --out text.txt", 2, "text.txt"),
    ("merge pictures", 2, "pictures"),
    ("merge shards/first", 2, "shard 2"),
    ("compare pictures pictures", 2, "pictures"),
    ("compare shards/first", 2, "1"),
    ("explain jpeg jpeg jpeg", 2, "3"),
    ("explain jpeg --claim ssim", 2, "ssim"),
    ("identify no-such.pt", 2, "no-such.pt"),
    ("identify text.txt", 2, "text.txt"),
    ("leaderboard build pictures", 2, "pictures"),
    ("leaderboard build shards/first --out pictures", 2, "pictures"),
    ("adapter parity no-such.json", 1, "no-such.json"),
    ("adapter manifest jpeg", 2, "jpeg"),
    ("geneval score no-such.jsonl", 2, "no-such.jsonl"),
    ("geneval prompts --out prompts.jsonl --per-task 500", 2, "500"),
)
"""(what was typed, exit code, what the answer must name); `prepare` makes the files that it speaks of."""


def prepare(folder: Path) -> None:
    """pictures/ with two, empty/, text.txt, and the first of two shards, in `folder`."""
    from PIL import Image

    (folder / "pictures").mkdir()
    for number in range(2):
        Image.new("RGB", (64, 64), (90 * number, 120, 200)).save(folder / "pictures" / f"{number}.png")
    (folder / "empty").mkdir()
    (folder / "text.txt").write_text("no picture, no checkpoint\n")
    (first,) = RUNS.glob("shards/*--shard-1-of-2")
    shutil.copytree(first, folder / "shards" / "first")


def answer(words: list[str]) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of `python -m vtbench WORDS`, without a new process."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    settings = {"COLUMNS": "100", "NO_COLOR": "1", "TERMINAL_WIDTH": "100"}
    with (
        mock.patch.object(sys, "argv", ["vtbench", *words]),
        mock.patch.dict(os.environ, settings),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            runpy.run_module("vtbench", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code
    return int(code or 0), out.getvalue(), err.getvalue()


def command() -> Any:
    """The command line as click sees it."""
    import typer

    from vtbench.cli import app

    return typer.main.get_command(app)


def verbs(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """("leaderboard build", its command) of every verb and of every group of verbs; the whole is ""."""
    found = command() if group is None else group
    yield " ".join(path), found
    for name, below in sorted(getattr(found, "commands", {}).items()):
        yield from verbs(below, (*path, name))


def surface() -> dict[str, dict[str, Any]]:
    """{verb: {option or argument: spellings or place, default, and whether required, repeatable, a switch}}."""
    out: dict[str, dict[str, Any]] = {}
    for name, verb in verbs():
        out[name] = {}
        places = itertools.count()
        for parameter in verb.params:
            if parameter.name == "help":
                continue
            is_option = parameter.param_type_name == "option"
            out[name][parameter.name] = {
                "spelt": sorted(parameter.opts) if is_option else [],
                "place": None if is_option else next(places),
                "default": None if parameter.default is None else str(parameter.default),
                "required": bool(parameter.required),
                "several": bool(getattr(parameter, "multiple", False)) or parameter.nargs == -1,
                "switch": bool(getattr(parameter, "is_flag", False)),
            }
    return out


def lists() -> dict[str, list[dict[str, Any]]]:
    """{what: the held facts of every entry}, from `vtbench list WHAT --json`."""
    out = {}
    for what, facts in LISTS.items():
        code, text, _ = answer(["list", what, "--json"])
        assert code == 0
        out[what] = [{f: entry[f] for f in facts} for entry in json.loads(text)]
    return out


def write(name: str, value: Any) -> None:
    (HERE / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    (HERE / "help").mkdir(exist_ok=True)
    for name, _ in verbs():
        code, text, _ = answer([*name.split(), "--help"])
        assert code == 0
        lines = (line.rstrip() for line in text.splitlines())
        (HERE / "help" / f"{name.replace(' ', '-') or 'vtbench'}.txt").write_text("\n".join(lines).strip() + "\n")
    write("surface.json", surface())
    write("lists.json", lists())
    said = []
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        prepare(Path(scratch))
        for words, wanted, names in WRONG:
            code, out, err = answer(words.split())
            message = " ".join((out + err).split()).replace(f"{scratch}/", "")
            said.append({"command": words, "code": code, "message": message})
            if code != wanted or names not in out + err:
                print(f"{words}: {code} ({wanted} expected): {out}{err}", file=sys.stderr)
    write("wrong_commands.json", said)


if __name__ == "__main__":
    main()
