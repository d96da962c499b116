"""The command and its groups of verbs, and how a verb speaks: results on standard output, complaints on the other."""

from __future__ import annotations

import itertools
import logging
import shlex
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from vtbench.types.readable import one_line, readable


class JsonPathOfOld(TyperCommand):
    """A verb that took `--json PATH` before --json became a switch: for this release such a path is taken as
    --json-file's, and said to be."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words: list[str] = []
        for word in args:
            path = word.removeprefix("--json=")
            if path != word:
                words += ["--json-file", path]
            elif words[-1:] == ["--json"] and Path(word).suffix.lower() == ".json":
                words[-1:] = ["--json-file", word]
            else:
                words.append(word)
        if words != args:
            complain("--json is a switch now, and prints to standard output: --json-file PATH writes a file")
        rest: list[str] = super().parse_args(ctx, words)
        return rest


class ListedByDefault(TyperGroup):
    """A group whose first verb, `list`, needs no name: `vtbench runs out` is `vtbench runs list out`. A folder that is
    called like a verb is given as ./NAME."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        rest: list[str] = super().parse_args(ctx, args)
        return rest


app = typer.Typer(
    name="vtbench",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measures image tokenizers and the generators built on them: numbers that can be repeated.",
)
leaderboard_app = typer.Typer(no_args_is_help=True, help="Results on a page: build, show and publish it.")
adapter_app = typer.Typer(no_args_is_help=True, help="For authors of adapters: parity with upstream, parameter names.")
geneval_app = typer.Typer(no_args_is_help=True, help="GenEval: verdicts on detections, the detector, the prompts.")
runs_app = typer.Typer(cls=ListedByDefault, help="Which runs there are, and which scores are out of date; delete one.")
suite_app = typer.Typer(no_args_is_help=True, help="Suites of images: freeze a folder into a manifest.")
cache_app = typer.Typer(cls=ListedByDefault, help="What the cache holds, and removing what is of no use any more.")


def say(text: str) -> None:
    typer.echo(readable(text))


def complain(sentence: object) -> None:
    """One line on standard error."""
    typer.echo(f"vtbench: {one_line(readable(str(sentence)))}", err=True)


def complain_at_length(bad: BaseException) -> None:
    """The traceback on standard error, without secrets: for --debug alone."""
    typer.echo(readable("".join(traceback.format_exception(bad))), err=True)


def show_tracebacks() -> None:
    """Shows on standard error what led to failures that end a part of a command only."""

    class WithoutSecrets(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return readable(super().format(record))

    handler = logging.StreamHandler()
    handler.setFormatter(WithoutSecrets("%(name)s: %(message)s"))
    logger = logging.getLogger("vtbench")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


def exit_with(sentences: Iterable[str]) -> None:
    """What failed while the rest went on: a line each, and exit code 1. Nothing where nothing failed."""
    failed = False
    for sentence in sentences:
        complain(sentence)
        failed = True
    if failed:
        raise typer.Exit(1)


def answer(result: Any, table: str, *, as_json: bool, json_file: Path | None = None) -> None:
    """What a verb found: its table, or with --json all of it on standard output; with --json-file also in a file.

    result: what JSON can hold, and sequences whose elements are made when asked for: of these no more than some are in
    memory. The answer is printed before the file is written: a full disk must not swallow it.
    """
    from vtbench.results.files import write_atomic
    from vtbench.results.pieces import pieces

    if as_json:
        for piece in pieces(result):
            typer.echo(readable(piece), nl=False)
    say("" if as_json else table)
    if json_file is not None:
        write_atomic(json_file, itertools.chain(pieces(result), ["\n"]))


def command_line() -> str:
    """What was typed, for the record."""
    return shlex.join(["vtbench", *sys.argv[1:]])
