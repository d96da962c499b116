"""`vtbench explain RUN_A RUN_B`: why two runs print different numbers for the same images.

What differs between their records is named. The second run's number is the claim; the first run's system is scored
again under the second run's view, on the images that both have, so that the part that the view explains is known with
its paired interval. Weights, options, dtype, device and seed are not exchanged one by one here: what is left after the
view is theirs together.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vtbench import explain, registry
from vtbench.explain import FID_IMAGES, Choice, Claim, Explanation, Move
from vtbench.models.load import again, originals
from vtbench.reporting import comparable
from vtbench.results.record import Run, read_run
from vtbench.types.errors import VtbenchError
from vtbench.types.metric import ImageMetric, RowMetric, SetMetric

HERE, THERE = "first", "second"


def explain_runs(
    first: Path,
    second: Path,
    metrics: Sequence[str] | None = None,
    *,
    limit: int | None = None,
    device: str = "cpu",
    batch_size: int = 4,
) -> Explanation:
    """`metrics`: which numbers to explain (default: all that both runs hold per image)."""
    from vtbench.images.views import View

    runs = (read_run(first), read_run(second))
    names = comparable.labels(runs)
    rows = tuple({str(r["item"]): r for r in run.rows() if "*" not in r["why"]} for run in runs)
    if limit is not None and limit < 1:
        raise VtbenchError(f"--limit {limit}: give a number of images, 1 or more")
    shared = [item for item in rows[0] if item in rows[1]][:limit]
    if not shared:
        raise VtbenchError(f"{first} and {second} have no image in common: give runs on the same images")
    wanted = _wanted(runs, rows, shared, metrics)
    differences = differing(*runs)
    views = [View.parse(str(r.info["view"]["name"]), str(r.info["view"]["protocol"])) for r in runs]
    notes = [f"{field}: {a!r} in the first, {b!r} in the second" for field, (a, b) in differences.items()]
    notes = notes or ["the records name the same protocol, weights, options, dtype, device and seed"]
    other_view = views[0].fingerprint() != views[1].fingerprint()
    why = ""
    with tempfile.TemporaryDirectory(prefix="vtbench-") as scratch:
        measured = explain._Measured(Path(scratch))
        ready: dict[str, Any] = {}
        unavailable: dict[str, str] = {}
        suite = originals(runs[0])
        items = [i for i in suite.items if i.id in set(shared)]
        if other_view:
            ready, unavailable = explain._load(set(wanted), device, few=len(shared) < FID_IMAGES)
            kinds = (ImageMetric,) if len(shared) < FID_IMAGES else (ImageMetric, SetMetric)
            inputs = {i for m in ready.values() if isinstance(m, RowMetric) for i in m.inputs}
            able = {n for n, m in ready.items() if isinstance(m, kinds) and (n in wanted or n in inputs)}
            try:
                system = _model(runs[0], suite, device)
                explain._measure_view(
                    system, items, views[1], THERE, {"round": able}, ready, batch_size,
                    int(runs[0].info.get("seed") or 0), measured,
                )  # fmt: skip
            except VtbenchError as bad:
                why = str(bad)
        claims = []
        for metric in wanted:
            base, claimed = (_of_rows(metric, r, run, shared) for r, run in zip(rows, runs, strict=True))
            if claimed.value is None or base.value is None:
                notes.append(f"{metric}: not explained ({claimed.why or base.why})")
                continue
            moves = []
            if other_view:
                there = explain._Score(None, why) if why else explain._score(
                    Choice(THERE, "round", metric), ready, unavailable, measured, items
                )  # fmt: skip
                name = f"{views[1].name} {runs[1].info['view']['protocol']}, as the second run"
                moves.append(explain._move("view", name, "", base, there, claimed.value))
            rest = [f for f in differences if not f.startswith(("view", "protocol"))]
            if rest or not other_view:
                left = (
                    f"not exchanged one by one: what the view leaves is theirs ({', '.join(rest) or 'nothing differs'})"
                )
                moves.append(Move("everything else", "as the second run", None, why=left))
            whole = explain._move("both runs", "the second run's own value", "", base, claimed, claimed.value)
            moves.sort(key=lambda m: -1.0 if m.difference is None else abs(m.difference), reverse=True)
            claims.append(
                Claim(metric, claimed.value, base.value, None, None, len(base.pairs or shared),
                      f"{names[0]}, its own rows", (whole, *moves), str(second), base.why)
            )  # fmt: skip
    notes.append(f"every number is of the {len(shared)} images that both runs have")
    return Explanation(f"{names[0]} against {names[1]}", str(runs[0].info["suite"]["name"]), len(shared),
                       tuple(claims), tuple(notes))  # fmt: skip


def differing(a: Run, b: Run) -> dict[str, tuple[Any, Any]]:
    """Fields of two records that differ, with both values: protocol, versions, weights, options, dtype, device …"""
    one, two = ({**comparable.protocol_fields(r), **_more(r)} for r in (a, b))
    names = list(dict.fromkeys([*one, *two]))
    # A metric that one run lacks is no difference of protocol.
    told = [n for n in names if not n.startswith("version of ") or (n in one and n in two)]
    return {n: (one.get(n), two.get(n)) for n in told if one.get(n) != two.get(n)}


def _more(run: Run) -> dict[str, Any]:
    model = run.info.get("model") or {}
    files = (model.get("weights") or {}).get("files") or ()
    return {
        "model": model.get("name"),
        "options": dict(model.get("options") or {}),
        "weights": [str(f.get("sha256"))[:16] for f in files],
        "dtype": run.info.get("dtype"),
        "device": (run.info.get("device") or {}).get("kind"),
        "seed": run.info.get("seed"),
    }


def _wanted(runs: Sequence[Run], rows: Sequence[Mapping[str, Any]], shared: Sequence[str],
            metrics: Sequence[str] | None) -> list[str]:  # fmt: skip
    known = registry.metrics()
    held = [{m for i in shared for m in r[i]["values"]} | {s["metric"] for s in run.scores if s["value"] is not None}
            for r, run in zip(rows, runs, strict=True)]  # fmt: skip
    both = [n for n in known if n in held[0] and n in held[1]]
    if metrics is None:
        per_image = [n for n in both if registry.card_of(known.get(n)).kind in ("image", "set", "run")]
        if not per_image:
            raise VtbenchError(f"{runs[0].path} and {runs[1].path} hold no metric in common: nothing to explain")
        return per_image
    out = [explain.ALIASES.get(m, m) for m in metrics]
    for name in out:
        known.get(name)
        if name not in both:
            raise VtbenchError(f"{name} has no value in both runs: they share {', '.join(both)}")
    return out


def _of_rows(metric: str, rows: Mapping[str, Any], run: Run, shared: Sequence[str]) -> explain._Score:
    """A run's own score over the shared images: from its rows, or its score where that is of the same images."""
    pairs = {
        i: (float(rows[i]["values"][metric]), float(rows[i].get("weights", {}).get(metric, 1.0)))
        for i in shared if metric in rows[i]["values"]
    }  # fmt: skip
    if pairs:
        total = sum(w for _, w in pairs.values())
        return explain._Score(sum(v * w for v, w in pairs.values()) / total if total else None, None, pairs)
    score = run.score(metric) or {}
    if len(rows) != len(shared):
        return explain._Score(
            None, f"{metric} is of all {len(rows)} images of {run.path}, and {len(shared)} are common"
        )
    few = isinstance(registry.metric(metric), SetMetric) and len(shared) < FID_IMAGES
    if few:
        return explain._Score(
            None, f"{len(shared)} images: a difference of {metric} means nothing below {FID_IMAGES:,}"
        )
    return explain._Score(score.get("value"), score.get("why"))


def _model(run: Run, suite: Any, device: str) -> explain._System:
    """The first run's model again, with its own weights; refused where it cannot be made."""
    system = again(run, device=device, suite=suite, from_model=True).system
    return explain._System(run.name, system, suite, None, {}, HERE, ("round",), system.card)
