"""`vtbench evaluate`: every model on every question, each in a folder of its own, resumable."""

from __future__ import annotations

import functools
import gc
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vtbench.images import stream
from vtbench.images.pairing import pair_names, partners
from vtbench.models.isolation import isolated
from vtbench.models.load import Loaded, load
from vtbench.models.memory import Memory
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
from vtbench.running.question import costs_of, failures_recorded, finished, first_record, with_reads
from vtbench.running.request import Progress, Question, Request
from vtbench.running.writer import SAMPLES, Keeping, Writer
from vtbench.scoring import feature_cache
from vtbench.scoring.costs import cost_scores
from vtbench.scoring.feature_cache import KeptFeatures, Originals, Say
from vtbench.scoring.features import DiskUse, FeaturePlace
from vtbench.scoring.loading import Metrics, load_metrics
from vtbench.scoring.scores import Asked, Tally, scores_of, tally, with_values
from vtbench.types.errors import VtbenchError

log = logging.getLogger(__name__)


@isolated()
def evaluate(request: Request, progress: Progress | None = None, say: Say | None = None) -> Evaluation:
    """The runs of a request. A model that fails is named in `failures` and the others go on; a single model's wrong
    question (code 2) is raised. say: takes a sentence that a user should read while it runs."""
    request = request.checked()
    tell, say = progress or _silent, say or _silent
    questions, target = request.questions(), request.folder()
    for question in questions:
        question.suite.identify(functools.partial(tell, question.spec, "hash"))
    runs: list[Run] = []
    failures: dict[str, str] = {}
    combinations = request.combinations()
    alone = len(request.specs) == 1 and len(combinations) == 1
    for spec in request.specs:
        for options in combinations:
            if runs or failures:
                # A model that refers to itself would stay in memory beside the next, whose memory is measured.
                gc.collect()
            name = spec if isinstance(spec, str) else type(spec).__name__
            shown = name + "".join(f" {k}={v}" for k, v in options.items())
            try:
                for run in _of_model(request, spec, options, questions, target, tell, say):
                    runs.append(run)
            except VtbenchError as bad:
                if alone and bad.code == 2:
                    raise
                log.debug("%s failed", shown, exc_info=bad)
                failures[shown] = str(bad)
    return Evaluation(tuple(runs), failures)


def _silent(*_: Any) -> None:
    """Progress that nobody watches."""


def _of_model(
    request: Request,
    spec: Any,
    options: Mapping[str, str],
    questions: list[Question],
    target: Path,
    tell: Progress,
    say: Say,
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
            job = _job(request, loaded, question, target, request.settings(spec, options, question))
            yield generation.evaluate(job, request, tell, say)
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
            job = _job(request, served, question, target, request.settings(spec, options, question))
            yield read_run(run(job, tell, say))


def _job(request: Request, loaded: Loaded, question: Question, target: Path, settings: Mapping[str, Any]) -> Job:
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
        settings=settings,
    )


# -- one run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Start:
    """Where a run begins: its record, what is asked of it, batch and what is kept; `begun` images are finished.
    `notes`: what happened on the way that its record should say."""

    info: RunInfo
    metrics: Metrics
    save: frozenset[str]
    batch: int
    begun: int = 0
    notes: list[str] = field(default_factory=list)


def run(job: Job, tell: Progress = _silent, say: Say = _silent) -> Path:
    """Runs one job into its folder and returns it. Raises VtbenchError when the model fails; rows up to then stay."""
    path = job.folder()
    job.loaded.system.check(job.items(), job.suite, job.view)
    if "images" in job.save:
        pair_names(job.items(), job.suite.name)
    if not job.suite.items:
        raise VtbenchError(f"{job.suite.name} holds no images: nothing to do")
    memory = Memory.begin(job.device)
    with RunFolder(path) as folder:
        start = _begin(job, folder, say)
        if start is None:
            tell(job.name, job.task.name, len(job.items()), len(job.items()))
            return path
        folder.write_config(job.settings)
        folder.write_info(start.info.with_(status="running"))
        with failures_recorded(folder, job, start.info):
            known = _known(job, folder, start, say)
            _images(job, folder, start, known, tell)
            seen = _finish(job, folder, start, memory)
        _leave_features(job, folder, start, seen, known)
    return path


