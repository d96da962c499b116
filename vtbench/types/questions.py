"""One question on one image, its answer, and how answers are scored, as everybody names them. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class EvaluatorCard:
    """What is stated of one way to score answers. source: whose rule it is; trap: what to know of it."""

    name: str
    version: int
    source: str
    trap: str = ""

    def __str__(self) -> str:
        return f"{self.name} version {self.version} ({self.source}{'; ' if self.trap else ''}{self.trap})"


EVALUATORS: Mapping[str, EvaluatorCard] = {
    card.name: card
    for card in (
        EvaluatorCard(
            "pope",
            1,
            "LLaVA at c121f04, llava/eval/eval_pope.py",
            "whatever holds no No, not or no counts as yes, an empty answer too",
        ),
        EvaluatorCard("pope-exact", 1, "the answer is yes or no and nothing else"),
        EvaluatorCard("gqa", 1, "LLaVA at c121f04, scripts/convert_gqa_for_eval.py, and GQA's exact match"),
        EvaluatorCard(
            "textvqa",
            1,
            "LLaVA at c121f04, llava/eval/m4c_evaluator.py",
            "whether the prompt brings OCR text is part of the question",
        ),
        EvaluatorCard("exact", 1, "equal to one of the answers: small letters, single spaces, no mark at either end"),
        EvaluatorCard("choice", 1, "the chosen option by its letter or its text"),
    )
}
"""By name; `vtbench.metrics.answers` scores by them."""


@dataclass(frozen=True, slots=True)
class Question:
    """`image`: its name in the suite of pictures. text: the question as the prompt has it, with everything that stands
    beside it (an instruction, text that an OCR read). answers: what counts as right, empty where nobody knows; of
    TextVQA ten people's. choices: the options of a multiple choice. split: a part that is scored by itself as well."""

    id: str
    image: str
    text: str
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a language model says to one question, with all of the picture's tokens (`full`) and with fewer (`text`); or
    of a picture and of its reconstruction, with all tokens of both.

    kl: Kullback-Leibler divergence of the first answer token's distribution, KL(full || reduced), nats, float64
    softmax at temperature 1. by_layer: tokens of the picture that go into each layer. prompt: all tokens of the reduced
    prompt. cache, full_cache: bytes of keys and values that decoding reads. evaluator: who scores it, where that is not
    the one that the question names.
    """

    full: str
    text: str
    kl: float
    by_layer: tuple[int, ...] = ()
    prompt: int = 0
    cache: int = 0
    full_cache: int = 0
    evaluator: str = ""

    def as_dict(self) -> dict[str, Any]:
        """What a row keeps of it."""
        return {"full": self.full, "text": self.text, **({"evaluator": self.evaluator} if self.evaluator else {})}
