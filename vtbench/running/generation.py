"""`vtbench evaluate MODEL --task generation`: images from prompts, then the same pipeline as for folders, in one run.

The run's folder holds what every run holds (run.json, rows.jsonl with one row a sample, scores.jsonl, samples/) and
beside it `generated/`, which `vtbench generate` could have written. Drawing is resumed per image, scoring per batch.
Where the generator's tokenizer is known, its own reconstruction of the reference set stands beside the score
(`tokenizer-rfid`), as does what the generator adds to it (`gfid-gap` = fid - tokenizer-rfid).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from vtbench.images.prompts import PromptSuite, open_prompts
from vtbench.results.folder import RunFolder
from vtbench.results.record import Run, RunInfo, read_run
from vtbench.running.draw import Drawing, Order, draw
from vtbench.running.drawn import Drawn, load_for_drawn, score_drawn
from vtbench.running.drawn_samples import write_samples
from vtbench.running.job import Job
from vtbench.running.question import failures_recorded, first_record, joined, now, with_reads
from vtbench.running.request import Progress, Request
from vtbench.scoring.feature_cache import Say
from vtbench.scoring.features import DiskUse, FeaturePlace
from vtbench.scoring.loading import Metrics
from vtbench.scoring.remarks import NOT_COMPARABLE, PROTOCOL_N
from vtbench.types.cards import Card
from vtbench.types.errors import VtbenchError
from vtbench.types.task import Task


def prompts_for(task: Task, card: Card, spec: str | None) -> PromptSuite:
    """The suite asked for, or the task's first one of the generator's kind of condition."""
    if spec is not None:
        return open_prompts(spec)
    for name in task.prompts:
        prompts = open_prompts(name)
        if card.conditioning in (None, prompts.conditioning):
            return prompts
    raise VtbenchError(f"{task.name} has no prompts for {card.name}, which is {card.conditioning}-conditional")


def evaluate(job: Job, request: Request, tell: Progress, say: Say) -> Run:
    """One generator on one prompt suite against one reference suite: the finished run."""
    prompts = prompts_for(job.task, job.loaded.system.card, request.prompts)
    per_prompt = job.task.per_prompt if request.per_prompt is None else request.per_prompt
    order = Order(prompts, per_prompt, job.seed, job.batch_size, job.device, job.dtype, job.command)
    order.checked(job.loaded)
    job = dataclasses.replace(job, asked={"prompts": prompts.hash, "per_prompt": per_prompt})
    with RunFolder(job.folder()) as folder:
        before = folder.info()
        if before is not None and before.id != job.id:
            raise VtbenchError(f"{folder.path} belongs to another question: choose another --out")
        metrics = load_for_drawn(job.task.metrics, job.device)
        whole = before is not None and before.status == "complete" and not before.model.reads_at_work
        if before is not None and whole and not set(before.unavailable) & set(metrics.ready):
            return read_run(folder.path)
        extractors = metrics.extractors()
        if extractors:
            use = DiskUse.of(extractors, len(prompts.prompts) * per_prompt, sides=1)
            say(f"{job.name}, {job.task.name}: {use.sentence(folder.path)}")
        drawing = draw(
            job.loaded,
            order,
            folder.path / "generated",
            progress=lambda done, total: tell(job.name, "draw", done, total),
        )
        info = _record(job, order, drawing, metrics)
        if before is not None and (set(before.unavailable) != set(info.unavailable) or before.model.reads_at_work):
            # Rows without a metric that can be had by now, or of a model that read what may be another file.
            folder.clear()
        folder.write_config(job.settings)
        folder.write_info(info.with_(status="running"))
        with failures_recorded(folder, job, info):
            scores = score_drawn(job, Drawn(drawing), metrics, folder, info, tell)
            write_samples(folder.path, drawing)
        folder.write_scores(scores)
        folder.write_info(info.with_(status="complete", provenance={**info.provenance.as_dict(), "finished": now()}))
        FeaturePlace(folder.path).reduce(extractors)
    return read_run(folder.path)


def _record(job: Job, order: Order, drawing: Drawing, metrics: Metrics) -> RunInfo:
    """run.json of a generation: a run's record, with the prompts, the tokenizer and what drawing cost."""
    info = with_reads(job, first_record(job, metrics, job.batch_size, frozenset(), n=len(drawing.rows)))
    reasons = [info.why_not_ranked]
    distances = metrics.of_sets() or "fid" in job.task.metrics
    if distances and len(drawing.rows) != PROTOCOL_N:
        reasons.append(f"{NOT_COMPARABLE}: {len(drawing.rows)} images, the protocol wants {PROTOCOL_N}")
    tokenizer: Mapping[str, Any] | None = job.loaded.identity.get("tokenizer")
    if tokenizer and tokenizer["status"] == "unverified":
        reasons.append(f"the tokenizer {tokenizer['name']} has unverified weights")
    suite, memory = order.suite, drawing.info.peak_memory
    return info.with_(
        ranked=not joined(reasons),
        why_not_ranked=joined(reasons),
        black=drawing.black,
        prompts={
            "name": suite.name,
            "hash": suite.hash,
            "n": len(suite.prompts),
            "per_prompt": order.per_prompt,
            "licence": suite.licence,
            "rewritten": sum(p.rewritten for p in suite.prompts),
        },
        tokenizer=tokenizer,
        peak_memory_bytes=memory.bytes,
        peak_memory_what=memory.what,
    )
