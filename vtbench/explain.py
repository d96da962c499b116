"""`vtbench explain`: which convention moves a number by how much.

A published number leaves choices open: the crop and its filter, the rounding, which metric its plain name stands for,
the reference set. The system is scored on one stated subset under vtbench's default and under each choice that can be
made here, one at a time and jointly as the named protocols make them; every difference is paired, image by image. What
cannot be measured is null with its reason: rFID below 10,000 images, another reference set, a view of saved pictures.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench import registry
from vtbench.images.protocols import PROTOCOLS
from vtbench.images.rounding import ROUNDINGS, Rounding, rounded
from vtbench.statistics import intervals, paired
from vtbench.types.cards import Card, Fixed
from vtbench.types.errors import VtbenchError, near
from vtbench.types.metric import Batch, ImageMetric, Metric, Reference, RowMetric, SetMetric, Value

if TYPE_CHECKING:
    from vtbench.images.suite import Suite
    from vtbench.images.views import View
    from vtbench.models.system import System as Subject
    from vtbench.results.stores import FeatureFile
    from vtbench.types.item import Item

FID_IMAGES = 10_000
ALIASES = {"lpips": "lpips-alex", "fid": "rfid"}
OTHER_NETS = {"lpips-alex": ("lpips-vgg", "lpips-squeeze")}
"""Choices that a plain name leaves open without being conventions of one metric."""


@dataclass(frozen=True)
class Choice:
    """One way to make a number: the view's protocol, the rounding, the metric."""

    view: str
    rounding: Rounding
    metric: str


@dataclass(frozen=True)
class Move:
    """What one choice does: value under it, difference to the default with its paired 95 % interval, and what is left
    of the gap to the claim. value None needs why."""

    dimension: str
    choice: str
    value: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    left: float | None = None
    n: int = 0
    why: str | None = None
    source: str = ""


@dataclass(frozen=True)
class Claim:
    """One claimed number, the default's, and the moves, largest first, the unmeasured ones last."""

    metric: str
    claimed: float
    value: float | None
    low: float | None
    high: float | None
    n: int
    default: str
    moves: tuple[Move, ...]
    source: str | None = None
    why: str | None = None


@dataclass(frozen=True)
class Explanation:
    system: str
    images: str
    n: int
    claims: tuple[Claim, ...]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def text(self) -> str:
        """The page that the command prints."""
        lines = [f"{self.system} on {self.n} images of {self.images}"]
        for claim in self.claims:
            lines += ["", f"{claim.metric}: claimed {claim.claimed:g}" + (f" ({claim.source})" if claim.source else "")]
            if claim.value is None:
                lines.append(f"  {claim.default}: not measured ({claim.why})")
            else:
                span = "" if claim.low is None else f"  [{claim.low:.4g}, {claim.high:.4g}]"
                gap = claim.claimed - claim.value
                lines.append(f"  {claim.default}: {claim.value:.5g}{span}, the claim is {gap:+.4g} away")
            for move in claim.moves:
                name = f"  {move.dimension}: {move.choice}"
                if move.value is None or move.difference is None:
                    lines.append(f"{name}: not measured ({move.why})")
                    continue
                span = "" if move.low is None else f" [{move.low:+.3g}, {move.high:+.3g}]"
                left = "" if move.left is None else f", leaves {move.left:+.4g}"
                lines.append(f"{name}: {move.value:.5g}, moves it by {move.difference:+.4g}{span}{left}")
        return "\n".join([*lines, *([""] if self.notes else []), *(f"note: {n}" for n in self.notes)])


def explain(
    model: str,
    claims: Mapping[str, str | float],
    *,
    images: str | None = None,
    checkpoint: Path | str | None = None,
    options: Mapping[str, str] | None = None,
    limit: int | None = None,
    device: str = "cpu",
    batch_size: int = 4,
    seed: int = 0,
) -> Explanation:
    """Re-scores `model` (a name, `folder:DIR`, or a run's folder that kept images or tokens) under every open choice.

    claims: {metric: the number that somebody printed}. images: the originals (suite, folder, glob, hf:…); a run knows
    its own. Saved pictures can only be scored at the view they were made at; their originals are cropped to their size
    by every named crop.
    """
    wanted = _claims(claims)
    if limit is not None and limit < 1:
        raise VtbenchError(f"--limit {limit}: give a number of images, 1 or more")
    system = _system(model, images, checkpoint, dict(options or {}), device)
    items = list(system.suite.items[:limit])
    if not items:
        raise VtbenchError(f"{system.suite.name} holds no images")
    names = {m for metric in wanted for m in _conventions(metric)}
    metrics, unavailable = _load(names, device, few=len(items) < FID_IMAGES)
    out = []
    notes = list(system.notes)
    with tempfile.TemporaryDirectory(prefix="vtbench-") as scratch:
        measured = _measure(system, items, wanted, metrics, batch_size, seed, Path(scratch))
        for metric, claimed in wanted.items():
            out.append(_explain(system, metric, claimed, metrics, unavailable, measured, items))
    if len(system.suite.items) > len(items):
        notes.append(f"the first {len(items)} of {len(system.suite.items)} images")
    notes.append("every choice was scored on the same images; the claim's own images may be others")
    return Explanation(system.name, system.suite.name, len(items), tuple(out), tuple(notes))


