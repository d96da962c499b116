"""How answers to questions on images are scored: named evaluators, each with a version, and what they could not read.

Papers name a benchmark and not the evaluator, and two evaluators give one model two numbers: a score here always
carries the evaluator's name, and the number of answers that it could not read and scored by a rule all the same.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vtbench.types.questions import EVALUATORS, EvaluatorCard, Question


@dataclass(frozen=True)
class Scored:
    """One answer: `value` in [0, 1]; whether it could be read; `read`, what it was taken for."""

    value: float
    parsed: bool
    read: str


@dataclass(frozen=True)
class Evaluator:
    """`score` reads an answer to a question that has answers."""

    card: EvaluatorCard
    score: Callable[[str, Question], Scored]


# -- POPE --------------------------------------------------------------------------------------------------------------


def _pope_read(answer: str) -> str:
    """Upstream's reading: the first sentence without commas says no if one of its words is No, not or no; everything
    else, an empty answer too, is yes."""
    words = answer.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & {*words} else "yes"


def _says(answer: str) -> str | None:
    """The one of yes and no that the answer's words hold, in any case; None where they hold neither or both."""
    words = {*re.findall(r"[a-z]+", answer.lower())}
    yes, no = "yes" in words, bool(words & {"no", "not"})
    return None if yes == no else "yes" if yes else "no"


def _pope(answer: str, question: Question) -> Scored:
    read = _pope_read(answer)
    return Scored(float(read == question.answers[0]), _says(answer) is not None, read)


def _pope_exact(answer: str, question: Question) -> Scored:
    read = answer.strip().lower().rstrip(".")
    parsed = read in ("yes", "no")
    return Scored(float(parsed and read == question.answers[0]), parsed, read if parsed else "")


def pope_numbers(scored: Sequence[tuple[Scored, Question]]) -> dict[str, float | None]:
    """{f1, precision, recall, yes_share} of one split. Answers read as neither yes nor no are no positives.

    f1: of "yes"; None where no question is answered yes, or none should be (precision or recall is not defined).
    """
    said = Counter((one.read, question.answers[0]) for one, question in scored)
    hits, false_alarms = said["yes", "yes"], said["yes", "no"]
    wanted = sum(n for (_, label), n in said.items() if label == "yes")
    precision = hits / (hits + false_alarms) if hits + false_alarms else None
    recall = hits / wanted if wanted else None
    f1 = None
    if precision is not None and recall is not None:
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    share = (hits + false_alarms) / len(scored) if scored else None
    return {"f1": f1, "precision": precision, "recall": recall, "yes_share": share}


# -- GQA ---------------------------------------------------------------------------------------------------------------


def _gqa(answer: str, question: Question) -> Scored:
    read = answer.rstrip(".").lower()
    return Scored(float(read == question.answers[0]), bool(read.strip()), read)


# -- TextVQA -----------------------------------------------------------------------------------------------------------

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0", **{word: str(value) for value, word in enumerate(_DIGITS)}}
_ARTICLES = {"a", "an", "the"}
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_ENDINGS = {
    "n't": "ain aren can couldn didn doesn don hadn hasn haven isn mightn mustn needn oughtn shan shouldn wasn weren "
    "won wouldn",
    "n't've": "couldn hadn mightn shouldn wouldn",
    "'ve": "could might must not should they we what where who would you",
    "'d": "he how it someone something there they where who you",
    "'d've": "he it she somebody someone something there they we who you",
    "'ll": "how it somebody someone something they what who why you",
    "'s": "he how somebody someone that there what when where who why",
    "'re": "there they what why you",
}
"""English contractions by ending; in the first two the stem brings the n along."""
_WHOLE = ("ma'am", "o'clock", "'twas", "y'all", "y'all'll", "y'all'd've", "'ow's'at")


def _contractions() -> dict[str, str]:
    """{a contraction with one of its apostrophes left out: the contraction}.

    As upstream's table has them, "somebody'd" among them, which it turns the other way round.
    """
    words = [stem + end.removeprefix("n") for end, stems in _ENDINGS.items() for stem in stems.split()]
    out = {"somebody'd": "somebodyd"}
    for word in (*words, *_WHOLE):
        out |= {word[:i] + word[i + 1 :]: word for i, letter in enumerate(word) if letter == "'"}
    return out


_CONTRACTIONS = _contractions()
_COUNT_OF_UPSTREAM = 32
"""As upstream: `re.UNICODE` is handed to `sub` where the count stands, so that the first 32 periods go."""


def vqa_normal(text: str) -> str:
    """An answer as the VQA evaluation compares it: small letters, no articles, numbers to ten as digits, apostrophes
    of contractions put back, punctuation and periods removed (mmf at c46b3b3, pythia/tasks/processors.py:897, as
    LLaVA's m4c_evaluator.py has it)."""
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    plain = text
    between_digits = re.search(r"(?<=\d)(\,)+(?=\d)", text) is not None
    for mark in _MARKS:
        beside_space = f"{mark} " in text or f" {mark}" in text
        plain = plain.replace(mark, "" if beside_space or between_digits else " ")
    plain = re.sub(r"\.(?!\d)", "", plain, count=_COUNT_OF_UPSTREAM)
    words = [_NUMBERS.get(word, word) for word in plain.lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def soft_accuracy(answer: str, people: Sequence[str]) -> float:
    """The mean over the people of min(1, n / 3), n: how many of the others gave this answer (normal forms equal)."""
    normal, theirs = vqa_normal(answer), [vqa_normal(one) for one in people]
    same = theirs.count(normal)
    if not same:
        return 0.0
    without_one, without_other = min(1.0, (same - 1) / 3), min(1.0, same / 3)
    return (same * without_one + (len(theirs) - same) * without_other) / len(theirs)


def _textvqa(answer: str, question: Question) -> Scored:
    read = vqa_normal(answer)
    return Scored(soft_accuracy(answer, question.answers), bool(read), read)


# -- the user's own ----------------------------------------------------------------------------------------------------


def normal(text: str) -> str:
    """Small letters, single spaces, no period, comma or mark at either end: what `answer_agreement` compares."""
    return " ".join(text.lower().split()).strip(string.punctuation + " ")


def _exact(answer: str, question: Question) -> Scored:
    read = normal(answer)
    return Scored(float(any(read == normal(one) for one in question.answers)), bool(read), read)


def _choice(answer: str, question: Question) -> Scored:
    """A choice's text, or its letter alone or before a mark: "B", "(b)", "B. a dog"; anything else is unparsed."""
    read = normal(answer)
    options = {normal(choice): choice for choice in question.choices}
    choice = options.get(read)
    if choice is None:
        letter = re.match(r"\W*([A-Za-z])(?:$|[^\w\s'])", answer.strip())
        place = string.ascii_lowercase.index(letter[1].lower()) if letter else len(question.choices)
        choice = question.choices[place] if place < len(question.choices) else None
    return Scored(float(choice in question.answers), choice is not None, choice or "")


_SCORES: Mapping[str, Callable[[str, Question], Scored]] = {
    "pope": _pope,
    "pope-exact": _pope_exact,
    "gqa": _gqa,
    "textvqa": _textvqa,
    "exact": _exact,
    "choice": _choice,
}
ANSWER_EVALUATORS: Mapping[str, Evaluator] = {name: Evaluator(card, _SCORES[name]) for name, card in EVALUATORS.items()}
"""By the names of `vtbench.types.questions.EVALUATORS`."""
