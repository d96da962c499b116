"""`vtbench score RUN`: adds metrics to a finished run from its saved images or tokens; the model is not asked again
where pictures were saved, and only decodes where tokens were."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from vtbench import registry
from vtbench.images.views import View
from vtbench.models.isolation import isolated
from vtbench.models.load import Loaded, again
from vtbench.results.folder import RunFolder
from vtbench.results.record import Run, RunInfo, Score, read_run
from vtbench.running.draw import read_drawing
from vtbench.running.drawn import GAP, SHARE, Drawn, load_for_drawn, score_drawn
from vtbench.running.evaluate import run as run_job
from vtbench.running.job import Job
from vtbench.running.question import first_record, joined
from vtbench.types.errors import VtbenchError
from vtbench.types.task import Task

OF_FID = (SHARE, GAP)
NO_SHARE = "fid was added to finished pictures, without the generator's tokenizer: evaluate measures its share"


@isolated()
def add_metrics(path: Path, names: Sequence[str] | None, *, device: str = "cpu") -> Run:
    """Adds `names` (default: every metric of the task that has no value yet) to the run in `path`; returns the run.

    Raises VtbenchError if the run is not finished, kept neither images nor tokens, or its images changed since.
    """
    run = read_run(path)
    info = run.info
    if not info.finished:
        raise VtbenchError(f"{path} is {info.status}: run evaluate again until it is complete")
    without_value = [s.metric for s in run.scores if s.value is None and s.metric in info.metrics]
    wanted = registry.metric_names(names) if names else without_value
    if not wanted:
        raise VtbenchError(f"{path} has a value of every metric of its task: name others with --metrics")
    kinds = {registry.card_of(registry.metrics().get(name)).kind for name in wanted}
    loaded = again(run, device=device, from_tokens="tokens" in kinds)
    with tempfile.TemporaryDirectory(prefix="vtbench-") as scratch:
        job = _job(run, loaded, wanted, device, Path(scratch))
        fresh = _drawn_again(job, loaded.drawn) if loaded.drawn is not None else read_run(run_job(job))
        with RunFolder(path) as folder:
            rows = {row.item: row.as_dict() for row in fresh.rows()}
            folder.replace_rows(_joined(folder.read_rows(), rows, path))
            folder.write_scores(_scores(run, fresh, wanted))
            folder.write_info(_record(info, fresh.info, wanted))
    return read_run(path)


def _job(run: Run, loaded: Loaded, wanted: Sequence[str], device: str, out: Path) -> Job:
    """The run's own question with other metrics: its images, batch, limit and shard."""
    info = run.info
    if loaded.suite is None:
        raise VtbenchError(f"{run.path} does not say where its images lie", code=1)
    return Job(
        loaded,
        _task(info, wanted),
        loaded.suite,
        View.parse(info.view.name, info.view.protocol or "vtbench"),
        out,
        batch_size=info.batch_size or 4,
        limit=info.limit,
        seed=info.seed or 0,
        device=device,
        dtype=info.dtype or "float32",
        shard=(info.shard[0], info.shard[1]) if info.shard else None,
        suite_spec=info.suite.spec or "",
        asked={"rescored": str(run.path)},
    )


def _task(info: RunInfo, wanted: Sequence[str]) -> Task:
    """The run's task as it is recorded: one that was named by path is known by that path alone."""
    fit: Literal["resize", "tiles"] = "tiles" if info.task.fit == "tiles" else "resize"
    title, version = info.task.title or info.task.name, info.task.version or 0
    return Task(info.task.name, title, version, (), info.view.name, tuple(wanted), fit=fit)


def _drawn_again(job: Job, folder: Path) -> Run:
    """A generation's images, which it holds itself, through the metrics that were asked for."""
    drawing = read_drawing(folder)
    metrics = load_for_drawn(job.task.metrics, job.device)
    info = first_record(job, metrics, job.batch_size, frozenset(), n=len(drawing.rows))
    with RunFolder(job.folder()) as place:
        place.write_scores(score_drawn(job, Drawn(drawing), metrics, place, info, lambda *_: None))
        place.write_info(info.with_(status="complete"))
    return read_run(job.folder())


def _joined(
    rows: Iterator[dict[str, Any]], fresh: Mapping[str, Mapping[str, Any]], path: Path
) -> Iterator[dict[str, Any]]:
    """The run's rows with the new values; an original that is another picture by now is refused."""
    for row in rows:
        other = fresh.get(row["item"], {})
        before, now = row.get("sha256"), other.get("sha256")
        if before and now and before != now:
            raise VtbenchError(f"{row['item']} is another picture than the one that {path} scored: run evaluate again")
        if "*" not in row["why"]:
            row["values"] = {**row["values"], **other.get("values", {})}
            row["why"] = {n: w for n, w in {**row["why"], **other.get("why", {})}.items() if n not in row["values"]}
            weights = {**row.get("weights", {}), **other.get("weights", {})}
            if weights:
                row["weights"] = weights
            if "lines" in other:
                row["lines"] = other["lines"]
        yield row


def _scores(run: Run, fresh: Run, wanted: Sequence[str]) -> list[Score]:
    """The run's scores with the new ones in their places; speed belongs to the run itself, not to its rescoring."""
    # What has a value keeps it where it cannot be had again: a rate, from pictures alone.
    valued = {s.metric for s in run.scores if s.value is not None}
    new = {s.metric: s for s in fresh.scores if s.metric in wanted and (s.value is not None or s.metric not in valued)}
    if "fid" in new:
        new |= {s.metric: s.model_copy(update={"why": NO_SHARE}) for s in run.scores if s.metric in OF_FID and s.why}
    kept = [new.pop(s.metric, s) for s in run.scores]
    return [*kept, *new.values()]


def _record(info: RunInfo, fresh: RunInfo, wanted: Sequence[str]) -> RunInfo:
    """The run's record: what was added, and what keeps the new numbers from being ranked."""
    unavailable = {n: w for n, w in info.unavailable.items() if n not in wanted}
    reasons = [r for record in (info, fresh) for r in (record.why_not_ranked or "").split("; ")]
    why = joined(dict.fromkeys(reasons))
    return info.with_(
        metrics={**info.metrics, **fresh.metrics},
        unavailable={**unavailable, **fresh.unavailable},
        added=sorted({*info.added, *wanted}),
        ranked=bool(info.ranked) and why is None,
        why_not_ranked=why,
    )
