"""Conditions of published numbers: what every card's words state, no more and no less; texts and records of others."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from vtbench import registry
from vtbench.types.cards import Published
from vtbench.types.conditions import Conditions, conditions_of

CLAIMS = [(entry.card.name, claim) for entry in registry.entries() for claim in entry.card.published]
STATED = sorted({claim.protocol for _, claim in CLAIMS if claim.protocol is not None}, key=str)


def read(text: str) -> dict[str, object]:
    """The words of a card's protocol, read by a grammar of their own: a second opinion on the fields."""
    fields: dict[str, object] = {}
    if back := re.search(r"(\d+) x \1 resized back to ", text):
        fields["model_size"] = int(back[1])
        text = text.replace(back[0], "")
    if side := re.search(r"(\d+) x \1|(\d+) px|resized to (\d+)", text):
        fields["size"] = int(side[1] or side[2] or side[3])
    if "original resolution" in text:
        fields["size"] = "original"
    if count := re.search(r"\b(\d+)(k?)(?: samples| images|,)", text):
        fields["images"] = int(count[1]) * (1000 if count[2] else 1)
    if against := re.fullmatch(r"rFID against the (\w+) (\w+) set, .*", text):
        return {**fields, "reference": f"{against[1]} {against[2]}"}
    if images := re.match(r"(ImageNet|OpenImages|CIFAR-100|MJHQ-30K|COCO(?: 2017)?)\b", text):
        fields["dataset"] = images[1]
        splits = {"val": "validation", "validation": "validation", "training": "training", "test": "test"}
        words = [splits[word] for word in re.findall(r"\w+", text) if word in splits]
        fields |= {"split": words[0]} if words else {}
    if "MCL-JCV" in text:
        fields["dataset"] = "MCL-JCV"
    if text.startswith("ADM"):
        fields["evaluator"] = "ADM"
    if tokens := re.search(r"(\d+) tokens", text):
        fields["options"] = (("tokens", int(tokens[1])),)
    if steps := re.search(r"(\d+) steps", text):
        fields["options"] = (("num_steps", int(steps[1])),)
    if drawn := re.search(r"guidance ([\d.]+), all codes", text):
        fields["options"] = (("cfg_scale", float(drawn[1])), ("top_k", 0))
    if other := re.search(r"dopri5 solver|rejection sampling", text):
        fields["other"] = (other[0],)
    return fields


OF_THE_NOTE = {
    # What a note beside the number adds to its words.
    "256 tokens": {"options": (("tokens", 256),)},
    "averaged weights": {"averaged": True},
    "raw weights": {"averaged": False},
    "clean-fid": {"evaluator": "clean-fid"},
    "before post-training": {"other": ("before post-training",)},
    "of clips, not of pictures": {"other": ("of clips, not of pictures",)},
    "randomize_temperature 9.0": {"options": (("num_steps", 128), ("randomize_temperature", 9.0))},
    "guidance 5.8, randomize_temperature 10.3": {
        "options": (("num_steps", 256), ("guidance_scale", 5.8), ("randomize_temperature", 10.3))
    },
}


def of_the_note(claim: Published) -> dict[str, object]:
    note = claim.note or ""
    if note == "rFID by clean-fid":
        return {"evaluator": "clean-fid"} if claim.metric == "rfid" else {}
    if note.startswith(("every image with the caption", "the source does not state its data range")):
        return {"other": (note,)}
    if note.startswith("LlamaGen's") and "data range" in note:
        return {"data_range": 2.0}
    return OF_THE_NOTE.get(note, {})


def test_every_claim_states_in_fields_what_its_words_say_and_nothing_else() -> None:
    wrong = {}
    for name, claim in CLAIMS:
        fields = claim.protocol.stated() if claim.protocol else {}
        wanted = {**read((claim.protocol and claim.protocol.text) or ""), **of_the_note(claim)}
        if fields != wanted:
            wrong[name, claim.metric, claim.value] = (fields, wanted)
    assert not wrong
    assert len(CLAIMS) > 380


