"""`vtbench score RUN`: adds metrics to a finished run from its saved images or tokens; the model is not asked again
where pictures were saved, and only decodes where tokens were."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vtbench import registry
from vtbench.models.load import again
from vtbench.results import Run, RunFolder, Score, read_run
from vtbench.run import Job, Runner
from vtbench.types.errors import VtbenchError


def add_metrics(path: Path, names: Sequence[str] | None, *, device: str = "cpu") -> Run:
    """Adds `names` (default: every metric of the task that has no value yet) to the run in `path`; returns the run.

    Raises VtbenchError if the run is not finished, kept neither images nor tokens, or its images changed since.
    """
    from vtbench.images import View

    run = read_run(path)
    info = dict(run.info)
    if info["status"] not in ("complete", "incomplete"):
        raise VtbenchError(f"{path} is {info['status']}: run evaluate again until it is complete")
    wanted = (
        registry.metric_names(names)
        if names
        else [s["metric"] for s in run.scores if s["value"] is None and s["metric"] in info["metrics"]]
    )
    if not wanted:
        raise VtbenchError(f"{path} has a value of every metric of its task: name others with --metrics")
    for name in wanted:
        registry.metrics().get(name)
    loaded = again(run, device=device)
    if loaded.drawn is not None or loaded.suite is None:
        raise VtbenchError(f"{path} kept neither images nor tokens: run evaluate with --save images")
    view = View.parse(info["view"]["name"], info["view"]["protocol"])
    # As recorded: a task that was named by path is known by that path alone.
    task = Task(**info["task"], suites=(), view=info["view"]["name"], metrics=tuple(wanted))
    with tempfile.TemporaryDirectory(prefix="vtbench-") as scratch:
        job = Job(
            loaded.system, task, loaded.suite, view,
            {"name": run.name, "options": info["model"]["options"], "rescored": str(path)},
            info["model"]["weights"], Path(scratch), info["batch_size"], info["limit"], info["seed"], device,
            info["dtype"], suite_spec=info["suite"]["spec"],
        )  # fmt: skip
        made = read_run(Runner(job).run())
        with RunFolder(path) as folder:
            new = {row["item"]: row for row in made.rows()}
            folder.replace_rows(_joined(run.rows(), new))
            # Speed belongs to the run itself, not to its rescoring.
            fresh = {s["metric"]: Score(**s) for s in made.scores if s["metric"] in wanted}
            kept = [fresh.pop(s["metric"]) if s["metric"] in fresh else Score(**s) for s in run.scores]
            folder.write_scores([*kept, *fresh.values()])
            info.pop("schema")
            info["metrics"] = {**info["metrics"], **made.info["metrics"]}
            info["unavailable"] = {
                **{n: w for n, w in info["unavailable"].items() if n not in wanted}, **made.info["unavailable"]
            }  # fmt: skip
            info["added"] = sorted({*info.get("added", ()), *wanted})
            folder.write_info(info)
    return read_run(path)


def _joined(rows: Iterator[dict[str, Any]], new: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        other = new.get(row["item"], {})
        if "*" not in row["why"]:
            row["values"] = {**row["values"], **other.get("values", {})}
            row["why"] = {n: w for n, w in {**row["why"], **other.get("why", {})}.items() if n not in row["values"]}
            weights = {**row.get("weights", {}), **other.get("weights", {})}
            if weights:
                row["weights"] = weights
            if "lines" in other:
                row["lines"] = other["lines"]
        yield row
