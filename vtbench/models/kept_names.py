"""What the networks of released models need of a file, in the cache: to make some 240 networks only to ask them for
their names takes ten seconds.

The cache's file is named by all the code that decides the answer and by torch, so that no other answer is ever taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtbench.models.names import Needed
from vtbench.results import provenance
from vtbench.results.cache_files import read_checked, write_checked
from vtbench.types.environment import cache_dir

RULE = 1
"""Goes up when what a file says comes to mean something else."""
FOLDER = "names"
"""The folder below the cache's."""


def _place() -> Path:
    facts = f"{RULE}\0{provenance.code_digest()}\0{provenance.packages().get('torch')}"
    return cache_dir() / FOLDER / f"{hashlib.sha256(facts.encode()).hexdigest()[:24]}.json"


def read() -> dict[str, Needed]:
    """{network and arch, as `write` was given them: what it needs}; empty where nothing is kept."""
    content = read_checked(_place())
    return {key: _of_json(needed) for key, needed in content.items()} if isinstance(content, dict) else {}


def write(networks: Mapping[str, Needed]) -> None:
    """Keeps those that have no names of their own (`rename`), which is code."""
    write_checked(_place(), {key: _as_json(needed) for key, needed in networks.items() if needed.rename is None})


def _as_json(needed: Needed) -> dict[str, Any]:
    shapes = {name: list(shape) for name, shape in needed.shapes.items()}
    # By their places: most names are those of parameters.
    parameters = [place for place, name in enumerate(shapes) if name in needed.parameters]
    others = sorted(needed.parameters - shapes.keys())
    return {"shapes": shapes, "optional": list(needed.optional), "parameters": parameters, "others": others}


def _of_json(content: Mapping[str, Any]) -> Needed:
    shapes = {name: tuple(shape) for name, shape in content["shapes"].items()}
    names = list(shapes)
    parameters = frozenset([*(names[place] for place in content["parameters"]), *content["others"]])
    return Needed(shapes, tuple(content["optional"]), None, parameters)
