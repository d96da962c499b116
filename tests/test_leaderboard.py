"""The page: whole without a network or scripts, honest about what is missing, and safe against what runs may hold."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import made_runs
import numpy as np
import pytest
from made_runs import score
from PIL import Image

from vtbench import aggregate, leaderboard
from vtbench.leaderboard import gallery, plot, runpage, site, words
from vtbench.results import read_run
from vtbench.types.errors import VtbenchError

ROOT = Path(__file__).resolve().parents[1]
VOID = {"meta", "link", "img", "input", "br"}


class Reader(HTMLParser):
    """Elements with their attributes, the text, the ids; complains about tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def pages(folder: Path) -> dict[str, Reader]:
    return {p.relative_to(folder).as_posix(): Reader(p.read_text()) for p in sorted(folder.rglob("*.html"))}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of `made_runs.small_world` and their site: returns the folder of both."""
    root = tmp_path_factory.mktemp("world")
    made_runs.small_world(root / "runs")
    assert leaderboard.build([root / "runs"], root / "site") == (root / "site" / "index.html").resolve()
    return root


def row_of(page: str, title: str, table: str) -> str:
    """The markup of one row of the table whose accessible name is `table`."""
    inside = page.split(f'aria-label="{table}"', 1)[1].split("</table>", 1)[0]
    return next(r for r in inside.split("<tr")[1:] if f">{title}</a>" in r)


def test_every_link_and_picture_is_in_the_site_and_nothing_is_fetched(world: Path) -> None:
    folder = world / "site"
    read = pages(folder)
    ids = {name: [a["id"] for _, a in page.elements if a.get("id")] for name, page in read.items()}
    checked = 0
    for name, page in read.items():
        assert len(ids[name]) == len(set(ids[name])), f"{name} has an id twice"
        for tag, attributes in page.elements:
            for key in ("href", "src", "data-original"):
                target = attributes.get(key)
                if target is None:
                    continue
                if target.startswith("https://"):
                    assert tag == "a", f"{name} would fetch {target}"
                    continue
                path, _, fragment = target.partition("#")
                there = (folder / name).parent / path if path else folder / name
                assert there.resolve().is_file(), f"{name} points to {target}"
                inside = there.resolve().relative_to(folder.resolve()).as_posix()
                assert not fragment or fragment in ids[inside], f"{name} points to {target}"
                checked += 1
    assert checked > 300
    styles = (folder / "assets" / "page.css").read_text()
    assert "url(" not in styles
    assert "@import" not in styles


def test_torch_is_not_needed_to_build(world: Path, tmp_path: Path) -> None:
    told = (
        "import sys\nfrom pathlib import Path\nfrom vtbench import leaderboard\n"
        f"leaderboard.build([Path({str(world / 'runs' / 'limited')!r})], Path({str(tmp_path / 's')!r}))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


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
    found = re.search(r'—<sup><a href="#([^"]+)"', row)
    assert found
    assert re.search(rf'<li id="{re.escape(found[1])}">the model failed</li>', page)
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


def test_run_pages_say_where_the_numbers_came_from(world: Path) -> None:
    info = json.loads((world / "runs" / "taef2-None" / "run.json").read_text())
    page = Reader((world / "site" / "runs" / f"taef2-{info['id'][:12]}.html").read_text())
    titles = {a.get("title") for _, a in page.elements}
    assert {info["id"], info["suite"]["hash"], info["provenance"]["git"]} <= titles
    assert "cd" * 32 in page.words
    assert "torch" in page.words
    assert "vtbench evaluate taef2" in page.words


def test_command_survives_a_shell(tmp_path: Path) -> None:
    made_runs.write(tmp_path / "a", name="my file.py@x", options={"budget": 64, "mode": "a b; rm -rf $HOME"}, limit=3)
    line = runpage.command(read_run(tmp_path / "a"))
    assert shlex.split(line)[:7] == [
        "vtbench", "evaluate", "my file.py@x", "--option", "budget=64", "--option", "mode=a b; rm -rf $HOME",
    ]  # fmt: skip
    assert shlex.split(line)[-2:] == ["--limit", "3"]


def test_claims_stand_beside_measured_values_only_under_one_protocol(tmp_path: Path) -> None:
    folder = made_runs.write(tmp_path / "a", scores=[score("psnr", 31.25)])
    info = json.loads((folder / "run.json").read_text())
    info["model"]["card"]["published"] = [
        {"metric": "psnr", "value": 30.0, "source": "A table", "protocol": "vtbench"},
        {"metric": "psnr", "value": 29.0, "source": "https://example.org/t", "protocol": "magvit2"},
        {"metric": "psnr", "value": 28.0, "source": "javascript:alert(1)", "protocol": None},
    ]
    (folder / "run.json").write_text(json.dumps(info))
    run = read_run(folder)
    label = site.tables.labels([run], {run.info["id"]: "x.html"})
    claims = runpage.facts(run, label[run.info["id"]], [], label)["claims"]
    assert [c["measured"] for c in claims] == ["31.25", "—", "—"]
    assert [c["url"] for c in claims] == [None, "https://example.org/t", None]


EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """Everything that a run may hold as text, in every place; the page's own script is the only one."""
    item = EVIL + ".png"
    made_runs.picture(tmp_path / "r" / "samples" / "0.reference.png")
    made_runs.picture(tmp_path / "r" / "samples" / "0.candidate.png", noise=9)
    folder = made_runs.write(
        tmp_path / "r",
        name=EVIL,
        title=EVIL,
        family=EVIL,
        kind=EVIL,
        task=EVIL,
        suite=EVIL,
        view=EVIL,
        options={EVIL: EVIL},
        knob=EVIL,
        ranked=False,
        why_not_ranked=EVIL,
        items=[item, "b.png"],
        values={"psnr": [30.0, None]},
        samples=[{"item": item, "reference": "0.reference.png", "candidate": "0.candidate.png"}],
        scores=[
            score("psnr", 30.0, warning=EVIL, details={EVIL: EVIL, "missing": {EVIL: 1}}, missing=1),
            score("ssim", None, why=EVIL),
            score("bpp", 1.0),
        ],
        weights={"status": EVIL, "why": EVIL, "files": [{"file": EVIL, "sha256": EVIL}]},
        extra={"vtbench": EVIL, "device": {"kind": EVIL}, "command": EVIL, "service": {EVIL: EVIL}},
    )
    info = json.loads((folder / "run.json").read_text())
    info["id"] = "../../" + EVIL
    info["model"]["card"].update(paper="javascript:alert(1)", code="data:text/html,x", licence=EVIL, note=EVIL)
    info["metrics"]["psnr"].update(title=EVIL, unit=EVIL, source=EVIL, convention_of=None)
    info["metrics"]["ssim"].update(convention_of=EVIL, better=EVIL)
    (folder / "run.json").write_text(json.dumps(info))
    leaderboard.build([folder], tmp_path / "site")
    for name, page in pages(tmp_path / "site").items():
        assert [a.get("src") for t, a in page.elements if t == "script"] == [
            f"{'../' * name.count('/')}assets/page.js"
        ], name
        for tag, attributes in page.elements:
            assert not any(key.startswith("on") for key in attributes), (name, tag, attributes)
            assert not (attributes.get("href") or "").startswith(("javascript:", "data:")), name
            assert attributes.get("src") != "x", name
        assert "<script>alert(1)" in page.words or name == "gallery.html", f"{name} does not show the name at all"
    written = [p.resolve() for p in (tmp_path / "site").rglob("*") if p.is_file()]
    assert all(p.is_relative_to((tmp_path / "site").resolve()) for p in written)
    assert all(re.fullmatch(r"[A-Za-z0-9_.\-]+", p.name) for p in written)


