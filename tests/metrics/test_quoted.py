"""Text in generated images: arithmetic on known readings, and a whole run with a generator that writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vtbench import api, registry
from vtbench.metrics import _strings, ocr, quoted, weights
from vtbench.running import sets
from vtbench.tasks.prompts.quotes import quotes
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.metric import Batch, Reference

WRITER = '''
"""Writes its prompt's quote into the picture's first row, a character a pixel."""
import torch
from vtbench.types.adapter import Generator
from vtbench.types.cards import Card, Family, Multiple

CARD = Card(name="writer", family="writer", kind="generator", title="Writer", sizes=Multiple(8, 8), conditioning="text",
            licence="MIT", options={"drop": 0})


class Writer(Generator):
    def load(self, files, device="cpu", dtype="float32"):
        pass

    def generate(self, prompts, seeds):
        out = torch.zeros(len(prompts), 3, 16, 96)
        for k, p in enumerate(prompts):
            said = p.metadata["quote"][self.options["drop"]:]
            out[k, :, 0, : len(said)] = torch.tensor([ord(c) / 255 for c in said])
        return out


FAMILY = Family(name="writer", title="writer", cards=(CARD,), build=Writer)
'''


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))


class Pixels(ocr.Engine):
    """Reads what the writer wrote."""

    name, scripts, id = "pixels", frozenset({"latin"}), "pixels-1"

    def load(self, device: str) -> None: ...

    def lines(self, image: Any, boxes: Any) -> list[str]:
        raise AssertionError("pages only")

    def page(self, image: Any) -> list[tuple[ocr.Box, str]]:
        said = "".join(chr(v) for v in image[0, :, 0] if v)
        return [((0, 0, 1, 1), said)] if said else []


def measured(name: str, meta: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    metric = registry.metric(name)
    metric._reader = Pixels()
    monkeypatch.setattr(ocr, "read_page", lambda reader, image: said)
    images = torch.zeros(1, 3, 16, 96, dtype=torch.uint8)
    batch = Batch(Reference(images, [Item("a", "a.png", None, "0" * 64, meta)], ["0" * 64]), images)
    return metric.measure(batch)[0]


@pytest.mark.parametrize(
    ("said", "exact", "cer", "words", "near"),
    [
        # counted by hand, of 9 characters and 2 words
        ("open door", 1, 0, 1, 1),
        ("open floor", 0, 2 / 9, 1 / 2, 1 - 2 / 10),
        ("", 0, 1, 0, 0),
        ("Open  door", 0, 1 / 9, 1 / 2, 1 - 1 / 9),
        ("open door open door", 0, 10 / 9, 1, 1 - 10 / 19),
    ],
)
def test_by_hand(
    monkeypatch: pytest.MonkeyPatch, said: str, exact: float, cer: float, words: float, near: float
) -> None:
    meta = {"quote": "open door"}
    by_measure = {n: measured(f"quote-{n}", meta, said, monkeypatch) for n in ("exact", "cer", "word-accuracy", "ned")}
    assert [v.value for v in by_measure.values()] == pytest.approx([exact, cer, words, near])
    assert [v.weight for v in by_measure.values()] == [1, 9, 2, 1]
    assert measured("quote-cer-9-20", meta, said, monkeypatch).value == pytest.approx(cer)
    assert measured("quote-cer-1-8", meta, said, monkeypatch).why == "the quote has 9 characters"


@pytest.mark.parametrize(
    ("meta", "truth"),
    [
        ({"prompt": 'a sign that says "Open  late"'}, "Open late"),
        ({"prompt": "a sign that says \u201cOpen\u201d, at night"}, "Open"),
        ({"prompt": "it's a dog's life"}, ""),
        ({"prompt": 'says "no"', "quote": "yes"}, "yes"),
        ({"prompt": None}, ""),
        (None, ""),
    ],
)
def test_the_quote(meta: dict[str, Any] | None, truth: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert quoted.quotation(meta).text == truth
    if meta is not None and not truth:
        assert measured("quote-exact", meta, "x", monkeypatch).why == quoted.NO_QUOTE


def test_prompts_fill_their_buckets() -> None:
    for prompt in quotes(5):
        low, high = (int(v) for v in prompt["metadata"]["bucket"].split("-"))
        assert (low, high) in quoted.BUCKETS
        assert low <= len(prompt["metadata"]["quote"]) <= high
        assert quoted.quotation({"prompt": prompt["text"]}).text == prompt["metadata"]["quote"]


def test_a_run_of_a_generator_that_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "writer.py").write_text(WRITER)
    monkeypatch.setattr(ocr, "engine", lambda name, device="cpu": Pixels())
    monkeypatch.setattr(weights, "find", lambda name, path=None: tmp_path)
    spec = f"{tmp_path / 'writer.py'}@writer"
    whole = api.evaluate(spec, tasks=["written"], per_prompt=1, out=tmp_path / "out").runs[0]
    for name in ("quote-exact", "quote-word-accuracy", "quote-ned-41-80"):
        assert whole.score(name)["value"] == 1
    assert whole.score("quote-cer")["value"] == 0
    assert "not comparable" not in (whole.info["why_not_ranked"] or "")
    assert whole.score("tokenizer-rfid") is None
    # Without its first character no quote is exact, and a character of each is wrong.
    cut = api.evaluate(spec, tasks=["written"], options={"drop": "1"}, per_prompt=1, out=tmp_path / "out").runs[0]
    rows = list(cut.rows())
    letters = sum(len(r["prompt"].split('"')[1]) for r in rows)
    assert cut.score("quote-exact")["value"] == 0
    assert cut.score("quote-cer")["value"] == pytest.approx(len(rows) / letters)
    assert {r["why"].get("quote-cer-1-8") is None for r in rows} == {True, False}


def test_texts_are_for_generators_that_read(tmp_path: Path) -> None:
    with pytest.raises(VtbenchError, match="no prompts for ngram-kmeans, which is class-conditional"):
        api.evaluate("ngram-kmeans", tasks=["written"], out=tmp_path)


def test_the_record_names_the_reader_once_there_is_one() -> None:
    metric = registry.metric("quote-cer")
    assert metric.engine_id is None
    metric._reader = Pixels()
    assert metric.engine_id == f"pixels-1/page/{_strings.NORMALISER}"


def test_without_the_readers_weights_the_reason_stands(tmp_path: Path) -> None:
    (tmp_path / "writer.py").write_text(WRITER)
    run = api.evaluate(f"{tmp_path / 'writer.py'}@writer", tasks=["written"], per_prompt=1, out=tmp_path / "o").runs[0]
    score = run.score("quote-exact")
    assert score["value"] is None or np.isfinite(score["value"])
    if score["value"] is None:
        assert "is not here" in score["why"] or "needs" in score["why"]


FORMS = {
    "quote-two-strings": (
        'A sign that says "OPEN" next to a sign that says "CLOSED"',
        "A sign that says “OPEN”, 12″ high, next to the owners’ sign “CLOSED”",
        "«OPEN» beside «CLOSED» on the shopkeepers' wall",
    ),
    "quote-single-marks": (
        "A storefront with 'Hello World' written on it.",
        "The bakers' storefront, 12' wide, says ‘Hello World’; don't look.",
        "「Hello\u200b World」と書かれた店",
    ),
}


@pytest.mark.parametrize("case", FORMS)
def test_pictures_of_quotes(case: str, shared: Path, tmp_path: Path) -> None:
    """Real pictures read by the real reader: what stands in them is what every form of the prompt quotes."""
    shutil.copytree(shared / "field" / "images" / case / "images", tmp_path / "images")
    row = json.loads((shared / "field" / "images" / case / "samples.jsonl").read_text())
    lines = [{**row, "file": f"images/{k}.png", "text": text} for k, text in enumerate(FORMS[case])]
    for k in range(1, len(lines)):
        shutil.copy(tmp_path / "images" / "0.png", tmp_path / "images" / f"{k}.png")
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder = tmp_path / "images"
    scored = sets.score(folder, [folder], ["quote-exact", "quote-cer"])
    values = {s.metric: (s.value, s.n) for s in scored.candidates[0].scores}
    assert values == {"quote-exact": (1, 3), "quote-cer": (0, 3)}