def _claims(claims: Mapping[str, str | float]) -> dict[str, float]:
    if not claims:
        raise VtbenchError("nothing to explain: give --claim metric=value, e.g. --claim ssim=0.675")
    known = registry.metrics()
    out = {}
    for name, text in claims.items():
        metric = ALIASES.get(name, name)
        if metric not in known:
            raise VtbenchError(f"there is no metric {name!r}{near(name, known)}: `vtbench list metrics` shows all")
        try:
            out[metric] = float(text)
        except ValueError:
            raise VtbenchError(f"--claim {name}={text}: give a number, e.g. {name}=0.5") from None
        if not math.isfinite(out[metric]):
            raise VtbenchError(f"--claim {name}={text}: give a finite number")
    return out


def _conventions(metric: str) -> list[str]:
    """The metric and every other that its plain name may stand for."""
    found = [n for n, f in registry.metrics().items() if registry.card_of(f).convention_of == metric]
    return [metric, *found, *(n for n in OTHER_NETS.get(metric, ()) if n in registry.metrics())]


# -- the system ------------------------------------------------------------------------------------------------------


@dataclass
class _System:
    name: str
    subject: Subject
    suite: Suite
    size: int | None
    """Side of the view in pixels, None = as the pictures are."""
    views: dict[str, str]
    """Protocol of the view -> "" if it can be made here, else why not."""
    default: str
    roundings: tuple[Rounding, ...]
    card: Card
    notes: list[str] = field(default_factory=list)


def _system(
    model: str, images: str | None, checkpoint: Path | str | None, options: dict[str, str], device: str
) -> _System:
    from vtbench.images.opening import open_suite
    from vtbench.models.load import load
    from vtbench.models.pictures import SavedPictures as FolderSubject

    if (Path(model) / "run.json").is_file():
        if options or checkpoint:
            raise VtbenchError(f"{model} is a run: it takes no --option and no --checkpoint")
        return _of_run(Path(model), images, device)
    if model.startswith("folder:") and images is None:
        raise VtbenchError(f"{model} needs its originals: give --images FOLDER")
    path = Path(checkpoint).expanduser() if checkpoint is not None else None
    ready = load(model, options, checkpoint=path, device=device, generator=False)
    suite = open_suite(images or "starter-natural")
    subject = ready.system
    if isinstance(subject, FolderSubject):
        return _of_folder(model, subject, suite)
    card = subject.card
    size = card.sizes.size if isinstance(card.sizes, Fixed) else 256
    views = {p.fit: "" for p in PROTOCOLS.values()}
    if isinstance(card.sizes, Fixed):
        views.pop("native")
    return _System(card.name, subject, suite, size, views, "vtbench", ("round", "truncate", "truncate-both"), card)


def _of_folder(model: str, subject: Any, suite: Suite) -> _System:
    """Saved pictures: the originals are taken as they are where sizes agree, else cropped to the pictures' size."""
    from vtbench.images.pairing import pair_names
    from vtbench.images.reading import header_size

    roundings: tuple[Rounding, ...] = ("round", "truncate-both")
    originals = pair_names(suite.items, suite.name)
    pairs = [(originals[k], subject.items[k]) for k in originals if k in subject.items]
    if not pairs:
        raise VtbenchError(f"no name of {model} is a name of {suite.name}: give the originals of these pictures")
    sizes = [(header_size(suite.path(a)), header_size(subject.suite.path(b))) for a, b in pairs]
    made = "saved pictures exist at one view: another crop needs the model"
    if all(a == b for a, b in sizes):
        views = {p.fit: made for p in PROTOCOLS.values() if p.fit != "native"} | {"native": ""}
        return _System(model, subject, suite, None, views, "native", roundings, subject.card)
    squares = {b for _, b in sizes}
    if len(squares) > 1 or len(set(next(iter(squares)))) > 1:
        a, b = next((a, b) for a, b in sizes if a != b)
        raise VtbenchError(
            f"{model} holds pictures of {b[0]} x {b[1]} for originals of {a[0]} x {a[1]}: give originals of their "
            "size, or pictures that are all squares of one size"
        )
    side = next(iter(squares))[0]
    views = {p.fit: "" for p in PROTOCOLS.values() if p.fit != "native"}
    note = f"the originals were cropped to {side} x {side} by each named crop; the pictures stay as they were saved"
    return _System(model, subject, suite, side, views, "vtbench", roundings, subject.card, [note])


