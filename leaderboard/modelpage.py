"""One model: its card, its curve in every task, what was published of it, and every run with all that decides it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vtbench.leaderboard import runpage
from vtbench.leaderboard.addresses import model_key, record_address, system_key
from vtbench.leaderboard.cells import came_back_identical, column
from vtbench.leaderboard.figures import Figure, cost_figures, rate_figures
from vtbench.leaderboard.gallery import Kept, Original, Reconstruction
from vtbench.leaderboard.page import Site
from vtbench.leaderboard.runpage import in_words
from vtbench.leaderboard.sections import Section
from vtbench.leaderboard.words import decimals, link, number, short
from vtbench.reporting import runs as records
from vtbench.reporting.claims import Beside, claims_beside
from vtbench.reporting.measured import RATE, metric_card, score
from vtbench.reporting.runs import identity, question, system
from vtbench.results.record import Run

CARD_FACTS = (
    ("licence", "licence"),
    ("tokens_at_256", "tokens at 256 × 256"),
    ("latent_channels", "latent channels"),
    ("downsample", "downsampling"),
    ("trained_on", "trained on"),
    ("stochastic", "stochastic"),
    ("tokenizer", "tokenizer"),
    ("conditioning", "conditioning"),
    ("note", "note"),
)
"""(field of the model's card, as the page names it)."""
OPEN = 3
"""Runs of a model that are shown unfolded: of more, each is a line until somebody opens it."""


def facts(of_groups: Mapping[str, Sequence[Run]], site: Site, kept: Callable[[], Kept]) -> dict[str, Any]:
    """What templates/model.html.j2 shows. of_groups: the runs of one model by the key of their group, as the site's
    context holds them."""
    runs = [run for members in of_groups.values() for run in members]
    newest = _newest(runs)
    card = records.model_card(newest)
    sections = [(s, of_groups[s.group.ident]) for s in site.sections if s.group.ident in of_groups]
    return {
        "name": records.model_name(newest),
        "title": records.model_title(newest),
        "kind": records.kind(newest),
        "family": records.family(newest),
        "card_facts": card_facts(card),
        "links": [(name, url) for name in ("paper", "code") if (url := link(card.get(name)))],
        "figures": figures(sections, site),
        "claims": claims(runs, site),
        "settings": _settings(runs, site),
        "tasks": [
            (s.group, [_block(run, site.by_id[identity(run)], s, site, kept()) for run in r]) for s, r in sections
        ],
        "unfolded": len(runs) <= OPEN,
        "cite": citation(runs),
    }


def card_facts(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    stated = [(title, card.get(field)) for field, title in CARD_FACTS]
    out = [(title, in_words(fact)) for title, fact in stated if fact not in (None, "", [], (), False)]
    alphabets = card.get("alphabets")
    if isinstance(alphabets, (list, tuple)) and alphabets:
        same = len(set(map(str, alphabets))) == 1
        out.append(("alphabets", f"{alphabets[0]} × {len(alphabets)} books" if same else in_words(alphabets)))
    sources = card.get("sources")
    if isinstance(sources, Mapping) and sources:
        facts_of: dict[str, list[str]] = {}
        for name, source in sources.items():
            facts_of.setdefault(str(source), []).append(str(name).replace("_", " "))
        stated_in = "; ".join(f"{', '.join(names)}: {source}" for source, names in facts_of.items())
        out.append(("stated in", short(stated_in, 600)))
    return out


def _newest(runs: Sequence[Run]) -> Run:
    return max(runs, key=lambda run: (str(records.provenance(run).finished or ""), identity(run)))


def figures(sections: Sequence[tuple[Section, Sequence[Run]]], site: Site) -> list[tuple[Section, Figure]]:
    """For every task the model's own points of the metric that decides there; a single point is no curve."""
    context = site.context
    out = []
    drawn = set()
    for section, members in sections:
        # Tasks that ask the same metric of the same pictures have one curve.
        if section.asked in drawn:
            continue
        drawn.add(section.asked)
        own = replace(section.group, runs=members)
        metrics = [section.by] if section.by else []
        faded = {identity(run) for run in own.runs if context.banner is None and not records.is_ranked(run)}
        plots = rate_figures(own, context, metrics, faded) or cost_figures(own, context, metrics, faded)
        out += [(section, plot) for plot in plots[:1]]
    return out


@dataclass
class ClaimLine:
    """A published number with the numbers of the runs that meet all its conditions; `why` none does."""

    metric: str
    claimed: str
    protocol: str
    source: str
    url: str | None
    note: str
    measured: list[tuple[str, str, str]] = field(default_factory=list)
    """(value, setting, address) of every such run."""
    why: str = ""


def claims(runs: Sequence[Run], site: Site) -> list[ClaimLine]:
    """Published numbers; a measured one stands beside them only where its run meets all that the source states."""
    by_claim: dict[tuple[Any, ...], list[tuple[Run, Beside]]] = {}
    for run in runs:
        for claim in claims_beside(run):
            key = (claim.metric, claim.claimed, claim.source, claim.conditions, claim.note)
            by_claim.setdefault(key, []).append((run, claim))
    return [_claim(said, site) for said in by_claim.values()]


def _claim(said: Sequence[tuple[Run, Beside]], site: Site) -> ClaimLine:
    run, claim = said[0]
    card = metric_card(run, claim.metric)
    open_ = f"not stated by the source: {', '.join(claim.left_open)}" if claim.left_open else ""
    line = ClaimLine(
        metric=short((card.title if card else "") or claim.metric, 60),
        claimed=number(claim.claimed),
        protocol=short((claim.conditions.text if claim.conditions else None) or "not stated", 200),
        source=short(claim.source, 200),
        url=link(claim.source),
        note=short("; ".join(filter(None, [claim.note, open_])), 400),
    )
    for one, beside in said:
        if beside.measured is not None:
            label = site.context.labels[identity(one)]
            line.measured.append((number(beside.measured), label.setting or records.view_name(one), label.href))
    if not line.measured:
        # Of many runs the one that comes nearest: its reasons are the fewest.
        reasons = [beside.why for _, beside in said if beside.why]
        line.why = short(min(reasons, key=lambda why: (why.count(";"), len(why)), default=""), 400)
    return line


@dataclass(frozen=True)
class Setting:
    """A system of the model: what it is called, and where it can be compared with another."""

    title: str
    compare: str
    runs: int


def _settings(runs: Sequence[Run], site: Site) -> list[Setting]:
    by_system: dict[str, list[Run]] = {}
    for run in runs:
        by_system.setdefault(system_key(run), []).append(run)
    return [
        Setting(site.context.labels[identity(own[0])].full, f"compare.html#a={key}", len(own))
        for key, own in by_system.items()
    ]


@dataclass(frozen=True)
class Worst:
    """An image on which a run is worst, with its pictures where the run kept them."""

    item: str
    value: str
    sample: tuple[Original, Reconstruction] | None


def _block(run: Run, whole: Run, section: Section, site: Site, kept: Kept) -> dict[str, Any]:
    """All about one run, its worst images, the files that it can be checked by. whole: the run as it was read, with the
    scores that are of older versions of their metrics than count."""
    by = section.by
    return {
        **runpage.facts(whole, site.context.labels),
        "worst_by": column(section.group, by) if by else None,
        "rate": _stated(run, RATE, 3),
        "decides": _stated(run, by) if by else "",
        "worst": worst_images(run, by, site, kept) if by else [],
        "records": [(name, record_address(run, name), size) for name, size in runpage.own_records(run).items()],
        "system": system_key(run),
    }


def _stated(run: Run, metric: str, digits: int | None = None) -> str:
    """A score as the line above a folded run says it; empty where the run never had it."""
    stated = score(run, metric)
    if stated is None:
        return ""
    return "lossless" if came_back_identical(stated) else number(stated.value, digits)


def worst_images(run: Run, metric: str, site: Site, kept: Kept) -> list[Worst]:
    samples = {
        original.item: (original, shot) for _, original, shot in kept.get((question(run).images, system(run)), ())
    }
    images = runpage.worst(run, metric, site.context.rows)
    digits = decimals([value for _, value in images])
    return [Worst(short(item, 80), number(value, digits), samples.get(item)) for item, value in images]


def citation(runs: Sequence[Run]) -> str:
    """BibTeX of the numbers: the program with its version, the model, and the runs by their ids."""
    newest = _newest(runs)
    versions = sorted({version for run in runs if (version := records.vtbench_version(run))})
    days = sorted({str(records.provenance(run).finished or "")[:10] for run in runs} - {""})
    name = short(records.model_title(newest), 120)
    ids = ", ".join(identity(run)[:12] for run in runs[:8]) + " and others" * (len(runs) > 8)
    lines = [
        f"@misc{{vtbench-{model_key(records.model_name(newest))},",
        f"  title = {{{_bibtex(f'Measurements of {name}')}}},",
        "  author = {{The vtbench authors}},",
        *([f"  year = {{{days[-1][:4]}}},"] if days and days[-1][:4].isdigit() else []),
        f"  howpublished = {{vtbench {_bibtex(', '.join(versions) or 'of unstated version')}}},",
        f"  note = {{runs {_bibtex(ids)}}},",
        "}",
    ]
    return "\n".join(lines)


BIBTEX = {"{": "(", "}": ")", "\\": "/", "%": r"\%", "&": r"\&", "#": r"\#", "_": r"\_"}
"""Characters that would end a field, or mean something to TeX."""


def _bibtex(text: str) -> str:
    return "".join(BIBTEX.get(character, character) for character in text)


def by_model(site: Site) -> dict[str, dict[str, list[Run]]]:
    """The runs of the context by the name of their model and the key of their group, in the order of the site."""
    out: dict[str, dict[str, list[Run]]] = {}
    for group in site.groups:
        for run in group.runs:
            out.setdefault(records.model_name(run), {}).setdefault(group.ident, []).append(run)
    return out
