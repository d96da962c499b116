"""Tables for papers and model cards: marks by the test of `compare`, captions that say what, names that stay names."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import made_runs
import pytest
import yaml
from support import command

from vtbench.reporting import export, export_text, model_index
from vtbench.reporting.compare import compare
from vtbench.reporting.reading import read_runs
from vtbench.reporting.runs import model_name
from vtbench.results.record import Run
from vtbench.types.errors import VtbenchError

BEST = [30.0, 31.0, 32.5, 33.0, 34.0, 35.5, 36.0, 36.5]
NEAR = [30.5, 30.4, 33.0, 32.3, 34.6, 35.0, 36.1, 36.2]
WORSE = [value - 2 - 0.1 * k for k, value in enumerate(BEST)]
HOSTILE = (
    r"a & b % $x$ #1 _u_ {v} ~ ^ \input{/etc/passwd} <script>alert(1)</script> | *b* `c` [l](http://e.org) @me--中"
)


def _run(root: Path, name: str, values: list[float | None], **more: Any) -> Run:
    known = [v for v in values if v is not None]
    lines = [
        made_runs.score("psnr", sum(known) / len(known), n=len(known), half=1.5),
        made_runs.score("rfid", 900 / known[0]),
        made_runs.score("bpp", 0.5),
    ]
    return made_runs.run_of(root, name, values, n=len(values), scores=lines, **more)


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """A best system, one that the test cannot tell from it, one that it can, one that is not ranked, one of another
    kind."""
    return [
        _run(tmp_path, "best", BEST),
        _run(tmp_path, "near", NEAR),
        _run(tmp_path, "worse", WORSE),
        _run(tmp_path, "mine", [v + 9 for v in BEST], ranked=False, why_not_ranked="unverified weights"),
        _run(tmp_path, "other", [20.0] * 8, kind="discrete"),
    ]


def _marks(table: export.Table, metric: str) -> dict[str, Any]:
    place = [column.metric for column in table.columns].index(metric)
    return {line.title: line.cells[place].mark for _, lines in table.parts for line in lines}


def test_the_best_and_its_ties_are_those_of_compare(runs: list[Run]) -> None:
    (table,) = export.tables(runs)
    assert _marks(table, "psnr") == {"BEST": "best", "NEAR": "tie", "WORSE": None, "MINE": None, "OTHER": None}
    names = {model_name(run): run for run in runs}
    (near,) = compare([names["best"], names["near"]], ["psnr"]).differences
    (worse,) = compare([names["best"], names["worse"]], ["psnr"]).differences
    assert (near.verdict, worse.verdict) == ("not told apart", "best is better")
    said = " ".join(table.caption)
    assert "paired permutation test on the same 8 images" in said
    assert "Holm over 2 tests" in said


def test_what_was_not_measured_image_by_image_is_marked_by_value_and_said_to_be(runs: list[Run]) -> None:
    (table,) = export.tables(runs)
    assert _marks(table, "rfid") == {"BEST": None, "NEAR": "best", "WORSE": None, "MINE": None, "OTHER": None}
    assert "Of rFID the best by value alone is marked" in " ".join(table.caption)
    assert set(_marks(table, "bpp").values()) == {None}, "a rate is no quality: the fewest bits are not the best"


def test_where_no_run_is_ranked_nothing_is_marked(tmp_path: Path) -> None:
    unranked: dict[str, Any] = {"ranked": False, "why_not_ranked": "limited to 8 of 9 images"}
    (table,) = export.tables([_run(tmp_path, "a", BEST, **unranked), _run(tmp_path, "b", WORSE, **unranked)])
    assert set(_marks(table, "psnr").values()) == {None}
    assert "Nothing is marked: none of these runs is ranked." in table.caption
    assert table.notes == ("limited to 8 of 9 images",)
    assert {line.note for _, lines in table.parts for line in lines} == {1}


def test_the_caption_says_what_the_numbers_are(runs: list[Run]) -> None:
    (table,) = export.tables(runs)
    said = " ".join(table.caption)
    for fact in ("task reconstruction, version 1", "starter-natural (sha256 182ffcfe2825)", "protocol vtbench"):
        assert fact in said
    for fact in ("view 256 × 256 pixels", "vtbench 0.1.0", "95 % intervals"):
        assert fact in said


def test_questions_that_differ_stand_in_tables_of_their_own(runs: list[Run], tmp_path: Path) -> None:
    text = made_runs.run_of(tmp_path, "text", [0.1] * 6, metric="cer", task="text", suite="starter-text")
    first, second = export.tables([*runs, text])
    assert "starter-text" in second.title
    assert [column.metric for column in export.tables(runs, ["rfid", "psnr"])[0].columns] == ["rfid", "psnr"]
    assert first.title != second.title
    with pytest.raises(VtbenchError, match=r"none of the runs has a score of ssim"):
        export.tables(runs, ["ssim"])


@pytest.fixture
def hostile(tmp_path: Path) -> list[Run]:
    """Names, titles, suites and reasons that are anything but names."""
    more: dict[str, Any] = {"title": HOSTILE, "suite": HOSTILE, "ranked": False, "why_not_ranked": f"{HOSTILE}\nline"}
    return [_run(tmp_path, "hostile", BEST, **more), _run(tmp_path, "plain", WORSE, suite=HOSTILE)]


def test_latex_is_escaped(hostile: list[Run]) -> None:
    text = export_text.latex(export.tables(hostile))
    # Every order in it is one that we wrote.
    orders = set(re.findall(r"\\([a-zA-Z]+)", text))
    assert orders <= {
        *("usepackage", "begin", "end", "centering", "caption", "toprule", "midrule", "bottomrule", "scriptsize"),
        *("textbf", "underline", "textsuperscript", "par", "smallskip", "footnotesize", "uparrow", "downarrow"),
        *("textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar", "times", "geq"),
        *("textasciigrave", "textquotesingle", "textit", "multicolumn"),
    }
    assert r"\textbackslash{}input\{/etc/passwd\}" in text
    assert r"a \& b \% \$x\$ \#1 \_u\_" in text
    assert "[U+4E2D]" in text
    assert text.isascii()
    # Braces are in pairs, and no line is a comment but the first.
    bare = re.sub(r"\\[{}%]", "", text)
    assert bare.count("{") == bare.count("}")
    assert [line for line in bare.splitlines() if "%" in line] == [text.splitlines()[0]]
    # A line of the table has as many cells as the head.
    cells = [re.sub(r"\\&", "", line).count("&") for line in text.splitlines() if line.endswith(r"\\")]
    assert len(set(cells)) == 1


def test_markdown_is_escaped(hostile: list[Run]) -> None:
    text = export_text.markdown(export.tables(hostile))
    for gone in ("<script", " `c`", " *b", "@me", "http://", " _u_", " $x"):
        assert gone not in text
    assert not re.search(r"(?<!\\)[\[\]]http|(?<!\\)\]\(", text)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({re.sub(r"\\\|", "", line).count("|") for line in lines}) == 1
    assert export_text.markdown_text("- x") == "\\- x"
    assert export_text.markdown_text("a-b (c)") == "a-b (c)"


def test_csv_holds_every_score_and_no_formula(tmp_path: Path) -> None:
    _run(tmp_path, "m", BEST, title='=HYPERLINK("http://e.org")')
    code, out, err = command("export", str(tmp_path), "--format", "csv")
    assert (code, err) == (0, "")
    lines = list(csv.DictReader(io.StringIO(out)))
    assert [line["metric"] for line in lines] == ["psnr", "rfid", "bpp"]
    assert lines[0]["title"].startswith("'=")
    assert float(lines[0]["value"]) == pytest.approx(sum(BEST) / 8, abs=0)


def test_the_model_index_is_what_huggingface_hub_reads(hostile: list[Run], tmp_path: Path) -> None:
    """Through ModelCard and its EvalResult, there and back: the same numbers of the same task, data and metric."""
    from huggingface_hub import ModelCard
    from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

    text = model_index.as_yaml(model_index.model_index(hostile[:1]))
    card = ModelCard(f"{text}\n# A model\n", ignore_metadata_errors=False)
    results = card.data.eval_results
    assert card.data.model_name == "hostile"
    assert [(r.metric_type, r.metric_value) for r in results] == [
        ("psnr", sum(BEST) / 8),
        ("rfid", 30.0),
        ("bpp", 0.5),
    ]
    assert {r.task_type for r in results} == {"image-to-image"}
    assert results[0].dataset_name == HOSTILE
    assert results[0].metric_args["n"] == 8
    assert results[0].metric_args["not_ranked"].startswith("a & b")
    assert results[0].source_url == model_index.PROJECT
    again = eval_results_to_model_index("hostile", results)
    assert again == yaml.safe_load(text.strip("-\n"))["model-index"]
    name, back = model_index_to_eval_results(again)
    assert (name, back) == ("hostile", results)
    card.save(tmp_path / "README.md")
    assert ModelCard.load(tmp_path / "README.md").data.eval_results == results


def test_a_model_of_several_runs_is_one_entry(tmp_path: Path) -> None:
    """The Hub groups results by task, data set and config: each setting is its own."""
    from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

    for quality in (5, 50):
        _run(tmp_path / str(quality), "jpeg", BEST, options={"quality": quality}, knob="quality")
    (entry,) = model_index.model_index(read_runs([tmp_path]), ["psnr"])
    assert [result["dataset"]["config"] for result in entry["results"]] == [
        "256, reconstruction, quality 5",
        "256, reconstruction, quality 50",
    ]
    assert eval_results_to_model_index(*model_index_to_eval_results([entry])) == [entry]


def test_the_verb(runs: list[Run], tmp_path: Path) -> None:
    root = str(runs[0].path.parent)
    for name, begin in (("latex", "% \\usepackage"), ("markdown", "### "), ("model-index", "---\n"), ("csv", "run,")):
        code, out, err = command("export", root, "--format", name, "--metrics", "psnr")
        assert (code, err) == (0, "")
        assert out.startswith(begin)
        code, said, _ = command("export", root, "--format", name, "--metrics", "psnr", "--out", str(tmp_path / "x"))
        assert (code, said.strip()) == (0, str(tmp_path / "x"))
        assert (tmp_path / "x").read_text().rstrip() == out.rstrip()
        code, out, _ = command("export", root, "--format", name, "--metrics", "psnr", "--json")
        assert code == 0
        assert json.loads(out), "the same as data"
    code, _, err = command("export", root, "--out", root)
    assert code == 2
    assert "is a folder" in err
    code, _, err = command("export", root, "--metrics", "psnrr")
    assert code == 2
    assert json.dumps("psnrr")[1:-1] in err
