"""`vtbench evaluate`: every model on every question, each in a folder of its own, resumable."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vtbench.images import stream
from vtbench.images.pairing import pair_names, partners
from vtbench.models.isolation import isolated
from vtbench.models.load import Loaded, load
from vtbench.models.objects import measuring
from vtbench.models.pictures import SavedPictures
from vtbench.models.system import ModelSystem
from vtbench.results.folder import RunFolder
from vtbench.results.record import Run, RunInfo, read_run
from vtbench.results.stores import TokenFile
from vtbench.running import generation, pipeline
from vtbench.running.batch_size import fastest
from vtbench.running.evaluation import Evaluation
from vtbench.running.job import Job
from vtbench.running.question import costs_of, failures_recorded, finished, first_record
from vtbench.running.request import Progress, Question, Request
from vtbench.running.writer import SAMPLES, Keeping, Writer
from vtbench.scoring.costs import cost_scores
from vtbench.scoring.features import FeaturePlace
from vtbench.scoring.loading import Metrics, load_metrics
from vtbench.scoring.scores import Asked, scores_of, tally, with_values
from vtbench.types.errors import VtbenchError


@isolated()
def evaluate(request: Request, progress: Progress | None = None) -> Evaluation:
    """The runs of a request. A model that fails is named in `failures` and the others go on; a single model's wrong
    question (code 2) is raised."""
    request = request.checked()
    tell = progress or _silent
    questions, target = request.questions(), request.folder()
    for question in questions:
        question.suite.identify(functools.partial(tell, question.spec, "hash"))
    runs: list[Run] = []
    failures: dict[str, str] = {}
    combinations = request.combinations()
    alone = len(request.specs) == 1 and len(combinations) == 1
    for spec in request.specs:
        for options in combinations:
            name = spec if isinstance(spec, str) else type(spec).__name__
            shown = name + "".join(f" {k}={v}" for k, v in options.items())
            try:
                for run in _of_model(request, spec, options, questions, target, tell):
                    runs.append(run)
            except VtbenchError as bad:
                if alone and bad.code == 2:
                    raise
                failures[shown] = str(bad)
    return Evaluation(tuple(runs), failures)


def _silent(*_: Any) -> None:
    """Progress that nobody watches."""


def _of_model(
    request: Request, spec: Any, options: Mapping[str, str], questions: list[Question], target: Path, tell: Progress
) -> Iterator[Run]:
    """One model's runs, each as soon as it is finished."""
    if request.draws:
        loaded = load(
            spec,
            options,
            checkpoint=request.checkpoint_path,
            device=request.device,
            dtype=request.dtype,
            tokenizer_checkpoint=request.tokenizer_path,
            prefix=request.prefix,
        )
        for question in questions:
            yield generation.evaluate(_job(request, loaded, question, target), request, tell)
        return
    loaded = load(
        spec,
        options,
        checkpoint=request.checkpoint_path,
        device=request.device,
        dtype=request.dtype,
        generator=False,
        identity=request.identity,
        prefix=request.prefix,
    )
    for question in questions:
        served = replace(loaded, system=loaded.system.served(question.task.fit))
        with measuring(spec):
            yield read_run(run(_job(request, served, question, target), tell))


def _job(request: Request, loaded: Loaded, question: Question, target: Path) -> Job:
    batch = request.batch_size or 4
    tried: dict[str, Any] = {}
    if not request.batch_size and isinstance(loaded.system, ModelSystem):
        batch, tried = fastest(loaded.system, question.suite, question.view)
    return Job(
        loaded,
        question.task,
        question.suite,
        question.view,
        target,
        batch_size=batch,
        limit=request.limit,
        seed=request.seed,
        device=loaded.device,
        dtype=loaded.dtype,
        save=frozenset(request.save),
        shard=request.shard,
        command=request.command,
        suite_spec=question.spec,
        facts=tried,
    )


# -- one run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Start:
    """Where a run begins: its record, what is asked of it, batch and pictures kept; `begun` images are finished."""

    info: RunInfo
    metrics: Metrics
    save: frozenset[str]
    batch: int
    begun: int = 0


