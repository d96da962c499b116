"""Evaluators of answers, held to hand-computed truth and to a second implementation of each rule."""

from __future__ import annotations

import itertools
import random

import pytest

from vtbench.metrics.answers import ANSWER_EVALUATORS, normal, pope_numbers, soft_accuracy, vqa_normal
from vtbench.types.questions import EVALUATORS, Question


def asked(*answers: str, choices: tuple[str, ...] = ()) -> Question:
    return Question("q", "a.png", "?", answers, choices)


def test_every_name_has_its_evaluator() -> None:
    assert list(ANSWER_EVALUATORS) == list(EVALUATORS)


@pytest.mark.parametrize(
    ("answer", "read", "parsed", "exact"),
    [
        ("Yes", "yes", True, "yes"),
        ("no", "no", True, "no"),
        ("No.", "no", True, "no"),
        ("No, there is not.", "no", True, ""),
        ("There is no cat", "no", True, ""),
        ("It is not there. Yes", "no", False, ""),
        # The trap: whatever holds none of three words is yes.
        ("", "yes", False, ""),
        ("NO", "yes", True, "no"),
        ("A dog", "yes", False, ""),
        ("Nothing", "yes", False, ""),
        ("yes. no", "yes", False, ""),
        ("isn't", "yes", False, ""),
        ("no!", "yes", True, ""),
        ("\nno", "yes", True, "no"),
    ],
)
def test_pope_reads_as_llava_does(answer: str, read: str, parsed: bool, exact: str) -> None:
    """Upstream's rule by hand: first sentence, commas out, split at blanks, No, not or no among the words."""
    one = ANSWER_EVALUATORS["pope"].score(answer, asked("yes"))
    assert (one.read, one.parsed, one.value) == (read, parsed, float(read == "yes"))
    two = ANSWER_EVALUATORS["pope-exact"].score(answer, asked("no"))
    assert (two.read, two.parsed, two.value) == (exact, bool(exact), float(exact == "no"))


def test_popes_numbers_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import f1_score, precision_score, recall_score

    draw = random.Random(5)
    pairs = [(draw.choice(["yes", "no", "a dog"]), draw.choice(["yes", "no"])) for _ in range(60)]
    score = ANSWER_EVALUATORS["pope"].score
    scored = [(score(answer, asked(label)), asked(label)) for answer, label in pairs]
    said = [one.read == "yes" for one, _ in scored]
    true = [label == "yes" for _, label in pairs]
    numbers = pope_numbers(scored)
    assert numbers["f1"] == pytest.approx(f1_score(true, said), abs=1e-12)
    assert numbers["precision"] == pytest.approx(precision_score(true, said), abs=1e-12)
    assert numbers["recall"] == pytest.approx(recall_score(true, said), abs=1e-12)
    assert numbers["yes_share"] == pytest.approx(sum(said) / 60, abs=1e-12)
    # Nobody said yes: precision and F1 have no value; nobody said it rightly: F1 is 0.
    nobody = pope_numbers([(score("no", asked(label)), asked(label)) for label in ("yes", "no")])
    assert nobody == {"f1": None, "precision": None, "recall": 0.0, "yes_share": 0.0}
    wrong = pope_numbers([(score(a, asked(label)), asked(label)) for a, label in (("no", "yes"), ("yes", "no"))])
    assert wrong["f1"] == 0.0
    assert pope_numbers([])["yes_share"] is None


@pytest.mark.parametrize(
    ("answer", "gold", "value"),
    [
        ("No.", "no", 1.0),
        ("no...", "no", 1.0),
        (" no", "no", 0.0),
        ("no dog", "no", 0.0),
        ("Navy Blue", "navy blue", 1.0),
    ],
)
def test_gqa_is_exact(answer: str, gold: str, value: float) -> None:
    assert ANSWER_EVALUATORS["gqa"].score(answer, asked(gold)).value == value


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The Poster shows a 10% discount.", "poster shows 10% discount"),
        ("an APPLE", "apple"),
        ("Two dogs", "2 dogs"),
        ("none", "0"),
        ("dont walk", "don't walk"),
        ("couldnt've", "couldn't've"),
        ("she's", "she 's"),
        ("youre,welcome", "yourewelcome"),
        ("no-smoking", "no smoking"),
        ("no - smoking", "no smoking"),
        ("1,000 m/s", "1000 m s"),
        ("www.x.com", "wwwxcom"),
        ("3.5", "3.5"),
        ("3. 5", "3 5"),
        ("a.b" + "." * 40, "ab" + "." * 9),
        ("line\nbreak\ttab", "line break tab"),
        ("somebody'd", "somebodyd"),
        ("ow's'at", "ow 's'at"),
        ("Im ten", "im 10"),
        ("  ", ""),
    ],
)
def test_the_vqa_normal_form(text: str, wanted: str) -> None:
    """By hand, through the rules in their order; of 41 periods that no digit follows upstream removes 32."""
    assert vqa_normal(text) == wanted


def leave_one_out(answer: str, people: list[str]) -> float:
    """The VQA accuracy as its paper has it: the mean over the people of the accuracy against the nine others."""
    theirs, total = [vqa_normal(one) for one in people], 0.0
    for left in range(len(theirs)):
        others = theirs[:left] + theirs[left + 1 :]
        total += min(1.0, sum(one == vqa_normal(answer) for one in others) / 3)
    return total / len(theirs)


def test_soft_accuracy_leaves_one_out() -> None:
    assert [round(soft_accuracy("a cat", ["cat"] * k + ["dog"] * (10 - k)), 3) for k in range(6)] == [
        *(0.0, 0.3, 0.6, 0.9, 1.0, 1.0)
    ]
    draw = random.Random(1)
    for answer, _ in itertools.product(("red", "Red.", "the red", "blue"), range(10)):
        people = [draw.choice(["red", "a red", "blue", "green"]) for _ in range(10)]
        assert soft_accuracy(answer, people) == pytest.approx(leave_one_out(answer, people), abs=1e-12)
    one = ANSWER_EVALUATORS["textvqa"].score(" ", asked(*["nokia"] * 10))
    assert (one.value, one.parsed) == (0.0, False)


@pytest.mark.parametrize(
    ("answer", "value", "parsed"),
    [
        ("B", 1.0, True),
        ("(b)", 1.0, True),
        ("B. a dog", 1.0, True),
        ("b:", 1.0, True),
        ("A dog", 1.0, True),
        ("a cat", 0.0, True),
        ("A", 0.0, True),
        ("D", 0.0, False),
        ("A bird", 0.0, False),
        ("", 0.0, False),
    ],
)
def test_a_choice_is_a_letter_or_its_text(answer: str, value: float, parsed: bool) -> None:
    question = asked("a dog", choices=("a cat", "a dog", "a cow"))
    one = ANSWER_EVALUATORS["choice"].score(answer, question)
    assert (one.value, one.parsed) == (value, parsed)


def test_the_users_own_answers() -> None:
    score = ANSWER_EVALUATORS["exact"].score
    assert score(" The  Cat. ", asked("dog", "the cat")).value == 1.0
    assert score("the cats", asked("the cat")).value == 0.0
    assert not score("...", asked("the cat")).parsed
    assert normal("“Ja!”") == "“ja!”"
