"""`vtbench score RUN`: adds metrics to a finished run from its saved images or tokens; the model is not asked again
where pictures were saved, and only decodes where tokens were."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Literal

from vtbench import registry
from vtbench.images.views import View
from vtbench.models.again import again
from vtbench.models.files import sha256_file
from vtbench.models.isolation import isolated
from vtbench.models.load import Loaded
from vtbench.models.pictures import SavedPictures
from vtbench.results.drawings import RECORD, SAMPLES
from vtbench.results.files import NotWritten
from vtbench.results.folder import RunFolder
from vtbench.results.record import Run, RunInfo, Score, read_run
from vtbench.results.stale import Stale, stale_metrics
from vtbench.running import kept_work
from vtbench.running.draw import read_drawing
from vtbench.running.drawn import GAP, SHARE, Drawn, load_for_drawn, score_drawn
from vtbench.running.evaluate import run as run_job
from vtbench.running.job import Job
from vtbench.running.question import first_record, joined
from vtbench.running.tried_again import Again
from vtbench.scoring.remarks import marked
from vtbench.types.errors import VtbenchError
from vtbench.types.shortage import Short
from vtbench.types.task import Task

OF_FID = (SHARE, GAP)
NO_SHARE = "fid was added to finished pictures, without the generator's tokenizer: evaluate measures its share"


@isolated()
def add_metrics(path: Path, names: Sequence[str] | None, *, device: str = "cpu", code: str | None = None) -> Run:
    """Adds `names` to the run in `path`, or measures them again; returns the run. Default: every metric of the task
    that has no value yet, or one of an older version than is installed. code: `path/to/file.py@name`, by which the
    user names the code of the run's model himself; that which a record alone names is not run. A command that is
    stopped goes on where it was.

    Raises VtbenchError if the run is not finished, kept neither images nor tokens, or its images changed since.
    """
    run = read_run(path)
    info = run.info
    if not info.finished:
        raise VtbenchError(f"{path} is {info.status}: run evaluate again until it is complete")
    without_value = [s.metric for s in run.scores if s.value is None and s.metric in info.metrics]
    older = [
        name for name, stale in stale_metrics(run, registry.metric_version).items() if stale.measured < stale.installed
    ]
    wanted = registry.metric_names(names) if names else [*without_value, *older]
    if not wanted:
        raise VtbenchError(
            f"{path} has a value of every metric of its task, of the versions that are here: name others with --metrics"
        )
    kinds = {registry.card_of(registry.metrics().get(name)).kind for name in wanted}
    loaded = again(run, device=device, from_tokens="tokens" in kinds, code=code)
    job = _job(run, loaded, wanted, device)
    with tempfile.TemporaryDirectory(prefix="vtbench-") as scratch, contextlib.ExitStack() as stack:
        # Another command on the same run has the place, and this one begins anew elsewhere.
        (work,) = stack.enter_context(kept_work.held(_place(job), ["run"], Path(scratch)))
        job = dataclasses.replace(job, out=work.path)
        fresh = _drawn_again(job, loaded.drawn) if loaded.drawn is not None else _measured_again(job)
        with RunFolder(path) as folder:
            new = _new(run, fresh, wanted)
            stay = {*info.metrics} - {*new}
            folder.replace_rows(_joined(_beside(folder.read_rows(), fresh), path, new, stay))
            folder.write_scores(_scores(run, new, wanted))
            folder.write_info(_record(info, fresh.info, new))
    return read_run(path)


def _job(run: Run, loaded: Loaded, wanted: Sequence[str], device: str) -> Job:
    """The run's own question with other metrics: its images, batch, limit and shard. Where it is answered is open."""
    info = run.info
    if loaded.suite is None:
        raise VtbenchError(f"{run.path} does not say where its images lie", code=1)
    return Job(
        loaded,
        _task(info, wanted),
        loaded.suite,
        View.parse(info.view.name, info.view.protocol or "vtbench"),
        Path(),
        batch_size=info.batch_size or 4,
        limit=info.limit,
        seed=info.seed or 0,
        device=device,
        dtype=info.dtype or "float32",
        shard=(info.shard[0], info.shard[1]) if info.shard else None,
        suite_spec=info.suite.spec or "",
        asked={"rescored": os.path.abspath(run.path)},
    )


def _place(job: Job) -> Path | None:
    """Where it is answered; None where the code that answers was edited meanwhile."""
    system, items, drawn = job.loaded.system, job.items(), job.loaded.drawn
    # Drawn images have no originals of their names, and what they stand for stands in their record.
    own = system.suite.items if drawn is not None and isinstance(system, SavedPictures) else items
    try:
        decisive = {
            **kept_work.surroundings(),
            "question": job.id,
            # In their order, as rows state their values.
            "metrics": list(job.task.metrics),
            "system": system.facts(own),
            "items": kept_work.of_items(items),
            "batch": job.batch_size,
            "limit": job.limit,
            "shard": job.shard,
            "drawn": None if drawn is None else [sha256_file(drawn / name) for name in (RECORD, SAMPLES)],
        }
        return kept_work.place_named(decisive)
    except (OSError, VtbenchError):
        return None


