"""Does reconstruction predict generation? Scores of tokenizers against scores of the generators that draw their tokens.

A system is a generator with its tokenizer. Scores come from runs (measured) or from cards (published); the two are
never joined, and only systems whose numbers were made under the same stated conditions stand together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from vtbench import registry
from vtbench.reporting import measured, runs
from vtbench.reporting.values import mapping
from vtbench.results.record import Run
from vtbench.statistics.rank_correlation import RankCorrelation, rank_correlation
from vtbench.types.cards import Card, Fixed, Published
from vtbench.types.conditions import Conditions

RATE = "bpp"
OF_TOKENIZERS = (
    *("rfid", "psnr", "ssim", "lpips", "lpips-alex", "lpips-vgg", "cer", "word-accuracy", "mtf50", "legible-px", RATE),
)
"""Scores of tokenizers that are asked about unless others are named; those that no system has are left out."""
OF_GENERATORS = ("fid", "sfid", "kid", "cmmd", "geneval", "clip-score", "quoted-cer", "quoted-ned")
LOWER = frozenset(("rfid", "fid", "sfid", "kid", "cmmd", "cer", "quoted-cer", "legible-px", RATE))
"""Published scores that are better when low; a run's own card says so itself. A rate is no quality: fewer bits count as
the better tokenizer."""
Source = Literal["published", "measured"]


@dataclass(frozen=True)
class Number:
    """A score of a system, turned so that more is better (`sign`), and the conditions under which it was made."""

    value: float
    conditions: str
    """In words; equal for numbers that may stand together."""
    better: str
    at: int | None = None
    """Side in pixels of what the model is given or draws, where it is known."""

    @property
    def turned(self) -> float:
        return -self.value if self.better == "lower" else self.value


@dataclass(frozen=True)
class System:
    """A generator with its tokenizer, and the scores of both."""

    name: str
    family: str
    tokenizer: str
    of_tokenizer: Mapping[str, Sequence[Number]]
    of_generator: Mapping[str, Sequence[Number]]
    """By score, one number for each set of conditions."""


class Pair(NamedTuple):
    """A system with one score of its tokenizer and one of its generator."""

    system: System
    x: Number
    y: Number


@dataclass(frozen=True)
class Relation:
    """One score of tokenizers against one of generators, over the systems that have both under the same conditions."""

    tokenizer_score: str
    generator_score: str
    tokenizer_conditions: str
    generator_conditions: str
    pairs: tuple[Pair, ...]
    result: RankCorrelation

    def points(self) -> list[dict[str, Any]]:
        """The systems with both numbers as they were printed or measured."""
        return [
            {"system": s.name, "family": s.family, "tokenizer": s.tokenizer, "x": x.value, "y": y.value}
            for s, x, y in self.pairs
        ]


@dataclass(frozen=True)
class Correlation:
    """All relations, those of most systems first; `left_out`: runs or cards that take no part, and why."""

    source: Source
    systems: tuple[System, ...]
    relations: tuple[Relation, ...]
    best_only: bool = False
    left_out: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "one_system_a_tokenizer": self.best_only,
            "relations": [
                {
                    "tokenizer_score": r.tokenizer_score,
                    "generator_score": r.generator_score,
                    "tokenizer_conditions": r.tokenizer_conditions,
                    "generator_conditions": r.generator_conditions,
                    **dataclasses.asdict(r.result),
                    "points": r.points(),
                }
                for r in self.relations
            ],
            "left_out": dict(self.left_out),
        }


def correlate(
    systems: Sequence[System],
    source: Source,
    of_tokenizers: Sequence[str] | None = None,
    of_generators: Sequence[str] | None = None,
    *,
    best_only: bool = False,
    seed: int = 0,
    left_out: Mapping[str, str] | None = None,
) -> Correlation:
    """Every score of tokenizers against every score of generators.

    best_only: of the systems that share a tokenizer, the one with the best generator alone, so that the size of the
    generator, which differs more than the tokenizers do, does not stand for them.
    """
    relations = []
    for x in of_tokenizers or OF_TOKENIZERS:
        for y in of_generators or OF_GENERATORS:
            for (of_x, of_y), pairs in _comparable(systems, x, y).items():
                some = _best(pairs) if best_only else pairs
                result = rank_correlation(
                    [p.x.turned for p in some], [p.y.turned for p in some], [p.system.family for p in some], seed=seed
                )
                relations.append(Relation(x, y, of_x, of_y, tuple(some), result))
    relations.sort(key=lambda r: (-r.result.n, r.generator_score, r.tokenizer_score, r.tokenizer_conditions))
    return Correlation(source, tuple(systems), tuple(relations), best_only, left_out or {})


def _comparable(systems: Iterable[System], x: str, y: str) -> dict[tuple[str, str], list[Pair]]:
    """{conditions of both: the systems whose numbers were made under them}. A tokenizer's number at another size than
    the generator draws is of another system."""
    groups: dict[tuple[str, str], list[Pair]] = {}
    for system in systems:
        for one in system.of_tokenizer.get(x, ()):
            for two in system.of_generator.get(y, ()):
                if None in (one.at, two.at) or one.at == two.at:
                    groups.setdefault((one.conditions, two.conditions), []).append(Pair(system, one, two))
    return groups


def _best(pairs: Iterable[Pair]) -> list[Pair]:
    best: dict[tuple[str, int | None], Pair] = {}
    for pair in pairs:
        tokenizer = pair.system.tokenizer, pair.x.at
        if tokenizer not in best or pair.y.turned > best[tokenizer].y.turned:
            best[tokenizer] = pair
    return list(best.values())


# -- published -------------------------------------------------------------------------------------------------------


def published_systems() -> tuple[list[System], dict[str, str]]:
    """Every registered generator whose card and whose tokenizer's card print numbers; and the others, with the reason.

    Of several numbers of one score under the same conditions the card's first counts.
    """
    systems, left_out = [], {}
    for entry in registry.entries():
        card = entry.card
        if card.kind != "generator":
            continue
        tokenizer = _tokenizer_card(card)
        if tokenizer is None:
            named = (
                f"its tokenizer {card.tokenizer} is none of vtbench's" if card.tokenizer else "it names no tokenizer"
            )
            left_out[card.name] = named
        elif not card.published:
            left_out[card.name] = "its card prints no number"
        else:
            of_tokenizer = _numbers(tokenizer)
            if tokenizer.bits_per_pixel is not None:
                of_tokenizer[RATE] = [Number(tokenizer.bits_per_pixel, "bits of a flat prior per pixel", "lower")]
            systems.append(System(card.name, card.family, tokenizer.name, of_tokenizer, _numbers(card)))
    return systems, left_out


def _tokenizer_card(card: Card) -> Card | None:
    known = {e.card.name: e.card for e in registry.entries()}
    return known.get(card.tokenizer or "")


def _numbers(card: Card) -> dict[str, list[Number]]:
    out: dict[str, list[Number]] = {}
    for claim in card.published:
        stated = (claim.protocol or Conditions()).stated()
        own = card.sizes.size if isinstance(card.sizes, Fixed) else None
        at = own if card.kind == "generator" else stated.get("model_size") or stated.get("size")
        number = Number(
            claim.value,
            _conditions(claim, card),
            "lower" if claim.metric in LOWER or claim.metric.startswith("lpips") else "higher",
            at if isinstance(at, int) else None,
        )
        numbers = out.setdefault(claim.metric, [])
        if all((n.conditions, n.at) != (number.conditions, number.at) for n in numbers):
            numbers.append(number)
    return out


def _conditions(claim: Published, card: Card) -> str:
    """In words, what has to be equal. How a generator was sampled belongs to the system; the size at which its pictures
    are scored is its own where nobody states another."""
    stated = (claim.protocol or Conditions()).stated()
    facts = {k: v for k, v in stated.items() if k not in ("options", "averaged", "model_size")}
    if card.kind == "generator" and isinstance(card.sizes, Fixed):
        facts.setdefault("size", card.sizes.size)
    words = {k: " ".join(map(str, v)) if isinstance(v, tuple) else str(v) for k, v in sorted(facts.items())}
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in words.items()) or "nothing stated"


# -- measured --------------------------------------------------------------------------------------------------------


def measured_systems(every: Sequence[Run], *, unranked: bool = False) -> tuple[list[System], dict[str, str]]:
    """The generators among the runs whose tokenizer was measured too, on whatever images; and runs that take no part.

    unranked: those that no page would rank count as well. A generator draws the tokens of its tokenizer's default
    options, of the weights that its run names.
    """
    left_out: dict[str, str] = {}
    tokenizers: dict[tuple[str, Files], dict[str, list[Number]]] = {}
    generators: dict[str, tuple[Run, dict[str, list[Number]]]] = {}
    for run in every:
        why = None if unranked or runs.is_ranked(run) else runs.why_not_ranked(run)
        if why is None and runs.kind(run) == "generator":
            _add(generators.setdefault(runs.system(run), (run, {}))[1], run)
        elif why is None and (why := _other_options(run)) is None:
            files = tuple(sorted(f.sha256 for f in runs.weights(run).files))
            _add(tokenizers.setdefault((runs.model_name(run), files), {}), run)
        if why is not None:
            left_out[f"{runs.model_name(run)} {runs.task_name(run)} {runs.identity(run)[:12]}"] = why
    systems = []
    for run, numbers in generators.values():
        name, drawn = _tokenizer_of(run)
        same = [theirs for (n, files), theirs in tokenizers.items() if n == name and drawn in (None, files)]
        if len(same) == 1:
            options = "".join(f" {k}={v}" for k, v in sorted(runs.options(run).items()))
            title = runs.model_name(run) + options
            systems.append(System(title, runs.family(run) or title, name, same[0], numbers))
        else:
            which = f"run of its tokenizer {name}" if name else "tokenizer is named in its record"
            several = f"{len(same)} runs of other weights are of its tokenizer {name}, and it does not say whose"
            left_out[f"{runs.model_name(run)} {runs.identity(run)[:12]}"] = several if same else f"no {which} is there"
    return systems, left_out


Files = tuple[str, ...]
"""sha256 of every file of weights, sorted."""


def _tokenizer_of(run: Run) -> tuple[str, Files | None]:
    """The name of the tokenizer whose tokens a generator draws, and its files; None where the record has none."""
    stated = mapping(mapping(runs.section(run, "question").get("model")).get("tokenizer"))
    name, files = stated.get("name") or runs.model_card(run).get("tokenizer") or "", stated.get("weights")
    return str(name), tuple(sorted(map(str, files))) if isinstance(files, list | tuple) else None


def _other_options(run: Run) -> str | None:
    defaults = mapping(runs.model_card(run).get("options"))
    other = [f"{k}={v}" for k, v in runs.options(run).items() if k in defaults and defaults[k] != v]
    return f"{', '.join(other)} is not what generators are trained on" if other else None


def _add(numbers: dict[str, list[Number]], run: Run) -> None:
    """The scores of a run that have a value and a better end; of equal conditions the first run's."""
    question = runs.question(run)
    where = f"{runs.suite_name(run)} {question.suite[:8]}, view {question.view}, {measured.measured_images(run)} images"
    for score in measured.scores(run):
        better = "lower" if score.metric == RATE else score.better
        if score.value is None or better not in ("lower", "higher"):
            continue
        number = Number(score.value, f"{where}, version {score.version}", better)
        same = numbers.setdefault(score.metric, [])
        if all(n.conditions != number.conditions for n in same):
            same.append(number)
