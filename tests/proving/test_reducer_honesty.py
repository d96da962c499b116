"""The checks of `vtbench check` on every reducer that can be built, through tiny towers, and on reducers that cheat.

One fresh process answers for all of them, since each would load the libraries anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from support import ROOT

from vtbench import registry
from vtbench.models.tower_files import model_files
from vtbench.models.tower_reading import TowerSubject
from vtbench.models.towers import Tower
from vtbench.proving.checks import Verdict
from vtbench.proving.contract import check
from vtbench.proving.pictures import photo
from vtbench.proving.reducer_checks import CHECKS
from vtbench.proving.reducer_process import ask, compared, write_question
from vtbench.proving.reducer_trial import Trial
from vtbench.types.errors import VtbenchError
from vtbench.types.reading import Point

BAD = ROOT / "tests" / "bad_reducers.py"
KEEP = 36
BOTH = ("tower", "vit")
CHEATS = {
    "reads-dropped": (BOTH, {"view", "fresh process"}),
    "reads-dropped-before": (("vit",), {"view", "masked"}),
    "reads-dropped-openly": (("vit",), {"view"}),
    "keeps-alias": (("tower",), {"view"}),
    "first-of-all": (BOTH, {"batch"}),
    "first-of-process": (("vit",), {"fresh process"}),
    "mean-of-batch": (("tower",), {"batch"}),
    "keeps-more": (BOTH, {"tokens"}),
    "keeps-more-in-secret": (("vit",), {"tokens"}),
    "looks-at-places": (("tower",), {"places"}),
}
"""Where each is tried, and which checks must fail there."""


def reducers() -> list[tuple[str, str]]:
    """(name, stage) of everything registered that acts in an image tower."""
    cards = [card for _, card in registry.reducers().items() if card.build is not None]
    return [(c.name, s) for c in cards for s in c.stages if s in TowerSubject.stages and c.name != "full"]


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> TowerSubject:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    folder = tmp_path_factory.mktemp("towers") / "clip"
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 9, "intermediate_size": 12}
    CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=48, patch_size=4)).save_pretrained(folder)
    return TowerSubject(Tower(model_files(str(folder)), "cpu", "float32", {"pool": "mean"}))


@dataclass
class Tried:
    """The verdicts by check of everything that was tried."""

    trials: dict[tuple[str, str], Trial] = field(default_factory=dict)
    verdicts: dict[tuple[str, str], dict[str, Verdict]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def tried(tower: TowerSubject, tmp_path_factory: pytest.TempPathFactory) -> Tried:
    folder, out = tmp_path_factory.mktemp("fresh"), Tried()
    images = torch.cat([photo(48, 48, at=37 * i) for i in range(2)])
    sent: dict[tuple[str, str], Path] = {}
    stages = {"honest": BOTH} | {name: where for name, (where, _) in CHEATS.items()}
    names = [(f"{BAD}@{name}", stage) for name, where in stages.items() for stage in where]
    for name, stage in [*reducers(), *names]:
        card = registry.reducers().get(name)
        assert card.build is not None
        key = (card.name, stage)
        trial = out.trials[key] = Trial(tower, Point(card.build(card, {}), KEEP, stage), images)
        out.verdicts[key] = {check: of(trial) for check, _, of in CHECKS}
        place = folder / str(len(sent))
        if (why := write_question(trial, name, place)) is None:
            sent[key] = place
        else:
            out.verdicts[key]["fresh process"] = "not checked", why
    assert ask(list(sent.values())) is None
    for key, place in sent.items():
        out.verdicts[key]["fresh process"] = compared(out.trials[key], place)
    return out


def failures(verdicts: Mapping[str, Verdict]) -> dict[str, str]:
    return {check: said for check, (status, said) in verdicts.items() if status == "failed"}


@pytest.mark.parametrize(("name", "stage"), reducers())
def test_every_reducer_is_honest(tried: Tried, name: str, stage: str) -> None:
    verdicts = tried.verdicts[name, stage]
    assert not failures(verdicts)
    if stage != "input":
        passed = {check for check, (status, _) in verdicts.items() if status == "passed"}
        assert passed >= {"keeps all", "tokens", "view", "dropped", "batch", "fresh process"}


@pytest.mark.parametrize("stage", BOTH)
def test_an_honest_one_passes_all(tried: Tried, stage: str) -> None:
    verdicts = tried.verdicts["honest", stage]
    open_ = {check for check, (status, _) in verdicts.items() if status != "passed"}
    assert open_ == ({"masked"} if stage == "tower" else set()), verdicts


@pytest.mark.parametrize("name", CHEATS)
def test_cheats_are_caught(tried: Tried, name: str) -> None:
    where, checks = CHEATS[name]
    for stage in where:
        assert failures(tried.verdicts[name, stage]).keys() >= checks, stage


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "uniform is a reducer of tokens: give --tower FOLDER"),
        ({"keep": 9}, "--keep 9 is how many tokens a reducer keeps: give --tower"),
        ({"tower": "towers/none"}, "towers/none"),
        ({"tower": "{tower}", "keep": 145}, "--keep 145: a picture is 144 tokens"),
        ({"tower": "{tower}", "options": {"blok": "1"}}, "no option 'blok' (did you mean block?)"),
        ({"tower": "{tower}", "checkpoint": Path("weights.pt")}, "--tower is for reducers"),
    ],
)
def test_what_cannot_be_checked_is_said(tower: TowerSubject, asked: dict[str, Any], said: str) -> None:
    more = {k: tower.tower.files.spec if v == "{tower}" else v for k, v in asked.items()}
    with pytest.raises(VtbenchError) as bad:
        check("uniform", **more)
    assert said in str(bad.value)
