"""A language model that sees answers on reconstructions, against its answers on the originals; held to transformers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from support import command

from vtbench.results.files import read_lines
from vtbench.results.record import Run, find_runs, read_run
from vtbench.running.evaluate import evaluate
from vtbench.running.request import Request
from vtbench.types.codes import Codes
from vtbench.types.errors import VtbenchError

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
import tiny_language_models as tiny

WORDS = 3
"""Tokens of an answer."""
PROMPTS = {
    "llava": "USER : <image> {} ASSISTANT :",
    "qwen2": "USER : <|vision_start|> <|image_pad|> <|vision_end|> {} ASSISTANT :",
}
"""The chat template of the tiny models, written out."""


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("towers")
    return {"llava": tiny.llava(root / "llava"), "qwen2": tiny.qwen(root / "qwen2")}


def said(kind: str, folder: Path, pictures: list[Path], texts: list[str]) -> list[tuple[str, torch.Tensor]]:
    """[(answer, log probabilities of its first token)] by transformers alone, one picture at a time."""
    import transformers as t

    cls = t.LlavaForConditionalGeneration if kind == "llava" else t.Qwen2VLForConditionalGeneration
    network = cls.from_pretrained(folder, attn_implementation="eager").eval()
    processor = t.AutoProcessor.from_pretrained(folder)
    out = []
    for path, text in zip(pictures, texts, strict=True):
        picture = Image.open(path).convert("RGB")
        inputs = processor(images=picture, text=PROMPTS[kind].format(text), return_tensors="pt")
        with torch.inference_mode():
            first = network(**inputs).logits[0, -1].double().log_softmax(-1)
            ids = network.generate(**inputs, do_sample=False, max_new_tokens=WORDS)[0, inputs["input_ids"].shape[1] :]
        out.append((processor.tokenizer.decode(ids, skip_special_tokens=True).strip(), first))
    return out


def asked(folder: Path, kind: str, tower: Path, count: int = 4) -> tuple[Path, list[dict[str, Any]], list[Any]]:
    """(a question file whose answers the model gives on the originals, but for the last; its lines; what it says)"""
    path = tiny.questions(folder, count)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    before = said(kind, tower, [folder / line["image"] for line in lines], [line["question"] for line in lines])
    for line, (text, _) in zip(lines, before, strict=True):
        line["answers"] = [text]
    lines[-1]["answers"] = ["none of these words"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path, lines, before


def value(run: Run, name: str) -> float | None:
    score = run.score(name)
    assert score is not None, name
    return score.value


@pytest.mark.parametrize("kind", ["llava", "qwen2"])
def test_answers_on_reconstructions(towers: dict[str, Path], kind: str, tmp_path: Path) -> None:
    path, lines, before = asked(tmp_path / "asked", kind, towers[kind])
    result = evaluate(
        Request(
            ["jpeg"],
            ["answers"],
            path,
            tower=str(towers[kind]),
            out=tmp_path / "out",
            options={"quality": ["1", "95"], "answer_tokens": str(WORDS)},
            save=["images"],
        )
    )
    assert not result.failures
    assert len(result.runs) == 2
    for run in result.runs:
        rows = {row["item"]: row for row in read_lines(run.path / "rows.jsonl")}
        saved = [next(run.path.glob(f"images/*{line['id']}*")) for line in lines]
        after = said(kind, towers[kind], saved, [line["question"] for line in lines])
        same, right, right_before = [], [], []
        for line, (old, one), (new, two) in zip(lines, before, after, strict=True):
            row = rows[line["id"]]
            assert row["read"]["answer"] == {"full": old, "text": new}
            kl = float((one.exp() * (one - two)).sum())
            assert row["values"]["answer-kl"] == pytest.approx(kl, rel=1e-3, abs=1e-5)
            same.append(old == new)
            right.append(new == line["answers"][0])
            right_before.append(old == line["answers"][0])
        assert right_before == [True, True, True, False]
        assert value(run, "answer-agreement") == pytest.approx(sum(same) / 4)
        assert value(run, "answer-score") == pytest.approx(sum(right) / 4)
        assert value(run, "answer-score-full") == pytest.approx(3 / 4)
        assert value(run, "answer-retained") == pytest.approx(100 * sum(right) / 3)
        assert value(run, "bpp"), "the axis that codecs and tokenizers share"
        assert run.score("visual-tokens") is None, "no token of the model is dropped"
        assert run.score("cache-kept") is None
        assert run.info.task.name == "answers"
        assert run.info.model.kind != "reducer"
        assert value(run, "answer-kl"), "another picture was read than the original"
    low, high = (value(run, "bpp") for run in result.runs)
    assert low < high  # type: ignore[operator]


class Coarse:
    """A tokenizer of one grey level a block of 8 x 8 pixels; codes 0 to 255."""

    def encode(self, images: torch.Tensor) -> Codes:
        grey = torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 8)
        return Codes((grey * 255).round().long().flatten(1)[..., None], (256,), (images.shape[2], images.shape[3]))

    def decode(self, tokens: Codes) -> torch.Tensor:
        height, width = tokens.size
        grey = tokens.indices.reshape(-1, 1, height // 8, width // 8) / 255
        return torch.nn.functional.interpolate(grey, scale_factor=8.0).expand(-1, 3, -1, -1)


def test_a_tokenizer_at_its_view(towers: dict[str, Path], tmp_path: Path) -> None:
    """What the tokenizer is shown is the original: the picture at the view, not the file's own pixels."""
    tower = towers["llava"]
    path, lines, _ = asked(tmp_path / "asked", "llava", tower)
    options = {"answer_tokens": str(WORDS), "evaluator": "gqa"}
    common: dict[str, Any] = {"images": path, "view": "32", "save": ["images"]}
    request = Request(Coarse(), ["understanding"], tower=str(tower), out=tmp_path / "out", options=options, **common)
    (run,) = evaluate(request).runs
    assert run.info.task.name == "answers"
    (same,) = evaluate(Request("png", ["reconstruction"], out=tmp_path / "same", **common)).runs
    texts = [line["question"] for line in lines]
    shown, saved = ([next(one.path.glob(f"images/*{line['id']}*")) for line in lines] for one in (same, run))
    assert {Image.open(one).size for one in (*shown, *saved)} == {(32, 32)}
    before, after = (said("llava", tower, paths, texts) for paths in (shown, saved))
    rows = {row["item"]: row["read"]["answer"] for row in read_lines(run.path / "rows.jsonl")}
    for line, (old, _), (new, _) in zip(lines, before, after, strict=True):
        assert rows[line["id"]] == {"full": old, "text": new, "evaluator": "gqa"}
    assert value(run, "bpp") == pytest.approx(16 * 8 / 32**2)


