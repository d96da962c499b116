"""Which systems stand together in a correlation, and how the verb says so. Truths are written out by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import made_runs
import pytest
from scipy import stats
from support import command

from benchmarks import correlation as correlation_page
from vtbench.reporting.correlation import Number, System, correlate, measured_systems, published_systems
from vtbench.reporting.reading import read_runs


def system(name: str, x: float, y: float, *, tokenizer: str = "", under: str = "same") -> System:
    of_tokenizer = {"rfid": [Number(x, under, "lower", 256), Number(-x, "other", "lower", 384)]}
    of_generator = {"fid": [Number(y, "50k", "lower", 256)]}
    return System(name, name, tokenizer or name, of_tokenizer, of_generator)


def test_only_numbers_of_the_same_conditions_and_size_stand_together() -> None:
    systems = [system(f"s{i}", float(i), float(i)) for i in range(9)] + [system("else", 0.0, 0.0, under="elsewhere")]
    found = correlate(systems, "published", ["rfid"], ["fid"]).relations
    assert [(r.tokenizer_conditions, r.result.n) for r in found] == [("same", 9), ("elsewhere", 1)]
    assert found[0].result.spearman is not None
    assert found[0].result.spearman.value == 1.0
    assert found[1].result.why == "1 system: fewer than 8 give no coefficient"


def test_directions_are_turned_and_the_best_of_a_tokenizer_stands_for_it() -> None:
    systems = [
        System(
            str(i), str(i), f"t{i // 2}", {"psnr": [Number(i, "c", "higher")]}, {"fid": [Number(20 - i, "d", "lower")]}
        )
        for i in range(16)
    ]
    whole = correlate(systems, "published").relations[0]
    assert whole.result.spearman is not None
    assert whole.result.spearman.value == 1.0
    best = correlate(systems, "published", best_only=True).relations[0]
    assert [p.system.name for p in best.pairs] == [str(i) for i in range(1, 16, 2)]


def test_published_numbers_are_those_of_the_cards() -> None:
    systems, left_out = published_systems()
    by_name = {s.name: s for s in systems}
    assert "ngram-kmeans" in left_out
    # rFID 2.19 is of 256 px, 0.94 of 384: a generator of 256 px goes with the first alone.
    pairs = {
        p.system.name: p.x.value
        for r in correlate(systems, "published", ["rfid"], ["fid"]).relations
        for p in r.pairs
        if p.system.name.startswith("llamagen-c2i-b")
    }
    assert pairs == {"llamagen-c2i-b-256": 2.19, "llamagen-c2i-b-384": 0.94}
    assert by_name["llamagen-c2i-b-256"].of_tokenizer["bpp"][0].value == pytest.approx(256 * 14 / 65536)
    largest = correlate(systems, "published", ["rfid"], ["fid"]).relations[0]
    points = largest.points()
    assert largest.result.spearman is not None
    wanted = stats.spearmanr([p["x"] for p in points], [p["y"] for p in points]).statistic
    assert largest.result.spearman.value == pytest.approx(wanted, abs=1e-12)


def write_pair(root: Path, i: int, *, sha: str = "", drawn: str = "", ranked: bool = True, **options: Any) -> None:
    weights = {"status": "official", "files": [{"file": "a", "sha256": sha or f"{i:064x}"}]}
    made_runs.write(
        root / f"t{i}",
        name=f"tok{i}",
        kind="discrete",
        family="toks",
        options=options,
        weights=weights,
        ranked=ranked,
        why_not_ranked=None if ranked else "made for a test",
        scores=[made_runs.score("psnr", 20.0 + i), made_runs.score("rfid", 9.0 - i / 2)],
    )
    question = {"model": {"tokenizer": {"name": f"tok{i}", "weights": [drawn or f"{i:064x}"]}}}
    made_runs.write(
        root / f"g{i}",
        name=f"gen{i}",
        kind="generator",
        family=f"gens{i % 6}",
        task="generation",
        scores=[{**made_runs.score("rfid", 30.0 - i), "metric": "fid"}],
        extra={"question": question},
    )


def test_measured_generators_go_with_the_tokenizer_of_their_weights(tmp_path: Path) -> None:
    for i in range(9):
        write_pair(tmp_path, i)
    write_pair(tmp_path, 9, drawn="f" * 64)
    write_pair(tmp_path, 10, ranked=False)
    runs = read_runs([tmp_path])
    systems, left_out = measured_systems(runs)
    assert sorted(s.name for s in systems) == sorted(f"gen{i}" for i in range(9))
    assert sorted(left_out.values()) == sorted(
        ["made for a test", "no run of its tokenizer tok10 is there", "no run of its tokenizer tok9 is there"]
    )
    assert len(measured_systems(runs, unranked=True)[0]) == 10
    code, out, _ = command("correlate", tmp_path, "--json")
    assert code == 0
    relations = json.loads(out)["relations"]
    assert [(r["tokenizer_score"], r["n"], r["families"], r["spearman"]["value"]) for r in relations] == [
        ("psnr", 9, 6, 1.0),
        ("rfid", 9, 6, 1.0),
    ]


def test_the_verb_writes_a_table_and_plots(tmp_path: Path) -> None:
    code, out, _ = command("correlate", "--published", "--x", "rfid", "--y", "fid", "--out", tmp_path / "c")
    assert code == 0
    assert "no cause" in out
    written = json.loads((tmp_path / "c" / "correlation.json").read_text())
    lines = list(csv.DictReader((tmp_path / "c" / "correlation.csv").open()))
    assert float(lines[0]["spearman"]) == written["relations"][0]["spearman"]["value"]
    svg = ElementTree.parse(tmp_path / "c" / "plot-1.svg").getroot()
    marks = [
        g for g in svg.iter("{http://www.w3.org/2000/svg}g") if g.get("class") == "dot" and g.get("aria-hidden") is None
    ]
    assert len(marks) == written["relations"][0]["n"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(("nowhere",), "holds no run"), (("--published", "somewhere"), "leave one of them out")],
)
def test_bad_input_is_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    code, _, err = command("correlate", *words)
    assert code == 2
    assert sentence in err


def test_nothing_to_correlate_is_said() -> None:
    code, out, _ = command("correlate", "--x", "no-such-score")
    assert code == 0
    assert "no coefficient: no system has a score" in out


def test_the_tables_of_the_docs_are_what_the_cards_say() -> None:
    written = correlation_page.PAGE.read_text()
    assert correlation_page.tables(written) == written, "run python benchmarks/correlation.py"
    assert written.count("| rfid | fid |") == 2
