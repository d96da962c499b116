"""`vtbench merge`: the shards of one run, joined into the run that one pass would have made."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtbench import scoring
from vtbench.results import Run, RunFolder, find_runs, read_run
from vtbench.run import load_metrics
from vtbench.types.errors import VtbenchError


def merge(paths: Sequence[Path], out: Path) -> list[Path]:
    """Joins every complete set of shards at or below `paths` into folders under `out`; returns them.

    Raises VtbenchError if a shard is missing, unfinished or given twice; nothing is written then.
    """
    groups: dict[str, list[Run]] = defaultdict(list)
    for path in find_runs(paths):
        run = read_run(path)
        if run.info.get("shard"):
            groups[str(run.info["id"])].append(run)
    if not groups:
        raise VtbenchError(f"{', '.join(map(str, paths))} holds no shard: run evaluate with --shard i/n first")
    plans = [(_checked(runs), out) for runs in groups.values()]
    return [_join(shards, target) for shards, target in plans]


def _checked(runs: Sequence[Run]) -> list[Run]:
    """The shards in order, or the reason why they do not make a whole."""
    name = f"{runs[0].name}, {runs[0].info['task']['name']}"
    parts = {int(r.info["shard"][1]) for r in runs}
    if len(parts) > 1:
        raise VtbenchError(f"the shards of {name} come from splits into {sorted(parts)}: merge shards of one split")
    (n,) = parts
    by_number = {int(r.info["shard"][0]): r for r in runs}
    if len(by_number) != len(runs):
        raise VtbenchError(f"a shard of {name} is given twice: give every folder once")
    missing = [str(i) for i in range(1, n + 1) if i not in by_number]
    if missing:
        raise VtbenchError(
            f"{name}: shard {', '.join(missing)} of {n} is missing: run it with --shard {missing[0]}/{n}"
        )
    ordered = [by_number[i] for i in range(1, n + 1)]
    for run in ordered:
        if run.info["status"] not in ("complete", "incomplete"):
            raise VtbenchError(f"{run.path} is {run.info['status']}: run the same command again until it is complete")
    if len({(r.info["batch_size"], r.info["limit"]) for r in ordered}) > 1:
        raise VtbenchError(f"the shards of {name} differ in --batch-size or --limit: run them alike")
    return ordered


def _join(shards: Sequence[Run], out: Path) -> Path:
    from vtbench.suite import open_suite

    first = shards[0]
    target = out / first.path.name.split("--shard-")[0]
    info: dict[str, Any] = {k: v for k, v in first.info.items() if k != "schema"}
    reasons = [r for r in str(info.get("why_not_ranked") or "").split("; ") if r and not r.startswith("shard ")]
    reasons += [r for s in shards[1:] for r in str(s.info.get("why_not_ranked") or "").split("; ")
                if r and not r.startswith("shard ") and r not in reasons]  # fmt: skip
    metrics, unavailable = load_metrics(list(info["metrics"]), info["device"]["kind"])
    with RunFolder(target) as folder:
        if folder.info() is not None:
            raise VtbenchError(f"{target} exists already: choose another --out")
        # What a merge that was killed left behind: run.json is written last, so nothing of it counts.
        for name in ("rows.jsonl", "scores.jsonl", "tokens.bin", "tokens.idx"):
            (target / name).unlink(missing_ok=True)
        (target / "features").mkdir(exist_ok=True)
        names = {p.name for s in shards for p in (s.path / "features").glob("*.f32")}
        for name in sorted(names):
            with (target / "features" / name).open("wb") as sink:
                for shard in shards:
                    part = shard.path / "features" / name
                    if not part.exists():
                        raise VtbenchError(f"{part} is missing: run shard {shard.info['shard'][0]} again")
                    with part.open("rb") as source:
                        shutil.copyfileobj(source, sink, 1 << 24)
        from vtbench.store import TokenFile

        tokens = TokenFile(target)
        n = 0
        items = []
        for shard in shards:
            kept = TokenFile(shard.path)
            batch: list[dict[str, Any]] = []
            for index, row in enumerate(shard.rows()):
                batch.append(row)
                items.append(row["item"])
                if kept.exists():
                    tokens.append([kept.blob(index)])
                if len(batch) == 256:
                    folder.append_rows(batch)
                    batch = []
            folder.append_rows(batch)
            n += int(shard.info["n"])
        for name in ("samples", "images"):
            for shard in shards:
                if (shard.path / name).is_dir():
                    shutil.copytree(shard.path / name, target / name, dirs_exist_ok=True)
        peaks = [s.info["peak_memory_bytes"] for s in shards if s.info.get("peak_memory_bytes")]
        served: Counter[str] = Counter()
        for shard in shards:
            served.update(shard.info.get("served", {}))
        info.update(
            enlarged=sum(s.info.get("enlarged", 0) for s in shards), served=dict(served),
            peak_memory_bytes=max(peaks, default=None),
            shard=None, n=n, ranked=not reasons, why_not_ranked="; ".join(reasons) or None, merged_from=len(shards),
            status="incomplete" if any(s.info["status"] == "incomplete" for s in shards) else "complete",
        )  # fmt: skip
        suite_items: Sequence[Any] = items
        if any(c["kind"] == "run" for c in info["metrics"].values()):
            suite_items = open_suite(info["suite"]["spec"]).items
        folder.write_scores(scoring.finalise(folder, info, metrics, unavailable, suite_items))
        folder.write_info(info)
    return target
