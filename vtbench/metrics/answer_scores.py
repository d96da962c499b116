"""Answers of a language model that sees, with fewer visual tokens: against its own with all of them, and against what
is right. Agreement and divergence need no labels; a score carries its evaluator, and how many answers that one could
not read. What a method retains is never without its interval, which is paired: both answer the same questions.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vtbench.images.questions import question_of
from vtbench.metrics.agreement import ratio
from vtbench.metrics.answers import ANSWER_EVALUATORS, Evaluator, Scored, normal, pope_numbers
from vtbench.metrics.tokens_kept import of_reading
from vtbench.types.item import Item
from vtbench.types.metric import Batch, ImageMetric, MetricCard, RowMetric, SetValue, Value
from vtbench.types.questions import EVALUATORS, Answer, Question
from vtbench.types.reading import Reading

NO_ANSWER = "the model answers no questions: give --tower a language model that sees"
NO_LABEL = "nothing says what is right: give the questions answers"
NO_YES = "the answers are not yes or no: F1 is POPE's"


def _share(name: str, title: str, source: str, better: Any = "higher") -> MetricCard:
    return MetricCard(name, title, 1, "", better, source, bounds=(0.0, 1.0), paired=False)


def evaluator_of(item: Item, asked: str = "") -> Evaluator | None:
    """How the answer to an item is scored; None where nothing says what is right. asked: instead of the item's own."""
    return ANSWER_EVALUATORS.get(asked or str(item.meta.get("evaluator"))) if item.meta.get("answers") else None


def evaluator_name(row: Mapping[str, Any], item: Item | None) -> str:
    """The name of the one that scored a row; empty where nobody did."""
    asked = (row.get("read") or {}).get("answer", {}).get("evaluator")
    own = item.meta.get("evaluator") if item is not None and item.meta.get("answers") else None
    return str(asked if asked and own else own or "")


class _OfAnswer(ImageMetric):
    """A number of one question's two answers."""

    reads_candidate = False

    def of(self, answer: Answer, item: Item) -> float | None:
        raise NotImplementedError

    def measure(self, batch: Batch) -> Sequence[Value]:
        def one(reading: Reading, index: int) -> Value:
            if not reading.answers:
                return Value(None, why=reading.why.get("answers", NO_ANSWER))
            value = self.of(reading.answers[index], batch.reference.items[index])
            return Value(value, why=None if value is not None else NO_LABEL)

        return of_reading(batch, one)


class AnswerAgreement(_OfAnswer):
    card = _share(
        "answer-agreement",
        "Answers that are the full model's",
        "share of questions whose greedy answer is the full model's, but for case, spaces and marks at the ends",
    )

    def of(self, answer: Answer, item: Item) -> float:
        return float(normal(answer.text) == normal(answer.full))


class AnswerDivergence(_OfAnswer):
    card = MetricCard(
        name="answer-kl",
        title="Divergence of the first answer token",
        version=1,
        unit="nats",
        better="lower",
        source="KL(full || reduced) over the vocabulary, softmax in float64, temperature 1",
        bounds=(0.0, None),
        paired=False,
    )

    def of(self, answer: Answer, item: Item) -> float:
        return answer.kl


class _Scored(_OfAnswer):
    """A number of one answer as its evaluator reads it."""

    full = False

    def read(self, scored: Scored) -> float:
        return scored.value

    def of(self, answer: Answer, item: Item) -> float | None:
        evaluator = evaluator_of(item, answer.evaluator)
        if evaluator is None:
            return None
        return self.read(evaluator.score(answer.full if self.full else answer.text, question_of(item)))


class AnswerScore(_Scored):
    card = _share("answer-score", "Score of the answers", "mean over questions by the evaluator that the suite names")


class AnswerScoreFull(_Scored):
    card = _share("answer-score-full", "Score of the full model", "the same of the full model on the same questions")
    full = True


class AnswerUnparsed(_Scored):
    card = _share(
        "answer-unparsed",
        "Answers that were not read",
        "share that the evaluator could not read, and scored all the same",
        "lower",
    )

    def read(self, scored: Scored) -> float:
        return float(not scored.parsed)


class AnswerUnparsedFull(AnswerUnparsed):
    card = _share("answer-unparsed-full", "Of the full model's", "the same of the full model", "lower")
    full = True


class CacheKept(_OfAnswer):
    card = MetricCard(
        name="cache-kept",
        title="Cache that is left",
        version=1,
        unit="%",
        better="lower",
        source="bytes of keys and values behind the answer, of the full model's",
        bounds=(0.0, None),
        paired=False,
    )

    def of(self, answer: Answer, item: Item) -> float | None:
        return 100 * answer.cache / answer.full_cache if answer.full_cache else None


class _OfLayers(_OfAnswer):
    def of(self, answer: Answer, item: Item) -> float | None:
        return float(self.layer(answer.by_layer)) if answer.by_layer else None

    def layer(self, counts: Sequence[int]) -> int:
        raise NotImplementedError


def _tokens(name: str, title: str, source: str) -> MetricCard:
    return MetricCard(name, title, 1, "tokens", "lower", source, bounds=(0.0, None), paired=False)


class TokensPrefill(_OfLayers):
    card = _tokens("visual-tokens-prefill", "Visual tokens, first layer", "the picture's that go into the first layer")

    def layer(self, counts: Sequence[int]) -> int:
        return counts[0]


