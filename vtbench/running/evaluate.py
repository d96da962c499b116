"""`vtbench evaluate`: every model on every question, each in a folder of its own, resumable."""

from __future__ import annotations

import functools
import gc
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vtbench.images.pairing import pair_names
from vtbench.models.isolation import isolated
from vtbench.models.load import Loaded, load
from vtbench.models.memory import Memory
from vtbench.models.objects import measuring
from vtbench.models.system import ModelSystem
from vtbench.models.understood import understood
from vtbench.results.folder import RunFolder
from vtbench.results.record import Run, read_run
from vtbench.results.stores import TokenFile
from vtbench.running import generation
from vtbench.running.batch_size import fastest
from vtbench.running.engine import Ask, Engine, Start, originals_of
from vtbench.running.evaluation import Evaluation
from vtbench.running.job import Job
from vtbench.running.question import costs_of, failures_recorded, finished, first_record, with_reads
from vtbench.running.reduction import ReducerAsk
from vtbench.running.request import Progress, Question, Request
from vtbench.running.writer import Writer
from vtbench.scoring import feature_cache
from vtbench.scoring.costs import cost_scores
from vtbench.scoring.feature_cache import KeptFeatures, Say
from vtbench.scoring.features import DiskUse, FeaturePlace
from vtbench.scoring.loading import load_metrics
from vtbench.scoring.scores import Asked, Tally, scores_of, tally, with_values
from vtbench.types.errors import VtbenchError
from vtbench.types.shortage import Short

log = logging.getLogger(__name__)


@isolated()
def evaluate(
    request: Request, progress: Progress | None = None, say: Say | None = None, engine: Engine | None = None
) -> Evaluation:
    """The runs of a request. A model that fails is named in `failures` and the others go on; a single model's wrong
    question (code 2) is raised. say: takes a sentence that a user should read while it runs. engine: what sends images
    through the models; by default this process."""
    request, engine = request.checked(), engine or Engine()
    tell, say = progress or _silent, say or _silent
    questions, target = request.questions(), request.folder()
    for question in questions:
        question.suite.identify(functools.partial(tell, question.spec, "hash"))
    if request.reducers:
        request.subjects.check(request.specs, [question.suite.items for question in questions])
    runs: list[Run] = []
    failures: dict[str, str] = {}
    combinations = request.combinations()
    alone = len(request.specs) == 1 and len(combinations) == 1
    for spec in request.specs:
        for options in combinations:
            if runs or failures:
                # A model that refers to itself would stay in memory beside the next, whose memory is measured.
                gc.collect()
            name = str(spec) if isinstance(spec, str | ReducerAsk) else type(spec).__name__
            shown = name + "".join(f" {k}={v}" for k, v in options.items())
            try:
                for run in _of_model(request, spec, options, questions, target, tell, say, engine):
                    runs.append(run)
            except Short:
                # The other models would lack the same.
                raise
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
    engine: Engine,
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
            job = job_of(request, loaded, question, target, request.settings(spec, options, question))
            yield generation.evaluate(job, request, tell, say)
        return
    if isinstance(spec, ReducerAsk):
        loaded = request.subjects.loaded(spec)
        for question in questions:
            settings = request.settings(spec, options, question)
            yield read_run(run(job_of(request, loaded, question, target, settings), tell, say, engine))
        return
    loaded = loaded_tokenizer(request, spec, options, engine.device or request.device)
    for number, question in enumerate(questions):
        with measuring(spec):
            job = job_of(request, loaded, question, target, request.settings(spec, options, question))
            if engine.device is not None:
                job = replace(job, device=request.device or "cpu")
            yield read_run(run(job, tell, say, engine.asked(Ask(request, spec, options, number))))


def loaded_tokenizer(request: Request, spec: Any, options: Mapping[str, str], device: str | None) -> Loaded:
    """One of the request's models, which is no generator, on a device."""
    own, towers = request.options_of(spec, options)
    loaded = load(
        spec,
        own,
        checkpoint=request.checkpoint_path,
        device=device,
        dtype=request.dtype,
        generator=False,
        identity=request.identity,
        prefix=request.prefix,
    )
    return loaded if request.tower is None else understood(loaded, request.subjects.of(towers))


def job_of(
    request: Request, loaded: Loaded, question: Question, target: Path, settings: Mapping[str, Any] | None = None
) -> Job:
    """The model's job for one question, the model served as the task wants it."""
    if not request.draws:
        loaded = replace(loaded, system=loaded.system.served(question.task.fit))
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
        shard=request.part,
        command=request.command,
        suite_spec=question.spec,
        facts=tried,
        settings=settings or {},
    )


