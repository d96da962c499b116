"""The pages in a real Chromium, from disk: one session and one site for all of these tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pages_of_a_lab
import pytest
from chromium import Chromium, chromium

from vtbench import leaderboard
from vtbench.leaderboard.addresses import system_key
from vtbench.reporting.compare import compare
from vtbench.reporting.reading import read_runs
from vtbench.results.record import Run, read_run

WIDTHS = (390, 820, 1440)
A4 = 718
"""Pixels of A4's width within Chromium's margins of a centimetre, at 96 an inch."""
OVERFLOW = """
const over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
return over > 0 ? over + " px too wide" : "";
"""
CUT = """
// What a printed sheet would cut: boxes that scroll, or hide what is in them, and text beside the sheet.
const wide = document.documentElement.clientWidth + 1, out = [];
for (const box of document.querySelectorAll("main *")) {
  const style = getComputedStyle(box), place = box.getBoundingClientRect();
  if (!place.width || !place.height || box.closest(".vh, svg") || !box.checkVisibility()) continue;
  const hides = ["hidden", "auto", "scroll", "clip"].includes(style.overflowX);
  if (hides && box.scrollWidth > box.clientWidth + 1) out.push("scrolls: " + box.tagName + "." + box.className);
  if (place.right > wide && !box.children.length) out.push("beside the sheet: " + box.tagName + " " + box.innerText);
}
return [...new Set(out)];
"""
PALE = """
const [red, green, blue] = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number);
const ink = getComputedStyle(document.body).color.match(/\\d+/g).map(Number);
return red + green + blue > 700 && ink[0] + ink[1] + ink[2] < 200;
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as session:
        yield session


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs and of their site."""
    root = tmp_path_factory.mktemp("lab")
    pages_of_a_lab.write(root / "runs")
    leaderboard.build([root / "runs"], root / "site")
    return root


def run_of(lab: Path, name: str) -> Run:
    return read_run(lab / "runs" / name)


def gallery(lab: Path, suite: str) -> Path:
    (page,) = (lab / "site" / "gallery").glob(f"{suite}*.html")
    return page


def every_page(lab: Path) -> list[Path]:
    return sorted((lab / "site").rglob("*.html"))


def test_every_page_fits_every_width_and_asks_for_nothing_elsewhere(browser: Chromium, lab: Path) -> None:
    """With markup in every name and a name of 300 characters among the systems; in dark mode too."""
    for question in (browser.complaints, browser.requests):
        question()
    wrong = []
    for page in every_page(lab):
        for width in WIDTHS:
            browser.media(dark=width == 820)
            if width == WIDTHS[0]:
                browser.open(page, width=width)
            browser.resize(width)
            too_wide = browser.js(OVERFLOW)
            if too_wide:
                wrong.append(f"{page.name} at {width}: {too_wide}")
        injected = browser.js("return document.querySelectorAll('main script, img[src=x], [onerror]').length")
        assert injected == 0, page
    assert not wrong, "\n".join(wrong)
    assert browser.complaints() == []
    asked = browser.requests()
    assert len(asked) > 3 * len(every_page(lab))
    # What lies in the address itself is asked of nobody; Chromium's own new tab has such a picture.
    assert [a for a in asked if not a.startswith(((lab / "site").as_uri() + "/", "about:", "data:"))] == []
    browser.media()


@pytest.mark.parametrize("page", ["index.html", "model/jpeg.html", "compare.html", "data.html", "gallery"])
def test_axe_finds_nothing_serious(page: str, browser: Chromium, lab: Path) -> None:
    from axe_core_python.selenium import Axe

    path = gallery(lab, "starter-text") if page == "gallery" else lab / "site" / page
    a, b = system_key(run_of(lab, "jpeg-10")), system_key(run_of(lab, "jpeg-90"))
    browser.open(path, f"a={a}&b={b}" if page == "compare.html" else "")
    if page == "compare.html":
        browser.wait("return document.querySelectorAll('#results table').length")
    browser.driver.set_script_timeout(60)
    found = Axe().run(browser.driver, options={"resultTypes": ["violations"]})
    serious = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
    assert [(v["id"], [node["html"][:200] for node in v["nodes"]]) for v in serious] == []


def test_a_table_sorts_and_filters_and_the_address_keeps_it(browser: Chromium, lab: Path) -> None:
    browser.open(lab / "site" / "index.html")
    shown = "return [...document.querySelectorAll('tbody tr:not([hidden]) th a')].map(a => a.getAttribute('href'))"
    assert len(browser.js(shown)) == 5
    browser.js("document.querySelector('th[data-c=psnr] .sort').click()")
    places = browser.js("return document.querySelector('th[data-c=psnr]').getAttribute('aria-sort')")
    assert places == "descending", "the first click sorts best first"
    values = browser.js(
        "const at = document.querySelector('th[data-c=psnr]').cellIndex;"
        "return [...document.querySelectorAll('tbody tr')].map(row => parseFloat(row.cells[at].dataset.v))"
    )
    assert values == sorted(values, reverse=True)
    browser.find("input[type=search]").send_keys("jpeg")
    assert len(browser.js(shown)) == 3
    assert "3 of 5" in browser.find("form.controls output").text
    address = browser.driver.current_url
    browser.driver.get("about:blank")
    browser.driver.get(address)
    assert len(browser.js(shown)) == 3
    assert browser.js("return document.querySelector('th[data-c=psnr]').getAttribute('aria-sort')") == "descending"
    browser.find("input[type=search]").send_keys("nothing is called so")
    assert browser.js(shown) == []
    assert browser.find("form.controls .none").is_displayed()


def test_the_slider_moves_by_keyboard_and_the_crop_follows(browser: Chromium, lab: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(gallery(lab, "starter-natural"))
    browser.wait("return !document.getElementById('viewer').hidden")
    part = "return document.querySelector('[data-part=%s]')"
    before = browser.js(part % "right" + ".style.clipPath")
    browser.find("[data-part=divide]").send_keys(Keys.ARROW_RIGHT)
    after = browser.js(part % "right" + ".style.clipPath")
    assert (before, after) == ("inset(0px 0px 0px 50%)", "inset(0px 0px 0px 51%)")
    at = browser.js(part % "at" + ".textContent")
    browser.find("[data-part=stage]").send_keys(Keys.ARROW_RIGHT)
    moved = browser.js(part % "at" + ".textContent")
    x, y = (int(v) for v in at.strip("()").split(", "))
    assert moved == f"({min(x + 8, 160)}, {y})"
    # Whole multiples of the picture's own pixels, never smoothed.
    for name in ("right-picture", "crop-left > img"):
        selector = f"[data-part={name.partition(' ')[0]}]{name.partition(' ')[1]}{name.partition(' ')[2]}"
        facts = browser.js(
            "const image = document.querySelector(arguments[0]); return [image.getBoundingClientRect().width /"
            " image.naturalWidth, getComputedStyle(image).imageRendering]",
            selector,
        )
        assert facts[0] in (1, 2, 4)
        assert facts[1] == "pixelated"
    browser.js(
        "const s = document.querySelector('[data-part=mode]'); s.value = 'errors'; s.dispatchEvent(new Event('input'))"
    )
    blend = "return getComputedStyle(document.querySelector('[data-part=left-picture]')).mixBlendMode"
    assert browser.js(blend) == "difference"
    state = browser.js("return location.hash")
    assert "left=" in state
    assert "right=" in state


def test_text_crops_show_what_was_read(browser: Chromium, lab: Path) -> None:
    browser.open(gallery(lab, "starter-text"))
    browser.wait("return !document.querySelector('[data-part=readings]').hidden")
    cells = browser.js(
        "return [...document.querySelectorAll('[data-part=lines] tr:first-child td')].map(c => c.innerText)"
    )
    assert cells == [
        pages_of_a_lab.READ,
        f"{pages_of_a_lab.READ[:2]}\n2 of 18 characters",
        f"{pages_of_a_lab.READ[:18]}\n18 of 18 characters",
    ]
    numbers = browser.find("[data-part=numbers]").text
    assert "Character error rate" in numbers


@pytest.mark.parametrize("metric", ["PSNR", "SSIM", "Bits per pixel"])
def test_a_comparison_in_the_page_is_that_of_the_library(metric: str, browser: Chromium, lab: Path) -> None:
    one, two = run_of(lab, "jpeg-90"), run_of(lab, "long")
    browser.open(lab / "site" / "compare.html", f"a={system_key(one)}&b={system_key(two)}")
    browser.wait("return document.querySelectorAll('#results table').length")
    browser.complaints()
    line = browser.js(
        "const values = name => vtbenchData[name].runs;"
        "const of = key => Object.values(vtbenchData).flatMap(d => d.runs || []).find(r => r.system === key);"
        "const [one, two] = [of(arguments[0]), of(arguments[1])];"
        "const pick = run => ({...run, metric: run.metrics.find(m => m.title === arguments[2])});"
        "return pairedDifference(pick(one), pick(two))",
        system_key(one),
        system_key(two),
        metric,
    )
    (told,) = (
        d for d in compare([one, two]).differences if d.metric == {"PSNR": "psnr", "SSIM": "ssim"}.get(metric, "bpp")
    )
    assert line["difference"] == pytest.approx(told.difference, rel=1e-9)
    assert line["interval"] == pytest.approx([told.low, told.high], rel=1e-6)
    assert (line["wins"], line["losses"], line["ties"]) == (told.wins, told.losses, told.ties)
    assert [image["item"] for image in line["images"]][:3] == [example.item for example in told.examples][:3]
    assert browser.find("#results table").text.startswith("Metric")


def test_names_of_markup_are_compared_as_text(browser: Chromium, lab: Path) -> None:
    one, two = run_of(lab, "evil"), run_of(lab, "long")
    browser.complaints()
    browser.open(lab / "site" / "compare.html", f"a={system_key(one)}&b={system_key(two)}")
    browser.wait("return document.querySelectorAll('#results table').length")
    chosen = browser.js("return document.getElementById('a').selectedOptions[0].textContent")
    assert chosen.startswith('"><script>')
    assert browser.js("return document.querySelectorAll('main script, img[src=x]').length") == 0
    assert browser.js("return document.title").startswith('"><script>')
    # An address that somebody made up names no file, and is said to be wrong.
    browser.open(lab / "site" / "compare.html", "a=../../../etc/passwd&b=%3Cimg%20src=x%3E")
    browser.wait("return !document.getElementById('trouble').hidden")
    assert "not here" in browser.find("#trouble").text
    assert [c for c in browser.complaints() if "SEVERE" in c] == []
    assert not [a for a in browser.requests() if "passwd" in a.partition("#")[0]]


def test_images_that_differ_most_open_in_the_slider(browser: Chromium, lab: Path) -> None:
    one, two = run_of(lab, "jpeg-10"), run_of(lab, "jpeg-90")
    browser.open(lab / "site" / "compare.html", f"a={system_key(one)}&b={system_key(two)}")
    browser.wait("return document.querySelector('.most button')")
    browser.js("document.querySelector('.most button').click()")
    assert browser.find("#viewer").is_displayed()
    assert "quality 90" in browser.find("[data-part=right-name]").text
    browser.js("document.querySelector('#swap').click()")
    browser.wait("return location.hash.startsWith('#a=" + system_key(two) + "')")


def test_a_run_is_found_by_its_address_and_its_records_are_there(browser: Chromium, lab: Path) -> None:
    run = run_of(lab, "jpeg-50")
    browser.open(lab / "site" / "model" / "jpeg.html", f"r-{run.info.id[:12]}")
    assert browser.js("return document.getElementById(arguments[0]).closest('details').open", f"r-{run.info.id[:12]}")
    href = browser.js(
        "return document.getElementById(arguments[0]).querySelector('a[download$=\"run.json\"]').href",
        f"r-{run.info.id[:12]}",
    )
    path = lab / "site" / href.removeprefix((lab / "site").as_uri() + "/")
    assert path.read_bytes() == (run.path / "run.json").read_bytes()
    browser.open(lab / "site" / "data.html")
    browser.js("document.querySelector('a[href$=\"scores.csv\"]').click()")
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser.driver, 10, 0.1).until(lambda _: (browser.downloads / "scores.csv").is_file())
    assert (browser.downloads / "scores.csv").read_bytes() == (lab / "site" / "data" / "scores.csv").read_bytes()


@pytest.mark.parametrize(
    "page", ["index.html", "model/jpeg.html", "compare.html", "gallery", "data.html", "methods.html"]
)
def test_paper_is_light_and_nothing_is_cut(page: str, browser: Chromium, lab: Path) -> None:
    path = gallery(lab, "starter-text") if page == "gallery" else lab / "site" / page
    browser.open(path, width=A4)
    browser.media("print", dark=True)
    try:
        assert browser.js(CUT) == []
        assert browser.js(PALE), "paper is white, whatever the screen is"
    finally:
        browser.media()


def test_a_folded_run_is_printed_whole(browser: Chromium, lab: Path) -> None:
    browser.open(lab / "site" / "model" / "jpeg.html", width=A4)
    folded = "return [...document.querySelectorAll('.of-run')].filter(run => !run.checkVisibility()).length"
    assert browser.js(folded) > 0
    browser.media("print")
    assert browser.js(folded) == 0
    assert len(browser.pdf()) > 20_000
    browser.media()


def test_without_scripts_everything_is_there_to_read(browser: Chromium, lab: Path) -> None:
    browser.scripts(False)
    try:
        browser.open(lab / "site" / "compare.html")
        words = browser.find("main").text
        assert "Neighbours on the front" in words
        assert "+" in words
        assert not browser.find("#choice").is_displayed()
        assert not browser.find("#viewer").is_displayed()
        browser.open(gallery(lab, "starter-text"))
        assert len(browser.driver.find_elements("css selector", "section.picture figure img")) == 8
        assert not browser.find("#choice").is_displayed()
        browser.open(lab / "site" / "index.html")
        assert "JPEG" in browser.find("table").text
    finally:
        browser.scripts(True)


@pytest.mark.parametrize("count", [0, 1])
def test_no_run_and_one_run(count: int, browser: Chromium, lab: Path, tmp_path: Path) -> None:
    runs = [lab / "runs" / "jpeg-10"][:count]
    leaderboard.build(runs, tmp_path / "site")
    browser.complaints()
    for name in ("index.html", "data.html", "methods.html", *(["compare.html", "model/jpeg.html"] * count)):
        browser.open(tmp_path / "site" / name)
        assert browser.js(OVERFLOW) == ""
    assert browser.complaints() == []
    assert len(read_runs(runs) if runs else []) == count
    assert json.loads((tmp_path / "site" / "vtbench-site.json").read_text())["runs"] == [
        read_run(run).info.id for run in runs
    ]