class TokensLast(_OfLayers):
    card = _tokens("visual-tokens-last", "Visual tokens, last layer", "the picture's that go into the last layer")

    def layer(self, counts: Sequence[int]) -> int:
        return counts[-1]


class AnswerRetained(RowMetric):
    card = MetricCard(
        name="answer-retained",
        title="Score that is retained",
        version=1,
        unit="%",
        better="higher",
        source="100 x score / score of the full model on the same questions; paired bootstrap over questions",
        bounds=(0.0, None),
        kind="run",
        reduction="ratio of sums",
        paired=False,
    )
    inputs = ("answer-score", "answer-score-full", "answer-unparsed", "answer-unparsed-full")
    reads_candidate = False

    def finish(self, rows: Sequence[Mapping[str, Any]], items: Sequence[Item]) -> SetValue:
        both = [[float(v[n]) for n in self.inputs] for row in rows if {*self.inputs} <= (v := row["values"]).keys()]
        if not both:
            return _nothing(rows, self.inputs[0])
        part, whole, unparsed, unparsed_full = map(list, zip(*both, strict=True))
        value = ratio(part, whole)
        if value is None:
            return SetValue(None, n=len(both), why="the full model has no answer right")
        known = {item.id: item for item in items}
        names = sorted({evaluator_name(row, known.get(str(row["item"]))) for row in rows})
        details = {
            "answer-score": math.fsum(part) / len(part),
            "answer-score-full": math.fsum(whole) / len(whole),
            "evaluators": {n: EVALUATORS[n].version for n in names if n in EVALUATORS},
            "unparsed": int(sum(unparsed)),
            "unparsed_full": int(sum(unparsed_full)),
            "interval": "paired bootstrap, percentile",
        }
        warning = unread(max(sum(unparsed), sum(unparsed_full)), len(both))
        return SetValue(100 * value[0], 100 * value[1], 100 * value[2], len(both), warning=warning, details=details)


class AnswerF1(RowMetric):
    """POPE's number of its papers. From each row's score and whether it was read: an answer of yes or no that is wrong
    is the other one."""

    card = MetricCard(
        name="answer-f1",
        title="F1 of yes, mean over splits",
        version=1,
        unit="",
        better="higher",
        source="mean of the splits' F1 of yes (details: each split's F1, accuracy, precision, recall, share of yes)",
        bounds=(0.0, 1.0),
        kind="run",
        reduction="mean over splits",
        paired=False,
    )
    inputs = ("answer-score", "answer-unparsed")
    reads_candidate = False

    def finish(self, rows: Sequence[Mapping[str, Any]], items: Sequence[Item]) -> SetValue:
        known = {item.id: item for item in items}
        splits: dict[str, list[tuple[Scored, Question]]] = defaultdict(list)
        for row in rows:
            item = known.get(str(row["item"]))
            name = evaluator_name(row, item)
            scored = all(key in row["values"] for key in self.inputs)
            if item is not None and scored and name.startswith("pope"):
                splits[str(item.meta.get("split", "all"))].append(_said(row["values"], item, name))
        if not splits:
            return SetValue(None, n=0, why=_why(rows) or NO_YES)
        details: dict[str, Any] = {}
        for name, answers in sorted(splits.items()):
            accuracy = math.fsum(one.value for one, _ in answers) / len(answers)
            details[name] = {"n": len(answers), "accuracy": accuracy, **pope_numbers(answers)}
        values = [one["f1"] for one in details.values()]
        count = sum(map(len, splits.values()))
        if any(value is None for value in values):
            why = "in a split nobody says yes, or nothing should be yes, so that F1 is not defined"
            return SetValue(None, n=count, why=why, details={"splits": details})
        missed = sum(not one.parsed for answers in splits.values() for one, _ in answers)
        return SetValue(
            math.fsum(values) / len(values), n=count, warning=unread(missed, count), details={"splits": details}
        )


def unread(missed: float, count: int) -> str | None:
    """A warning where the evaluator scored answers that it could not read."""
    return f"{int(missed)} of {count} answers could not be read, and were scored all the same" if missed else None


def _said(values: Mapping[str, Any], item: Item, evaluator: str) -> tuple[Scored, Question]:
    """The answer as it was read, again from the row."""
    question = question_of(item)
    right, label = bool(values["answer-score"]), question.answers[0]
    read = label if right else {"yes": "no", "no": "yes"}[label]
    exact = evaluator == "pope-exact"
    unread = exact and bool(values["answer-unparsed"])
    return Scored(float(right), not values["answer-unparsed"], "" if unread else read), question


def _why(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Why there is no agreement either, where there is none."""
    return next((row["why"]["answer-agreement"] for row in rows if "answer-agreement" in row["why"]), None)


def _nothing(rows: Sequence[Mapping[str, Any]], name: str) -> SetValue:
    whys = (row["why"].get(name) or row["why"].get("*") for row in rows)
    return SetValue(None, n=0, why=next(filter(None, whys), NO_LABEL))


METRICS: tuple[Callable[[], Any], ...] = (
    AnswerAgreement,
    AnswerDivergence,
    AnswerScore,
    AnswerScoreFull,
    AnswerRetained,
    AnswerF1,
    AnswerUnparsed,
    AnswerUnparsedFull,
    TokensPrefill,
    TokensLast,
    CacheKept,
)