# -- one run ---------------------------------------------------------------------------------------------------------


def run(job: Job, tell: Progress = _silent, say: Say = _silent, engine: Engine | None = None) -> Path:
    """Runs one job into its folder and returns it. Raises VtbenchError when the model fails; rows up to then stay."""
    path, engine = job.folder(), engine or Engine()
    job.loaded.system.check(job.items(), job.suite, job.view)
    if "images" in job.save:
        pair_names(job.items(), job.suite.name)
    if not job.suite.items:
        raise VtbenchError(f"{job.suite.name} holds no images: nothing to do")
    memory = engine.memory(job)
    with RunFolder(path) as folder:
        start = _begin(job, folder, say, engine.device or job.device)
        if start is None:
            tell(job.name, job.task.name, len(job.items()), len(job.items()))
            return path
        start = engine.ready(job, start)
        folder.write_config(job.settings)
        folder.write_info(start.info.with_(status="running"))
        with failures_recorded(folder, job, start.info):
            known = _known(job, folder, start, say)
            _images(job, folder, start, known, tell, engine)
            seen = _finish(job, folder, start, memory)
        _leave_features(job, folder, start, seen, known)
    return path


def _begin(job: Job, folder: RunFolder, say: Say, device: str) -> Start | None:
    """What is to do in this folder, after an earlier try or without one; None if it is done. device: where metrics are
    loaded."""
    before = folder.info()
    if before is not None and before.id != job.id:
        raise VtbenchError(f"{folder.path} belongs to another question ({before.id[:12]}): choose another --out")
    batch = before.batch_size if before is not None and before.batch_size else job.batch_size
    if job.shard and batch != job.batch_size:
        raise VtbenchError(f"{folder.path} was begun with --batch-size {batch}: give the same for its shards")
    metrics = load_metrics(job.task.metrics, device).reading(job.loaded.system.dim)
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
    start = Start(first_record(job, metrics, batch, save), metrics, save, batch, begun)
    why = FeaturePlace(folder.path).trouble(metrics.extractors(), begun) if begun else None
    if why is None:
        return start
    # Features of finished images that were reduced to moments, or are not as they were written.
    start.notes.append(f"{why}, so the {begun} images that were finished went through the model once more")
    say(f"{folder.path}: {start.notes[-1]}")
    folder.clear()
    return replace(start, begun=0)


def _known(job: Job, folder: RunFolder, start: Start, say: Say) -> dict[str, KeptFeatures]:
    """What the cache has of the originals' features, by network; and before any image is read, what the run's own will
    take of the disk."""
    extractors, images = start.metrics.extractors(), len(job.items())
    extractors = {name: one for name, one in extractors.items() if one.cached}
    if not extractors or not images:
        return {}

    def note(sentence: str) -> None:
        start.notes.append(sentence)
        say(sentence)

    known = feature_cache.known(originals_of(job, start.batch), extractors, note)
    whole = job.shard is not None or "features" in start.save
    use = DiskUse.of(extractors, images, kept=whole, fresh=len(extractors) - len(known))
    say(f"{job.name}, {job.task.name}: {use.sentence(folder.path)}")
    return known


def _images(
    job: Job,
    folder: RunFolder,
    start: Start,
    known: Mapping[str, KeptFeatures],
    tell: Progress,
    engine: Engine,
) -> None:
    """The images that are left, through the engine."""
    items, system = job.items(), job.loaded.system
    writer = Writer(
        folder,
        start.metrics,
        FeaturePlace(folder.path),
        start.keeping(job),
        device=engine.device or job.device,
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

    engine.images(job, start, writer, tick)


def _finish(job: Job, folder: RunFolder, start: Start, memory: Memory) -> Tally:
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


def _leave_features(job: Job, folder: RunFolder, start: Start, seen: Tally, known: Mapping[str, KeptFeatures]) -> None:
    """The originals' features into the cache, and the run's own reduced; a shard's are whole until it is merged. known:
    what the cache holds already."""
    extractors, place = start.metrics.extractors(), FeaturePlace(folder.path)
    if not extractors or not seen.n:
        return
    originals = originals_of(job, start.batch)
    images = [row.get("sha256") for row in folder.read_rows()]
    for name, extractor in extractors.items():
        if name not in known and extractor.cached:
            feature_cache.keep(originals, extractor, images, place.reference(extractor))
    if job.shard is None and "features" not in start.save:
        try:
            place.reduce(extractors, seen.good)
        except OSError as bad:
            # They stay as they are, which costs space; the run is finished.
            log.debug("the features of %s stay unreduced", folder.path, exc_info=bad)
