"""published.html: every card, every published number, every system of the field, from the first build on."""

from __future__ import annotations

import csv
import html
import re
from pathlib import Path

import made_runs
import pytest
from site_pages import EVIL, Reader, check_only_own_scripts

from vtbench import leaderboard, registry
from vtbench.leaderboard import field, rendering
from vtbench.leaderboard.catalogue import METRICS, Catalogue, _shelf, catalogue
from vtbench.leaderboard.site import site_files
from vtbench.reporting.facts import facts_of
from vtbench.types.cards import Card, Fixed, Published, Weights
from vtbench.types.conditions import validation

_256 = validation("ImageNet", 256)


@pytest.fixture(scope="module")
def site() -> dict[str, bytes]:
    return site_files([])


@pytest.fixture(scope="module")
def page(site: dict[str, bytes]) -> str:
    return site["published.html"].decode()


def table(page: str, name: str) -> str:
    return page.split(f'aria-label="{name}"', 1)[1].split("</table>", 1)[0]


def words(markup: str) -> str:
    """Its text, where the first tag may have lost its beginning."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split()).replace(" ,", ",").replace(" ;", ";")


def test_it_is_there_without_a_run_and_from_the_command(tmp_path: Path, page: str) -> None:
    leaderboard.build([], tmp_path / "site")
    assert (tmp_path / "site" / "published.html").read_text() == page, "the same bytes again"
    assert len(page) < 1_000_000
    assert 'href="published.html"' in (tmp_path / "site" / "index.html").read_text()


def test_every_card_and_its_facts_stand_there(page: str) -> None:
    rows = {words(row.partition(">")[2]).split()[0]: words(row) for row in table(page, "Models").split("<tr id=")[1:]}
    cards = [entry.card for entry in registry.entries()]
    assert rows.keys() == {card.name for card in cards}
    for card in cards:
        for fact in facts_of(card):
            assert (fact.value or "not stated")[:150] in rows[card.name] or fact.source is None, (card.name, fact)


def test_every_published_number_stands_there_with_its_source(page: str) -> None:
    bodies = [
        words(body.partition("<th")[2].partition(">")[2]) for body in table(page, "Published numbers").split("<tbody")
    ]
    shown = {body.split()[0]: body for body in bodies if body}
    for card in (entry.card for entry in registry.entries() if entry.card.published):
        for number in card.published:
            assert f"{METRICS.get(number.metric, number.metric)} {number.value:g}" in shown[card.name], (
                card.name,
                number,
            )
            assert words(number.source[:100]) in shown[card.name]


def test_the_counts_are_those_of_the_cards(page: str) -> None:
    facts = [fact for entry in registry.entries() for fact in facts_of(entry.card)]
    with_source = sum(fact.source is not None for fact in facts)
    assert f"<b>{with_source}</b> facts with a source" in page
    assert f"<b>{len(facts) - with_source}</b> without" in page
    assert f"<b>{sum(len(entry.card.published) for entry in registry.entries())}</b> published numbers" in page


def test_a_disagreement_is_listed_and_marked(page: str) -> None:
    listed = words(table(page, "Disagreements"))
    assert "flextok-d18-d28-in1k rFID 1.45 Selftok README; 4.02 GPSToken README" in listed
    assert "rFID <mark>4.02</mark>" in table(page, "Published numbers")


def test_it_reads_without_scripts_and_fetches_nothing(page: str) -> None:
    reader = Reader(page)
    check_only_own_scripts("published.html", reader)
    ids = [attributes["id"] for _, attributes in reader.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for tag, attributes in reader.elements:
        if (attributes.get("href") or "").startswith("http"):
            assert tag == "a"
        if tag == "tr":
            assert "hidden" not in attributes
    assert sum(tag in ("a", "input", "select") for tag, _ in reader.elements) < 250, "places to tab to"


def test_every_system_of_the_field_is_a_card_or_says_why_not() -> None:
    systems = field.systems()
    assert len({system.name for system in systems}) == len(systems)
    for system in systems:
        assert system.here(registry.families()) or len(system.reason.split()) >= 3, system.name


def test_no_system_of_the_field_is_missing(shared: Path) -> None:
    with (shared / "systems.csv").open() as source:
        listed = {row["short_name"].strip() for row in csv.DictReader(source)}
    assert {system.name for system in field.systems()} == listed
    assert len(listed) == 170


def test_numbers_of_reducers_are_those_published(shared: Path) -> None:
    with (shared / "reduction" / "published_reduction.csv").open() as source:
        rows = list(csv.DictReader(source))
    ours = sorted(
        (r.method, r.model, r.kept, name, score, r.printed_average, r.recomputed_average, r.astray)
        for r in field.reductions()
        for name, score in r.scores
    )
    names = ("method", "model", "kept", "benchmark", "score", "printed_average", "recomputed_average")
    theirs = sorted((*(row[name] for name in names), "does not follow" in row["note"]) for row in rows)
    assert ours == theirs


NUMBER = re.compile(r"\d*\.?\d+")
COLUMNS = {
    "published_reconstruction.csv": ("rFID", "PSNR", "SSIM", "LPIPS"),
    "published_generation.csv": ("gFID", "IS"),
    "published_geneval.csv": ("overall", "counting"),
    "published_video.csv": ("PSNR", "SSIM", "LPIPS", "rFVD"),
    "published_tokbench_text.csv": ("tacc_mean", "tned_mean", "rfid", "psnr"),
    "published_tokbench_face.csv": ("fsim_mean", "lpips", "ssim"),
    "published_tokbench_video.csv": ("tacc_mean", "fsim_mean"),
}


@pytest.mark.parametrize("file", sorted(COLUMNS))
def test_no_published_number_of_the_field_is_missing(file: str, shared: Path) -> None:
    """On a card or in the list of what no card has: every number of every row of the tables that others gathered."""
    printed = {number.value for entry in registry.entries() for number in entry.card.published}
    printed |= {float(n) for claim in field.elsewhere() for _, value in claim.numbers for n in NUMBER.findall(value)}
    with (shared / file).open() as source:
        rows = [row for row in csv.DictReader(source) if row.get("method") != "method"]
    for row in rows:
        for column in COLUMNS[file]:
            value = (row[column] or "").partition("+-")[0]  # without its deviation
            assert {float(n) for n in NUMBER.findall(value)} <= printed, (row, column)


def test_a_measured_model_leads_to_its_page(tmp_path: Path) -> None:
    made_runs.write(tmp_path / "runs" / "a", name="dct", kind="codec", n=2)
    leaderboard.build([tmp_path / "runs" / "a"], tmp_path / "site")
    row = table((tmp_path / "site" / "published.html").read_text(), "Models").split("dct ", 1)[1].split("</th>")[0]
    assert '<a href="model/dct.html">measured</a>' in row
    assert (tmp_path / "site" / "model" / "dct.html").is_file()


def hostile() -> Catalogue:
    """A family of a plug-in with markup in every string, and addresses that would run."""
    numbers = (Published("rfid", 1.0, EVIL, _256, EVIL), Published("rfid", 2.0, EVIL), Published(EVIL, 3.0, "b", _256))
    more = {"title": EVIL, "licence": EVIL, "trained_on": (EVIL,), "published": numbers, "note": EVIL}
    weights = (Weights(EVIL, url=f"javascript:{EVIL}"), Weights("x", hub=EVIL))
    links = {"code": "javascript:alert(1)", "paper": EVIL}
    evil = Card(EVIL, EVIL, "discrete", weights=weights, sources={"licence": EVIL}, **more, **links)  # type: ignore[arg-type]
    whole = catalogue()
    same = (evil, Card(EVIL + "-", EVIL, "closed", "t", sizes=Fixed(512)), Card("a.b", EVIL, "codec", "c"))
    return Catalogue((_shelf(EVIL, EVIL, same),), whole.counts, (), 0, (), ())


def test_markup_in_every_string_of_a_plug_in() -> None:
    facts = {
        "field": hostile(),
        "METRICS": METRICS,
        "measured": {},
        "root": "",
        "here": "published.html",
        "tabs": [],
        "versions": [],
    }
    text = rendering.environment().get_template("published.html.j2").render(facts)
    reader = Reader(text)
    check_only_own_scripts("published.html", reader)
    assert not [tag for tag, attributes in reader.elements if tag == "img"]
    assert "javascript:" not in {(a.get("href") or "")[:11] for _, a in reader.elements}
    assert len(re.findall("<script", text)) == 2