def _of_run(path: Path, images: str | None, device: str) -> _System:
    from vtbench.models.load import again, originals
    from vtbench.models.pictures import SavedPictures as FolderSubject
    from vtbench.results.record import read_run

    run = read_run(path)
    info = run.info
    suite = originals(run, images)
    subject = again(run, device=device, suite=suite).system
    name, protocol = str(info["view"]["name"]), str(info["view"]["protocol"])
    made = "a run's pictures or tokens exist at one view: explain the model itself to try another"
    views = {p.fit: made for p in PROTOCOLS.values() if p.fit != protocol} | {protocol: ""}
    saved = isinstance(subject, FolderSubject)
    roundings: tuple[Rounding, ...] = ("round", "truncate-both") if saved else ("round", "truncate", "truncate-both")
    size = None if name == "native" else int(name)
    return _System(run.name, subject, suite, size, views, protocol, roundings, subject.card)


@dataclass
class _Measured:
    """Values by choice and item, (height, width) scored by view and item, and for metrics of sets the features of both
    sides by view, rounding and extractor, in files under `scratch`."""

    scratch: Path
    values: dict[Choice, dict[str, Value]] = field(default_factory=lambda: defaultdict(dict))
    features: dict[tuple[str, Rounding, str], tuple[FeatureFile, FeatureFile]] = field(default_factory=dict)
    sizes: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def features_of(self, view: str, rounding: Rounding, extractor: str, dim: int) -> tuple[FeatureFile, FeatureFile]:
        from vtbench.results.stores import FeatureFile

        key = (view, rounding, extractor)
        if key not in self.features:
            where = self.scratch / str(len(self.features))
            self.features[key] = (
                FeatureFile(where.with_suffix(".ref"), dim),
                FeatureFile(where.with_suffix(".f32"), dim),
            )
        return self.features[key]


# -- measuring -------------------------------------------------------------------------------------------------------


def _load(names: set[str], device: str, *, few: bool) -> tuple[dict[str, Metric], dict[str, str]]:
    """Metrics that are ready, and why others are not. `few`: too few images for metrics of sets, so that their networks
    are not needed to say so."""
    ready: dict[str, Metric] = {}
    unavailable: dict[str, str] = {}
    waiting = sorted(names)
    while waiting:
        name = waiting.pop()
        if name in ready or name in unavailable:
            continue
        metric = registry.metric(name)
        if isinstance(metric, SetMetric) and few:
            ready[name] = metric
            continue
        try:
            metric.load(device)
        except VtbenchError as bad:
            unavailable[name] = str(bad)
            continue
        ready[name] = metric
        if isinstance(metric, RowMetric):
            waiting += metric.inputs
    return ready, unavailable


def _choices(system: _System, metric: str) -> list[tuple[str, str, Choice, str]]:
    """(dimension, name, choice, source) of every alternative to the default for one claimed metric."""
    from vtbench.images import FITS

    default = Choice(system.default, "round", metric)
    out = []
    for view, why in system.views.items():
        if view != system.default and not why:
            source = FITS[view].source if view in FITS else "pictures as they are"
            out.append(("view", view, dataclasses.replace(default, view=view), source))
    for rounding in system.roundings:
        if rounding != "round":
            out.append(("rounding", rounding, dataclasses.replace(default, rounding=rounding), ROUNDINGS[rounding]))
    for name in _conventions(metric)[1:]:
        card = registry.card_of(registry.metrics().get(name))
        out.append(("metric", name, dataclasses.replace(default, metric=name), card.source))
    singles = {c for _, _, c, _ in out} | {default}
    for protocol in PROTOCOLS.values():
        joint = Choice(
            protocol.fit if not system.views.get(protocol.fit, "-") else system.default,
            protocol.rounding if protocol.rounding in system.roundings else "round",
            protocol.means(metric) if protocol.means(metric) in registry.metrics() else metric,
        )
        if joint not in singles:
            out.append(("protocol", protocol.name, joint, protocol.source))
            singles.add(joint)
    return out


