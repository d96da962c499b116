"""The checks of `vtbench check` on every reducer that can be built, and on reducers that cheat: in an image tower, and,
where they act behind a projector or inside a language model, in a tiny LLaVA.

One fresh process answers for all of them, since each would load the libraries anew.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from support import ROOT

sys.path.insert(0, str(ROOT / "tests" / "models"))
import tiny_language_models as tiny

from vtbench import registry
from vtbench.models.answering import VisionLanguage
from vtbench.models.tower_files import model_files
from vtbench.models.tower_reading import TowerSubject
from vtbench.models.towers import Tower
from vtbench.proving.checks import Verdict
from vtbench.proving.contract import check
from vtbench.proving.pictures import photo
from vtbench.proving.reducer_checks import CHECKS
from vtbench.proving.reducer_language import ExaminedLanguage
from vtbench.proving.reducer_process import answer, ask, compared, write_question
from vtbench.proving.reducer_towers import ExaminedTower
from vtbench.proving.reducer_trial import Trial
from vtbench.types.errors import VtbenchError
from vtbench.types.reading import Point

BAD = ROOT / "tests" / "bad_reducers.py"
KEEP = 36
BOTH = ("tower", "vit")
KEEP_OF_LANGUAGE = 12
LANGUAGE = ("projector", "llm")
"""Stages that an image tower does not have."""
OPTIONS: Mapping[str, Mapping[str, Any]] = {"btp": {"layers": "1+2+3+4"}, "sparsevlm": {"layers": "0+1+2"}}
"""Layers of methods whose own are beyond a model of five."""
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
    "inside-reads-dropped": (("llm",), {"view", "masked", "fresh process"}),
    "inside-reads-dropped-openly": (("llm",), {"view"}),
    "inside-first-of-all": (("llm",), {"batch"}),
    "inside-first-of-process": (("llm",), {"fresh process"}),
    "inside-keeps-more": (("llm",), {"tokens"}),
    "inside-keeps-more-in-secret": (("llm",), {"tokens"}),
}
"""Where each is tried, and which checks must fail there."""


def reducers() -> list[tuple[str, str]]:
    """(name, stage) of everything registered that can be run."""
    cards = [card for _, card in registry.reducers().items() if card.build is not None]
    return [(c.name, s) for c in cards for s in c.stages if c.name != "full"]


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> TowerSubject:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    folder = tmp_path_factory.mktemp("towers") / "clip"
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 9, "intermediate_size": 12}
    CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=48, patch_size=4)).save_pretrained(folder)
    return TowerSubject(Tower(model_files(str(folder)), "cpu", "float32", {"pool": "mean"}))


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> VisionLanguage:
    """Nine layers in the tower, since HiPrune reads layer 8."""
    folder = tiny.llava(tmp_path_factory.mktemp("models") / "llava", layers=5, tower_layers=9)
    return VisionLanguage(model_files(str(folder)), "cpu", "float32", {})


@dataclass
class Tried:
    """The verdicts by check of everything that was tried."""

    trials: dict[tuple[str, str], Trial] = field(default_factory=dict)
    verdicts: dict[tuple[str, str], dict[str, Verdict]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def tried(tower: TowerSubject, language: VisionLanguage, tmp_path_factory: pytest.TempPathFactory) -> Tried:
    folder, out = tmp_path_factory.mktemp("fresh"), Tried()
    images = torch.cat([photo(48, 48, at=37 * i) for i in range(2)])
    sent: dict[tuple[str, str], Path] = {}
    models = {False: (ExaminedTower(tower), KEEP), True: (ExaminedLanguage(language), KEEP_OF_LANGUAGE)}
    stages = {"honest": BOTH, "inside-honest": ("llm",)} | {name: where for name, (where, _) in CHEATS.items()}
    names = [(f"{BAD}@{name}", stage) for name, where in stages.items() for stage in where]
    for name, stage in [*reducers(), *names]:
        card = registry.reducers().get(name)
        assert card.build is not None
        key = (card.name, stage)
        model, keep = models[stage in LANGUAGE]
        trial = out.trials[key] = Trial(model, Point(card.build(card, OPTIONS.get(name, {})), keep, stage), images)
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


@pytest.mark.parametrize("name", ["random", "divprune", "fastv", "dart", "pyramiddrop", "uniform"])
def test_what_is_selected_is_as_good_as_masked(tried: Tried, name: str) -> None:
    masked = [v["masked"][0] for (method, stage), v in tried.verdicts.items() if method == name and stage != "tower"]
    assert masked
    assert set(masked) == {"passed"}


@pytest.mark.parametrize(
    ("name", "stage", "unchecked"),
    [("honest", "tower", {"masked"}), ("honest", "vit", set()), ("inside-honest", "llm", set())],
)
def test_an_honest_one_passes_all(tried: Tried, name: str, stage: str, unchecked: set[str]) -> None:
    verdicts = tried.verdicts[name, stage]
    assert {check for check, (status, _) in verdicts.items() if status != "passed"} == unchecked, verdicts


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


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("fastv", {"keep": 37}, "--keep 37: a picture is 36 tokens to llava; give 1 to that"),
        ("sparsevlm", {"keep": 10, "options": OPTIONS["sparsevlm"]}, "SparseVLM's table has no --keep 10 of 36 tokens"),
        ("btp", {}, "btp cuts before layer 22, counted from 0, and the language model has 5"),
        ("uniform", {"options": {"stage": "llm", "block": "5"}}, "give --option block below that"),
        ("fastv", {"options": {"block": "1"}}, "fastv has a schedule of its own: leave out --option block=1"),
    ],
)
def test_what_no_language_model_can_be_asked(
    language: VisionLanguage, name: str, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(VtbenchError) as bad:
        check(name, tower=language.files.spec, **asked)
    assert said in str(bad.value)


def test_check_asks_a_language_model(language: VisionLanguage, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default a third of the tokens; the other process is played by this one, since it loads the libraries anew."""

    def answered(folders: list[Path]) -> None:
        for folder in folders:
            answer(folder)

    monkeypatch.setattr("vtbench.proving.reducer_contract.ask", answered)
    sheet = check("fastv", tower=language.files.spec)
    assert [one.name for one in sheet if one.status != "passed"] == ["places"]
    assert sheet[0].said == "at the stage llm of llava, 12 tokens asked for"
