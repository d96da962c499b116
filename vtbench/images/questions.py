"""Questions on images: a JSONL file, one question a line, beside a folder of the images.

    {"id": "1", "image": "cat.jpg", "question": "Is there a cat?", "answers": ["yes"], "split": "popular"}

`answers` may be missing (then only the models' own answers can be compared); `choices` are the options of a multiple
choice. `image` lies below the file's folder, or below one of IMAGE_FOLDERS there. The files that LLaVA's evaluation
reads ({"question_id", "image", "text"}) are read as they are, with the labels that their data sets publish: see
`vtbench.images.question_labels`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vtbench.images.folders import FolderSuite
from vtbench.images.identity import WHOLE, digests
from vtbench.images.jsonl import numbered_objects
from vtbench.images.limits import read_regular
from vtbench.images.manifests import refuse_escape
from vtbench.images.question_labels import OCR, PEOPLE, labelled, question_of_llava, refuse_several
from vtbench.results.files import loads
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import reading
from vtbench.types.item import Item
from vtbench.types.questions import EVALUATORS, Question
from vtbench.types.shortage import refuse_shortage

FORM = (
    'one question a line such as {"id": "1", "image": "cat.jpg", "question": "Is there a cat?", "answers": ["yes"]}, '
    "or a question file of LLaVA's evaluation"
)
IMAGE_FOLDERS = (".", "images", "val2014", "data/images", "train_images")
"""Where below the file's folder the images may lie: beside it, in `images`, or where LLaVA's evaluation puts those of
POPE, GQA and TextVQA. The first that holds the first question's image holds all."""
LONGEST = 20_000
"""Characters of a question: above any with the text that an OCR read."""


class QuestionSuite(FolderSuite):
    """Every question is an item: its id, the picture as its place, and as `meta` the question, its answers, choices and
    split, and the evaluator's name. A picture with ten questions is ten items.

    evaluator: the name under which `vtbench.metrics.answers` scores the answers; None where no question has one.
    """

    def __init__(self, name: str, root: Path, questions: Sequence[Question], evaluator: str | None) -> None:
        super().__init__(name, root, [_item(question, evaluator) for question in questions])
        if evaluator is not None:
            self.notes.append(f"answers are scored by {EVALUATORS[evaluator]}")
        # Somebody else may have written the names, and may have put links behind them.
        self.within = root
        self.evaluator = evaluator

    @property
    def ocr(self) -> bool:
        """Whether a question's text brings along what an OCR read from the picture."""
        return any(OCR in str(item.meta["question"]) for item in self.items)

    def contents(self) -> Iterator[str]:
        """Of every item one digest, over its picture's bytes and everything that is asked about it."""
        places = list(dict.fromkeys(str(item.place) for item in self.items))
        files = dict(zip(places, digests(((str(self.root / p), (WHOLE,)) for p in places), self.root), strict=True))
        for item in self.items:
            asked = json.dumps([files[str(item.place)], dict(item.meta)], sort_keys=True, ensure_ascii=False)
            yield hashlib.sha256(asked.encode(errors="surrogateescape")).hexdigest()


def _item(question: Question, evaluator: str | None) -> Item:
    meta: dict[str, Any] = {"question": question.text}
    if question.answers:
        version = EVALUATORS[evaluator].version if evaluator is not None else None
        meta |= {"answers": list(question.answers), "evaluator": evaluator, "evaluator_version": version}
    if question.choices:
        meta["choices"] = list(question.choices)
    if question.split is not None:
        meta["split"] = question.split
    return Item(question.id, question.image, meta=meta)


def question_of(item: Item) -> Question:
    """The question that an item of such a suite is."""
    meta = item.meta
    answers, choices = tuple(meta.get("answers", ())), tuple(meta.get("choices", ()))
    return Question(item.id, str(item.place), str(meta["question"]), answers, choices, meta.get("split"))


def holds_questions(path: Path) -> bool:
    """Whether a .jsonl file's first line is a question's, ours or LLaVA's; False for a manifest of images, and for what
    cannot be read (whoever opens it says why)."""
    if path.suffix != ".jsonl" or not path.is_file():
        return False
    try:
        with path.open("rb") as source:
            entry = loads(source.readline(1 << 20))
    except (OSError, ValueError, RecursionError) as bad:
        refuse_shortage(bad, path)
        return False
    return isinstance(entry, dict) and ("question" in entry or "question_id" in entry)