def _measure(
    system: _System,
    items: Sequence[Item],
    wanted: Mapping[str, float],
    metrics: Mapping[str, Metric],
    batch_size: int,
    seed: int,
    scratch: Path,
) -> _Measured:
    """Per-image values and features of every choice; each view is read and reconstructed once."""
    from vtbench.images.views import View

    needed: dict[str, dict[Rounding, set[str]]] = defaultdict(lambda: defaultdict(set))
    for metric in wanted:
        for choice in [Choice(system.default, "round", metric), *(c for _, _, c, _ in _choices(system, metric))]:
            found = metrics.get(choice.metric)
            inputs = found.inputs if isinstance(found, RowMetric) else (choice.metric,)
            kinds = (ImageMetric,) if len(items) < FID_IMAGES else (ImageMetric, SetMetric)
            needed[choice.view][choice.rounding] |= {i for i in inputs if isinstance(metrics.get(i), kinds)}
    out = _Measured(scratch)
    for fit, roundings in needed.items():
        if not any(roundings.values()):
            continue
        view = View.parse("native" if fit == "native" or system.size is None else str(system.size), fit)
        _measure_view(system, items, view, fit, roundings, metrics, batch_size, seed, out)
    return out


def _measure_view(
    system: _System,
    items: Sequence[Item],
    view: View,
    fit: str,
    roundings: Mapping[Rounding, set[str]],
    metrics: Mapping[str, Metric],
    batch_size: int,
    seed: int,
    out: _Measured,
) -> None:
    import numpy as np
    import torch

    from vtbench.images.reading import rgb_sha256
    from vtbench.images.rounding import to_float
    from vtbench.images.seeds import image_seed
    from vtbench.types.metric import measured

    for start in range(0, len(items), batch_size):
        groups: dict[tuple[int, ...], list[tuple[Item, Any]]] = defaultdict(list)
        for item in items[start : start + batch_size]:
            rgb = view.apply(system.suite.load(item))[0]
            groups[rgb.shape].append((item, rgb))
        for members in groups.values():
            originals = torch.from_numpy(np.stack([rgb for _, rgb in members])).permute(0, 3, 1, 2).contiguous()
            hashes = [rgb_sha256(rgb) for _, rgb in members]
            kept = [item for item, _ in members]
            made = system.subject.produce(to_float(originals), [image_seed(seed, h) for h in hashes], kept)
            alive = [i for i in range(len(members)) if i not in made.failed]
            if not alive:
                continue
            for rounding, names in roundings.items():
                reference, candidate = rounded(originals[alive], made.images[alive], rounding)
                batch = Batch(
                    Reference(reference, [kept[i] for i in alive], [f"{hashes[i]}/{rounding}" for i in alive]),
                    candidate,
                )
                extractors = {m.extractor().id: m.extractor() for n in names if isinstance(m := metrics[n], SetMetric)}
                for key, extractor in extractors.items():
                    files = out.features_of(fit, rounding, key, extractor.dim)
                    files[0].append(extractor.extract(reference))
                    files[1].append(extractor.extract(candidate))
                for name in sorted(names):
                    metric = metrics[name]
                    if not isinstance(metric, ImageMetric):
                        continue
                    for i, value in zip(alive, measured(name, metric, batch), strict=True):
                        out.values[Choice(fit, rounding, name)][kept[i].id] = value
                        out.sizes[fit, kept[i].id] = (int(candidate.shape[2]), int(candidate.shape[3]))


# -- the answer ------------------------------------------------------------------------------------------------------


@dataclass
class _Score:
    """A choice's score: its value, and per-image (value, weight) where the score is their mean."""

    value: float | None
    why: str | None = None
    pairs: dict[str, tuple[float, float]] | None = None
    bounds: tuple[float | None, float | None] = (None, None)


