"""Scores of a finished run computed again from what its folder keeps: rows, tokens, features, record. No image is read,
no model is asked, and no code but vtbench's own and that of installed plug-ins runs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vtbench import registry
from vtbench.images.protocols import ORIGINALS
from vtbench.metrics import moments
from vtbench.metrics.dinov2 import DinoFrechet
from vtbench.metrics.frechet import Frechet
from vtbench.reporting.measured import metric_cards
from vtbench.reporting.runs import suite_hash
from vtbench.reporting.values import finite
from vtbench.results.record import Run, Score
from vtbench.results.stores import FeatureFile, TokenFile
from vtbench.running.drawn import GAP, SHARE, costs_of_drawn
from vtbench.running.question import costs_of
from vtbench.scoring.costs import cost_scores
from vtbench.scoring.features import FeaturePlace, paired_sides
from vtbench.scoring.loading import Metrics
from vtbench.scoring.scores import Asked, Sides, Tally, of_images, scores_of, tally
from vtbench.types.errors import VtbenchError
from vtbench.types.metric import Extractor, MetricCard, SetMetric
from vtbench.types.packing import split

EXACT = 1e-9
"""Relative error of sums and intervals in float64: processors add in other orders."""
OF_SETS = 1e-6
"""The same of singular values of features."""
OF_MOMENTS = 1e-3
"""Absolute error of a Fréchet distance of moments: roots of eigenvalues that are rounding errors (1e-16 of the largest)
are 1e-8 of its root, in each of some thousand dimensions."""
MOST_SYMBOLS = 1 << 26
"""Indices that an image's tokens may unfold to; a head may state any number."""


@dataclass(frozen=True)
class Again:
    """A stated score and its number `anew`, equal within `relative` or `absolute`; None where `why` keeps it from being
    computed again. `value_only`: interval and count are not to be had from what is left."""

    stated: Score
    anew: Score | None = None
    why: str | None = None
    relative: float = EXACT
    absolute: float = 1e-12
    value_only: bool = False


def scores_again(run: Run) -> Iterator[Again]:
    """Every score of the run in its order. VtbenchError, or what a damaged row makes of it, for the caller to name."""
    again = _Again(run)
    for stated in run.scores:
        yield again.of(stated)


def cards_of(run: Run) -> dict[str, MetricCard]:
    """The metrics' cards as the record has them, with bounds that are numbers or None."""
    out = {}
    for name, card in metric_cards(run).items():
        ends = [finite(end) for end in card.bounds] if isinstance(card.bounds, list | tuple) else []
        low, high = ends if len(ends) == 2 else (None, None)
        out[name] = dataclasses.replace(card, bounds=(low, high))
    return out


