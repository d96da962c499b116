"""One question on one image, as everybody names it. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

EVALUATORS = ("pope", "pope-exact", "gqa", "textvqa", "exact", "choice")
"""How answers are scored: `vtbench.metrics.answers` says what each counts."""


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
    """What a language model says to one question, with all of the picture's tokens (`full`) and with fewer (`text`).

    kl: Kullback-Leibler divergence of the first answer token's distribution, KL(full || reduced), nats, float64
    softmax at temperature 1. tokens of the picture that go into each layer: `by_layer`. prompt: all tokens of the
    reduced prompt. cache, full_cache: bytes of keys and values that decoding reads.
    """

    full: str
    text: str
    kl: float
    by_layer: tuple[int, ...] = ()
    prompt: int = 0
    cache: int = 0
    full_cache: int = 0
