"""Tables: kinds apart, ranks, what is missing and why, warnings, intervals, labels."""

from __future__ import annotations

import re
from pathlib import Path

import made_runs
from made_runs import score
from site_pages import Reader, row_of

from vtbench import leaderboard
from vtbench.leaderboard.labels import labels
from vtbench.reporting.reading import read_runs


def test_kinds_have_tables_of_their_own(world: Path) -> None:
    page = (world / "site" / "index.html").read_text()
    codecs = page.split('aria-label="Reconstruction: Codecs"', 1)[1].split("</table>", 1)[0]
    assert "AVIF" in codecs
    assert "k-means patch VQ" not in codecs
    assert "TAESD for FLUX.2" not in codecs
    discrete = page.split('aria-label="Reconstruction: Discrete tokenizers"', 1)[1].split("</table>", 1)[0]
    assert "k-means patch VQ" in discrete
    assert "AVIF" not in discrete


def test_unranked_runs_are_grey_say_why_and_have_no_place(world: Path) -> None:
    """WebP's 33.0 dB over two images would stand between ranked rows by its value."""
    page = (world / "site" / "index.html").read_text()
    row = row_of(page, "WebP", "Reconstruction: Codecs")
    assert 'class="un"' in row
    assert "not ranked: limited to 2 of 6 images" in row
    assert re.search(r'class="rank"[^>]*></span>', row)
    assert "best" not in row
    assert re.search(r'class="rank"[^>]*>1</span>', row_of(page, "AVIF", "Reconstruction: Codecs"))
    codecs = page.split('aria-label="Reconstruction: Codecs"', 1)[1].split("</table>", 1)[0]
    assert codecs.index("JPEG") < codecs.index("WebP")
    assert codecs.split("<tr")[-1].count(">WebP</a>") == 1, "unranked rows come last"


def test_missing_numbers_are_dashes_with_a_reason_that_needs_no_pointer(world: Path) -> None:
    page = (world / "site" / "index.html").read_text()
    row = row_of(page, "My VAE", "Reconstruction: Continuous tokenizers")
    note = re.search(r'—<sup><a href="#([^"]+)"', row)
    assert note
    assert re.search(rf'<li id="{re.escape(note[1])}">the model failed</li>', page)
    assert "LPIPS (AlexNet) — the AlexNet weights are not here" in Reader(page).words
    assert not re.search(r"<td[^>]*>(nan|None|inf)", page, re.IGNORECASE)


def test_small_sets_carry_their_warning_and_name_their_reference(world: Path) -> None:
    page = (world / "site" / "index.html").read_text()
    assert "starter-natural, 256, n = 6" in page
    assert re.search(r"<li[^>]*>6 images: an FID below 10,000 images is biased; read KID</li>", page)


def test_intervals_and_directions_are_shown(world: Path) -> None:
    page = (world / "site" / "index.html").read_text()
    assert "[29.00, 33.40]" in row_of(page, "TAESD for FLUX.2", "Reconstruction: Continuous tokenizers")
    assert "PSNR (higher is better)" in Reader(page).words.replace(" (", " (").replace("↑ ", "")


def test_when_nothing_is_ranked_the_reason_is_said_once(tmp_path: Path) -> None:
    why = "the core, a task or a metric differs from the release"
    for i, extra in enumerate(("", "limited to 2 of 6 images; ")):
        scores = [score("psnr", 30.0 + i), score("bpp", 1.0)]
        state = {"ranked": False, "why_not_ranked": extra + why, "limit": 2 if extra else None}
        made_runs.write(tmp_path / f"r{i}", name=f"m{i}", scores=scores, **state)
    leaderboard.build([tmp_path], tmp_path / "site")
    page = (tmp_path / "site" / "index.html").read_text()
    assert page.count(why) == 1
    assert "None of these runs is ranked" in page
    assert "limited to 2 of 6 images" in row_of(page, "M1", "Reconstruction: Codecs")
    assert not re.search(r'class="rank"[^>]*>\d', page)


def test_labels_tell_twins_apart(tmp_path: Path) -> None:
    for i, seed in enumerate((0, 7)):
        made_runs.write(tmp_path / str(i), seed=seed, scores=[score("psnr", 30.0)])
    texts = {label.full for label in labels(read_runs([tmp_path]), {}).values()}
    assert len(texts) == 2
    assert any("seed 7" in text for text in texts)
