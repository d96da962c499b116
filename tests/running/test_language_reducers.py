"""`vtbench evaluate --reducer NAME --tower LLAVA --images QUESTIONS.jsonl`, on a tiny LLaVA saved to disk."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support import command

from vtbench.results.files import read_lines
from vtbench.results.record import find_runs, read_run

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
import tiny_language_models as tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.llava(tmp_path_factory.mktemp("towers") / "tiny-llava")


def test_a_reducer_answers_questions(model: Path, tmp_path: Path) -> None:
    questions = tiny.questions(tmp_path / "questions", 3)
    out = tmp_path / "out"
    words = ("evaluate", "--reducer", "fastv", "--tower", model, "--images", questions, "--option", "answer_tokens=3")
    code, text, err = command(*words, "--keep", "18,9", "--no-baselines", "--out", out)
    assert code == 0, err
    assert "answers are scored by exact version 1" in text
    runs = {run.info.model.options["keep"]: run for run in map(read_run, find_runs([out]))}
    assert sorted(runs) == [9, 18]
    for keep, run in runs.items():
        assert run.info.task.name == "answers"
        tokens = {name: run.score(f"visual-tokens{name}") for name in ("", "-prefill", "-last", "-mean-layer")}
        values = {name: score.value for name, score in tokens.items() if score is not None}
        assert values == {"": keep, "-prefill": 36, "-last": keep, "-mean-layer": (36 + keep) / 2}
        for row in read_lines(run.path / "rows.jsonl"):
            assert row["read"]["by_layer"] == [36, 36, keep, keep]
            assert set(row["read"]["answer"]) == {"full", "text"}
        assert run.info.model.as_dict()["tower"]["prompt"] == "USER : <image> {question} ASSISTANT :"
        # Three questions are one batch, of which nothing is counted.
        costs = [run.score(name) for name in ("flops", "flops-prefill-full", "flops-decoded-token", "kv-bytes")]
        assert [(c.value, (c.why or "")[:31]) for c in costs if c] == [(None, "not counted: a run of one batch")] * 4
        times = [run.score(f"seconds-{name}") for name in ("prefill", "prefill-full", "decoded-token")]
        assert [(c.value, (c.why or "")[:29]) for c in times if c] == [(None, "not timed: a run of one batch")] * 3
    # Asked again it is there; another prompt is another question.
    again = command(*words, "--keep", "18", "--no-baselines", "--out", out)
    assert again[0] == 0
    assert len(find_runs([out])) == 2
    gqa = command(*words, "--keep", "18", "--no-baselines", "--out", tmp_path / "gqa", "--option", "evaluator=gqa")
    assert gqa[0] == 0
    (run,) = map(read_run, find_runs([tmp_path / "gqa"]))
    assert {row["read"]["answer"]["evaluator"] for row in read_lines(run.path / "rows.jsonl")} == {"gqa"}
    other = command(*words, "--keep", "18", "--no-baselines", "--out", out, "--option", "prompt=<image> {question}")
    assert other[0] == 0
    assert len(find_runs([out])) == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--images", "starter-natural"), "is a language model that sees, and is asked questions: give --images"),
        (("--option", "pool=mean"), "no option 'pool'"),
        (("--option", "answer_tokens=many"), "wanted a int like 16"),
        (("--option", "positions=none"), "give method, original or renumbered"),
        (("--option", "attention=flash_attention_2"), "give eager or sdpa"),
        (("--option", "layer=9"), "fastv cuts before layer 9, counted from 0, and the language model has 4"),
        (("--keep", "37"), "--keep 37: the picture has 36 tokens in this model; give 1 to 36"),
        (("--option", "evaluator=vqa"), "give pope, pope-exact, gqa, textvqa, exact, choice"),
        (("--option", "evaluator=pope"), "scores yes and no, and question q0 has the answer 'red'"),
        (("--task", "reconstruction"), "a reducer's task is understanding or answers"),
        (("--reducer", "tome", "--option", "block=1"), "tome has a schedule of its own"),
        (("--reducer", "hiprune"), "hiprune reads layer 8, and the tower has 3"),
        (("--reducer", "hiprune", "--option", "attention=sdpa"), "give --option attention=eager"),
    ],
)
def test_what_cannot_be_asked(model: Path, tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    images = tiny.questions(tmp_path / "questions", 1)
    asked = {"--reducer": "fastv", "--tower": model, "--keep": "9", "--images": images, "--out": tmp_path / "out"}
    for name, value in zip(words[::2], words[1::2], strict=True):
        asked[name] = value
    code, _, err = command("evaluate", "--no-baselines", *(word for pair in asked.items() for word in pair))
    assert code in (1, 2)
    assert says in " ".join(err.split())
    assert json.dumps(err).count("Traceback") == 0