def _score(
    choice: Choice,
    metrics: Mapping[str, Metric],
    unavailable: Mapping[str, str],
    measured: _Measured,
    items: Sequence[Item],
) -> _Score:
    if choice.metric in unavailable:
        return _Score(None, unavailable[choice.metric])
    metric = metrics[choice.metric]
    if isinstance(metric, SetMetric):
        if len(items) < FID_IMAGES:
            few = f"{len(items)} images: a difference of {choice.metric} means nothing below {FID_IMAGES:,}"
            return _Score(None, few)
        files = measured.features.get((choice.view, choice.rounding, metric.extractor().id))
        if files is None:
            return _Score(None, "no image could be scored")
        reference, candidate = (file.read() for file in files)
        if len(candidate) < FID_IMAGES:
            return _Score(None, f"only {len(candidate)} images could be scored: {FID_IMAGES:,} are needed")
        whole = metric.finish(reference, candidate)
        return _Score(whole.value, whole.why)
    if isinstance(metric, RowMetric):
        columns = {n: measured.values.get(dataclasses.replace(choice, metric=n), {}) for n in metric.inputs}
        rows = []
        for item in items:
            found = {n: c[item.id] for n, c in columns.items() if item.id in c}
            if len(found) == len(columns):
                rows.append(
                    {
                        "item": item.id,
                        "size": measured.sizes[choice.view, item.id],
                        "values": {n: v.value for n, v in found.items()},
                        "weights": {n: v.weight for n, v in found.items() if v.weight != 1.0},
                        "why": {n: v.why for n, v in found.items() if v.value is None},
                    }
                )
        known = {r["item"] for r in rows}
        made = metric.finish(rows, [i for i in items if i.id in known])
        return _Score(made.value, made.why)
    column = measured.values.get(choice, {})
    pairs = {i: (v.value, v.weight) for i, v in column.items() if v.value is not None}
    if not pairs:
        reasons = [v.why for v in column.values() if v.why]
        return _Score(None, reasons[0] if reasons else "no image could be scored")
    total = sum(w for _, w in pairs.values())
    if total <= 0:
        return _Score(None, "all weights are zero")
    return _Score(sum(v * w for v, w in pairs.values()) / total, None, pairs, metric.card.bounds)


def _explain(
    system: _System,
    metric: str,
    claimed: float,
    metrics: Mapping[str, Metric],
    unavailable: Mapping[str, str],
    measured: _Measured,
    items: Sequence[Item],
) -> Claim:
    default = Choice(system.default, "round", metric)
    base = _score(default, metrics, unavailable, measured, items)
    span = None
    if base.pairs is not None:
        values = list(base.pairs.values())
        span = intervals.mean_interval([v for v, _ in values], [w for _, w in values], bounds=base.bounds)
    source, protocol = _published(system.card, metric, claimed)
    moves = []
    for dimension, name, choice, where in _choices(system, metric):
        # A source that names its protocol leaves nothing else open.
        if protocol is not None and name != protocol and dimension != "protocol" and protocol in PROTOCOLS:
            stated = PROTOCOLS[protocol]
            if name not in (stated.fit, stated.rounding, stated.means(metric)):
                continue
        moves.append(
            _move(dimension, name, where, base, _score(choice, metrics, unavailable, measured, items), claimed)
        )
    for view, why in system.views.items():
        if why:
            moves.append(Move("view", view, None, why=why))
    if isinstance(metrics.get(metric), SetMetric):
        why = "only the originals of these images are here; against another set it is another number (LlamaGen: +2.1)"
        moves.append(Move("reference set", "another", None, why=why))
    moves.sort(key=lambda m: -math.inf if m.difference is None else abs(m.difference), reverse=True)
    return Claim(
        metric,
        claimed,
        base.value,
        None if span is None else span.low,
        None if span is None else span.high,
        len(base.pairs) if base.pairs is not None else len(items),
        f"{system.default} view, rounded, {metric}",
        tuple(moves),
        source,
        base.why,
    )


def _published(card: Card, metric: str, claimed: float) -> tuple[str | None, str | None]:
    """Source and protocol of the claim where the card lists it (equal to the digits that were given)."""
    for entry in card.published:
        if ALIASES.get(entry.metric, entry.metric) == metric and math.isclose(entry.value, claimed, rel_tol=1e-3):
            return entry.source, entry.protocol
    return None, None


def _move(dimension: str, name: str, source: str, base: _Score, found: _Score, claimed: float) -> Move:
    if found.value is None or base.value is None:
        return Move(
            dimension, name, found.value, why=found.why or base.why or "the default has no value", source=source
        )
    low = high = None
    n = 0
    difference = found.value - base.value
    if found.pairs is not None and base.pairs is not None:
        both = [i for i in base.pairs if i in found.pairs]
        n = len(both)
        values = [[p[i][k] for i in both] for p in (found.pairs, base.pairs) for k in (0, 1)]
        made = paired.paired(values[0], values[2], values[1], values[3], better=None)
        difference, low, high = made.difference, made.low, made.high
    return Move(dimension, name, found.value, difference, low, high, claimed - found.value, n, None, source)
