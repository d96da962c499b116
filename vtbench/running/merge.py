"""`vtbench merge`: the shards of one run, joined into the run that one pass would have made."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vtbench.images.opening import open_again
from vtbench.models.isolation import isolated
from vtbench.results.folder import FEATURES, RunFolder
from vtbench.results.record import Run, RunInfo, find_runs, read_run
from vtbench.results.stores import FeatureFile, TokenFile
from vtbench.running.question import costs_of, joined
from vtbench.scoring.costs import cost_scores
from vtbench.scoring.feature_cache import Say
from vtbench.scoring.features import FeaturePlace
from vtbench.scoring.loading import Metrics, load_metrics
from vtbench.scoring.scores import Asked, scores_of, tally, with_values
from vtbench.types.errors import VtbenchError
from vtbench.types.metric import Extractor, RowMetric

ROWS_AT_ONCE = 256
COPY = 1 << 24
"""Bytes at a time."""


@isolated()
def merge(paths: Sequence[Path], out: Path, say: Say | None = None) -> list[Path]:
    """Joins every complete set of shards at or below `paths` into folders under `out`; returns them. What was joined
    before stays as it is, and `say` is told.

    Raises VtbenchError if a shard is missing, unfinished or given twice; nothing is written then.
    """
    groups: dict[str, list[Run]] = defaultdict(list)
    for path in find_runs(paths):
        run = read_run(path)
        if run.info.shard:
            groups[run.info.id].append(run)
    if not groups:
        raise VtbenchError(f"{', '.join(map(str, paths))} holds no shard: run evaluate with --shard i/n first")
    plans = [_ordered(runs) for runs in groups.values()]
    return [_join(shards, out, say or _silent) for shards in plans]


def _silent(_: str) -> None:
    """For callers that watch nothing."""


def _ordered(runs: Sequence[Run]) -> list[Run]:
    """The shards in order, or the reason why they do not make a whole."""
    name = f"{runs[0].name}, {runs[0].info.task.name}"
    numbers = [(s[0], s[1]) for r in runs if (s := r.info.shard) is not None]
    splits = {of for _, of in numbers}
    if len(splits) > 1:
        raise VtbenchError(f"the shards of {name} come from splits into {sorted(splits)}: merge shards of one split")
    (n,) = splits
    by_number = {number: run for (number, _), run in zip(numbers, runs, strict=True)}
    if len(by_number) != len(runs):
        raise VtbenchError(f"a shard of {name} is given twice: give every folder once")
    missing = [str(i) for i in range(1, n + 1) if i not in by_number]
    if missing:
        raise VtbenchError(
            f"{name}: shard {', '.join(missing)} of {n} is missing: run it with --shard {missing[0]}/{n}"
        )
    ordered = [by_number[i] for i in range(1, n + 1)]
    for run in ordered:
        if not run.info.finished:
            raise VtbenchError(f"{run.path} is {run.info.status}: run the same command again until it is complete")
    versions: dict[str, set[Any]] = defaultdict(set)
    for run in ordered:
        for metric, card in run.info.metrics.items() if run.info.n else ():
            versions[metric].add(card.get("version"))
    mixed = next((metric for metric, stated in versions.items() if len(stated) > 1), None)
    if mixed is not None:
        raise VtbenchError(
            f"the shards of {name} measured {mixed} by versions {sorted(map(str, versions[mixed]))}: run "
            "`vtbench score` on those of the older one"
        )
    measured = [{*run.info.metrics} for run in ordered if run.info.n]
    partly = sorted({name for one in measured for name in one if any(name not in other for other in measured)})
    if partly:
        raise VtbenchError(
            f"only some shards of {name} measured {', '.join(partly)}: run `vtbench score` on the others"
        )
    if len({(r.info.batch_size, r.info.limit) for r in ordered}) > 1:
        raise VtbenchError(f"the shards of {name} differ in --batch-size or --limit: run them alike")
    return ordered


def _join(shards: Sequence[Run], out: Path, say: Say) -> Path:
    """One folder of all shards; run.json is written last, so that a killed merge counts for nothing."""
    target = out / shards[0].path.name.split("--shard-")[0]
    with RunFolder(target) as folder:
        before = folder.info()
        if before is not None:
            if not _is_whole_of(before, shards):
                raise VtbenchError(f"{target} exists already, and is not these shards joined: choose another --out")
            say(f"{target} is joined from these {len(shards)} shards already: nothing to do")
            return target
        folder.clear()
        _join_features(shards, target)
        _join_rows(shards, folder)
        for name in ("samples", "images"):
            for shard in shards:
                if (shard.path / name).is_dir():
                    shutil.copytree(shard.path / name, target / name, dirs_exist_ok=True)
        info = _record(shards)
        extractors, good = _score(folder, info)
        if "features" not in info.save:
            FeaturePlace(target).reduce(extractors, good)
        folder.write_info(info)
    return target


def _is_whole_of(info: RunInfo, shards: Sequence[Run]) -> bool:
    """Whether a record is of these shards joined: the same question, as many, and measured by the same versions."""
    wanted = _record(shards)

    def versions(record: RunInfo) -> dict[str, Any]:
        return {name: card.get("version") for name, card in record.metrics.items()}

    same = (info.id, info.merged_from, info.n, info.limit) == (wanted.id, len(shards), wanted.n, wanted.limit)
    return same and bool(info.finished) and versions(info) == versions(wanted)


def _join_features(shards: Sequence[Run], target: Path) -> None:
    """Every network's features of all shards, in order, each verified by its sums where it has any."""
    (target / FEATURES).mkdir(exist_ok=True)
    for name in sorted({p.name for s in shards for p in (s.path / FEATURES).glob("*.f32")}):
        parts = []
        for number, shard in enumerate(shards, 1):
            part = shard.path / FEATURES / name
            # A shard of no images has no features.
            if shard.info.n or part.exists():
                _check_features(part, shard.info.n or 0, number)
                parts.append(FeatureFile(part, 1))
        _concatenate([p.path for p in parts], target / FEATURES / name)
        # Shards of an older vtbench have no sums.
        if all(p.sums.exists() for p in parts):
            _concatenate([p.sums for p in parts], FeatureFile(target / FEATURES / name, 1).sums)


