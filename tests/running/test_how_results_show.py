"""Results in a shell and in a notebook: short, and nothing that a record states is taken for HTML."""

from __future__ import annotations

import html.parser
from pathlib import Path

import pytest
from made_runs import score, write

import vtbench
from vtbench.results.record import Run, Score, read_run
from vtbench.running.evaluation import Evaluation
from vtbench.running.folders import Candidate, Scored

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>&amp;'
ALLOWED = {"p", "table", "thead", "tbody", "tr", "th", "td"}


class Tags(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[object] = []
        self.data = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.data += data


def hostile_run(folder: Path) -> Run:
    lines = [{**score("psnr", 20.0), "unit": HOSTILE}, score("ssim", None, n=0, missing=6, why=HOSTILE)]
    lines += [{**score("bpp", 1.5), "metric": HOSTILE}]
    return read_run(write(folder, name=HOSTILE, task=HOSTILE, suite=HOSTILE, status=HOSTILE, scores=lines))


def hostile_scored() -> Scored:
    line = Score(metric=HOSTILE, value=1.25, unit=HOSTILE, why=HOSTILE)
    return Scored(HOSTILE, [Candidate(HOSTILE, [line], [])], {HOSTILE: HOSTILE}, [HOSTILE])


@pytest.mark.parametrize("what", ["run", "evaluation", "scored"])
def test_hostile_names_are_shown_as_text(tmp_path: Path, what: str) -> None:
    run = hostile_run(tmp_path / "run")
    shown = {"run": run, "evaluation": Evaluation((run,), {HOSTILE: HOSTILE}), "scored": hostile_scored()}[what]
    page = Tags(shown._repr_html_())
    assert page.tags <= ALLOWED
    assert "table" in page.tags
    assert page.attributes == []
    assert HOSTILE in page.data
    assert ("20" if what != "scored" else "1.25") in page.data
    assert page.data.count("alert(1)") >= 4


def test_results_are_short_in_a_shell(tmp_path: Path) -> None:
    lines = [score(metric, 1.0) for metric in ("psnr", "ssim", "bpp")]
    run = read_run(write(tmp_path / "run", name="jpeg", n=500, scores=lines))
    assert repr(run) == f"<Run jpeg: reconstruction on starter-natural, 3 scores, complete, {tmp_path / 'run'}>"
    whole = Evaluation((run, run), {"dct budget=7": "budget must be 1 or more"})
    assert repr(whole).splitlines() == [
        "<Evaluation>",
        f"  {run!r}",
        f"  {run!r}",
        "  failed: dct budget=7: budget must be 1 or more",
    ]
    rows = [{"item": f"{k}.png", "values": {"psnr": 20.0}} for k in range(5000)]
    scored = Scored("originals", [Candidate("theirs", list(run.scores), rows)], {"a.png": "torn"})
    assert repr(scored) == ("<Scored against originals, 1 images could not be read: <theirs: 3 scores of 5000 images>>")
    assert repr(Candidate("a set", list(run.scores), [])) == "<a set: 3 scores>"


def test_a_real_evaluation_is_short_too(images: Path, tmp_path: Path) -> None:
    found = vtbench.evaluate("dct", images=images, view="native", tasks=["compression"], limit=2, out=tmp_path)
    assert len(repr(found)) < 300 + len(str(tmp_path))
    page = Tags(found._repr_html_())
    assert page.tags <= ALLOWED
    assert "bpp" in page.data
