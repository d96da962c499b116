"""Questions on images: our own files, those of LLaVA's evaluation with their data sets' labels, and damaged ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vtbench.images.opening import open_suite
from vtbench.images.questions import QuestionSuite, holds_questions, open_questions, question_of
from vtbench.types.errors import VtbenchError

ONE = {"id": "1", "image": "a.png", "question": "Is there a cat?", "answers": ["yes"], "split": "popular"}
SHORT = "\nAnswer the question using a single word or phrase."


def written(folder: Path, *lines: Any, name: str = "questions.jsonl", images: str = ".") -> Path:
    (folder / images).mkdir(parents=True, exist_ok=True)
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (8, 6), colour).save(folder / images / f"{'ab'[number]}.png")
    path = folder / name
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_a_file_of_questions_is_a_suite(tmp_path: Path) -> None:
    other = {"id": 2, "image": "b.png", "question": "Which?\nA. x\nB. y", "choices": ["x", "y"], "answers": ["y"]}
    path = written(tmp_path, ONE, "", other, {"id": "3", "image": "a.png", "question": "Why?"})
    assert holds_questions(path)
    suite = open_suite(str(path))
    assert isinstance(suite, QuestionSuite)
    assert [item.id for item in suite.items] == ["1", "2", "3"]
    assert [question_of(item).image for item in suite.items] == ["a.png", "b.png", "a.png"]
    assert dict(suite.items[0].meta) == {
        "question": "Is there a cat?",
        "answers": ["yes"],
        "evaluator": "exact",
        "evaluator_version": 1,
        "split": "popular",
    }
    assert question_of(suite.items[1]).choices == ("x", "y")
    assert question_of(suite.items[2]).answers == ()
    assert suite.load(suite.items[1]).tolist()[0][0] == [0, 0, 255]


def test_whatever_is_asked_is_part_of_the_hash(tmp_path: Path) -> None:
    """The question's words, OCR text among them, its answers, its split, the picture's bytes; not the file's name."""
    hashes = [open_questions(written(tmp_path / "a", ONE)).hash]
    hashes.append(open_questions(written(tmp_path / "b", ONE, name="other.jsonl")).hash)
    assert hashes[0] == hashes[1]
    for number, change in enumerate(
        (
            {"question": ONE["question"] + "\nReference OCR token: CAT" + SHORT},
            {"answers": ["no"]},
            {"split": "random"},
            {"id": "7"},
            {"image": "b.png"},
        )
    ):
        suite = open_questions(written(tmp_path / f"c{number}", {**ONE, **change}))
        assert suite.ocr is (number == 0)
        hashes.append(suite.hash)
    path = written(tmp_path / "d", ONE)
    Image.new("RGB", (8, 6), "green").save(path.parent / "a.png")
    hashes.append(open_questions(path).hash)
    hashes.append(open_questions(written(tmp_path / "e", ONE), "pope").hash)
    assert len(set(hashes)) == len(hashes) - 1


def pope(folder: Path, labels: list[dict[str, Any]] | None, **change: Any) -> Path:
    """Two questions of each split, as LLaVA's file has them; the labels in POPE's own files."""
    lines, own = [], []
    for number, split in enumerate(["adversarial"] * 2 + ["popular"] * 2):
        image, text = "ab"[number % 2] + ".png", f"Is there a {split} cat?"
        lines.append({"question_id": number, "image": image, "text": text + SHORT, "category": split, **change})
        own.append({"question_id": number % 2 + 1, "image": image, "text": text, "label": ("yes", "no")[number % 2]})
    path = written(folder, *lines, name="llava_pope_test.jsonl", images="val2014")
    if labels is None:
        labels = own
    (folder / "coco").mkdir()
    for split in ("adversarial", "popular"):
        part = [label for label in labels if split in label["text"]]
        (folder / "coco" / f"coco_pope_{split}.json").write_text("\n".join(map(json.dumps, part)))
    return path