def _check_features(part: Path, images: int, number: int) -> None:
    size = part.stat().st_size if part.exists() else 0
    dim, rest = divmod(size, 4 * images) if images else (0, size)
    file = FeatureFile(part, max(dim, 1))
    why = "is missing" if images and not size else "is cut short" if rest else None
    if why is None and file.sums.exists() and file.trouble(images):
        why = "is damaged"
    if why is not None:
        raise VtbenchError(f"{part} {why}: run shard {number} again")


def _concatenate(parts: Sequence[Path], target: Path) -> None:
    with target.open("wb") as sink:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, sink, COPY)


def _join_rows(shards: Sequence[Run], folder: RunFolder) -> None:
    """Rows as they were written, and their tokens."""
    tokens = TokenFile(folder.path)
    begun = False
    for shard in shards:
        kept = TokenFile(shard.path)
        waiting: list[Mapping[str, Any]] = []
        rows = 0
        for row in RunFolder(shard.path).read_rows():
            rows += 1
            if begun:
                # Stated once a run, with its first image.
                row.pop("kind", None)
            begun = True
            waiting.append(row)
            if len(waiting) == ROWS_AT_ONCE:
                folder.append_rows(waiting)
                waiting = []
        folder.append_rows(waiting)
        packed = kept.blobs(range(rows if kept.exists() else 0))
        while some := list(itertools.islice(packed, ROWS_AT_ONCE)):
            tokens.append(some)


def _record(shards: Sequence[Run]) -> RunInfo:
    infos = [s.info for s in shards]
    # What the first images say of the model (kind, multiply-accumulates) stands in the record of their shard.
    first = next((info for info in infos if info.n), infos[0])
    reasons = [r for i in infos for r in (i.why_not_ranked or "").split("; ") if r and not r.startswith("shard ")]
    served: Counter[str] = Counter()
    for info in infos:
        served.update(info.served)
    why = joined(dict.fromkeys(reasons))
    # The whole took what its largest shard took, unless that of a shard is not known.
    largest = max((i for i in infos if i.n), key=_memory, default=first)
    return first.with_(
        enlarged=sum(i.enlarged for i in infos),
        served=dict(served),
        peak_memory_bytes=largest.peak_memory_bytes,
        peak_memory_what=largest.peak_memory_what,
        shard=None,
        n=sum(i.n or 0 for i in infos),
        ranked=why is None,
        why_not_ranked=why,
        merged_from=len(shards),
        status="incomplete" if any(i.status == "incomplete" for i in infos) else "complete",
    )


def _memory(info: RunInfo) -> float:
    return float("inf") if info.peak_memory_bytes is None else info.peak_memory_bytes


def _score(folder: RunFolder, info: RunInfo) -> tuple[Mapping[str, Extractor], Sequence[int]]:
    """The scores of the whole, as one pass would have made them. Returns the networks whose features were compared, and
    the rows that were scored."""
    dim = (info.model.as_dict().get("tower") or {}).get("dim")
    metrics = load_metrics(list(info.metrics), info.device.kind or "cpu").reading(dim if isinstance(dim, int) else None)
    metrics = metrics.without(_of_other_versions(info, metrics))
    asked = Asked(info.task.name, metrics, info.view.protocol or "vtbench", info.view.fingerprint or "")
    seen = tally(folder.read_rows(), metrics.per_image())
    items: Sequence[Any] = [str(r["item"]) for r in folder.read_rows()]
    if any(isinstance(m, RowMetric) for m in metrics.ready.values()):
        items = open_again(info.suite.spec or "", info.suite.hash).items[: info.limit]
    tokens = TokenFile(folder.path)
    place = FeaturePlace(folder.path)
    result = scores_of(
        asked,
        folder.read_rows,
        seen,
        items=items,
        tokens=tokens if tokens.exists() else None,
        sides=place.sides,
    )
    if result.per_image:
        folder.replace_rows(with_values(folder.read_rows, result.per_image, seen.good))
    folder.write_scores([*result.scores, *cost_scores(info.task.name, costs_of(info, seen))])
    return metrics.extractors(), seen.good


def _of_other_versions(info: RunInfo, metrics: Metrics) -> dict[str, str]:
    """Metrics whose values in the shards are of another version than the installed one: no number is of two."""
    out = {}
    for name, card in metrics.cards().items():
        stated = info.metrics[name].get("version")
        if stated != card.version:
            out[name] = (
                f"the shards measured {name} by version {stated}, and this vtbench has version {card.version}: "
                "`vtbench score SHARD` renews it where images or tokens were saved"
            )
    return out