def _begin(job: Job, folder: RunFolder, say: Say) -> _Start | None:
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
        anew = set(before.unavailable) & set(metrics.ready) or not save <= set(before.save)
        if anew or before.model.reads_at_work:
            # Metrics that were null for lack of weights, tokens and images that nobody asked to be kept, or a model
            # that read what may be another file by now: the images go through the model once more.
            folder.clear()
        elif before.finished and before.n == len(items):
            return None
        save |= set(before.save)
    begun = folder.keep_rows(batch)
    if begun > len(items):
        raise VtbenchError(f"{folder.path} holds {begun} rows, this run asks for {len(items)}: choose another --out")
    start = _Start(first_record(job, metrics, batch, save), metrics, save, batch, begun)
    why = FeaturePlace(folder.path).trouble(metrics.extractors(), begun) if begun else None
    if why is None:
        return start
    # Features of finished images that were reduced to moments, or are not as they were written.
    start.notes.append(f"{why}, so the {begun} images that were finished went through the model once more")
    say(f"{folder.path}: {start.notes[-1]}")
    folder.clear()
    return replace(start, begun=0)


def _originals(job: Job, batch: int) -> Originals:
    """Whose features the cache may have, and gets."""
    first, _ = job.span
    device = job.device.partition(":")[0]
    return Originals(job.suite.hash, job.view.fingerprint(), first, len(job.items()), batch, device)


def _known(job: Job, folder: RunFolder, start: _Start, say: Say) -> dict[str, KeptFeatures]:
    """What the cache has of the originals' features, by network; and before any image is read, what the run's own will
    take of the disk."""
    extractors, images = start.metrics.extractors(), len(job.items())
    if not extractors or not images:
        return {}

    def note(sentence: str) -> None:
        start.notes.append(sentence)
        say(sentence)

    known = feature_cache.known(_originals(job, start.batch), extractors, note)
    whole = job.shard is not None or "features" in start.save
    use = DiskUse.of(extractors, images, kept=whole, fresh=len(extractors) - len(known))
    say(f"{job.name}, {job.task.name}: {use.sentence(folder.path)}")
    return known


def _images(job: Job, folder: RunFolder, start: _Start, known: Mapping[str, KeptFeatures], tell: Progress) -> None:
    """The images that are left, through the pipeline."""
    items, system = job.items(), job.loaded.system
    writer = Writer(
        folder,
        start.metrics,
        FeaturePlace(folder.path),
        Keeping(start.save, SAMPLES if job.begins else 0),
        device=job.device,
        begun=start.begun,
        system=system,
        known=known,
    )
    if start.begun >= len(items):
        return
    done, opened = start.begun, 0

    def tick(count: int) -> None:
        nonlocal done, opened
        done += count
        if system.opened is not None and len(system.opened.paths) > opened:
            # Before a kill can leave rows behind that look as if the run's id spoke of all that they were made from.
            opened = len(system.opened.paths)
            folder.write_info(with_reads(job, start.info).with_(status="running"))
        tell(job.name, job.task.name, done, len(items))

    # A metric's network beside the model's on the same cores only slows both: in turn.
    networks = any(m.card.needs for m in start.metrics.ready.values())
    sources = [stream.source_of(job.suite, job.view)]
    saved = isinstance(system, SavedPictures)
    if isinstance(system, SavedPictures):
        sources.append(partners(system.suite, system.items, job.view.of_file))
    pipeline.run(
        [pipeline.Lane(job.name, system, writer, side=1 if saved else None)],
        stream.batches(sources, items[start.begun :], start.batch),
        pipeline.Pace(start.batch, len(items), start.begun),
        seed=job.seed,
        overlap=not (job.device == "cpu" and networks),
        device=job.device,
        tick=tick,
    )


def _finish(job: Job, folder: RunFolder, start: _Start, memory: Memory) -> Tally:
    """Scores from the rows, and the whole record. Returns what the rows hold."""
    asked = Asked(job.task.name, start.metrics, job.view.protocol, job.view.fingerprint())
    seen = tally(folder.read_rows(), start.metrics.per_image())
    place, tokens = FeaturePlace(folder.path), TokenFile(folder.path)
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
    info = finished(job, start.info, folder, memory)
    if start.notes:
        info = info.with_(notes=[*info.notes, *start.notes])
    folder.write_scores([*result.scores, *cost_scores(job.task.name, costs_of(info, seen))])
    folder.write_info(info)
    return seen


def _leave_features(job: Job, folder: RunFolder, start: _Start, seen: Tally, known: Mapping[str, KeptFeatures]) -> None:
    """The originals' features into the cache, and the run's own reduced; a shard's are whole until it is merged. known:
    what the cache holds already."""
    extractors, place = start.metrics.extractors(), FeaturePlace(folder.path)
    if not extractors or not seen.n:
        return
    originals = _originals(job, start.batch)
    images = [row.get("sha256") for row in folder.read_rows()]
    for name, extractor in extractors.items():
        if name not in known:
            feature_cache.keep(originals, extractor, images, place.reference(extractor))
    if job.shard is None and "features" not in start.save:
        try:
            place.reduce(extractors, seen.good)
        except OSError as bad:
            # They stay as they are, which costs space; the run is finished.
            log.debug("the features of %s stay unreduced", folder.path, exc_info=bad)
