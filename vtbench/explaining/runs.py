"""`vtbench explain RUN_A RUN_B`: why two runs print different numbers for the same images.

What differs between their records is named. The second run's number is the claim; the first run's system is scored
again under the second run's view, on the images that both have, so that the part that the view explains is known with
its paired interval. Weights, code, options, dtype, device and seed are not exchanged one by one here: what is left
after the view is theirs together.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vtbench import registry
from vtbench.explaining.choices import Choice
from vtbench.explaining.claims import Claim, Explanation, Move, Printed, move, nearest_first, verdict
from vtbench.explaining.columns import Column
from vtbench.explaining.conventions import metric_named
from vtbench.explaining.explain import check_limit, left_out
from vtbench.explaining.kept import Folders, MetricFailed
from vtbench.explaining.measure import Measurement, Score, load, read_by, too_few
from vtbench.explaining.systems import Explained
from vtbench.images.views import View
from vtbench.models.again import again, originals
from vtbench.models.isolation import isolated
from vtbench.reporting import runs as facts
from vtbench.reporting.comparable import OF_METRIC, labels, protocol_fields
from vtbench.reporting.measured import rows, score, scores
from vtbench.reporting.values import listed, mapping
from vtbench.results.files import NotWritten
from vtbench.results.record import Run, read_run
from vtbench.types.errors import VtbenchError
from vtbench.types.shortage import Short

EXACT = 1e-9
"""Numbers of two runs are the same to this part of them: what sums in another order leave."""


SHORT, DIGITS = 16, 32
"""So many digits of a digest are shown; a text of fewer than so many is none."""
IN_FIELDS_OF_THEIR_OWN = ("name", "options", "weights", "adapter")


@dataclass(frozen=True)
class _Pair:
    """Two runs with how many images each could score; `shared`: items that both have, in order, and each one's place;
    `values`: by metric what each run's rows say of these."""

    runs: tuple[Run, Run]
    scored: tuple[int, int]
    shared: Mapping[str, int]
    values: tuple[Mapping[str, Column], Mapping[str, Column]]

    @property
    def views(self) -> tuple[View, View]:
        first, second = (View.parse(facts.view_name(run), str(facts.protocol(run))) for run in self.runs)
        return first, second


@isolated()
def explain_runs(
    first: Path,
    second: Path,
    metrics: Sequence[str] | None = None,
    *,
    limit: int | None = None,
    device: str = "cpu",
    batch_size: int = 4,
    code: str | None = None,
) -> Explanation:
    """`metrics`: which numbers to explain (default: all that both runs hold per image). code: by which the user names
    the code of the first run's model himself. A command that is stopped goes on where it was."""
    check_limit(limit)
    pair = _pair(first, second, limit)
    wanted = _wanted(pair, metrics)
    name = " against ".join(labels(pair.runs))
    differences = differing(*pair.runs)
    notes = [f"{field}: {a!r} in the first, {b!r} in the second" for field, (a, b) in differences.items()]
    notes = notes or ["the records name the same protocol, weights, options, code, packages, dtype, device and seed"]
    there, unread = _under_the_second_view(pair, wanted, device, batch_size, code)
    claims = []
    for metric in wanted:
        ours, theirs = (_of_rows(pair, place, metric) for place in (0, 1))
        if theirs.value is None or ours.value is None:
            notes.append(f"{metric}: not explained ({theirs.why or ours.why})")
            continue
        claims.append(_claim(pair, metric, ours, theirs, there.get(metric), list(differences)))
    notes += left_out(unread)
    notes.append(f"every number is of the {len(pair.shared)} images that both runs have")
    return Explanation(name, facts.suite_name(pair.runs[0]), len(pair.shared), tuple(claims), tuple(notes))


def _pair(first: Path, second: Path, limit: int | None) -> _Pair:
    runs = (read_run(first), read_run(second))
    of_first, of_second = (dict.fromkeys(row.item for row in rows(run) if "*" not in row.why) for run in runs)
    same = _same_pictures(runs)
    both = (item for item in of_first if item in of_second and (same is None or item in same))
    shared = {item: place for place, item in enumerate(itertools.islice(both, limit))}
    if not shared:
        alike = ": pictures of the same names are others" if same is not None and {*of_first} & {*of_second} else ""
        raise VtbenchError(f"{first} and {second} have no image in common{alike}: give runs on the same images")
    return _Pair(runs, (len(of_first), len(of_second)), shared, (_values(runs[0], shared), _values(runs[1], shared)))


