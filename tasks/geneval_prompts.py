"""Prompts of our own in GenEval's six categories, from the 80 COCO names, seeded; and prompts that quote a string.

The metadata has the reference's format (djghosh13/geneval prompts/create_prompts.py, commit 16f1681), so that the same
scorer judges it; the sentences follow the reference's plain "a photo of …".
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from vtbench.metrics.quoted import BUCKETS
from vtbench.tasks.geneval import COLORS, RELATIONS, TASKS

COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "computer mouse", "tv remote", "computer keyboard", "cell phone", "microwave", "oven", "toaster",
    "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""COCO's 80 classes in their order, under the names that GenEval uses (evaluation/object_names.txt: computer mouse,
tv remote and computer keyboard for COCO's mouse, remote and keyboard)."""
NUMBERS = ("zero", "one", "two", "three", "four")
PLURALS = {"person": "persons", "skis": "skis", "scissors": "scissors", "broccoli": "broccolis", "knife": "knives"}


def article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def plural(name: str) -> str:
    if name in PLURALS:
        return PLURALS[name]
    return name + ("es" if name.endswith(("s", "sh", "ch", "x")) else "s")


def _one(rng: random.Random) -> dict[str, Any]:
    name = rng.choice(COCO)
    return {"include": [{"class": name, "count": 1}], "prompt": f"a photo of {article(name)}"}


def _two(rng: random.Random) -> dict[str, Any]:
    a, b = rng.sample(COCO, 2)
    wanted = [{"class": a, "count": 1}, {"class": b, "count": 1}]
    return {"include": wanted, "prompt": f"a photo of {article(a)} and {article(b)}"}


def _count(rng: random.Random) -> dict[str, Any]:
    name, n = rng.choice(COCO), rng.randint(2, 4)
    return {
        "include": [{"class": name, "count": n}],
        "exclude": [{"class": name, "count": n + 1}],
        "prompt": f"a photo of {NUMBERS[n]} {plural(name)}",
    }


# A person is asked for by no colour, and an orange is no colour word beside its own name.
_PAINTED = tuple(n for n in COCO if n not in ("person", "orange"))


def _color(rng: random.Random) -> dict[str, Any]:
    name, color = rng.choice(_PAINTED), rng.choice(COLORS)
    wanted = [{"class": name, "count": 1, "color": color}]
    return {"include": wanted, "prompt": f"a photo of {article(f'{color} {name}')}"}


def _position(rng: random.Random) -> dict[str, Any]:
    a, b = rng.sample(COCO, 2)
    relation = rng.choice(RELATIONS)
    # The object that is placed comes second: its clause points back to the first.
    wanted = [{"class": b, "count": 1}, {"class": a, "count": 1, "position": [relation, 0]}]
    return {"include": wanted, "prompt": f"a photo of {article(a)} {relation} {article(b)}"}


def _attributes(rng: random.Random) -> dict[str, Any]:
    (a, b), (c, d) = rng.sample(_PAINTED, 2), rng.sample(COLORS, 2)
    wanted = [{"class": a, "count": 1, "color": c}, {"class": b, "count": 1, "color": d}]
    return {"include": wanted, "prompt": f"a photo of {article(f'{c} {a}')} and {article(f'{d} {b}')}"}


MAKERS: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "single_object": _one, "two_object": _two, "counting": _count, "colors": _color, "position": _position,
    "color_attr": _attributes,
}  # fmt: skip


def make(per_task: int, seed: int = 0) -> list[dict[str, Any]]:
    """`per_task` different prompts of every category (single objects: at most 80), in the reference's format."""
    from vtbench.types.errors import VtbenchError

    if not 1 <= per_task <= len(COCO):
        raise VtbenchError(
            f"{per_task} prompts a category: give 1 to {len(COCO)}, there are {len(COCO)} single objects"
        )
    out = []
    for tag in TASKS:
        rng = random.Random(f"{seed}:{tag}")
        seen: set[str] = set()
        while len(seen) < per_task:
            found = MAKERS[tag](rng)
            if found["prompt"] not in seen:
                seen.add(found["prompt"])
                out.append({"tag": tag, **found})
    return out


WORDS = (
    "open", "daily", "market", "street", "coffee", "house", "garden", "north", "river", "light", "paper", "music",
    "winter", "number", "school", "travel", "museum", "bread", "window", "letter", "summer", "bridge", "silver",
    "morning", "station", "library", "mountain", "orange", "kitchen", "harbour",
)  # fmt: skip
SCENES = (
    "a shop sign that says", "a plain poster with the text", "a book cover titled", "a chalkboard that reads",
    "a white mug printed with",
)  # fmt: skip


def quotes(per_bucket: int, seed: int = 0) -> list[dict[str, Any]]:
    """Prompts that quote a string: {"id", "text", "metadata": {"quote", "bucket"}}, the same number a bucket."""
    out = []
    for low, high in BUCKETS:
        rng = random.Random(f"{seed}:{low}-{high}")
        seen: set[str] = set()
        while len(seen) < per_bucket:
            text = rng.choice(WORDS)
            while len(text) < low:
                text += f" {rng.choice(WORDS)}"
            if len(text) > high or text in seen:
                continue
            scene = SCENES[len(seen) % len(SCENES)]
            seen.add(text)
            meta = {"quote": text, "bucket": f"{low}-{high}"}
            out.append({"id": f"quote-{low:02d}-{len(seen):02d}", "text": f'{scene} "{text}"', "metadata": meta})
    return out
