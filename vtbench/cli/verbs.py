"""Every verb: its name, the function that does it, where `vtbench --help` shows it, and examples for its own --help."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import typer

from vtbench.cli import (
    authors,
    correlation,
    export,
    fetch,
    geneval,
    housekeeping,
    look,
    measure,
    new,
    publish,
    study,
    suites,
    view,
)
from vtbench.cli.apps import (
    JsonPathOfOld,
    adapter_app,
    app,
    cache_app,
    geneval_app,
    leaderboard_app,
    runs_app,
    suite_app,
)

BEGIN = "Begin"
MEASURE = "Measure"
READ = "Read results"
OWN = "Add your own"
KEEP = "Keep house"


class Verb(NamedTuple):
    """examples: whole commands, which tests/cli/test_help.py finds and tries."""

    name: str
    do: Callable[..., None]
    examples: tuple[str, ...]
    group: str | None = None
    """The heading in `vtbench --help`; None below a verb of a group."""
    cls: Any = None


# In the order of `vtbench --help`.
VERBS = (
    Verb("quickstart", study.quickstart, ("vtbench quickstart --out out/quick",), BEGIN),
    Verb(
        "list",
        look.list_,
        ("vtbench list models titok --kind discrete", "vtbench list metrics", "vtbench list families llamagen"),
        BEGIN,
    ),
    Verb("identify", look.identify, ("vtbench identify mine.pt",), BEGIN),
    Verb("doctor", look.doctor, ("vtbench doctor",), BEGIN),
    Verb("fetch", fetch.fetch, ("vtbench fetch --metrics", "vtbench fetch titok-l32"), BEGIN),
    Verb(
        "evaluate",
        measure.evaluate,
        (
            "vtbench evaluate jpeg -o quality=5,50 --images DIR --task compression",
            "vtbench evaluate titok-l32 --images DIR --view 256 --device cuda",
            "vtbench evaluate family:llamagen --checkpoint mine.pt",
        ),
        MEASURE,
    ),
    Verb(
        "score",
        measure.score,
        (
            "vtbench score ORIGINALS RECONSTRUCTIONS --metrics psnr,ssim",
            "vtbench score REFERENCE SAMPLES --set",
            "vtbench score RUN --metrics ms-ssim",
        ),
        MEASURE,
        JsonPathOfOld,
    ),
    Verb(
        "generate",
        measure.generate,
        ("vtbench generate ngram-kmeans --suite starter-classes --n 2 --out drawn",),
        MEASURE,
    ),
    Verb(
        "statistics",
        measure.statistics,
        ("vtbench statistics REFERENCE --out reference.npz --metric fid",),
        MEASURE,
    ),
    Verb("merge", measure.merge, ("vtbench merge SHARDS --out out/whole",), MEASURE),
    Verb("view", view.view, ("vtbench view RUN", "vtbench view RUN --out page"), READ),
    Verb("compare", study.compare, ("vtbench compare RUN_A RUN_B --metrics psnr",), READ, JsonPathOfOld),
    Verb(
        "explain",
        study.explain,
        (
            "vtbench explain folder:RECONSTRUCTIONS --images ORIGINALS --claim ssim=0.675",
            "vtbench explain RUN_A RUN_B",
        ),
        READ,
        JsonPathOfOld,
    ),
    Verb(
        "correlate",
        correlation.correlate,
        ("vtbench correlate --published --x rfid,psnr --best", "vtbench correlate RUN_A RUN_B --out correlation"),
        READ,
    ),
    Verb(
        "export",
        export.export,
        ("vtbench export RUN_A RUN_B --format latex --metrics psnr,ssim", "vtbench export out --format model-index"),
        READ,
    ),
    Verb("new", new.new, ("vtbench new tokenizer my-vq",), OWN),
    Verb("check", authors.check, ("vtbench check my_vq.py@my-vq",), OWN),
)


class Group(NamedTuple):
    """A verb of several: `vtbench suite freeze`."""

    name: str
    app: typer.Typer
    group: str
    verbs: tuple[Verb, ...]


GROUPS = (
    Group(
        "geneval",
        geneval_app,
        MEASURE,
        (
            Verb("score", geneval.geneval_score, ("vtbench geneval score cases.jsonl",), cls=JsonPathOfOld),
            Verb("detect", geneval.geneval_detect, ("vtbench geneval detect drawn --out cases.jsonl",)),
            Verb("prompts", geneval.geneval_prompts, ("vtbench geneval prompts --out prompts.jsonl --per-task 5",)),
        ),
    ),
    Group(
        "leaderboard",
        leaderboard_app,
        READ,
        (
            Verb("build", study.leaderboard_build, ("vtbench leaderboard build out --out site",)),
            Verb("verify", publish.verify, ("vtbench leaderboard verify RUN", "vtbench leaderboard verify out")),
            Verb("submit", publish.submit, ("vtbench leaderboard submit RUN",)),
            Verb("add", publish.add, ("vtbench leaderboard add SUBMISSION.zip --to runs",)),
            Verb("diff", publish.diff, ("vtbench leaderboard diff OLD NEW",)),
            Verb("serve", publish.serve, ("vtbench leaderboard serve site",)),
        ),
    ),
    Group(
        "suite",
        suite_app,
        OWN,
        (Verb("freeze", suites.suite_freeze, ("vtbench suite freeze DIR --out DIR/suite.jsonl --licence CC0-1.0",)),),
    ),
    Group(
        "adapter",
        adapter_app,
        OWN,
        (
            Verb("parity", authors.adapter_parity, ("vtbench adapter parity FIXTURE.json",)),
            Verb("manifest", authors.adapter_manifest, ("vtbench adapter manifest llamagen-vq-ds16-c2i",)),
        ),
    ),
    Group(
        "runs",
        runs_app,
        KEEP,
        (
            Verb("list", housekeeping.runs_list, ("vtbench runs out",)),
            Verb("rm", housekeeping.runs_rm, ("vtbench runs rm RUN",)),
        ),
    ),
    Group(
        "cache",
        cache_app,
        KEEP,
        (
            Verb("list", housekeeping.cache_list, ("vtbench cache",)),
            Verb("prune", housekeeping.cache_prune, ("vtbench cache prune --older-than 30 --dry-run",)),
        ),
    ),
)


def register() -> None:
    """Gives the command its verbs, once."""
    for verb in VERBS:
        _add(app, verb)
    for group in GROUPS:
        for verb in group.verbs:
            _add(group.app, verb)
        first = [verb.examples[0] for verb in group.verbs]
        app.add_typer(group.app, name=group.name, rich_help_panel=group.group, epilog=_epilog(first))


def _add(to: typer.Typer, verb: Verb) -> None:
    more: Mapping[str, Any] = {} if verb.cls is None else {"cls": verb.cls}
    to.command(verb.name, rich_help_panel=verb.group, epilog=_epilog(verb.examples), **more)(verb.do)


def _epilog(examples: Sequence[str]) -> str:
    # A blank line keeps the terminal from joining two commands.
    return "\n\n".join(["Example:" if len(examples) == 1 else "Examples:", *examples])


register()