def _measured_again(job: Job) -> Run:
    """The images that the run holds, or its tokens decoded, through the metrics that were asked for."""
    with RunFolder(job.folder()) as folder:
        try:
            _look_again(job, folder)
        except (NotWritten, Short):
            raise
        except VtbenchError:
            # What a power cut left, say: nothing of it is taken.
            folder.remove()
    return read_run(run_job(job))


def _look_again(job: Job, folder: RunFolder) -> None:
    """Cuts what an earlier try has measured to the batches before the first image that could not be had then and can be
    now. Raises VtbenchError where it is not as it was written."""
    info, batch = folder.info(), job.batch_size
    if info is None:
        folder.clear()
        return
    if not info.finished:
        folder.keep_rows(batch)
    again = Again(job.name, job.loaded.system, job.suite, job.view, job.items(), batch, job.seed, job.device)
    changed = again.first_changed(folder.read_rows)
    if changed is None:
        return
    folder.write_info(info.with_(status="interrupted"))
    if info.finished:
        folder.clear()
    else:
        folder.keep_rows(batch, changed)


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
        before = place.info()
        if before is None or set(before.unavailable) != set(info.unavailable):
            place.clear()
        place.write_info(info.with_(status="running"))
        place.write_scores(score_drawn(job, Drawn(drawing), metrics, place, info, lambda *_: None))
        place.write_info(info.with_(status="complete"))
    return read_run(job.folder())


def _beside(rows: Iterator[dict[str, Any]], fresh: Run) -> Iterator[tuple[dict[str, Any], Mapping[str, Any]]]:
    """Each row with the fresh one of its image, {} where there is none; in one order, as they are written, no more than
    one of them is in memory."""
    waiting: dict[str, dict[str, Any]] = {}
    others = (row.as_dict() for row in fresh.rows())
    for row in rows:
        while row["item"] not in waiting and (other := next(others, None)) is not None:
            waiting[other["item"]] = other
        yield row, waiting.pop(row["item"], {})


def _joined(
    rows: Iterator[tuple[dict[str, Any], Mapping[str, Any]]],
    path: Path,
    new: Mapping[str, Score],
    stay: Set[str],
) -> Iterator[dict[str, Any]]:
    """The run's rows, each beside its fresh one, with the values of the metrics that are `new`, none of whose old ones
    stay, and of what those are made from; what the record states of metrics that `stay` is not touched. An original
    that is another picture by now is refused."""
    for row, other in rows:
        before, now = row.get("sha256"), other.get("sha256")
        if before and now and before != now:
            raise VtbenchError(f"{row['item']} is another picture than the one that {path} scored: run evaluate again")
        if "*" not in row["why"]:
            failed = other.get("why", {}).get("*")
            other = other if failed is None else {**other, "why": dict.fromkeys(new, failed)}
            for part in ("values", "why", "weights"):
                before_and_now = (row.get(part, {}), new), (other.get(part, {}), stay)
                row[part] = {n: v for values, gone in before_and_now for n, v in values.items() if n not in gone}
            if not row["weights"]:
                del row["weights"]
            row["why"] = {n: w for n, w in row["why"].items() if n not in row["values"]}
            if "lines" in other:
                row["lines"] = other["lines"]
        yield row


def _new(run: Run, fresh: Run, wanted: Sequence[str]) -> dict[str, Score]:
    """The scores that take the place of the run's: what has a value keeps it where it cannot be had again, as a rate
    from pictures alone; speed belongs to the run itself, not to its rescoring."""
    valued = {s.metric for s in run.scores if s.value is not None}
    scores = [s for s in fresh.scores if s.metric in wanted]
    return {s.metric: s for s in scores if s.value is not None or s.metric not in valued}


def _scores(run: Run, new: Mapping[str, Score], wanted: Sequence[str]) -> list[Score]:
    """The run's scores with the new ones in their places."""
    new = dict(new)
    if "fid" in new:
        new |= {s.metric: s.model_copy(update={"why": NO_SHARE}) for s in run.scores if s.metric in OF_FID and s.why}
    older = {
        n: stale for n, stale in stale_metrics(run, registry.metric_version).items() if n in wanted and n not in new
    }
    kept = [new.pop(s.metric, marked(s, [_still(older[s.metric])]) if s.metric in older else s) for s in run.scores]
    return [*kept, *new.values()]


def _still(stale: Stale) -> str:
    return f"of version {stale.measured}: what this run kept gives no number of version {stale.installed}"


def _record(info: RunInfo, fresh: RunInfo, new: Mapping[str, Score]) -> RunInfo:
    """The run's record: what was added, and what keeps the new numbers from being ranked."""
    unavailable = {n: w for n, w in info.unavailable.items() if n not in new}
    cards = {n: c for n, c in fresh.metrics.items() if n in new or n not in info.metrics}
    reasons = [r for record in (info, fresh) for r in (record.why_not_ranked or "").split("; ")]
    why = joined(dict.fromkeys(reasons))
    return info.with_(
        metrics={**info.metrics, **cards},
        unavailable={**unavailable, **{n: w for n, w in fresh.unavailable.items() if n in new}},
        added=sorted({*info.added, *new}),
        notes=list(dict.fromkeys([*info.notes, *fresh.notes])),
        ranked=bool(info.ranked) and why is None,
        why_not_ranked=why,
    )
