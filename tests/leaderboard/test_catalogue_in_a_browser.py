"""published.html in a real Chromium: filters, the address that keeps them, no script at all, print to A4."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Chromium, chromium

from vtbench import leaderboard

SHOWN = "return [...document.querySelectorAll('#cards tr[id]')].filter((row) => row.offsetHeight).length"
READY = "return document.readyState === 'complete' && !document.querySelector('#catalogue').hidden"
CUT = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as session:
        yield session


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalogue") / "site"
    leaderboard.build([], folder)
    return folder / "published.html"


def shown(browser: Chromium, page: Path, state: str = "") -> int:
    """How many models stand there once the filters of an address are read."""
    browser.open(page, state)
    browser.wait(READY)
    return int(browser.js(SHOWN))


def test_filters_and_the_address_that_keeps_them(browser: Chromium, page: Path) -> None:
    everything = shown(browser, page)
    assert everything > 300
    browser.find("#catalogue [name=find]").send_keys("RQVAE")
    assert browser.wait("return document.querySelector('.shown').textContent.startsWith('6 of ')")
    assert browser.js("return location.hash") == "#find=RQVAE"
    assert (
        browser.js("return [...document.querySelectorAll('#claims tbody')].filter((b) => b.offsetHeight).length") == 0
    )
    assert shown(browser, page, "find=show-o") == 0
    assert "9.26" in browser.find("#elsewhere ~ .scroll tbody").text
    assert shown(browser, page, "find=titok&disputed=1") == 1
    assert shown(browser, page, "kind=generator&find=nothing-like-this") == 0
    assert browser.js("return document.querySelector('.nothing').offsetHeight") > 0
    assert shown(browser, page, "kind=no-such-kind") == everything
    assert browser.complaints() == []
    assert not [address for address in browser.requests() if address.startswith("http")]


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_wider_than_the_window(browser: Chromium, page: Path, width: int) -> None:
    browser.open(page, width=width)
    assert browser.js(CUT) <= 0


def test_without_scripts_all_of_it_is_there(browser: Chromium, page: Path) -> None:
    browser.scripts(False)
    try:
        browser.open(page)
        assert not browser.find("#catalogue").is_displayed()
        assert browser.find("#cards tbody:last-of-type tr:last-of-type").is_displayed()
    finally:
        browser.scripts(True)


def test_print_cuts_nothing(browser: Chromium, page: Path) -> None:
    browser.open(page, width=703)  # A4 less its margins, in CSS pixels
    browser.media("print", dark=True)
    try:
        wide = "return [...document.querySelectorAll('table')].filter((t) => t.scrollWidth > innerWidth).length"
        assert browser.js(wide) == 0
        assert browser.js("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    finally:
        browser.media()


def test_axe_finds_nothing_serious(browser: Chromium, page: Path) -> None:
    from axe_core_python.selenium import Axe

    assert shown(browser, page, "find=dc-ae") > 1
    # What is hidden takes it minutes and shows it nothing.
    browser.js("for (const hidden of document.querySelectorAll('tr[hidden], tbody[hidden]')) hidden.remove()")
    answer = Axe().run(browser.driver, options={"resultTypes": ["violations"]})
    serious = [v for v in answer["violations"] if v["impact"] in ("serious", "critical")]
    assert [(v["id"], [node["html"][:200] for node in v["nodes"]]) for v in serious] == []