def _values(run: Run, shared: Mapping[str, int]) -> dict[str, Column]:
    """What the run's rows say of the shared images, by metric."""
    out: dict[str, Column] = {}
    for row in rows(run):
        place = shared.get(row.item)
        if place is None or "*" in row.why:
            continue
        for metric, value in row.values.items():
            weight = row.weights.get(metric)
            out.setdefault(metric, Column(len(shared))).add(place, value, 1.0 if weight is None else weight)
    return {metric: column.in_order() for metric, column in out.items()}


def _same_pictures(runs: tuple[Run, Run]) -> set[str] | None:
    """Items that are the same picture in both runs, by its pixels; None: all of them, as both are of one suite.

    Suites that are no copies of each other may hold the same names. Their pictures can be told apart where both runs
    looked at them at one view.
    """
    if facts.suite_hash(runs[0]) == facts.suite_hash(runs[1]):
        return None
    if facts.view_fingerprint(runs[0]) != facts.view_fingerprint(runs[1]):
        raise VtbenchError(
            f"{runs[0].path} and {runs[1].path} are of different suites (suite hash) at different views: nothing tells "
            "which pictures are the same; give runs on the same images"
        )
    first = {row.item: row.sha256 for row in runs[0].rows()}
    return {row.item for row in runs[1].rows() if row.sha256 and first.get(row.item) == row.sha256}


def _claim(
    pair: _Pair, metric: str, ours: Score, theirs: Score, there: Score | None, differences: Sequence[str]
) -> Claim:
    """ours, theirs: both runs' own scores over the shared images. there: the first run's system under the second run's
    view; None where the views are the same."""
    claimed = theirs.value
    assert claimed is not None
    exact = Printed(claimed, EXACT * abs(claimed))
    moves = [move("both runs", "the second run's own value", ours, theirs, exact)]
    rest = [field for field in differences if not field.startswith(("view", "protocol"))]
    parts = []
    if there is not None:
        name = f"{pair.views[1].name} {facts.protocol(pair.runs[1])}, as the second run"
        parts.append(move("view", name, ours, there, exact))
    if rest or there is None:
        why = f"not exchanged one by one: what the view leaves is theirs ({', '.join(rest) or 'nothing differs'})"
        parts.append(Move("everything else", "as the second run", None, why=why))
    images = len(ours.images or pair.shared)
    default = f"{labels(pair.runs)[0]}, its own rows"
    parts = list(nearest_first(parts))
    said = verdict(exact, ours, (None, None), parts)
    return Claim(
        metric,
        claimed,
        ours.value,
        None,
        None,
        images,
        default,
        (*moves, *parts),
        str(pair.runs[1].path),
        ours.why,
        said,
    )


def _under_the_second_view(
    pair: _Pair, wanted: Sequence[str], device: str, batch_size: int, code: str | None
) -> tuple[dict[str, Score], dict[str, str]]:
    """The first run's system scored under the second run's view, by metric, and the images that could not be scored,
    each with its reason; empty where both views are the same.

    A system that cannot be had again, or fails at that view, is a reason; originals that have changed since, or a
    metric that fails, are refused.
    """
    first, view = pair.views
    if first.fingerprint() == view.fingerprint():
        return {}, {}
    run, images = pair.runs[0], len(pair.shared)
    suite = originals(run)
    metrics = load(wanted, device, images)
    names = {name for metric in wanted for name in read_by(metrics, metric, images)}
    with Folders.held() as folders:
        try:
            loaded = again(run, device=device, suite=suite, from_model=True, code=code)
            system, size, protocol = loaded.system, view.size, view.protocol
            explained = Explained(run.name, system, suite, size, {}, protocol, ("round",), system.card, loaded)
            items = [item for item in suite.items if item.id in pair.shared]
            seed = facts.seed(run) or 0
            measurement = Measurement(explained, items, metrics, folders, batch_size, seed, device=device)
            measurement.measure_view(view, {"round": names})
        except (MetricFailed, NotWritten, Short):
            raise
        except VtbenchError as bad:
            return {metric: Score(None, str(bad)) for metric in wanted}, {}
        places = [pair.shared[item.id] for item in items]
        scores = {metric: _at(places, measurement.score(Choice(view, "round", metric))) for metric in wanted}
        return scores, measurement.left_out