def test_formulas_do_not_reach_a_spreadsheet(tmp_path: Path) -> None:
    made_runs.write(tmp_path / "r", name="=HYPERLINK(1)", scores=[score("psnr", -3.5)])
    leaderboard.build([tmp_path / "r"], tmp_path / "site")
    line = (tmp_path / "site" / "data" / "scores.csv").read_text().splitlines()[1]
    assert ",'=HYPERLINK(1)," in line
    assert ",-3.5," in line


def test_only_pictures_of_the_sample_folder_are_copied(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    made_runs.picture(secret, seed=5)
    folder = tmp_path / "runs" / "r"
    made_runs.picture(folder / "samples" / "ok.reference.png")
    made_runs.picture(folder / "samples" / "ok.candidate.png", noise=5)
    (folder / "samples" / "notes.png").write_text("no picture")
    os.symlink(secret, folder / "samples" / "link.png")
    tries = ["../../../secret.png", str(secret), "link.png", "notes.png", "absent.png", "", ".", "..", "a/../link.png"]
    entries: list[Any] = [
        {"item": f"t{i}", "reference": "ok.reference.png", "candidate": t} for i, t in enumerate(tries)
    ]
    entries += [{"item": "ok", "reference": "ok.reference.png", "candidate": "ok.candidate.png"}, "text", None]
    made_runs.write(folder, scores=[score("psnr", 30.0)], samples=entries)
    assert [s.item for s in gallery.samples(read_run(folder))] == ["ok"]
    leaderboard.build([tmp_path / "runs"], tmp_path / "site")
    copied = [p.read_bytes() for p in (tmp_path / "site" / "images").iterdir()]
    assert secret.read_bytes() not in copied
    assert (folder / "samples" / "ok.candidate.png").read_bytes() in copied


def test_the_same_runs_give_the_same_bytes_wherever_they_lie(tmp_path: Path) -> None:
    for root, names in (("one", ("a", "b", "c")), ("two", ("c", "b", "a"))):
        for place, name in enumerate(names):
            folder = tmp_path / root / str(place)
            made_runs.picture(folder / "samples" / "r.png", seed=1)
            made_runs.picture(folder / "samples" / "c.png", seed=1, noise=ord(name) - 90)
            made_runs.write(
                folder, name=name, values={"psnr": made_runs_values(name)},
                scores=[score("psnr", 30.0), score("bpp", 1.0)],
                samples=[{"item": "000.png", "reference": "r.png", "candidate": "c.png"}],
            )  # fmt: skip
        leaderboard.build([tmp_path / root], tmp_path / f"site-{root}")
    one, two = (
        {p.relative_to(s).as_posix(): p.read_bytes() for p in s.rglob("*") if p.is_file()}
        for s in (tmp_path / "site-one", tmp_path / "site-two")
    )
    assert one == two
    assert len([n for n in one if n.startswith("images/")]) == 8, "one original and three candidates, each with a crop"


def made_runs_values(name: str) -> list[float]:
    return [30.0 + 0.1 * i * (ord(name) - 97) for i in range(6)]


def test_a_folder_that_is_no_site_is_left_alone(tmp_path: Path) -> None:
    made_runs.write(tmp_path / "r", scores=[score("psnr", 30.0)])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(VtbenchError, match=r"is not a page of vtbench"):
        leaderboard.build([tmp_path / "r"], tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(VtbenchError, match="is a file"):
        leaderboard.build([tmp_path / "r"], tmp_path / "file")
    with pytest.raises(VtbenchError, match="is not a page"):
        leaderboard.build([tmp_path / "r"], tmp_path / "r")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine", "r"]


def test_a_site_is_replaced_whole_and_survives_a_failed_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_runs.write(tmp_path / "r1", name="old-one", scores=[score("psnr", 30.0)])
    made_runs.write(tmp_path / "r2", name="new-one", scores=[score("psnr", 31.0)])
    (tmp_path / "site").mkdir()
    leaderboard.build([tmp_path / "r1"], tmp_path / "site")
    before = sorted(p.name for p in (tmp_path / "site" / "runs").iterdir())
    real = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if self.name.startswith(".site.new-"):
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(VtbenchError, match="disk is full"):
        leaderboard.build([tmp_path / "r2"], tmp_path / "site")
    monkeypatch.undo()
    assert sorted(p.name for p in (tmp_path / "site" / "runs").iterdir()) == before
    leaderboard.build([tmp_path / "r2"], tmp_path / "site")
    after = [p.name for p in (tmp_path / "site" / "runs").iterdir()]
    assert len(after) == 1
    assert after[0].startswith("new-one-")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r1", "r2", "site"], "nothing temporary stays"


def test_plot_is_valid_svg_with_points_where_arithmetic_puts_them(tmp_path: Path) -> None:
    """On a log axis equal ratios are equal distances; on the linear one equal differences are."""
    for i, (bpp, psnr) in enumerate(((0.25, 20.0), (0.5, 25.0), (1.0, 30.0))):
        made_runs.write(
            tmp_path / str(i), options={"quality": i}, knob="quality",
            scores=[score("psnr", psnr), score("bpp", bpp)],
        )  # fmt: skip
    found = aggregate.curves(aggregate.read([tmp_path]))
    drawn = plot.rd_plot(
        found, plot.styles(found), ident="p", title="T", y_title="PSNR (dB)", better="higher", labels={}, hrefs={}
    )
    tree = ET.fromstring(str(drawn))
    dots = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in tree.iter("circle")]
    assert len(dots) == 3
    assert dots[1][0] - dots[0][0] == pytest.approx(dots[2][0] - dots[1][0], abs=0.11)  # one decimal is printed
    assert dots[0][1] - dots[1][1] == pytest.approx(dots[1][1] - dots[2][1], abs=0.11)
    assert dots[0][0] < dots[2][0]
    assert dots[0][1] > dots[2][1]
    texts = [t.text for t in tree.iter("text")]
    assert "bits per pixel (log scale)" in texts
    assert "PSNR (dB)" in texts
    assert {"0.2", "0.5", "1"} <= set(texts)
    ticks = {t.text: float(t.get("x", "")) for t in tree.iter("text") if t.get("class") == "tick"}
    at = ticks["0.5"] + (dots[2][0] - dots[1][0]) * math.log2(1.0 / 0.5)
    assert at == pytest.approx(ticks["1"], abs=0.2)
    assert ticks["0.5"] == pytest.approx(dots[1][0], abs=0.11)


def test_axis_does_not_run_past_what_a_metric_can_be(tmp_path: Path) -> None:
    for i, (bpp, ssim) in enumerate(((0.25, 0.61), (0.5, 0.8), (1.0, 0.999))):
        made_runs.write(tmp_path / str(i), name=f"m{i}", scores=[score("ssim", ssim), score("bpp", bpp)])
    found = aggregate.curves(aggregate.read([tmp_path]), "ssim")
    common = dict(ident="p", title="T", y_title="y", better="higher", labels={}, hrefs={})
    for bounds, top in (((None, None), 1.1), ((-1.0, 1.0), 1.0)):
        tree = ET.fromstring(str(plot.rd_plot(found, plot.styles(found), bounds=bounds, **common)))
        ticks = [t for t in tree.iter("text") if t.get("class") == "tick" and t.get("text-anchor") == "end"]
        assert max(float(t.text or "") for t in ticks) == pytest.approx(top)


def test_pale_points_are_not_on_the_front(tmp_path: Path) -> None:
    for name, bpp, psnr in (("a", 0.5, 25.0), ("b", 1.0, 30.0), ("c", 2.0, 35.0), ("cheat", 0.1, 50.0)):
        made_runs.write(tmp_path / name, name=name, scores=[score("psnr", psnr), score("bpp", bpp)])
    runs = aggregate.read([tmp_path])
    cheat = next(r.info["id"] for r in runs if r.name == "cheat")
    found = aggregate.curves(runs)
    common = dict(ident="p", title="T", y_title="y", better="higher", labels={}, hrefs={})
    front = re.search(
        r'class="front" d="M([^"]+)"', str(plot.rd_plot(found, plot.styles(found), faded={cheat}, **common))
    )
    assert front
    assert len(front[1].split("L")) == 3
    alone = re.search(r'class="front" d="M([^"]+)"', str(plot.rd_plot(found, plot.styles(found), **common)))
    assert alone
    assert len(alone[1].split("L")) == 1


def test_the_crop_is_where_the_systems_fail() -> None:
    reference = np.full((128, 256, 3), 100, np.uint8)
    broken = reference.copy()
    broken[80:96, 200:216] = 255
    box = gallery.worst_box(Image.fromarray(reference), [Image.fromarray(broken), Image.fromarray(reference)])
    assert box is not None
    left, top, side = box
    assert left <= 200
    assert left + side >= 216
    assert top <= 80
    assert top + side >= 96
    assert gallery.worst_box(Image.fromarray(reference), [Image.fromarray(reference)]) is None


def test_numbers_read_well() -> None:
    assert words.number(31.254, 2) == "31.25"
    assert words.number(None) == "—"
    assert words.number(-0.5, 1) == "−0.5"
    assert words.number(16384.0, 0) == "16\u202f384"
    assert words.number(0.00001, 4) == "1.0e−05", "a small number is not rounded to zero"
    assert words.number(1.2e-17, 4) == "0.0000", "what rounding leaves of a zero is a zero"
    assert words.decimals([0.93, 0.5]) == 4
    assert words.decimals([38.2, 9.5]) == 2
    assert words.decimals([256.0], "tokens") == 0


def test_ticks_are_round_and_cover_the_data() -> None:
    assert plot.linear_ticks(18.6, 38.9, 6) == [15, 20, 25, 30, 35, 40]
    assert plot.log_ticks(0.09, 5.1) == pytest.approx([0.1, 0.2, 0.5, 1, 2, 5])
    assert plot.linear_ticks(3.0, 3.0)[0] < 3.0 < plot.linear_ticks(3.0, 3.0)[-1]


def test_when_nothing_is_ranked_the_reason_is_said_once(tmp_path: Path) -> None:
    why = "the core, a task or a metric differs from the release"
    for i, extra in enumerate(("", "limited to 2 of 6 images; ")):
        made_runs.write(
            tmp_path / f"r{i}", name=f"m{i}", ranked=False, why_not_ranked=extra + why, limit=2 if extra else None,
            scores=[score("psnr", 30.0 + i), score("bpp", 1.0)],
        )  # fmt: skip
    leaderboard.build([tmp_path], tmp_path / "site")
    page = (tmp_path / "site" / "index.html").read_text()
    assert page.count(why) == 1
    assert "None of these runs is ranked" in page
    assert "limited to 2 of 6 images" in row_of(page, "M1", "Reconstruction: Codecs")
    assert not re.search(r'class="rank"[^>]*>\d', page)


def test_labels_tell_twins_apart(tmp_path: Path) -> None:
    for i, seed in enumerate((0, 7)):
        made_runs.write(tmp_path / str(i), seed=seed, scores=[score("psnr", 30.0)])
    runs = aggregate.read([tmp_path])
    told = {label.full for label in site.tables.labels(runs, {}).values()}
    assert len(told) == 2
    assert any("seed 7" in t for t in told)


def test_generators_have_quality_against_cost(tmp_path: Path) -> None:
    """A run without a rate is drawn against what an image takes; the page's first plot stays rate and distortion."""
    for i, seconds in enumerate((0.5, 2.0, 8.0)):
        cost = {"metric": "image-seconds-p50", "value": seconds, "unit": "s/image", "better": "lower"}
        made_runs.write(
            tmp_path / f"r{i}", name="drawer", kind="generator", options={"steps": i}, task="generation",
            scores=[score("rfid", 9.0 - i), {**score("psnr", 1.0), **cost}],
        )  # fmt: skip
    leaderboard.build([tmp_path], tmp_path / "site")
    page = (tmp_path / "site" / "index.html").read_text()
    assert "rFID against time to image" in page
    assert "time to image, s/image (log)" in page
    assert "nothing gives more for less" in page
    assert "Rate and distortion" not in page
    assert "against network evaluations" not in page
    # Nor is there a column of dashes for a rate that a drawn image cannot have.
    assert "bit/px</span>" not in page


@pytest.mark.parametrize(
    ("status", "asked"), [("official", False), ("own", True), ("unverified", True), ("none", False)]
)
def test_command_asks_for_a_file_that_only_the_user_has(status: str, asked: bool, tmp_path: Path) -> None:
    weights = {"status": status, "files": [{"file": "model.safetensors", "sha256": "ab" * 32}]}
    made_runs.write(tmp_path / "a", weights=weights)
    assert ("--checkpoint" in runpage.command(read_run(tmp_path / "a"))) is asked
