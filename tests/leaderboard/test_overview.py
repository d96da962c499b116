"""The overview keeps suites apart; lossless is the best; what a generator's pictures are worth is no cost."""

from __future__ import annotations

import re
from pathlib import Path

import made_runs
import pytest
from made_runs import score
from site_pages import NATURAL, data_of, row_of, table_of, task_page

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
    rows = cells(row_of(page, "PNG", "All systems"))
    heads = re.findall(r'data-c="([a-z0-9-]+)"', table_of(page, "All systems"))[1:]
    by_head = dict(zip(heads, rows, strict=True))
    assert ">10.040<" in by_head["bpp"], "the column of rates is the first suite's"
    assert "0.0800" in by_head["cer"]
    assert re.findall(r"at ([\d.]+) bit/px", by_head["cer"]) == ["0.840"], "the rate of the text's own suite"
    assert all("0.840" not in cell for head, cell in by_head.items() if head != "cer")
    # The place of the text's suite: WebP spends less, PNG stands beside it in its band.
    assert "of 2 at 0.5–1 bit/px" in by_head["cer"]
    assert "0.5–1 bit/px" not in by_head["place"], "a place belongs to one suite"


def test_lossless_sorts_as_the_best(tmp_path: Path) -> None:
    scores = [score("psnr", None, n=0, missing=6, why="lossless (identical pixels)"), score("bpp", 9.0)]
    values = {"psnr": [None] * 5 + [41.0]}
    made_runs.write(tmp_path / "png", name="png", title="PNG", scores=scores, values=values)
    made_runs.write(tmp_path / "jpeg", name="jpeg", title="JPEG", scores=[score("psnr", 40.0), score("bpp", 2.0)])
    path = tmp_path / "png" / "rows.jsonl"
    path.write_text(path.read_text().replace("identical to the original", "lossless (identical pixels)"))
    index = leaderboard.build([tmp_path / "png", tmp_path / "jpeg"], tmp_path / "site").read_text()
    for page, table in ((task_page(tmp_path / "site"), NATURAL), (index, "All systems")):
        assert re.search(r'data-v="Infinity"[^>]*>\s*lossless', row_of(page, "PNG", table))
    (run,) = data_of(tmp_path / "site", "values/png")["runs"]
    assert [m["values"] for m in run["metrics"] if m["name"] == "psnr"] == [["lossless"] * 5 + [41.0]]


def test_a_run_with_a_failed_image_is_not_lossless(tmp_path: Path) -> None:
    """Five pictures came back identical and one not at all: no best of the column, but a dash with its reason."""
    why = "lossless (identical pixels) (5 of 6 images; 1 could not be scored)"
    details = {"missing": {"lossless (identical pixels)": 5, "the file cannot be read": 1}, "n_lossless": 5}
    scores = [score("psnr", None, n=0, missing=6, why=why, details=details), score("bpp", 9.0)]
    made_runs.write(tmp_path / "png", name="png", title="PNG", scores=scores)
    made_runs.write(tmp_path / "jpeg", name="jpeg", title="JPEG", scores=[score("psnr", 40.0), score("bpp", 2.0)])
    index = leaderboard.build([tmp_path / "png", tmp_path / "jpeg"], tmp_path / "site").read_text()
    for page, table in ((task_page(tmp_path / "site"), NATURAL), (index, "All systems")):
        row = row_of(page, "PNG", table)
        assert "Infinity" not in row
        assert not re.search(r">\s*lossless", row)
        assert "1 could not be scored" in page


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
    leaderboard.build([tmp_path], tmp_path / "site")
    page = task_page(tmp_path / "site", "generation")
    groups = dict(re.findall(r'data-c="([a-z0-9-]+)" data-g="([^"]+)"', page))
    if valued:
        assert groups["tokenizer-rfid"] == groups["gfid-gap"] == "Quality"
    else:
        assert "tokenizer rfid, gfid gap — no tokenizer" in page
    assert {groups[name] for name in costs} == {"Speed, memory and size"}
    assert re.search(r"<li[^>]*>resident memory of the whole process</li>", page), "whose memory it is"
    best = [cell for row in page.split("<tr")[2:] for cell in cells(row) if "(best)" in cell]
    assert not [cell for cell in best if any(f'data-l="{name.replace("-", " ")}"' in cell for name in costs)]
    own = (tmp_path / "site" / "model" / "one.html").read_text()
    assert "tokenizer-rfid" in own.split("<h4>Speed, memory and size</h4>")[0]
    assert "image-seconds-p50" in own.split("<h4>Speed, memory and size</h4>")[1]
