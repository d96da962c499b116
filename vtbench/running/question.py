"""The record of a run: what was asked, of what, and on which machine; written when it begins, completed at its end."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vtbench import registry
from vtbench.images.datasets import known_dataset
from vtbench.models.adapter_files import reason, recorded
from vtbench.models.memory import Memory
from vtbench.results import provenance
from vtbench.results.files import NotWritten, plain
from vtbench.results.folder import RunFolder
from vtbench.results.record import IDENTITY_RULE, SCHEMA, RunInfo
from vtbench.results.typed import validated
from vtbench.running.job import Job
from vtbench.scoring.costs import OF_ANSWERS, Costs
from vtbench.scoring.loading import Metrics
from vtbench.scoring.remarks import stated_profiles
from vtbench.scoring.scores import Tally
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import cause
from vtbench.types.shortage import Short


def now() -> str:
    """UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def joined(reasons: Iterable[str | None]) -> str | None:
    """Reasons as one text; None if there are none."""
    return "; ".join(r for r in reasons if r) or None


def why_not_ranked(job: Job, metrics: Metrics) -> list[str]:
    """Everything that keeps this run from being ranked, known before it begins."""
    reasons = list(job.loaded.reasons)
    if job.loaded.weights.get("status") == "unverified":
        reasons.append(f"unverified weights ({job.loaded.weights.get('why') or 'made for a test'})")
    reasons += metrics.unverified()
    if job.limit is not None and job.limit < len(job.suite.items):
        reasons.append(f"limited to {job.limit} of {len(job.suite.items)} images")
    reasons += registry.not_of_the_release(job.task)
    if job.shard:
        reasons.append(f"shard {job.shard[0]} of {job.shard[1]}: merge the shards")
    changed = provenance.changed(job.source_files())
    if changed:
        reasons.append(f"code that decides these numbers differs from the release ({', '.join(changed[:3])})")
    return reasons


def first_record(job: Job, metrics: Metrics, batch: int, save: frozenset[str], n: int | None = None) -> RunInfo:
    """run.json as a run begins; n: its images, unless they are the job's."""
    reasons = why_not_ranked(job, metrics)
    suite, view = job.suite, job.view
    stated = {
        "schema": SCHEMA,
        "identity_rule": IDENTITY_RULE,
        "id": job.id,
        "question": job.question(),
        "model": _model(job),
        "task": {"name": job.task.name, "version": job.task.version, "title": job.task.title, "fit": job.task.fit},
        "suite": {
            "name": suite.name,
            "hash": suite.hash,
            "n": len(suite.items),
            "version": suite.version,
            "spec": job.suite_spec,
            **_left_out(job),
            **_dataset(job),
        },
        "view": {"name": view.name, "protocol": view.protocol, "fingerprint": view.fingerprint()},
        "protocol": view.protocol,
        "dtype": job.dtype,
        "device": provenance.device_facts(job.device),
        "seed": job.seed,
        "n": len(job.items()) if n is None else n,
        "limit": job.limit,
        "shard": list(job.shard) if job.shard else None,
        "batch_size": batch,
        "save": sorted(save),
        "ranked": not reasons,
        "why_not_ranked": joined(reasons),
        "unavailable": dict(metrics.unavailable),
        "metrics": {n: dataclasses.asdict(c) for n, c in metrics.cards().items()},
        "command": job.command,
        "provenance": {**provenance.facts(job.source_files()), "started": now()},
    }
    return validated(RunInfo, plain(stated), "the record of this run")


def _left_out(job: Job) -> dict[str, Any]:
    """What was left out of the originals and of saved pictures, and what else their names may mean."""
    suite = job.suite
    notes = [*suite.notes, *job.loaded.system.notes]
    return {**({"left_out": dict(suite.left_out)} if suite.left_out else {}), **({"notes": notes} if notes else {})}


def _dataset(job: Job) -> dict[str, Any]:
    """The public split that the images are, where their names say so."""
    known = known_dataset(job.suite.items)
    return {"dataset": known.dataset, "split": known.split} if known else {}