def test_a_guess_is_no_statement() -> None:
    (guessed,) = [claim for _, claim in CLAIMS if "may be" in (claim.note or "")]
    assert guessed.metric == "ssim", "not filed under the convention that it may have"
    assert guessed.protocol is not None
    assert guessed.protocol.data_range is None
    assert guessed.protocol.other, "nothing of ours may stand beside it"


@pytest.mark.parametrize("conditions", STATED, ids=lambda c: str(c.text))
def test_a_record_holds_them(conditions: Conditions) -> None:
    """As run.json writes a card and reads it again."""
    assert conditions_of(json.loads(json.dumps(dataclasses.asdict(conditions)))) == conditions
    hash(conditions)


def test_texts_of_older_cards_state_their_words_or_a_protocol_by_name() -> None:
    assert Published("psnr", 1.0, "a table", "vtbench").protocol == Conditions("vtbench", named="vtbench")  # type: ignore[arg-type]
    sentence = Published("psnr", 1.0, "a table", "ImageNet validation, at 256").protocol  # type: ignore[arg-type]
    assert sentence == Conditions("ImageNet validation, at 256")
    assert sentence.stated() == {}
    assert Published("psnr", 1.0, "a table").protocol is None


@pytest.mark.parametrize(
    ("stated", "conditions"),
    [
        (7, None),
        ([], None),
        ({"size": 256, "of a newer version": 1}, Conditions(size=256)),
        ({"options": 3, "other": "text"}, Conditions()),
        (
            {"options": [["tokens", 64], "no pair", [1]], "other": [5]},
            Conditions(options=(("tokens", 64),), other=("5",)),
        ),
    ],
)
def test_damaged_and_newer_records_are_read_as_far_as_they_go(stated: object, conditions: Conditions | None) -> None:
    assert conditions_of(stated) == conditions


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (
            "ImageNet validation 50k, 256 x 256",
            {"dataset": "ImageNet", "split": "validation", "images": 50_000, "size": 256},
        ),
        (
            "COCO 2017 validation 5k, original resolution",
            {"dataset": "COCO 2017", "split": "validation", "images": 5_000, "size": "original"},
        ),
        (
            "ImageNet validation 50k, 384 x 384 resized back to 256 x 256",
            {"dataset": "ImageNet", "split": "validation", "images": 50_000, "size": 256, "model_size": 384},
        ),
        ("CIFAR-100 test, 32 x 32", {"dataset": "CIFAR-100", "split": "test", "size": 32}),
        ("rFID against the ImageNet training set, 256 x 256", {"reference": "ImageNet training", "size": 256}),
        ("ADM, 50k samples", {"evaluator": "ADM", "images": 50_000}),
        # Not word for word: only words.
        ("ImageNet validation 50k, 256 x 128", {}),
        ("ImageNet validation 50k, 256 x 256, centre crop", {}),
        ("probably ImageNet validation, 256 x 256 or so", {}),
        ("ImageNet val, 256 px", {}),
        ("ADM, 50k samples, 64 steps", {}),
        ("", {}),
    ],
)
def test_texts_of_older_records_have_fields_where_they_are_in_the_shared_words(
    words: str, fields: dict[str, object]
) -> None:
    conditions = conditions_of(words)
    assert conditions is not None
    assert conditions.text == words
    assert conditions.stated() == fields


def test_what_two_claims_share_is_what_both_state() -> None:
    one = Conditions("a", dataset="ImageNet", size=256, other=("x",))
    two = Conditions("b", dataset="COCO 2017", size=256)
    assert one.in_common(two) == Conditions(size=256)
    assert one.contradicted_by({"dataset": "COCO 2017", "size": 256, "window": "gaussian"}) == ["dataset"]
    assert two.contradicted_by({"dataset": None}) == []


def test_what_is_left_open_contradicts_nothing() -> None:
    stated = Conditions(size=256, options=(("quality", 75),), other=("cropped by hand",))
    assert stated.contradicted_by({"size": None, "options": (), "other": ()}) == []
    assert stated.contradicted_by({"size": 512, "options": (("quality", 50),)}) == ["size", "options"]
