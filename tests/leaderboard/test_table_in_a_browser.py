"""The first page and a task's in a real Chromium: sort, filters, columns, pins, address, phones, print, no script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import synthetic_runs
from chromium import Chromium, chromium

from vtbench import leaderboard

LONG = "A name of three hundred characters, " * 9
MARKUP = '"><script>document.title="run"</script><img src=x onerror=document.title="run">'
STATE = "return decodeURIComponent(location.hash)"
SHOWN = "return [...document.querySelectorAll('table.one tbody tr')].filter((row) => !row.hidden)"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("desk")
    synthetic_runs.write_world(root / "runs", models=30, tasks=2, images=8, generators=2)
    for folder, title in (("0003-reconstruction", LONG), ("0009-reconstruction", MARKUP)):
        path = root / "runs" / folder / "run.json"
        info = json.loads(path.read_text())
        info["model"]["title"] = title
        path.write_text(json.dumps(info))
    return leaderboard.build([root / "runs"], root / "site").parent


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as opened:
        yield opened


def show(browser: Chromium, page: Path, fragment: str = "", width: int = 1440) -> None:
    """Opens a page and waits for its script."""
    browser.open(page, fragment, width)
    browser.wait(
        "return document.readyState === 'complete' && document.querySelector('form.controls output').textContent"
    )


def column(browser: Chromium, key: str) -> list[str]:
    """The texts of a column in the order shown."""
    code = """const table = document.querySelector('table.one');
    const place = [...table.tHead.rows[0].cells].findIndex((head) => head.dataset.c === arguments[0]);
    return [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[place].dataset.v ?? '');"""
    texts: list[str] = browser.js(code, key)
    return texts


def click(browser: Chromium, selector: str) -> None:
    """Wherever the element stands: a head that stays may cover what the driver scrolled to."""
    browser.js("document.querySelector(arguments[0]).click()", selector)


def choose(browser: Chromium, name: str, value: Any) -> str:
    """Sets a control as a reader does; returns what the page says of it."""
    browser.js(
        """const field = document.querySelector(`form.controls [name=${arguments[0]}]`);
        if (field.type === 'checkbox') field.checked = arguments[1]; else field.value = arguments[1];
        field.dispatchEvent(new Event('input', { bubbles: true }));""",
        name,
        value,
    )
    said: str = browser.js("return document.querySelector('form.controls output').textContent")
    return said


def test_a_first_click_sorts_the_best_first_and_the_address_keeps_it(site: Path, browser: Chromium) -> None:
    show(browser, site / "index.html")
    for key, first in (("psnr", "highest"), ("lpips-alex", "lowest")):
        head = f"th[data-c={key}]"
        click(browser, f"{head} .sort")
        values = [float(v) for v in column(browser, key) if v]
        assert values == sorted(values, reverse=first == "highest")
        assert len(values) > 20
        assert f"{first} first" in browser.find("form.controls output").text
        wanted = "descending" if first == "highest" else "ascending"
        assert browser.find(head).get_attribute("aria-sort") == wanted
        assert column(browser, key)[-1] == "" or "" not in column(browser, key), "what is missing stays last"
    assert browser.js(STATE) == "#sort=+lpips-alex" or "sort=" in browser.js(STATE)
    click(browser, "th[data-c=lpips-alex] .sort")
    values = [float(v) for v in column(browser, "lpips-alex") if v]
    assert values == sorted(values, reverse=True)
    kept = browser.js("return location.hash.slice(1)")
    show(browser, site / "index.html", kept)
    assert [float(v) for v in column(browser, "lpips-alex") if v] == values


def test_filters_count_and_stand_in_the_address(site: Path, browser: Chromium) -> None:
    show(browser, site / "index.html")
    everything = len(browser.js(SHOWN))
    assert choose(browser, "kind", "discrete").startswith(f"{len(browser.js(SHOWN))} of {everything} shown")
    kinds = browser.js(SHOWN + ".map((row) => row.dataset.k)")
    assert set(kinds) == {"discrete"}
    assert choose(browser, "band", "0").startswith(f"{len(browser.js(SHOWN))} of")
    assert set(browser.js(SHOWN + ".map((row) => row.dataset.n)")) == {"0"}
    off = browser.js("return document.querySelectorAll('.choice:not([hidden]) .plot .dot.off').length")
    assert off > 0, "what is filtered out fades in the plot"
    choose(browser, "ranked", True)
    choose(browser, "q", "no such system")
    assert browser.js(SHOWN) == []
    assert browser.find("form.controls .none").is_displayed()
    assert {"kind=discrete", "band=0", "ranked=1"} <= set(browser.js(STATE)[1:].split("&"))
    click(browser, "form.controls [name=clear]")
    assert len(browser.js(SHOWN)) == everything
    assert browser.js(STATE) == ""
    show(browser, site / "index.html", "kind=codec&ranked=1&q=quality%2010")
    assert 0 < len(browser.js(SHOWN)) < everything
    assert browser.js("return document.querySelector('form.controls [name=kind]').value") == "codec"


def test_columns_and_the_metric_of_the_plot_are_chosen(site: Path, browser: Chromium) -> None:
    show(browser, site / "task" / "reconstruction.html")
    visible = "return [...document.querySelectorAll('th[data-c]')].filter((h) => !h.hidden).map((h) => h.dataset.c)"
    before = browser.js(visible)
    assert "psnr" in before
    assert "peak-memory" not in before, "costs wait in the chooser"
    code = """const box = document.querySelector(`input[name=c][value=${arguments[0]}]`);
    box.checked = !box.checked; box.dispatchEvent(new Event('input', { bubbles: true }));"""
    browser.js(code, "peak-memory")
    browser.js(code, "psnr")
    assert set(browser.js(visible)) == {*before, "peak-memory"} - {"psnr"}
    kept = browser.js("return location.hash.slice(1)")
    show(browser, site / "task" / "reconstruction.html", kept)
    assert set(browser.js(visible)) == {*before, "peak-memory"} - {"psnr"}
    show(browser, site / "index.html")
    drawn = "return [...document.querySelectorAll('figure.choice')].filter((f) => !f.hidden).map((f) => f.dataset.m)"
    assert browser.js(drawn) == ["psnr"]
    choose(browser, "m", "ssim")
    assert browser.js(drawn) == ["ssim"]
    assert browser.js("return document.querySelectorAll('.best-of .choice:not([hidden])').length") == 1


def test_up_to_eight_pins_have_colour_and_a_name(site: Path, browser: Chromium) -> None:
    from selenium.webdriver.common.keys import Keys

    show(browser, site / "index.html")
    browser.find("table.one tbody tr:nth-child(2) th a").send_keys("p")
    click(browser, "table.one tbody tr:nth-child(4) .pin")
    names = "return [...document.querySelectorAll('.choice:not([hidden]) .plot .name.mine')].map((n) => n.textContent)"
    assert len(browser.js(names)) == 2
    dots = "[...document.querySelectorAll('.choice:not([hidden]) .dot.pinned')]"
    colours = f"return {dots}.map((dot) => getComputedStyle(dot).fill)"
    grey = browser.js("return getComputedStyle(document.querySelector('.dot:not(.best):not(.pinned)')).fill")
    assert len(browser.js(colours)) == 2
    assert grey not in browser.js(colours)
    for row in range(5, 14):
        browser.find(f"table.one tbody tr:nth-child({row}) th a").send_keys("p")
    assert browser.js("return document.querySelectorAll('tr.pinned').length") == 8
    browser.find("table.one tbody tr:nth-child(13) th a").send_keys("p", Keys.TAB)
    assert browser.js("return document.querySelectorAll('tr.pinned').length") == 7


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_pages_fit_every_width(site: Path, browser: Chromium, width: int) -> None:
    for page in ("index.html", "task/reconstruction.html"):
        show(browser, site / page, width=width)
        assert browser.js("return document.documentElement.scrollWidth") <= width, page
        rows = browser.js(SHOWN + ".map((row) => row.getBoundingClientRect().height)")
        if width == 390:
            assert browser.js("return getComputedStyle(document.querySelector('tbody tr')).display") == "grid"
        else:
            assert max(rows) < 27, "one line a row"
            browser.js("document.querySelector('table.one tbody tr:last-child').scrollIntoView({ block: 'end' })")
            head = browser.js("return document.querySelector('table.one thead th').getBoundingClientRect().top")
            assert head > -1, "the head stays"
    if width == 1440:
        assert not browser.js("return document.querySelector('.scroll.wide').scrollWidth > 1440")


def test_nothing_is_fetched_and_no_policy_is_broken(site: Path, browser: Chromium) -> None:
    browser.complaints(), browser.requests()
    for page in ("index.html", "task/reconstruction.html", "task/generation.html"):
        show(browser, site / page)
        assert browser.js("return document.title") != "run", "markup in a title stays text"
        assert browser.complaints() == []
        assert {address.split(":")[0] for address in browser.requests()} <= {"file", "about"}


def test_all_of_it_is_there_without_scripts(site: Path, browser: Chromium) -> None:
    browser.scripts(False)
    try:
        browser.open(site / "task" / "reconstruction.html")
        heads = browser.driver.find_elements("css selector", "table.one thead th")
        assert len(heads) > 15
        assert all(head.is_displayed() for head in heads), "every column, costs too"
        assert not browser.find("form.controls").is_displayed()
        assert browser.find(".tasks a").is_displayed()
    finally:
        browser.scripts(True)


def test_print_is_light_and_cuts_nothing(site: Path, browser: Chromium) -> None:
    show(browser, site / "index.html", width=720)
    try:
        browser.media("print", dark=True)
        assert browser.js("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert browser.js("return document.querySelector('table.one').getBoundingClientRect().right") <= 720
        assert browser.find("table.one td > small").is_displayed(), "intervals in digits"
        assert not browser.find("form.controls").is_displayed()
    finally:
        browser.media()