def _model(job: Job) -> dict[str, Any]:
    loaded, card = job.loaded, job.loaded.system.card
    options = dict(loaded.identity.get("options", {}))
    curve = {k: v for k, v in options.items() if k != card.knob}
    return {
        "name": job.name,
        "family": card.family,
        "kind": card.kind,
        "title": card.title,
        "card": loaded.card_facts(),
        "options": options,
        "knob": card.knob,
        "curve": f"{job.name} {json.dumps(plain(curve), sort_keys=True)}" if card.knob else None,
        "weights": dict(loaded.weights),
        "adapter_sha256": loaded.identity.get("adapter"),
        "parameters": loaded.system.parameter_count(),
        **loaded.facts,
        **job.facts,
        **({"reads": recorded(loaded.files.read, at_work=False)} if loaded.files.read else {}),
    }


def with_reads(job: Job, info: RunInfo) -> RunInfo:
    """The record with the files that the model's code has opened by now, while it worked; they keep it unranked."""
    late = job.loaded.read_at_work()
    if not late:
        return info
    reads = [*recorded(job.loaded.files.read, at_work=False), *recorded(late, at_work=True)]
    why = joined(dict.fromkeys([*(info.why_not_ranked or "").split("; "), reason(job.name, late)]))
    return info.with_(model={**info.model.as_dict(), "reads": reads}, ranked=False, why_not_ranked=why)


def finished(job: Job, info: RunInfo, folder: RunFolder, memory: Memory) -> RunInfo:
    """The record at the run's end: what the rows say of it as a whole, memory since it began, time."""
    info = with_reads(job, info)
    bad = enlarged = count = 0
    profiles: Counter[str] = Counter()
    served: Counter[str] = Counter()
    first: Mapping[str, Any] = {}
    for row in folder.read_rows():
        first = first or row
        count += 1
        flags = row.get("flags", {})
        bad += "*" in row["why"]
        enlarged += bool(flags.get("enlarged"))
        served.update([flags["served"]] if "served" in flags else ())
        profiles.update([flags["profile"]] if "profile" in flags else ())
    unscored = f"{bad} of {count} images could not be scored" if bad else None
    most = memory.most(beside="metrics and libraries")
    kind = first.get("kind") or job.loaded.system.card.kind
    model = {**info.model.as_dict(), "kind": kind, "macs": first.get("seconds", {}).get("macs")}
    model["card"] = {**model["card"], "kind": kind}
    return info.with_(
        status="incomplete" if bad else "complete",
        ranked=bool(info.ranked) and not bad,
        why_not_ranked=joined([info.why_not_ranked, unscored]),
        model=model,
        enlarged=enlarged,
        served=dict(served),
        notes=[*info.notes, *stated_profiles(profiles, count, "originals")],
        peak_memory_bytes=most["bytes"],
        peak_memory_what=most["what"],
        provenance={**info.provenance.as_dict(), "finished": now()},
    )


@contextlib.contextmanager
def failures_recorded(folder: RunFolder, job: Job, info: RunInfo) -> Iterator[None]:
    """What ends a run early is written into its record before it is raised, with what its model read until then."""
    try:
        yield
    except KeyboardInterrupt:
        folder.write_info(with_reads(job, info).with_(status="interrupted"))
        raise
    except (NotWritten, Short) as bad:
        with contextlib.suppress(VtbenchError):
            folder.write_info(with_reads(job, info).with_(status="interrupted", failure=str(bad)))
        raise
    except VtbenchError as bad:
        why = f"the run failed: {bad}"
        info = with_reads(job, info)
        folder.write_info(info.with_(status="failed", failure=str(bad), ranked=False, why_not_ranked=why))
        raise
    except BaseException as bad:
        # A fault of vtbench, or of a library: no run is left as if it still ran.
        with contextlib.suppress(VtbenchError):
            folder.write_info(info.with_(status="failed", failure=cause(bad), ranked=False, why_not_ranked=cause(bad)))
        raise


def costs_of(info: RunInfo, seen: Tally) -> Costs:
    """A reconstruction's costs, from the record and the rows."""
    always: tuple[str, ...] = OF_ANSWERS if info.task.name == "answers" else ()
    return Costs(
        seen.n,
        info.batch_size,
        seen.times,
        counts={**{name: [] for name in always}, **seen.counts},
        memory=info.peak_memory_bytes,
        memory_what=info.peak_memory_what or "",
        parameters=info.model.parameters,
        macs=info.model.macs,
    )
