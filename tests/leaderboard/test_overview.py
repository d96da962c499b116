"""The overview keeps suites apart; lossless is the best; what a generator's pictures are worth is no cost."""

from __future__ import annotations

import re
from pathlib import Path

import made_runs
import pytest
from made_runs import score
from site_pages import data_of, row_of

from vtbench import leaderboard
from vtbench.reporting.measured import is_cost
from vtbench.reporting.reading import read_runs


def cells(row: str) -> list[str]:
    return re.findall(r"<td.*?</td>", row, re.DOTALL)


def test_a_rate_stands_in_the_cell_of_its_own_suite(tmp_path: Path) -> None:
    """PNG spends 10.04 bit/px on photographs and 0.84 on pages of text, where its character error rate was measured."""
    for name, photo, page_bits in (("png", 10.04, 0.84), ("webp", 12.5, 0.7)):
        common = {"name": name, "title": name.upper()}
        scores = [score("psnr", None, n=0, missing=6, why="lossless", details={"n_lossless": 6}), score("bpp", photo)]
        made_runs.write(tmp_path / f"{name}-photo", **common, scores=[*scores, score("ssim", 1.0)])
        text = [score("cer", 0.08), score("bpp", page_bits)]
        made_runs.write(tmp_path / f"{name}-text", **common, task="text", suite="starter-text", scores=text)
    page = leaderboard.build([tmp_path], tmp_path / "site").read_text()
    table = page.split('aria-label="At a glance: Codecs"', 1)[1].split("</table>", 1)[0]
    assert "bit/px</span>" not in table, "no column of rates for all suites together"
    rows = cells(row_of(page, "PNG", "At a glance: Codecs"))
    with_rate = {cell: re.findall(r"<small>([\d.]+) bit/px", cell) for cell in rows}
    of_text = [rates for cell, rates in with_rate.items() if "0.08" in cell]
    of_photos = [rates for cell, rates in with_rate.items() if "lossless" in cell or "1.000" in cell]
    assert of_text == [["0.840"]]
    assert of_photos
    assert all(rates == ["10.040"] for rates in of_photos)
    assert not re.search(r'class="rank"[^>]*>\s*\d', table), "a place belongs to one suite"
    # The place of the text's suite: WebP spends less, PNG stands beside it in its band.
    titles = [cell for cell in rows if "0.08" in cell]
    assert "of 2 at 0.5–1 bit/px" in titles[0]


def test_lossless_sorts_as_the_best(tmp_path: Path) -> None:
    scores = [score("psnr", None, n=0, missing=6, why="lossless (identical pixels)"), score("bpp", 9.0)]
    values = {"psnr": [None] * 5 + [41.0]}
    made_runs.write(tmp_path / "png", name="png", title="PNG", scores=scores, values=values)
    made_runs.write(tmp_path / "jpeg", name="jpeg", title="JPEG", scores=[score("psnr", 40.0), score("bpp", 2.0)])
    path = tmp_path / "png" / "rows.jsonl"
    path.write_text(path.read_text().replace("identical to the original", "lossless (identical pixels)"))
    page = leaderboard.build([tmp_path / "png", tmp_path / "jpeg"], tmp_path / "site").read_text()
    for table in ("Reconstruction: Codecs", "At a glance: Codecs"):
        row = row_of(page, "PNG", table)
        assert re.search(r'data-v="Infinity"[^>]*>\s*(<a[^>]*>)?lossless', row)
    (run,) = data_of(tmp_path / "site", "values/png")["runs"]
    assert [m["values"] for m in run["metrics"] if m["name"] == "psnr"] == [["lossless"] * 5 + [41.0]]


@pytest.mark.parametrize("valued", [True, False])
def test_the_tokenizers_share_of_an_fid_is_no_cost(tmp_path: Path, valued: bool) -> None:
    def of(name: str, number: float, better: str | None, unit: str, **more: object) -> dict[str, object]:
        return {**score("rfid", number), "metric": name, "better": better, "unit": unit, **more}

    share: dict[str, object] = (
        {"fingerprint": "0123456789abcdef"} if valued else {"value": None, "n": 0, "why": "no tokenizer"}
    )
    lines = [
        score("rfid", 9.0),
        of("tokenizer-rfid", 2.0, "lower", "", **share),
        of("gfid-gap", 7.0, "lower", "", **share),
        of("image-seconds-p50", 0.5, "lower", "s/image"),
        of("peak-memory", 900.0, "lower", "MiB", details={"what": "resident memory of the whole process"}),
        of("parameters", 1e6, "lower", "parameters"),
        of("acceptance", 0.4, None, ""),
    ]
    for name in ("one", "two"):
        made_runs.write(tmp_path / name, name=name, kind="generator", task="generation", scores=lines)
    run = read_runs([tmp_path])[0]
    costs = [line["metric"] for line in lines if is_cost(run, str(line["metric"]))]
    assert costs == ["image-seconds-p50", "peak-memory", "parameters", "acceptance"]
    page = leaderboard.build([tmp_path], tmp_path / "site").read_text()
    quality, speed = page.split("<summary>Speed, memory and size</summary>")
    assert "tokenizer rfid" in quality
    assert "gfid gap" in quality
    assert "tokenizer rfid" not in speed.split("</details>")[0]
    assert "image seconds p50" in speed
    assert re.search(r"<li[^>]*>resident memory of the whole process</li>", speed), "whose memory it is"
    assert "(best)" not in speed
    own = (tmp_path / "site" / "model" / "one.html").read_text()
    assert "tokenizer-rfid" in own.split("<h4>Speed, memory and size</h4>")[0]
    assert "image-seconds-p50" in own.split("<h4>Speed, memory and size</h4>")[1]