def open_questions(path: Path, evaluator: str | None = None) -> QuestionSuite:
    """The questions of a file, each checked, with the labels of its data set; no picture is decoded.

    evaluator: instead of the one that the file's form names. Raises VtbenchError with the line.
    """
    questions: list[Question] = []
    first_seen: dict[str, int] = {}
    llava = False
    for number, entry in _lines(path):
        where = f"{path.name} line {number}"
        llava = llava or "question_id" in entry
        question = question_of_llava(entry, where) if "question_id" in entry else _question(entry, where)
        if question.id in first_seen:
            raise VtbenchError(
                f"{where} has the id {question.id!r}, as line {first_seen[question.id]} has: give each question its own"
            )
        first_seen[question.id] = number
        refuse_escape(question.image, where)
        questions.append(question)
    if not questions:
        raise VtbenchError(f"{path} holds no question: {FORM}")
    own, notes = _evaluator_of(questions), list[str]()
    if llava:
        questions, own, notes = labelled(path, questions)
    root = _image_folder(path.parent, questions[0].image, path)
    suite = QuestionSuite(path.stem, root, questions, fitting(evaluator, own, questions))
    suite.notes += notes
    return suite


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with reading(path, "questions", FORM):
        text = read_regular(path, str(path)).decode()
    return numbered_objects(text, path.name, FORM)


def _question(entry: Mapping[str, Any], where: str) -> Question:
    identifier = entry.get("id")
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if not isinstance(identifier, str) or not identifier.strip():
        raise VtbenchError(f"{where} has the id {identifier!r}: give every question a text or a whole number as id")
    refuse_several(entry, where)
    image, text, split = entry.get("image"), entry.get("question"), entry.get("split")
    if not isinstance(image, str) or not image:
        raise VtbenchError(f"{where} names no image: give the file's name, relative to the folder of images")
    if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
        raise VtbenchError(f"{where} has no question of 1 to {LONGEST} characters: {FORM}")
    if split is not None and not (isinstance(split, str) and split.strip()):
        raise VtbenchError(f"{where} states the split {split!r}: give a name, or leave it out")
    answers, choices = (_texts(entry.get(key), key, where) for key in ("answers", "choices"))
    if choices and len(choices) < 2:
        raise VtbenchError(f"{where} has one choice: give two or more, or leave them out")
    if choices and any(a not in choices for a in answers):
        raise VtbenchError(
            f"{where} has an answer that is none of its choices ({answers[0]!r}): give it as it stands there"
        )
    return Question(identifier, image, text, answers, choices, split)


def _texts(value: Any, key: str, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not value or any(not isinstance(v, str) or not v.strip() for v in value):
        raise VtbenchError(
            f'{where} has {key} that are no list of texts: give {key} such as ["yes"], or leave them out'
        )
    return tuple(value)


def _evaluator_of(questions: Sequence[Question]) -> str | None:
    if not any(q.answers for q in questions):
        return None
    return "choice" if all(q.choices for q in questions) else "exact"


def fitting(asked: str | None, own: str | None, questions: Sequence[Question]) -> str | None:
    """The evaluator that was asked for, if it can score these answers; else the file's own."""
    if asked is None:
        return own
    if asked not in EVALUATORS:
        raise VtbenchError(f"there is no evaluator {asked!r}: give {', '.join(EVALUATORS)}")
    if own is None:
        raise VtbenchError(f"the evaluator {asked} needs answers, and no question has any: leave it out")
    if asked == "choice" and not all(q.choices for q in questions):
        raise VtbenchError("the evaluator choice needs choices with every question: give them, or another evaluator")
    if asked == "textvqa" and any(len(q.answers) not in (0, PEOPLE) for q in questions):
        raise VtbenchError("the evaluator textvqa needs ten people's answers to every question: give another evaluator")
    if asked.startswith("pope"):
        other = next((q for q in questions if q.answers and set(q.answers) - {"yes", "no"}), None)
        if other is not None:
            raise VtbenchError(
                f"the evaluator {asked} scores yes and no, and question {other.id} has the answer "
                f"{other.answers[0]!r}: give another evaluator"
            )
    return asked


def _image_folder(parent: Path, image: str, path: Path) -> Path:
    for folder in IMAGE_FOLDERS:
        if (parent / folder / image).is_file():
            return parent / folder
    raise VtbenchError(
        f"{path.name} asks about {image}, which lies neither beside it nor in {', '.join(IMAGE_FOLDERS[1:])} there: "
        "put the images into a folder images beside the questions"
    )