def _at(places: Sequence[int], score: Score) -> Score:
    """The score, its images at these places."""
    if score.images is None:
        return score
    moved = Column(max(places) + 1)
    for place in score.images:
        moved.add(places[place], score.images.values[place], score.images.weights[place])
    return replace(score, images=moved)


def differing(a: Run, b: Run) -> dict[str, tuple[Any, Any]]:
    """Fields of two records that differ, with both values: protocol, versions, weights, options, dtype, device …"""
    one, two = ({**protocol_fields(run), **_own_fields(run)} for run in (a, b))
    names = list(dict.fromkeys([*one, *two]))
    # A metric that one run lacks is no difference of protocol.
    common = [name for name in names if not name.startswith(OF_METRIC) or (name in one and name in two)]
    return {name: (one.get(name), two.get(name)) for name in common if one.get(name) != two.get(name)}


def _own_fields(run: Run) -> dict[str, Any]:
    surroundings, model = facts.provenance(run), facts.section(run, "model")
    asked = mapping(facts.section(run, "question").get("model"))
    reads = {str(mapping(file).get("file")): _short(mapping(file).get("sha256")) for file in listed(model.get("reads"))}
    return {
        "model": facts.model_name(run),
        "options": dict(facts.options(run)),
        "weights": [file.sha256[:SHORT] for file in facts.weights(run).files],
        "the model's code": _short(facts.adapter_sha256(run)),
        "files that the model's code reads": reads,
        # What an object or a folder of pictures holds, the call that measured an object, a generator's tokenizer.
        **{f"the model's {name}": _short(fact) for name, fact in asked.items() if name not in IN_FIELDS_OF_THEIR_OWN},
        "dtype": facts.dtype(run),
        "device": facts.device(run).kind,
        "seed": facts.seed(run),
        "vtbench": facts.vtbench_version(run),
        "vtbench's code": _short(surroundings.code_sha256),
        **{f"package {name}": version for name, version in surroundings.packages.items()},
    }


def _short(fact: Any) -> Any:
    """The beginning of a digest; anything else as it is."""
    return fact[:SHORT] if isinstance(fact, str) and len(fact) >= DIGITS else fact


def _wanted(pair: _Pair, metrics: Sequence[str] | None) -> list[str]:
    """The metrics to explain: those named, or all that both runs hold; refused where a run has no value of one."""
    known = registry.metrics()
    first, second = (_held(pair, place) for place in (0, 1))
    both = [name for name in known if name in first and name in second]
    if metrics is None:
        names = [name for name in both if registry.card_of(known.get(name)).kind in ("image", "set", "run")]
        if not names:
            paths = [run.path for run in pair.runs]
            raise VtbenchError(f"{paths[0]} and {paths[1]} hold no metric in common: nothing to explain")
        return names
    names = [metric_named(name) for name in metrics]
    for name in names:
        if name not in both:
            raise VtbenchError(f"{name} has no value in both runs: they share {', '.join(both)}")
    return names


def _held(pair: _Pair, place: int) -> set[str]:
    """Metrics that a run has a value of, for a shared image or as a score."""
    return {*pair.values[place]} | {stated.metric for stated in scores(pair.runs[place]) if stated.value is not None}


def _of_rows(pair: _Pair, place: int, metric: str) -> Score:
    """A run's own score over the shared images: from its rows, or its score where that is of the same images."""
    run, scored, column = pair.runs[place], pair.scored[place], pair.values[place].get(metric)
    if column:
        return Score(column.mean(), None, column)
    if scored != len(pair.shared):
        why = f"{metric} is of all {scored} images of {run.path}, and {len(pair.shared)} are common"
        return Score(None, why)
    kind = registry.card_of(registry.metrics().get(metric)).kind
    few = too_few(metric, len(pair.shared)) if kind == "set" else None
    if few:
        return Score(None, few)
    stated = score(run, metric)
    return Score(stated.value, stated.why) if stated else Score(None)