def test_nothing_is_lost_without_loss(towers: dict[str, Path], tmp_path: Path) -> None:
    """By the command line; a run says how it is asked for again, and its shards are joined."""
    path, _, before = asked(tmp_path / "asked", "llava", towers["llava"])
    words = ("evaluate", "png", "--task", "answers", "--tower", towers["llava"], "--images", path)
    more = ("--option", f"answer_tokens={WORDS}", "--out")
    code, text, err = command(*words, *more, tmp_path / "out")
    assert code == 0, err
    assert "answers are scored by exact version 1" in text
    (run,) = map(read_run, find_runs([tmp_path / "out"]))
    assert (value(run, "answer-agreement"), value(run, "answer-kl")) == (1, 0)
    assert value(run, "answer-retained") == 100
    assert [row["read"]["answer"]["full"] for row in read_lines(run.path / "rows.jsonl")] == [old for old, _ in before]
    (settings,) = run.path.glob("config.y*ml")
    assert yaml.safe_load(settings.read_text())["tower"] == str(towers["llava"])
    for part in ("1/2", "2/2"):
        assert command(*words, *more, tmp_path / "parts", "--shard", part)[0] == 0
    code, _, err = command("merge", tmp_path / "parts", "--out", tmp_path / "whole")
    assert code == 0, err
    (joined,) = map(read_run, find_runs([tmp_path / "whole"]))
    for name in ("answer-agreement", "answer-score", "answer-retained", "bpp"):
        assert value(joined, name) == value(run, name)


@pytest.mark.parametrize(
    ("tasks", "options", "images", "says"),
    [
        (["answers"], {}, "starter-natural", "is a language model that sees, and is asked questions: give --images"),
        (["understanding"], {}, None, "is a language model that sees, and is asked questions: give --images"),
        (["answers", "reconstruction"], {}, "asked", "--task understanding alone"),
        (["answers"], {"pool": "mean"}, "asked", "no option 'pool'"),
        (["answers"], {"positions": "original"}, "asked", "no option 'positions'"),
        (["answers"], {"evaluator": "vqa"}, "asked", "give pope, pope-exact, gqa"),
        (["answers"], {"evaluator": "pope"}, "asked", "scores yes and no, and question"),
        (["answers"], {"answer_tokens": "0"}, "asked", "give 1 to"),
    ],
)
def test_what_cannot_be_asked(
    towers: dict[str, Path], tmp_path: Path, tasks: list[str], options: dict[str, str], images: str | None, says: str
) -> None:
    path = tiny.questions(tmp_path / "asked", 1) if images == "asked" else images
    request = Request(["png"], tasks, path, tower=str(towers["llava"]), options=options, out=tmp_path / "out")
    with pytest.raises(VtbenchError, match=says):
        evaluate(request)


def test_what_answers_no_questions(towers: dict[str, Path], tmp_path: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    tower = tmp_path / "clip"
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 24}
    CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=32, patch_size=8)).save_pretrained(tower)
    path = tiny.questions(tmp_path / "asked", 1)
    with pytest.raises(VtbenchError, match="answers no questions: give one such as LLaVA"):
        Request(["png"], ["answers"], path, tower=str(tower), out=tmp_path / "out").checked()
    with pytest.raises(VtbenchError, match="--task answers compares what a model makes of pictures"):
        Request(["png"], ["answers"], path, out=tmp_path / "out").checked()