class _Again:
    """One run, its rows gone through once."""

    def __init__(self, run: Run) -> None:
        self.run, self.cards = run, cards_of(run)
        self.drawn = run.info.prompts is not None
        per_image = [name for name, card in self.cards.items() if card.kind == "image"]
        self.seen = tally(self.rows(), per_image, ("generate",) if self.drawn else ("encode", "decode"))

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """Whole rows, with the fields that an older one does not state."""
        return (row.model_dump(by_alias=True) for row in self.run.rows())

    def of(self, stated: Score) -> Again:
        """The score computed again."""
        name = stated.metric
        card = self.cards.get(name)
        if card is None:
            return self._without_a_card(stated)
        if stated.value is None:
            return self._without_a_value(stated, card)
        if card.kind == "image":
            return Again(stated, of_images(self._asked(), card, self.seen.totals[name]))
        try:
            metric = registry.metric(name)
        except VtbenchError:
            return Again(stated, why="this vtbench has no metric of that name")
        installed: MetricCard = metric.card
        if (installed.version, installed.kind) != (stated.version, card.kind):
            return Again(stated, why=f"it is of version {stated.version}, and {installed.version} is installed")
        if isinstance(metric, SetMetric):
            return self._of_set(stated, metric)
        tokens = TokenFile(self.run.path)
        if card.kind == "tokens":
            why = why_no_tokens(tokens, self.seen.n)
            if why is not None:
                return Again(stated, why=why)
        return Again(stated, self._scored(metric, tokens=tokens if card.kind == "tokens" else None))

    def _asked(self, metrics: Metrics | None = None) -> Asked:
        view = self.run.info.view
        reference = f"the set {suite_hash(self.run)}" if self.drawn else ORIGINALS
        task = self.run.info.task.name
        return Asked(task, metrics or Metrics(()), view.protocol or "vtbench", view.fingerprint or "", reference)

    def _scored(self, metric: Any, **more: Any) -> Score:
        name = metric.card.name
        items = [str(row["item"]) for row in self.rows()]
        asked = self._asked(Metrics((name,), {name: metric}))
        return scores_of(asked, self.rows, self.seen, items=items, **more).scores[0]

    def _without_a_value(self, stated: Score, card: MetricCard) -> Again:
        """A missing number is missing in the rows too."""
        if card.kind != "image":
            return Again(stated, why="it has no value")
        anew = of_images(self._asked(), card, self.seen.totals[stated.metric])
        return Again(stated, anew, value_only=True)

    def _without_a_card(self, stated: Score) -> Again:
        anew = self._costs.get(stated.metric)
        if anew is not None:
            return Again(stated, anew)
        if stated.metric == GAP and stated.value is not None:
            share, fid = (self.run.score(name) for name in (SHARE, "fid"))
            if share is not None and fid is not None and None not in (share.value, fid.value):
                gap = float(fid.value or 0) - float(share.value or 0)
                return Again(stated, stated.model_copy(update={"value": gap}))
        if stated.value is None:
            return Again(stated, why="it has no value")
        own = "the tokenizer's own reconstructions are not kept"
        return Again(stated, why=own if stated.metric == SHARE else "it is of no metric in run.json")

    @functools.cached_property
    def _costs(self) -> dict[str, Score]:
        info = self.run.info
        costs = costs_of_drawn(info, self.seen) if self.drawn else costs_of(info, self.seen)
        return {score.metric: score for score in cost_scores(info.task.name, costs)}

    def _of_set(self, stated: Score, metric: SetMetric) -> Again:
        if self.drawn and metric.needs_reference:
            return Again(stated, why="the features of the reference set are not kept with the run")
        place, extractor, seen = FeaturePlace(self.run.path), metric.extractor(), self.seen
        files = [place.candidate(extractor)]
        files += [] if self.drawn else [place.reference(extractor)]
        if all(file.path.exists() for file in files):
            bad = next((why for file in files if (why := trouble(file, seen.n))), None)
            if bad is not None:
                raise VtbenchError(f"features/{bad}")
            sides = _paired_or_alone(place, extractor)
            return Again(stated, self._scored(metric, sides=sides), relative=OF_SETS, absolute=OF_SETS)
        reduced = [file.path.with_suffix(".npz") for file in files]
        if not all(path.exists() for path in reduced):
            return Again(stated, why="the run did not keep its features")
        if not isinstance(metric, Frechet | DinoFrechet):
            return Again(stated, why="its features were reduced to moments, which give Fréchet distances alone")
        if self.drawn:
            return Again(stated, why="the features of the reference set are not kept with the run")
        candidate, reference = (moments.load(path) for path in reduced)
        value = metric.finish(reference, candidate).value
        anew = stated.model_copy(update={"value": value})
        return Again(stated, anew, relative=OF_SETS, absolute=OF_MOMENTS, value_only=True)


def _paired_or_alone(place: FeaturePlace, extractor: Extractor) -> Any:
    """Both sides row by row; of drawn images, which have no originals, the candidate alone."""

    def sides(metric: SetMetric, seen: Tally) -> Sides:
        candidate = place.candidate(extractor).read()
        if not place.reference(extractor).path.exists():
            return Sides(candidate[:0], candidate)
        return paired_sides(place.reference(extractor).read(), candidate, seen)

    return sides


def trouble(file: FeatureFile, rows: int) -> str | None:
    """Why a file of features cannot be taken; None if it is as it was written, or says nothing of that (older ones have
    no sums of their records)."""
    if not file.sums.exists():
        size = file.path.stat().st_size
        return None if size == rows * file.dim * 4 else f"{file.path.name} is not of {rows} records"
    return file.trouble(rows)


def why_no_tokens(tokens: TokenFile, rows: int) -> str | None:
    """Why tokens cannot be counted again; VtbenchError where they are not those of `rows` rows, or would fill a
    memory."""
    if not tokens.exists():
        return "the run did not keep its tokens"
    import numpy as np

    ends = np.fromfile(tokens.ends, "<u8")
    size = tokens.data.stat().st_size if tokens.data.exists() else 0
    last = int(ends[-1]) if len(ends) else 0
    if len(ends) != rows or (ends[1:] < ends[:-1]).any() or last != size:
        raise VtbenchError(f"tokens.idx does not divide the {size} bytes of tokens.bin into those of {rows} images")
    for row, packed in enumerate(tokens.blobs()):
        if packed:
            _check_head(packed, row)
    return None


def _check_head(packed: bytes, row: int) -> None:
    """Refuses a head that states more than its bytes can hold, before room is made for it."""
    head, body = split(packed)
    books = sum(int(n) for _, n in head.get("alphabets", ()))
    symbols = books * int(head.get("positions", 0))
    if symbols > MOST_SYMBOLS or (head["kind"] == "latents" and not body):
        raise VtbenchError(f"tokens.bin states {symbols} indices for image {row + 1}: no tokenizer sends so many")
