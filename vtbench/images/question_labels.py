"""The question files of LLaVA's evaluation, with the labels that their data sets publish in files of their own.

LLaVA (haotian-liu/LLaVA at c121f04, docs/Evaluation.md) lays them out so; the labels are looked for beside the
questions, and there only:

- POPE: llava_pope_test.jsonl; coco/coco_pope_adversarial.json, …_popular.json, …_random.json (one JSON object a line)
- GQA: llava_gqa_testdev_balanced.jsonl; data/testdev_balanced_questions.json
- TextVQA: llava_textvqa_val_v051_ocr.jsonl; TextVQA_0.5.1_val.json

Without labels the questions have no answers, and a note says which file was missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vtbench.images.limits import read_regular
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import reading
from vtbench.types.questions import Question

Labelled = tuple[list[Question], str | None, list[str]]
"""Questions with their answers, the evaluator's name, notes."""
POPE_SPLITS = ("adversarial", "popular", "random")
POPE_FOLDERS = ("coco", ".")
GQA_LABELS = ("data/testdev_balanced_questions.json", "testdev_balanced_questions.json")
TEXTVQA_LABELS = ("TextVQA_0.5.1_val.json",)
OCR = "Reference OCR token:"
"""Begins what LLaVA's TextVQA prompts bring of the text in the picture."""
PEOPLE = 10
"""TextVQA's answers to a question; its soft accuracy is defined for that many."""


def refuse_several(entry: Mapping[str, Any], where: str) -> None:
    """Raises VtbenchError for a question on several pictures, under `image` or `images`: none is left out silently."""
    for key in ("image", "images"):
        listed = entry.get(key)
        if isinstance(listed, list) and len(listed) > 1:
            raise VtbenchError(
                f"{where} asks about {len(listed)} images, and a question is asked about one here, whose tokens are "
                "counted: give a line an image, or join them to one picture"
            )
        if isinstance(listed, list) and listed and not isinstance(entry.get("image"), str):
            raise VtbenchError(f'{where} has a list of one image under {key!r}: give "image": "NAME" alone')


def question_of_llava(entry: Mapping[str, Any], where: str) -> Question:
    """One line of a question file of LLaVA's: {"question_id", "image", "text", "category"?}; no answers yet.

    TextVQA names a question by its image, so that several have one name: the text joins the id there.
    """
    identifier, image, text = entry.get("question_id"), entry.get("image"), entry.get("text")
    if not isinstance(identifier, str | int) or isinstance(identifier, bool) or not str(identifier).strip():
        raise VtbenchError(f"{where} has the question_id {identifier!r}: wanted a text or a whole number")
    refuse_several(entry, where)
    if not isinstance(image, str) or not image:
        raise VtbenchError(f"{where} names no image: wanted a question file as LLaVA's evaluation reads it")
    if not isinstance(text, str) or not text.strip():
        raise VtbenchError(f"{where} has no text: wanted a question file as LLaVA's evaluation reads it")
    category = entry.get("category")
    if category is not None and not isinstance(category, str):
        raise VtbenchError(f"{where} states the category {category!r}: wanted a name such as popular")
    name = str(identifier)
    if Path(image).stem == name:
        name = f"{name} {bare(text)}"
    return Question(name, image, text, split=None if category in (None, "default") else category)


def bare(text: str) -> str:
    """The question without the instruction and the OCR text that LLaVA's prompts put around it."""
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith(OCR)]
    return lines[0] if lines else text


def labelled(path: Path, questions: Sequence[Question]) -> Labelled:
    """The questions of LLaVA's file at `path` with the answers of the data set that they come from."""
    if questions and all(q.split in POPE_SPLITS for q in questions):
        return _pope(path.parent, questions)
    labels = _first(path.parent, TEXTVQA_LABELS)
    if labels is not None:
        return _textvqa(labels, questions)
    labels = _first(path.parent, GQA_LABELS)
    if labels is not None:
        return _gqa(labels, questions)
    wanted = ", ".join((*GQA_LABELS[:1], *TEXTVQA_LABELS))
    return list(questions), None, [f"no labels lie beside {path.name} ({wanted}): answers are compared, not scored"]


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _json(path: Path) -> Any:
    with reading(path, "labels", "fetch it again"):
        return json.loads(read_regular(path, str(path)))


def _pope(folder: Path, questions: Sequence[Question]) -> Labelled:
    """The labels of a split stand in the order of its questions; upstream pairs them by that order alone."""
    answers: dict[str, str] = {}
    for split in POPE_SPLITS:
        own = [q for q in questions if q.split == split]
        if not own:
            continue
        labels = _first(folder, [f"{place}/coco_pope_{split}.json" for place in POPE_FOLDERS])
        if labels is None:
            note = f"POPE's coco/coco_pope_{split}.json is not there: answers are compared, not scored"
            return list(questions), None, [note]
        with reading(labels, "POPE's labels", "one JSON object a line, as POPE publishes them"):
            lines = [
                json.loads(line) for line in read_regular(labels, str(labels)).decode().split("\n") if line.strip()
            ]
        if len(lines) != len(own):
            raise VtbenchError(
                f"{labels.name} has {len(lines)} labels for {len(own)} questions of that split: fetch both again"
            )
        for number, (question, entry) in enumerate(zip(own, lines, strict=True), 1):
            answers[question.id] = _pope_label(entry, question, f"{labels.name} line {number}")
    return [replace(q, answers=(answers[q.id],)) for q in questions], "pope", []


def _pope_label(entry: Any, question: Question, where: str) -> str:
    if not isinstance(entry, dict) or entry.get("label") not in ("yes", "no"):
        raise VtbenchError(f"{where} has no label yes or no: fetch POPE's labels again")
    if entry.get("image") != question.image or not question.text.startswith(str(entry.get("text"))):
        raise VtbenchError(
            f"{where} asks {str(entry.get('text'))[:80]!r} about {str(entry.get('image'))[:80]!r}, question "
            f"{question.id} another: fetch both files again"
        )
    return str(entry["label"])


def _gqa(path: Path, questions: Sequence[Question]) -> Labelled:
    labels = _json(path)
    if not isinstance(labels, dict):
        raise VtbenchError(f"{path.name} is no object of questions: fetch GQA's questions again")
    out = []
    for question in questions:
        entry = labels.get(question.id)
        answer = entry.get("answer") if isinstance(entry, dict) else None
        if not isinstance(answer, str) or not answer.strip():
            raise VtbenchError(f"{path.name} has no answer to question {question.id}: fetch GQA's questions again")
        out.append(replace(question, answers=(answer,)))
    return out, "gqa", []


def _textvqa(path: Path, questions: Sequence[Question]) -> Labelled:
    """By image and question, as LLaVA's eval_textvqa.py pairs them."""
    labels = _json(path)
    entries = labels.get("data") if isinstance(labels, dict) else None
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise VtbenchError(f"{path.name} has no list `data` of questions: fetch TextVQA's annotations again")
    answers = {(str(e.get("image_id")), str(e.get("question")).lower()): e.get("answers") for e in entries}
    out = []
    for question in questions:
        people = answers.get((Path(question.image).stem, bare(question.text).lower()))
        if not isinstance(people, list) or len(people) != PEOPLE or any(not isinstance(a, str) for a in people):
            raise VtbenchError(
                f"{path.name} has no {PEOPLE} answers to {bare(question.text)[:80]!r} on {question.image}: fetch again"
            )
        out.append(replace(question, answers=tuple(people)))
    return out, "textvqa", []
