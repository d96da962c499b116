"""Tables: kinds apart, ranks, what is missing and why, warnings, intervals, labels."""

from __future__ import annotations

import re
from pathlib import Path

import made_runs
from made_runs import score
from site_pages import NATURAL, Reader, row_of, table_of, task_page

from vtbench import leaderboard
from vtbench.leaderboard.labels import labels
from vtbench.reporting.reading import read_runs


def test_one_table_holds_every_kind_and_places_stay_within_kind_and_band(world: Path) -> None:
    """The best of every kind and band has the first place there, wherever others stand."""
    rows = table_of(task_page(world / "site"), NATURAL).split("<tr")[2:]
    kinds = [re.search(r'data-k="([a-z]+)"', row) for row in rows]
    order = [kind[1] for kind in kinds if kind]
    assert len(order) == len(rows)
    assert list(dict.fromkeys(order)) == ["codec", "continuous", "discrete", "closed"]
    assert sorted(order, key=list(dict.fromkeys(order)).index) == order, "a kind is one stretch"
    ranks = [
        (kind, band[1], rank[1])
        for row, kind in zip(rows, order, strict=True)
        if (band := re.search(r'data-n="(\d)"', row)) and (rank := re.search(r'class="rank"[^>]*>(\d+)[^<]*</td>', row))
    ]
    for stretch in {(kind, band) for kind, band, _ in ranks}:
        assert ranks[[r[:2] for r in ranks].index(stretch)][2] == "1"
    titles = re.findall(r'title="places? [^"]* of (\d+) at ', " ".join(rows))
    members = {stretch: sum(r[:2] == stretch for r in ranks) for stretch in {r[:2] for r in ranks}}
    assert {int(n) for n in titles} == set(members.values()), "a place is among those of its kind and band"


def test_unranked_runs_are_grey_say_why_and_have_no_place(world: Path) -> None:
    """WebP's 33.0 dB over two images would stand between ranked rows by its value."""
    page = task_page(world / "site")
    row = row_of(page, "WebP", NATURAL)
    assert re.search(r'class="un[ "]', row)
    assert "not ranked: limited to 2 of 6 images" in row
    assert re.search(r'class="rank"[^>]*></td>', row)
    assert "best" not in row
    assert re.search(r'class="rank"[^>]*>1</td>', row_of(page, "AVIF", NATURAL))
    codecs = [r for r in table_of(page, NATURAL).split("<tr") if 'data-k="codec"' in r]
    assert codecs[-1].count(">WebP</a>") == 1, "unranked rows come last of their kind"


def test_missing_numbers_are_dashes_with_a_reason_that_needs_no_pointer(world: Path) -> None:
    page = task_page(world / "site")
    row = row_of(page, "My VAE", NATURAL)
    note = re.search(r'—<sup><a href="#([^"]+)"', row)
    assert note
    assert re.search(rf'<li id="{re.escape(note[1])}">the model failed</li>', page)
    assert "LPIPS (AlexNet) — the AlexNet weights are not here" in Reader(page).words
    assert not re.search(r"<td[^>]*>(nan|None|inf)", page, re.IGNORECASE)


def test_small_sets_carry_their_warning_and_name_their_reference(world: Path) -> None:
    page = task_page(world / "site")
    assert "starter-natural, 256, n = 6" in page
    assert re.search(r"<li[^>]*>6 images: an FID below 10,000 images is biased; read KID</li>", page)


def test_intervals_and_directions_are_shown(world: Path) -> None:
    page = task_page(world / "site")
    assert "[29.00, 33.40]" in row_of(page, "TAESD for FLUX.2", NATURAL)
    assert "PSNR dB, higher is better" in Reader(page).words


def test_when_nothing_is_ranked_the_reason_is_said_once(tmp_path: Path) -> None:
    why = "the core, a task or a metric differs from the release"
    for i, extra in enumerate(("", "limited to 2 of 6 images; ")):
        scores = [score("psnr", 30.0 + i), score("bpp", 1.0)]
        state = {"ranked": False, "why_not_ranked": extra + why, "limit": 2 if extra else None}
        made_runs.write(tmp_path / f"r{i}", name=f"m{i}", scores=scores, **state)
    leaderboard.build([tmp_path], tmp_path / "site")
    for page in ((tmp_path / "site" / "index.html").read_text(), task_page(tmp_path / "site")):
        assert page.count(why) == 1
        assert "None of these runs is ranked" in page
    assert "limited to 2 of 6 images" in row_of(page, "M1", NATURAL)
    assert not re.search(r'class="rank"[^>]*>\d', page)


def test_labels_tell_twins_apart(tmp_path: Path) -> None:
    for i, seed in enumerate((0, 7)):
        made_runs.write(tmp_path / str(i), seed=seed, scores=[score("psnr", 30.0)])
    texts = {label.full for label in labels(read_runs([tmp_path]), {}).values()}
    assert len(texts) == 2
    assert any("seed 7" in text for text in texts)
