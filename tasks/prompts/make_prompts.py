"""Writes the built-in prompt suites beside this file.

python -m vtbench.tasks.prompts.make_prompts
"""

from __future__ import annotations

import json
from pathlib import Path

from vtbench.images.prompts import manifest
from vtbench.tasks.geneval.prompts import make
from vtbench.tasks.prompts.quotes import quotes
from vtbench.types.adapter import Prompt


def main() -> None:
    folder = Path(__file__).resolve().parent
    objects = [
        Prompt(f"{m['tag']}-{k:03d}".replace("_", "-"), text=m["prompt"], metadata=m) for k, m in enumerate(make(4, 0))
    ]
    quoted = [Prompt(q["id"], text=q["text"], metadata=q["metadata"]) for q in quotes(5, 0)]
    labels = [
        Prompt("china", label=0, metadata={"name": "a Chinese pavilion"}),
        Prompt("flower", label=1, metadata={"name": "a flower"}),
    ]
    for name, title, prompts in (
        ("starter-objects", "Objects, counts, colours, positions", objects),
        ("starter-quotes", "Quoted strings by length", quoted),
        ("starter-classes", "The two classes of the built-in generator", labels),
    ):
        (folder / f"{name}.jsonl").write_text(manifest(name, title, "Apache-2.0", prompts), encoding="utf-8")
        print(json.dumps({"suite": name, "prompts": len(prompts)}))


if __name__ == "__main__":
    main()
