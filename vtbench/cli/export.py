"""Export: results as tables for papers and model cards."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vtbench.cli.apps import answer
from vtbench.cli.options import AsJson, MetricNames, names_of
from vtbench.cli.progress import stage
from vtbench.types.errors import VtbenchError


class Format(StrEnum):
    latex = "latex"
    markdown = "markdown"
    csv = "csv"
    model_index = "model-index"


def export(
    runs: Annotated[list[Path], typer.Argument(help="Runs, or folders that hold runs.")],
    format_: Annotated[
        Format, typer.Option("--format", help="A table, all numbers, or the head of a Hugging Face model card.")
    ] = Format.markdown,
    metrics: MetricNames = None,
    out: Annotated[Path | None, typer.Option(help="A file; default: standard output.")] = None,
    as_json: AsJson = False,
) -> None:
    """Results as a table for a paper or a model card: intervals, n, the protocol, and the best with its ties.

    Within each kind of system the best is bold, and what the paired test of `compare` cannot tell from it is underlined
    (LaTeX) or italic (Markdown). Runs that are not ranked are shown with the reason, and never marked.
    """
    with stage("reading runs"):
        from vtbench.reporting import export as tables
        from vtbench.reporting import export_text, model_index, table
        from vtbench.reporting.reading import read_runs
        from vtbench.reporting.versions import of_newest
        from vtbench.results.files import write_atomic

        read = of_newest(read_runs(runs))
        names = names_of(metrics)
        data: Any
        if format_ is Format.csv:
            data = [line for line in table.records(read) if names is None or line["metric"] in names]
            text = table.scores_csv(data).decode()
        elif format_ is Format.model_index:
            data = model_index.model_index(read, names)
            text = model_index.as_yaml(data)
        else:
            whole = tables.tables(read, names)
            data = [asdict(one) for one in whole]
            text = export_text.latex(whole) if format_ is Format.latex else export_text.markdown(whole)
    if out is None:
        answer(data, text.rstrip("\n"), as_json=as_json)
        return
    if out.is_dir():
        raise VtbenchError(f"{out} is a folder: give --out a file")
    write_atomic(out, text)
    answer({"out": out}, str(out), as_json=as_json)
