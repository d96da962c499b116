"""The catalogue: every card with its facts and where they are stated, every published number, and what is not here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vtbench import registry
from vtbench.leaderboard import field
from vtbench.leaderboard.words import link, slug
from vtbench.reporting.facts import Disagreement, Fact, disagreements, facts_of
from vtbench.types.cards import Card, Fixed, Published

BITS = {"float16": 16, "bfloat16": 16, "float32": 32}
METRICS = {
    "rfid": "rFID",
    "fid": "FID",
    "fid_mjhq30k": "FID on MJHQ-30K",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "is": "IS",
    "ris": "rIS",
    "geneval": "GenEval",
}
"""Names of metrics as papers print them, where ours are other."""


@dataclass(frozen=True)
class Row:
    """One card. `facts` by name; `odd_sources`: those that are not its family's."""

    card: Card
    ident: str
    facts: Mapping[str, Fact]
    rate: str | None
    side: int
    """Pixels of the side to which tokens and rate belong."""
    own_sources: tuple[tuple[str, str], ...]
    unsupported: tuple[str, ...]
    claims: tuple[Claim, ...]
    disputes: tuple[Disagreement, ...]

    @property
    def words(self) -> str:
        """What a search finds it by."""
        card = self.card
        return " ".join((card.name, card.title, card.family, card.licence or "", *card.trained_on)).lower()


@dataclass(frozen=True)
class Claim:
    """Numbers that one source prints of one model under one protocol; `disputed`: metrics of which another differs."""

    source: str
    protocol: str
    note: str
    numbers: tuple[tuple[str, str, bool], ...]
    """(metric as printed, value, disputed)."""


@dataclass(frozen=True)
class Shelf:
    """The cards of one family, and the sources that they share."""

    family: str
    title: str
    code: str | None
    paper: str | None
    at: str | None
    """The repository and commit that the shared sources are in, where they are files of one: they go without it."""
    sources: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Counts:
    cards: int
    families: int
    claims: int
    facts: int
    with_source: int
    not_stated: int
    """Facts of which the source, looked up, says nothing."""
    disputed: int

    @property
    def without_source(self) -> int:
        return self.facts - self.with_source


@dataclass(frozen=True)
class Catalogue:
    shelves: tuple[Shelf, ...]
    counts: Counts
    absent: tuple[field.System, ...]
    """Systems of the field of which nothing is registered."""
    present: int
    """Systems of the field that are."""
    reductions: tuple[field.Reduction, ...]
    elsewhere: tuple[field.Elsewhere, ...]

    @property
    def disputes(self) -> list[tuple[Row, Disagreement]]:
        return [(row, dispute) for shelf in self.shelves for row in shelf.rows for dispute in row.disputes]

    @property
    def kinds(self) -> list[str]:
        return list(dict.fromkeys(row.card.kind for shelf in self.shelves for row in shelf.rows))


def catalogue() -> Catalogue:
    """Of all that is registered, plug-ins included."""
    families = registry.families()
    shelves = tuple(_shelf(f.name, f.title, f.cards) for f in families.values() if f.cards)
    rows = [row for shelf in shelves for row in shelf.rows]
    facts = [fact for row in rows for fact in row.facts.values()]
    systems = field.systems()
    absent = tuple(system for system in systems if not system.here(families))
    counts = Counts(
        cards=len(rows),
        families=len(shelves),
        claims=sum(len(row.card.published) for row in rows),
        facts=len(facts),
        with_source=sum(fact.source is not None for fact in facts),
        not_stated=sum(fact.source is not None and fact.value is None for fact in facts),
        disputed=sum(len(row.disputes) for row in rows),
    )
    return Catalogue(shelves, counts, absent, len(systems) - len(absent), field.reductions(), field.elsewhere())


def _shelf(family: str, title: str, cards: Sequence[Card]) -> Shelf:
    facts = [{fact.name: fact for fact in facts_of(card)} for card in cards]
    shared = _common({name: fact.source for name, fact in of.items() if fact.source} for of in facts)
    rows = tuple(_row(card, of, shared) for card, of in zip(cards, facts, strict=True))
    places = {source.partition(" ")[0] for source in shared.values()}
    at = places.pop() if len(places) == 1 and "@" in next(iter(places)) else None
    within = {name: source.removeprefix(f"{at} ") for name, source in shared.items()}
    return Shelf(family, title, link(cards[0].code), link(cards[0].paper), at, tuple(_grouped(within)), rows)


def _row(card: Card, facts: Mapping[str, Fact], shared: Mapping[str, str]) -> Row:
    own = {
        name: fact.source
        for name, fact in facts.items()
        if fact.source and fact.source not in (shared.get(name), fact.value)
    }
    disputes = tuple(disagreements(card))
    side = card.sizes.size if isinstance(card.sizes, Fixed) else 256
    bare = tuple(name for name, fact in facts.items() if fact.source is None)
    claims = tuple(_claims(card, disputes))
    ident = f"card-{slug(card.name, card.name)}"
    return Row(card, ident, facts, _rate(card, side), side, tuple(_grouped(own)), bare, claims, disputes)


def _common(of_cards: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The source of each fact that more than half of a family's cards have: it is said once."""
    out: dict[str, dict[str, int]] = {}
    for sources in of_cards:
        for name, source in sources.items():
            out.setdefault(name, {}).setdefault(source, 0)
            out[name][source] += 1
    return {
        name: source
        for name, counts in out.items()
        for source, count in counts.items()
        if 2 * count > sum(counts.values())
    }


def _grouped(sources: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(names of facts, source), a source once."""
    by_source: dict[str, list[str]] = {}
    for name, source in sources.items():
        by_source.setdefault(source, []).append(name)
    for source, names in by_source.items():
        yield ", ".join(names), source


def _rate(card: Card, side: int) -> str | None:
    """Nominal bits per pixel: indices of fixed length; of latents, their numbers in the dtype that is counted."""
    if (bits := card.bits_per_pixel) is None:
        width = BITS.get(str(card.options.get("latent_dtype")))
        if card.kind != "continuous" or None in (width, card.tokens_at_256, card.latent_channels):
            return None
        bits = (width or 0) * (card.tokens_at_256 or 0) * (card.latent_channels or 0) / side**2
    return f"{bits:.4g}"


def _claims(card: Card, disputes: Sequence[Disagreement]) -> Iterator[Claim]:
    disputed = {id(number) for dispute in disputes for number in dispute.numbers}
    groups: dict[tuple[str, str, str], list[Published]] = {}
    for number in card.published:
        protocol = (number.protocol.text if number.protocol else None) or "not stated"
        groups.setdefault((number.source, protocol, number.note or ""), []).append(number)
    for (source, protocol, note), numbers in groups.items():
        shown = tuple((METRICS.get(n.metric, n.metric), f"{n.value:g}", id(n) in disputed) for n in numbers)
        yield Claim(source, protocol, note, shown)
