"""The fresh process of `vtbench check` for reducers: it gets the rows that go on, and says what a model makes of them.

Run as `python -m vtbench.proving.reducer_process FOLDER …`; `ask` starts it for any number of trials. A reducer whose
dropped tokens are still read comes to something else there, and so does one that keeps something from image to image,
since the last image is asked anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vtbench import registry
from vtbench.models.reduced import opened
from vtbench.proving.checks import Verdict
from vtbench.proving.reducer_checks import SHARE
from vtbench.proving.reducer_language import examined
from vtbench.proving.reducer_trial import Trial, apart, outputs
from vtbench.results.files import read_json
from vtbench.types.item import Item
from vtbench.types.reading import Point

SECONDS = 900
"""Longest wait for an answer: a large model must be loaded anew."""
QUESTION, ROWS, PIXELS, ANSWER = "question.json", "rows-{}.safetensors", "pixels.safetensors", "answer.safetensors"


def write_question(trial: Trial, reducer: str | None, folder: Path) -> str | None:
    """Everything that the other process gets. reducer: the name by which it is built there, None of an object. Returns
    why there is nothing to ask."""
    from safetensors.torch import save_file

    sent = [trial.model.sent(trial, number) for number in range(len(trial.images))]
    if any(one is None for one in sent):
        return "no cut was seen whose rows could be sent"
    folder.mkdir(parents=True)
    where = []
    for number, one in enumerate(sent):
        assert one is not None
        save_file(one[0], str(folder / ROWS.format(number)))
        where.append(one[1])
    save_file({"images": trial.images[-1:].contiguous()}, str(folder / PIXELS))
    point = trial.point
    question = {
        "tower": dict(trial.model.opening),
        "where": where,
        "reducer": reducer,
        "options": point.reducer.options,
        "point": {"keep": point.keep, "stage": point.stage, "block": point.block},
        "seed": trial.seeds[-1],
        "item": {"id": trial.items[-1].id, "meta": dict(trial.items[-1].meta)},
    }
    (folder / QUESTION).write_text(json.dumps(question))
    return None


def ask(folders: Sequence[Path], environment: Mapping[str, str] | None = None) -> str | None:
    """Lets one fresh process answer the questions in these folders; returns why it could not."""
    words = [sys.executable, "-m", "vtbench.proving.reducer_process", *map(str, folders)]
    answer = subprocess.run(words, capture_output=True, timeout=SECONDS, env=dict(environment or os.environ))
    if not answer.returncode:
        return None
    return (answer.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1][:200]


def compared(trial: Trial, folder: Path) -> Verdict:
    """What came back against what the model came to here."""
    from safetensors.torch import load_file

    there = load_file(str(folder / ANSWER))

    def parts(name: str) -> list[Any]:
        return [there[key] for key in sorted(there) if key.rpartition("-")[0] == name]

    for number, (reading, _) in enumerate(trial.each()):
        here = outputs(reading)
        far = apart(parts(f"rows-{number}")[: len(here)], here) if here else 0.0
        if far > SHARE:
            return "failed", (
                f"a fresh process that got only the rows that go on came to something else (by {far:.1e} of it): the "
                "model reads something beside them"
            )
    last = trial.each()[-1][0]
    if "alone-0" in there and apart(parts("alone")[: len(outputs(last))], outputs(last)) > SHARE:
        return "failed", (
            "a fresh process that was asked for the last image alone came to something else: something is kept from "
            "one image to the next"
        )
    rows = sum(int(there[f"count-{number}"]) for number in range(len(trial.images)))
    return "passed", f"a fresh process that got only the {rows} rows that go on comes to the same"


def answer(folder: Path) -> None:
    """Writes ANSWER beside the question of a folder."""
    import torch
    from safetensors.torch import load_file, save_file

    question = read_json(folder / QUESTION)
    model = examined(opened(**question["tower"]))
    out = {}
    for number, where in enumerate(question["where"]):
        sent = load_file(str(folder / ROWS.format(number)))
        out[f"count-{number}"] = torch.tensor(len(sent["rows"]))
        out |= {f"rows-{number}-{k}": t.contiguous() for k, t in enumerate(model.resumed(sent, where))}
    if question["reducer"] is not None:
        card = registry.reducers().get(question["reducer"])
        assert card.build is not None
        point = Point(card.build(card, question["options"]), **question["point"])
        images, asked = load_file(str(folder / PIXELS))["images"], question["item"]
        items = [Item(asked["id"], None, meta=asked["meta"])]
        trial = Trial(model, point, images, items, seeds=[question["seed"]])
        out |= {f"alone-{k}": t.contiguous() for k, t in enumerate(outputs(trial.read([0])))}
    save_file(out, str(folder / ANSWER))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        answer(Path(name))
