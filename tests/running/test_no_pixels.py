"""A tokenizer that ends at features: rates and tokens as of any other, and every number of pixels null for that reason.

On every path: evaluate, score RUN, metrics of sets and of rows, stability, explain, `vtbench check`, the page.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tiny_features

import vtbench
from vtbench.explaining.explain import explain
from vtbench.leaderboard import build
from vtbench.proving import fresh_process
from vtbench.results.record import Run
from vtbench.running.rescore import add_metrics

WHY = "this tokenizer ends at features"
MEANING = f"""
import torch
import torch.nn.functional as F
from vtbench import Card, Codes, Family, Multiple, Tokenizer


class Meaning(Tokenizer):
    def encode(self, images, seeds, budget=None):
        bits = (F.avg_pool2d(images, 16) > 0.5).long()
        index = bits[:, 0] * 4 + bits[:, 1] * 2 + bits[:, 2]
        return Codes(index.flatten(1), (8,), tuple(images.shape[2:]), grids=(tuple(index.shape[1:]),))

    def decode(self, tokens, seeds):
        features = F.one_hot(tokens.indices[..., 0], 8).float().mean(dim=1)
        if self.card.name == "broken":
            return features * float("nan")
        return features[:, :, None, None].expand(-1, 8, 4, 4)[:, :3] if self.card.name == "pixels" else features


def card(name, why={WHY!r}):
    return Card(
        name=name,
        family="meaning",
        kind="discrete",
        title="Whether colours are bright",
        sizes=Multiple(of=16, at_least=16),
        tokens_at_256=256,
        alphabets=(8,),
        downsample=16,
        no_pixels=why,
    )


FAMILY = Family("meaning", "Meaning", (card("meaning"), card("broken"), card("pixels", None)), Meaning)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("adapter") / "meaning.py"
    path.write_text(MEANING)
    return f"{path}@meaning"


@pytest.fixture(scope="module")
def runs(model: str, images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A run of each of four tasks, all in one folder."""
    folder = tmp_path_factory.mktemp("runs")
    sets = tiny_features.task(folder, tag="meant")
    made = vtbench.evaluate(
        model,
        images=images,
        view="native",
        tasks=["reconstruction", "compression", "stability", sets],
        limit=4,
        out=folder / "out",
        save=["tokens", "images"],
    )
    assert not made.failures
    return {run.info.task.name: run for run in made.runs}


def test_rates_are_had_and_pixels_are_null_for_their_reason(runs: dict[str, Run]) -> None:
    for task, having in (("reconstruction", {"bpp"}), ("compression", {"bits", "bpp", "ratio", "ratio-png", "tokens"})):
        run = runs[task]
        assert run.info.status == "complete"
        asked = {name for name, card in run.info.metrics.items() if card}
        scores = {s.metric: s for s in run.scores if s.metric in asked}
        assert {name for name in having if scores[name].value is not None} == having
        pixels = set(scores) - having - {"coded-bpp", "codebook-usage", "codebook-perplexity"}
        pixels -= {"entropy-bpp", "entropy1-bpp", "position-entropy"}
        assert "psnr" in pixels
        assert {scores[name].why for name in pixels} == {WHY}, "those of networks that are not here too"
        assert {scores[name].value for name in pixels} == {None}
    rows = list(runs["compression"].rows())
    assert all(row.failed is None for row in rows), "an image without pixels is no failure"
    assert all(row.bits == 3 * row.values["tokens"] for row in rows)
    assert {row.why["psnr"] for row in rows} == {WHY}


def test_what_comes_back_again_is_null_and_what_is_encoded_is_not(runs: dict[str, Run]) -> None:
    scores = {s.metric: s for s in runs["stability"].scores}
    for name in ("shift-tokens", "jpeg90-tokens", "noise2-tokens"):
        assert scores[name].value is not None, name
    for name in ("drift-psnr-1", "drift-psnr-5", "drift-tokens-2"):
        assert (scores[name].value, scores[name].why) == (None, WHY)


def test_sets_are_null_and_no_picture_is_kept(runs: dict[str, Run]) -> None:
    run = next(run for name, run in runs.items() if name not in ("reconstruction", "compression", "stability"))
    scores = {s.metric: s for s in run.scores}
    for name in ("psnr", *(f"meant-{n}" for n in tiny_features.NAMES)):
        assert (scores[name].value, scores[name].why) == (None, WHY), name
    assert scores["bpp"].value is not None
    for one in runs.values():
        assert not (one.path / "samples").exists()
        assert not (one.path / "images").exists()


def test_scores_that_are_added_say_the_same(runs: dict[str, Run]) -> None:
    """From the tokens that the run kept, which are not decoded for it."""
    scores = {s.metric: s for s in add_metrics(runs["compression"].path, ["gmsd", "bits"]).scores}
    assert (scores["gmsd"].value, scores["gmsd"].why) == (None, WHY)
    assert scores["bits"].value is not None


def test_a_page_shows_the_run(runs: dict[str, Run], tmp_path: Path) -> None:
    build([runs["compression"].path.parent], tmp_path / "site")
    text = "".join(path.read_text() for path in (tmp_path / "site").rglob("*.html"))
    assert WHY in text


def test_the_contract_holds_and_says_what_it_cannot_check(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def same_process(command: Any, input: bytes, **_: Any) -> Any:
        return subprocess.CompletedProcess(command, 0, fresh_process.decode_here(json.loads(input)), b"")

    monkeypatch.setattr(fresh_process.subprocess, "run", same_process)
    checks = {c.name: c for c in vtbench.check(model)}
    assert [c for c in checks.values() if c.status == "failed"] == []
    assert checks["output"].said.endswith(WHY)
    assert checks["range and channels"].status == "not checked"
    assert checks["fresh process"].said.startswith("a fresh process decodes the same features")


def test_features_that_are_none_are_refused(model: str, images: Path, tmp_path: Path) -> None:
    for name, said in (("broken", "decode returned NaN"), ("pixels", "decode returned shape")):
        made = vtbench.evaluate(
            model.replace("@meaning", f"@{name}"), images=images, tasks=["compression"], limit=1, out=tmp_path
        )
        assert said in next(iter(made.failures.values()))


def test_a_claim_of_pixels_is_left_open(model: str, images: Path) -> None:
    answer = explain(model, {"psnr": 20.0}, images=str(images), limit=2)
    assert len([note for note in answer.notes if note.endswith(WHY)]) == 2
    (claim,) = answer.claims
    assert (claim.value, claim.n) == (None, 0)