def test_pope_as_llava_asks_it(tmp_path: Path) -> None:
    suite = open_questions(pope(tmp_path, None))
    assert suite.evaluator == "pope"
    assert [question_of(item).answers for item in suite.items] == [("yes",), ("no",)] * 2
    assert [item.meta["split"] for item in suite.items] == ["adversarial"] * 2 + ["popular"] * 2
    assert question_of(suite.items[0]).text.endswith(SHORT)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([{"image": "a.png", "text": "Is there a popular cat?", "label": "yes"}], "0 labels for 2 questions"),
        (
            [{"image": "a.png", "text": "Is there a adversarial dog?", "label": "yes"}] * 2,
            "line 1 asks 'Is there a adv",
        ),
        (
            [{"image": "a.png", "text": "Is there a adversarial cat?", "label": "maybe"}] * 2,
            "line 1 has no label yes or no",
        ),
        (
            [{"image": "c.png", "text": "Is there a adversarial cat?", "label": "no"}] * 2,
            "about 'c.png', question 0 another",
        ),
    ],
)
def test_labels_of_other_questions_are_refused(tmp_path: Path, labels: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(VtbenchError, match=says):
        open_questions(pope(tmp_path, labels))


def test_gqa_and_textvqa_as_llava_asks_them(tmp_path: Path) -> None:
    line = {"question_id": "201307251", "image": "a.png", "text": "Is it overcast?" + SHORT, "category": "default"}
    path = written(tmp_path / "gqa", line, name="llava_gqa_testdev_balanced.jsonl", images="data/images")
    labels = path.parent / "data" / "testdev_balanced_questions.json"
    labels.write_text(json.dumps({"201307251": {"answer": "no", "fullAnswer": "No, it is clear."}}))
    suite = open_questions(path)
    assert (suite.evaluator, question_of(suite.items[0]).answers) == ("gqa", ("no",))
    labels.write_text("{}")
    with pytest.raises(VtbenchError, match="no answer to question 201307251"):
        open_questions(path)

    ocr = "What brand?\nReference OCR token: NOKIA, 3310" + SHORT
    lines = [
        {"question_id": "a", "image": "a.png", "text": text, "category": "default"}
        for text in (ocr, "what is the TIME?\nReference OCR token: 10:10" + SHORT)
    ]
    path = written(tmp_path / "text", *lines, name="llava_textvqa_val_v051_ocr.jsonl", images="train_images")
    people = [f"answer {k}" for k in range(10)]
    data = [{"image_id": "a", "question": q, "answers": people} for q in ("what brand?", "What is the time?")]
    (path.parent / "TextVQA_0.5.1_val.json").write_text(json.dumps({"data": data}))
    suite = open_questions(path)
    assert suite.evaluator == "textvqa"
    assert suite.ocr
    # LLaVA names a question by its picture, so that two have one name.
    assert [item.id for item in suite.items] == ["a What brand?", "a what is the TIME?"]
    assert question_of(suite.items[1]).answers == tuple(people)
    (path.parent / "TextVQA_0.5.1_val.json").write_text(
        json.dumps({"data": [{**d, "answers": people[:9]} for d in data]})
    )
    with pytest.raises(VtbenchError, match="no 10 answers to 'What brand"):
        open_questions(path)
    (path.parent / "TextVQA_0.5.1_val.json").unlink()
    suite = open_questions(path)
    assert suite.evaluator is None
    assert "answers are compared, not scored" in suite.notes[0]
    assert suite.evaluator is None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("[1]", "line 2 is a list"),
        ("{", "line 2 is not JSON"),
        ('{"id": NaN, "question": "x"}', "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ({**ONE, "id": True}, "line 2 has the id True"),
        ({**ONE, "id": " "}, "line 2 has the id ' '"),
        (ONE, "line 2 has the id '1', as line 1 has"),
        ({**ONE, "id": "2", "image": None}, "line 2 names no image"),
        ({**ONE, "id": "2", "image": ["a.png", "b.png"]}, "line 2 asks about 2 images"),
        ({**ONE, "id": "2", "images": ["a.png", "b.png"]}, "line 2 asks about 2 images"),
        ({**ONE, "id": "2", "image": ["a.png"]}, "line 2 has a list of one image under 'image'"),
        ({"question_id": 1, "image": ["a.png", "b.png"], "text": "x"}, "line 2 asks about 2 images"),
        ({**ONE, "id": "2", "image": "../a.png"}, "relative path below"),
        ({**ONE, "id": "2", "image": "/etc/passwd"}, "relative path below"),
        ({**ONE, "id": "2", "image": "a\0.png"}, "relative path below"),
        ({**ONE, "id": "2", "question": "\n"}, "line 2 has no question of 1 to"),
        ({**ONE, "id": "2", "question": "x" * 30_000}, "line 2 has no question of 1 to"),
        ({**ONE, "id": "2", "answers": "yes"}, "line 2 has answers that are no list of texts"),
        ({**ONE, "id": "2", "answers": []}, "line 2 has answers that are no list of texts"),
        ({**ONE, "id": "2", "answers": [1]}, "line 2 has answers that are no list of texts"),
        ({**ONE, "id": "2", "choices": ["yes"]}, "line 2 has one choice"),
        ({**ONE, "id": "2", "choices": ["a", "b"]}, "line 2 has an answer that is none of its choices"),
        ({**ONE, "id": "2", "split": 3}, "line 2 states the split 3"),
        ({"question_id": None, "image": "a.png", "text": "x"}, "line 2 has the question_id None"),
        ({"question_id": 1, "image": "a.png", "text": ["x"]}, "line 2 has no text"),
        ({"question_id": 1, "image": 1, "text": "x"}, "line 2 names no image"),
        ({"question_id": 1, "image": "a.png", "text": "x", "category": 1}, "line 2 states the category 1"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: Any, says: str) -> None:
    with pytest.raises(VtbenchError, match=says) as raised:
        open_questions(written(tmp_path, ONE, line))
    assert "\n" not in str(raised.value)


def test_what_is_no_file_of_questions(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    with pytest.raises(VtbenchError, match="holds no question"):
        open_questions(path)
    assert not holds_questions(path)
    with pytest.raises(VtbenchError, match="lies neither beside it nor in images"):
        open_questions(written(tmp_path, {**ONE, "image": "gone.png"}))
    path.write_bytes(b'{"question": "\xff"}')
    with pytest.raises(VtbenchError, match="cannot be read as questions"):
        open_questions(path)
    path.unlink()
    os.mkfifo(path)
    assert not holds_questions(path)
    with pytest.raises(VtbenchError, match="is no regular file but a pipe"):
        open_questions(path)
    # A manifest of images, and a file of prompts, stay what they are.
    assert not holds_questions(written(tmp_path / "m", {"suite": "mine", "version": "1"}))


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    path = written(tmp_path / "q", ONE)
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    (path.parent / "a.png").unlink()
    (path.parent / "a.png").symlink_to(tmp_path / "secret.png")
    suite = open_questions(path)
    with pytest.raises(VtbenchError, match="leads out of"):
        suite.load(suite.items[0])


def test_an_evaluator_must_fit_the_answers(tmp_path: Path) -> None:
    path = written(tmp_path, {**ONE, "answers": ["cat"]})
    assert open_questions(path, "gqa").evaluator == "gqa"
    for evaluator, says in (
        ("vqa", "no evaluator 'vqa'"),
        ("pope", "has the answer 'cat'"),
        ("choice", "needs choices with every question"),
        ("textvqa", "needs ten people's answers"),
    ):
        with pytest.raises(VtbenchError, match=says):
            open_questions(path, evaluator)
    with pytest.raises(VtbenchError, match="needs answers"):
        open_questions(written(tmp_path, {"id": "1", "image": "a.png", "question": "Why?"}), "exact")
