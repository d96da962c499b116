"""The verb correlate: does reconstruction predict generation?"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vtbench.cli.apps import answer
from vtbench.cli.options import AsJson, JsonFile, names_of
from vtbench.cli.tables import table
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    from vtbench.reporting.correlation import Correlation, Relation
    from vtbench.statistics.rank_correlation import Coefficient

CAUTION = (
    "A coefficient is no cause: generators differ in size, data and guidance, and authors choose what they print. "
    "Positive: the better tokenizer by this score has the better generator (fewer bits count as better)."
)


def correlate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Runs, or folders of runs, of generators and of their tokenizers; none: published numbers."
        ),
    ] = None,
    published: Annotated[bool, typer.Option("--published", help="Numbers that the cards print, not runs.")] = False,
    tokenizer_scores: Annotated[
        str | None, typer.Option("--x", metavar="NAMES", help="Scores of tokenizers, with commas.")
    ] = None,
    generator_scores: Annotated[
        str | None, typer.Option("--y", metavar="NAMES", help="Scores of generators, with commas.")
    ] = None,
    best: Annotated[bool, typer.Option("--best", help="Of each tokenizer its best generator alone.")] = False,
    unranked: Annotated[bool, typer.Option("--unranked", help="Runs that no page would rank count too.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the intervals' resamples.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for correlation.json, correlation.csv and a plot a coefficient.")
    ] = None,
    as_json: AsJson = False,
    json_file: JsonFile = None,
) -> None:
    """Does reconstruction predict generation? Rank correlation of tokenizers' scores with their generators'."""
    from vtbench.reporting import correlation
    from vtbench.results.record import find_runs, read_run

    if published and runs:
        raise VtbenchError(
            "--published asks for the cards' numbers, and runs were given as well: leave one of them out"
        )
    if published or not runs:
        systems, left_out = correlation.published_systems()
        source: correlation.Source = "published"
    else:
        read = [read_run(path) for path in find_runs(runs)]
        systems, left_out = correlation.measured_systems(read, unranked=unranked)
        source = "measured"
    correlations = correlation.correlate(
        systems,
        source,
        names_of(tokenizer_scores),
        names_of(generator_scores),
        best_only=best,
        seed=seed,
        left_out=left_out,
    )
    if out is not None:
        _write(correlations, out)
    answer(correlations.as_dict(), _text(correlations, out), as_json=as_json, json_file=json_file)


def _text(correlations: Correlation, out: Path | None) -> str:
    with_one = [r for r in correlations.relations if r.result.spearman is not None]
    lines = [
        [
            r.tokenizer_score,
            r.generator_score,
            str(r.result.n),
            str(r.result.families),
            _number(r.result.spearman),
            _number(r.result.kendall),
            "" if r.result.without_one is None else "{:+.2f} to {:+.2f}".format(*r.result.without_one),
        ]
        for r in with_one
    ]
    columns = ("of tokenizers", "of generators", "systems", "families", "Spearman", "Kendall", "without one family")
    parts = [f"{len(correlations.systems)} systems with {correlations.source} numbers of generator and tokenizer"]
    if lines:
        conditions = dict.fromkeys((r.tokenizer_conditions, r.generator_conditions) for r in with_one)
        parts += [table(columns, lines), *(f"conditions: {x}; {y}" for x, y in conditions)]
        parts += list(dict.fromkeys(f"no interval: {w}" for r in with_one if (w := r.result.why_no_interval)))
    few = [r for r in correlations.relations if r.result.spearman is None]
    if few:
        most = few[0]
        parts.append(
            f"no coefficient for {len(few)} further {'pair' if len(few) == 1 else 'pairs'} of scores and conditions; "
            f"{most.tokenizer_score} and {most.generator_score}: {most.result.why}"
        )
    if not correlations.relations:
        parts.append(
            "no coefficient: no system has a score of its tokenizer and one of its generator among those asked"
        )
    if correlations.left_out:
        parts.append(f"{len(correlations.left_out)} take no part, each with its reason in --json")
    parts.append(CAUTION)
    return "\n".join([*parts, *([] if out is None else [str(out)])])


def _number(value: Coefficient | None) -> str:
    if value is None:
        return ""
    return f"{value.value:+.2f}" + ("" if value.low is None else f" [{value.low:+.2f}, {value.high:+.2f}]")


def _write(correlations: Correlation, out: Path) -> None:
    from vtbench.leaderboard.scatter import Axis, as_file, scatter
    from vtbench.results.files import disk_error, write_atomic, write_json

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as bad:
        raise disk_error(bad, out) from bad
    write_json(out / "correlation.json", correlations.as_dict())
    write_atomic(out / "correlation.csv", _csv(correlations))
    for place, relation in enumerate(r for r in correlations.relations if r.result.spearman is not None):
        pair = relation.pairs[0]
        x, y = Axis(relation.tokenizer_score, pair.x.better), Axis(relation.generator_score, pair.y.better)
        svg = as_file(scatter(relation.points(), x, y, f"plot{place}"))
        write_atomic(out / f"plot-{place + 1}.svg", svg)


def _csv(correlations: Correlation) -> bytes:
    text = io.StringIO()
    fields = ("tokenizer_score", "generator_score", "tokenizer_conditions", "generator_conditions")
    numbers = ("n", "families", "spearman", "low", "high", "kendall", "kendall_low", "kendall_high", "why")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*fields, *numbers])
    for relation in correlations.relations:
        writer.writerow([*(getattr(relation, f) for f in fields), *_cells(relation).values()])
    return text.getvalue().encode()


def _cells(relation: Relation) -> Mapping[str, object]:
    result = relation.result
    out: dict[str, object] = {"n": result.n, "families": result.families}
    for name, value in (("spearman", result.spearman), ("kendall", result.kendall)):
        ends = ("", "", "") if value is None else (value.value, value.low, value.high)
        out |= {name: ends[0], f"{name} low": ends[1], f"{name} high": ends[2]}
    return out | {"why": result.why or result.why_no_interval or ""}
