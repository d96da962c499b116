"""A model's page: what was published beside what was measured, its worst images, the files that a run is checked by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import made_runs
import pages_of_a_lab
import pytest
from made_runs import score
from site_pages import EVIL, block_of, data_of

from vtbench import leaderboard
from vtbench.leaderboard import addresses, imagevalues, runpage
from vtbench.leaderboard.context import Context
from vtbench.leaderboard.modelpage import card_facts
from vtbench.reporting.image_values import RowValues
from vtbench.reporting.runs import question
from vtbench.results.record import read_run

PSNR = [30.0, 25.0, 41.0, 28.0, None, 26.0]


def with_claims(folder: Path, published: list[dict[str, Any]], psnr: float, view: str = "256") -> Path:
    made_runs.write(folder, name="jpeg", view=view, scores=[score("psnr", psnr)], values={"psnr": PSNR})
    info = json.loads((folder / "run.json").read_text())
    info["model"]["card"]["published"] = published
    (folder / "run.json").write_text(json.dumps(info))
    return folder


def test_claims_stand_beside_measured_values_only_under_one_protocol(tmp_path: Path) -> None:
    published = [
        {"metric": "psnr", "value": 30.0, "source": "A table", "protocol": "vtbench"},
        {"metric": "psnr", "value": 29.0, "source": "https://example.org/t", "protocol": "magvit2"},
        {"metric": "psnr", "value": 28.0, "source": "javascript:alert(1)", "protocol": None},
    ]
    for view, psnr in (("256", 31.25), ("512", 33.5)):
        with_claims(tmp_path / "runs" / view, published, psnr, view)
    leaderboard.build([tmp_path / "runs"], tmp_path / "site")
    page = (tmp_path / "site" / "model" / "jpeg.html").read_text()
    table = page.split('aria-label="Published numbers"', 1)[1].split("</table>", 1)[0]
    first, second, third = table.split("<tr>")[2:]
    # Each run that meets the claim's protocol, and none of another.
    assert ">31.25</a>" in first
    assert ">33.50</a>" in first
    assert "30.00" in first
    for line, says in ((second, "magvit2"), (third, "the source states no protocol")):
        assert "Nothing beside it" in line
        assert says in line
        assert "31.25" not in line
    assert 'href="https://example.org/t"' in second
    assert "href" not in third.split("<td", 5)[-1]


def test_the_worst_images_are_those_of_the_lowest_value(tmp_path: Path) -> None:
    run = read_run(with_claims(tmp_path / "a", [], 30.0))
    worst = runpage.worst(run, "psnr", RowValues())
    assert worst == [("001.png", 25.0), ("005.png", 26.0), ("003.png", 28.0), ("000.png", 30.0), ("002.png", 41.0)]
    made_runs.write(tmp_path / "b", scores=[score("cer", 0.2)], values={"cer": [0.1, 0.9, 0.3, 0.0, 0.2, 0.5]})
    assert [item for item, _ in runpage.worst(read_run(tmp_path / "b"), "cer", RowValues())][:2] == [
        "001.png",
        "005.png",
    ]


def test_a_block_has_the_records_of_its_run_byte_for_byte(tmp_path: Path) -> None:
    pages_of_a_lab.write(tmp_path / "runs")
    leaderboard.build([tmp_path / "runs"], tmp_path / "site")
    run = read_run(tmp_path / "runs" / "jpeg-50")
    block = block_of((tmp_path / "site" / "model" / "jpeg.html").read_text(), run.info.id)
    for name in ("run.json", "rows.jsonl", "scores.jsonl"):
        address = addresses.record_address(run, name)
        assert f'href="../{address}"' in block
        assert (tmp_path / "site" / address).read_bytes() == (run.path / name).read_bytes()
    assert "photo-0.png" in block
    assert block.count("<img") == 6, "three of the five worst images were kept, with their originals"
    values = data_of(tmp_path / "site", "values/jpeg")
    assert {len(of["metrics"]) for of in values["runs"]} == {1, 3}
    text = next(p for p in values["pictures"] if p["lines"])
    assert text["lines"][1][1] == EVIL, "whatever was read travels as it is, and is shown as text"


def test_rows_too_large_for_a_page_stay_with_their_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = read_run(with_claims(tmp_path / "a", [], 30.0))
    monkeypatch.setattr(runpage, "LARGEST_ROWS", 100)
    assert set(runpage.own_records(run)) == {"run.json", "scores.jsonl"}


def test_more_values_than_a_page_can_hold_are_left_to_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"psnr": PSNR, "ssim": [0.9] * 6}
    made_runs.write(tmp_path / "a", values=values, scores=[score("psnr", 30.0), score("ssim", 0.9)])
    run = read_run(tmp_path / "a")
    for most, named, left in ((60_000, ["psnr", "ssim"], []), (7, ["psnr"], ["ssim"]), (5, [], ["psnr", "ssim"])):
        monkeypatch.setattr(imagevalues, "MOST_VALUES", most)
        (of,) = imagevalues.values_of([run], Context([run], {}, {}), {question(run): "q"}, {}, [], {})["runs"]
        assert [metric["name"] for metric in of["metrics"]] == named
        assert of["left_out"] == left
        assert len(of["items"]) == (6 if named else 0)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("llamagen-vq-ds16-c2i", True),
        ("sd1.5_vae", True),
        ("con", False),
        ("nul.txt", False),
        ("../../etc/passwd", False),
        ("a b", False),
        ("Jpeg", False),
        ("a-b-0123456789ab", False),
        ("x" * 300, False),
        ("ends.", False),
        ("", False),
        ("模型", False),
    ],
)
def test_a_models_name_as_that_of_a_file(name: str, plain: bool) -> None:
    key = addresses.model_key(name)
    assert (key == name) is plain
    assert addresses.PLAIN.fullmatch(key)
    assert len(key) < 80


def test_a_name_that_looks_like_the_file_of_another_has_its_own() -> None:
    """A name may be chosen so that it reads like what another one is turned into."""
    turned = addresses.model_key("a b")
    assert len({addresses.model_key(name) for name in ("a b", turned, "a-b", "A b", "a  b")}) == 5


def test_facts_of_one_source_name_it_once() -> None:
    card = {"sources": {"licence": "LICENSE", "trained_on": "README:3", "weights": "LICENSE"}}
    assert card_facts(card) == [("stated in", "licence, weights: LICENSE; trained on: README:3")]