def run(job: Job, tell: Progress = _silent) -> Path:
    """Runs one job into its folder and returns it. Raises VtbenchError when the model fails; rows up to then stay."""
    path = job.folder()
    job.loaded.system.check(job.items(), job.suite, job.view)
    if "images" in job.save:
        pair_names(job.items(), job.suite.name)
    if not job.suite.items:
        raise VtbenchError(f"{job.suite.name} holds no images: nothing to do")
    with RunFolder(path) as folder:
        start = _begin(job, folder)
        if start is None:
            tell(job.name, job.task.name, len(job.items()), len(job.items()))
            return path
        folder.write_info(start.info.with_(status="running"))
        with failures_recorded(folder, start.info):
            _images(job, folder, start, tell)
        _finish(job, folder, start)
    return path


def _begin(job: Job, folder: RunFolder) -> _Start | None:
    """What is to do in this folder, after an earlier try or without one; None if it is done."""
    before = folder.info()
    if before is not None and before.id != job.id:
        raise VtbenchError(f"{folder.path} belongs to another question ({before.id[:12]}): choose another --out")
    batch = before.batch_size if before is not None and before.batch_size else job.batch_size
    if job.shard and batch != job.batch_size:
        raise VtbenchError(f"{folder.path} was begun with --batch-size {batch}: give the same for its shards")
    metrics = load_metrics(job.task.metrics, job.device)
    save, items = job.save, job.items()
    if before is not None:
        if set(before.unavailable) & set(metrics.ready) or not save <= set(before.save):
            # Metrics that were null for lack of weights, or tokens and images that nobody asked to be kept: the images
            # go through the model once more.
            folder.clear()
        elif before.finished and before.n == len(items):
            return None
        save |= set(before.save)
    begun = folder.keep_rows(batch)
    if begun > len(items):
        raise VtbenchError(f"{folder.path} holds {begun} rows, this run asks for {len(items)}: choose another --out")
    return _Start(first_record(job, metrics, batch, save), metrics, save, batch, begun)


def _place(job: Job, folder: RunFolder) -> FeaturePlace:
    """Features: with shards the cache's order would not be this run's, so they make their own."""
    whole = job.shard is None
    return FeaturePlace(folder.path, job.suite.hash if whole else None, job.view.fingerprint() if whole else None)


def _images(job: Job, folder: RunFolder, start: _Start, tell: Progress) -> None:
    """The images that are left, through the pipeline."""
    items, system = job.items(), job.loaded.system
    writer = Writer(
        folder,
        start.metrics,
        _place(job, folder),
        Keeping(start.save, SAMPLES if job.begins else 0),
        device=job.device,
        begun=start.begun,
        system=system,
    )
    if start.begun >= len(items):
        return
    done = start.begun

    def tick(count: int) -> None:
        nonlocal done
        done += count
        tell(job.name, job.task.name, done, len(items))

    # A metric's network beside the model's on the same cores only slows both: in turn.
    networks = any(m.card.needs for m in start.metrics.ready.values())
    sources = [stream.source_of(job.suite, job.view)]
    saved = isinstance(system, SavedPictures)
    if isinstance(system, SavedPictures):
        sources.append(partners(system.suite, system.items))
    pipeline.run(
        [pipeline.Lane(job.name, system, writer, side=1 if saved else None)],
        stream.batches(sources, items[start.begun :], start.batch),
        pipeline.Pace(start.batch, len(items), start.begun),
        seed=job.seed,
        overlap=not (job.device == "cpu" and networks),
        tick=tick,
    )


def _finish(job: Job, folder: RunFolder, start: _Start) -> None:
    """Scores from the rows, and the whole record."""
    asked = Asked(job.task.name, start.metrics, job.view.protocol, job.view.fingerprint())
    seen = tally(folder.read_rows(), start.metrics.per_image())
    place, tokens = _place(job, folder), TokenFile(folder.path)
    result = scores_of(
        asked,
        folder.read_rows,
        seen,
        items=job.items(),
        tokens=tokens if tokens.exists() else None,
        sides=place.sides,
    )
    if result.per_image:
        folder.replace_rows(with_values(folder.read_rows, result.per_image, seen.good))
    info = finished(job, start.info, folder)
    if job.limit is None and job.shard is None and not seen.missing:
        place.keep_references(start.metrics.extractors())
    folder.write_scores([*result.scores, *cost_scores(job.task.name, costs_of(info, seen))])
    folder.write_info(info)
