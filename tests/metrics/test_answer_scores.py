"""Metrics of answers, on answers written by hand; what is retained against a bootstrap of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from vtbench.metrics.answer_scores import METRICS, NO_ANSWER, NO_LABEL, AnswerF1, AnswerRetained
from vtbench.types.item import Item
from vtbench.types.metric import Batch, ImageMetric, Reference, RowMetric
from vtbench.types.questions import Answer
from vtbench.types.reading import Rate, Reading

BY_NAME = {metric().card.name: metric for metric in METRICS}


def asked(name: str, answers: Sequence[str], evaluator: str = "pope", split: str | None = None) -> Item:
    meta: dict[str, Any] = {"question": "?"}
    if answers:
        meta |= {"answers": list(answers), "evaluator": evaluator, "evaluator_version": 1}
    return Item(name, f"{name}.png", meta=meta if split is None else {**meta, "split": split})


def batch(items: Sequence[Item], answers: Sequence[Answer] | None) -> Batch:
    pixels = torch.zeros(len(items), 3, 2, 2, dtype=torch.uint8)
    reference = Reference(pixels, items, [""] * len(items))
    reading = None
    if answers is not None:
        reading = Reading([Rate(4, 9)] * len(items), answers=answers)
    return Batch(reference, pixels, reading=reading)


def rows_of(items: Sequence[Item], answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """As a run writes them."""
    out: list[dict[str, Any]] = [{"item": item.id, "values": {}, "why": {}} for item in items]
    for name, make in BY_NAME.items():
        metric = make()
        if isinstance(metric, ImageMetric):
            for row, value in zip(out, metric.measure(batch(items, answers)), strict=True):
                said = ("why", value.why) if value.value is None else ("values", value.value)
                row[said[0]][name] = said[1]
    return out


def test_every_number_of_one_answer() -> None:
    items = [asked("a", ["yes"]), asked("b", ["no"]), asked("c", [])]
    answers = [
        Answer("Yes.", "yes", 0.25, (9, 9, 4), 20, 50, 200),
        Answer("no", "A dog", 1.5, (4, 4, 4), 20, 100, 200),
        Answer("one", "two", 0.0, (9, 9, 9), 20, 0, 0),
    ]
    rows = rows_of(items, answers)
    wanted = {
        "answer-agreement": (1.0, 0.0, 0.0),
        "answer-kl": (0.25, 1.5, 0.0),
        "answer-score": (1.0, 0.0, None),
        "answer-score-full": (1.0, 1.0, None),
        "answer-unparsed": (0.0, 1.0, None),
        "answer-unparsed-full": (0.0, 0.0, None),
        "visual-tokens-prefill": (9.0, 4.0, 9.0),
        "visual-tokens-last": (4.0, 4.0, 9.0),
        "cache-kept": (25.0, 50.0, None),
    }
    for name, values in wanted.items():
        assert tuple(row["values"].get(name) for row in rows) == values, name
    assert rows[2]["why"]["answer-score"] == NO_LABEL


def test_without_answers_nothing_is_a_number() -> None:
    items = [asked("a", ["yes"])]
    for make in METRICS:
        metric = make()
        if isinstance(metric, ImageMetric):
            (value,) = metric.measure(batch(items, []))
            assert (value.value, value.why) == (None, NO_ANSWER)
            assert metric.measure(batch(items, None))[0].why
        else:
            assert isinstance(metric, RowMetric)
            assert metric.finish([{"item": "a", "values": {}, "why": {}}], items).value is None


def test_f1_is_the_mean_of_the_splits_and_retained_is_paired() -> None:
    """Truth by scikit-learn over each split, and by a bootstrap of its own."""
    import numpy as np
    from sklearn.metrics import f1_score

    random = np.random.default_rng(3)
    items, answers, said, true = [], [], [], []
    for k in range(90):
        label, split = random.choice(["yes", "no"]), ("adversarial", "popular", "random")[k % 3]
        full = label if random.random() < 0.8 else "no"
        text = full if random.random() < 0.7 else random.choice(["yes", "no", "dog"])
        items.append(asked(f"q{k}", [str(label)], split=split))
        answers.append(Answer(str(full), str(text), 0.1, (4,), 9, 1, 2))
        said.append(text != "no")
        true.append(label == "yes")
    rows = rows_of(items, answers)
    value = AnswerF1().finish(rows, items)
    splits = [f1_score(true[k::3], said[k::3]) for k in range(3)]
    assert value.value == pytest.approx(sum(splits) / 3, abs=1e-12)
    assert [value.details["splits"][n]["f1"] for n in ("adversarial", "popular", "random")] == pytest.approx(splits)
    assert value.details["splits"]["popular"]["yes_share"] == pytest.approx(sum(said[1::3]) / 30)

    part, whole = (np.array([row["values"][n] for row in rows]) for n in ("answer-score", "answer-score-full"))
    kept = AnswerRetained().finish(rows, items)
    assert kept.value == pytest.approx(100 * part.sum() / whole.sum())
    drawn = random.integers(0, 90, size=(4000, 90))
    low, high = np.percentile(100 * part[drawn].sum(axis=1) / whole[drawn].sum(axis=1), [2.5, 97.5])
    assert kept.low == pytest.approx(low, abs=1.5)
    assert kept.high == pytest.approx(high, abs=1.5)
    assert kept.details["evaluators"] == {"pope": 1}
    assert kept.details["unparsed"] == sum(answer.text == "dog" for answer in answers)
    assert str(value.warning).startswith(f"{kept.details['unparsed']} of 90 answers could not be read")


def test_numbers_that_are_not_defined() -> None:
    items = [asked("a", ["no"], split="x"), asked("b", ["no"], split="x")]
    rows = rows_of(items, [Answer("no", "no", 0.0)] * 2)
    value = AnswerF1().finish(rows, items)
    assert value.value is None
    assert "nobody says yes" in str(value.why)
    wrong = rows_of(items, [Answer("yes", "no", 0.0)] * 2)
    assert AnswerRetained().finish(wrong, items).why == "the full model has no answer right"
    other = [asked("a", ["cat"], "exact")]
    assert "yes or no" in str(AnswerF1().finish(rows_of(other, [Answer("cat", "cat", 0.0)]), other).why)


def test_an_evaluator_that_was_asked_for_scores_instead() -> None:
    """What is neither yes nor no is a yes to POPE's own evaluator, and nothing to the exact one."""
    items = [asked(name, ["yes"], split="x") for name in "abc"]
    said = ("yes", "a dog", "no")
    for evaluator, score, f1 in (("", 2 / 3, 0.8), ("pope-exact", 1 / 3, 0.5)):
        answers = [Answer("yes", text, 0.1, evaluator=evaluator) for text in said]
        rows = rows_of(items, answers)
        for row, answer in zip(rows, answers, strict=True):
            row["read"] = {"answer": answer.as_dict()}
        kept = AnswerRetained().finish(rows, items)
        assert kept.details["answer-score"] == pytest.approx(score)
        assert kept.details["evaluators"] == {evaluator or "pope": 1}
        assert AnswerF1().finish(rows, items).value == pytest.approx(f1)
