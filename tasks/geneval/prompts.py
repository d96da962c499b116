"""Prompts of our own in GenEval's six categories, from the 80 COCO names, seeded.

The metadata has the reference's format (djghosh13/geneval prompts/create_prompts.py, commit 16f1681), so that the same
scorer judges it; the sentences follow the reference's plain "a photo of …".
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from vtbench.tasks.geneval.vocabulary import CATEGORIES, COCO, COLORS, RELATIONS
from vtbench.types.errors import VtbenchError

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
    "single_object": _one,
    "two_object": _two,
    "counting": _count,
    "colors": _color,
    "position": _position,
    "color_attr": _attributes,
}


def make(per_task: int, seed: int = 0) -> list[dict[str, Any]]:
    """`per_task` different prompts of every category (single objects: at most 80), in the reference's format."""
    if not 1 <= per_task <= len(COCO):
        raise VtbenchError(
            f"{per_task} prompts a category: give 1 to {len(COCO)}, there are {len(COCO)} single objects"
        )
    out = []
    for tag in CATEGORIES:
        rng = random.Random(f"{seed}:{tag}")
        seen: set[str] = set()
        while len(seen) < per_task:
            prompt = MAKERS[tag](rng)
            if prompt["prompt"] not in seen:
                seen.add(prompt["prompt"])
                out.append({"tag": tag, **prompt})
    return out
