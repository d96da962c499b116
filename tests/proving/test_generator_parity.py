"""Upstream generators' own logits and samples against ours, and that the checker can fail.

The fixtures in tests/parity_gen were made by running upstream's classes and samplers (each names the commit) on
weights made from the parameters' names and on recorded noise; float64_rerun says how far upstream itself moves.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import changed_fixtures, not_copied

from vtbench import registry
from vtbench.adapters.networks.speculative import nearest_codes
from vtbench.models.names import compare_names, names_of
from vtbench.models.network import build_network
from vtbench.models.replay import pairs
from vtbench.proving import parity, parity_generators, rounding
from vtbench.types.errors import VtbenchError

FIXTURES = Path(__file__).parents[1] / "parity_gen"
NAMES = sorted(p.stem for p in FIXTURES.glob("*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_ours_equals_upstream(name: str) -> None:
    report = parity.check_fixture(FIXTURES / f"{name}.json")
    assert report.ok, report.line()


def test_every_family_has_a_fixture_here() -> None:
    families = {n.split("__")[0] for n in NAMES}
    autoregressive = {"llamagen-gpt", "var-gen", "rar", "xar", "nar", "d-ar-gen"}
    masked = {"maskgit-titok", "maskbit-gen", "mar", "enat", "far", "maskgen", "tokenbridge-gen", "maskgit-sg"}
    methods = {"specdec", "cspd", "token-opt", "va-pi"}
    assert families == autoregressive | masked | methods | {"pixelflow", "dit", "pixeldit"}


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    return changed_fixtures(FIXTURES, tmp_path)


def _only(*runs: str) -> Callable[[dict[str, Any]], None]:
    """Leaves a fixture's facts with the outputs of these runs alone: `run`, and `run_ENDING`."""

    def change(facts: dict[str, Any]) -> None:
        facts["outputs"] = {
            name: text for name, text in facts["outputs"].items() if any(f"{name}_".startswith(f"{r}_") for r in runs)
        }

    return change


PARTS: dict[str, list[tuple[str, ...]]] = {
    "llamagen-gpt__t2i": [("logits",)],
    "rar__tiny": [("logits", "labels")],
    "maskbit-gen__bert-8bit": [("logits",)],
    "pixelflow__c2i": [("velocity", "rope", "stage_table")],
    "maskgit-titok__vit": [("logits",)],
    "mar__tiny-t500": [],
    "xar__tiny": [
        ("clusters", "encoder_out", "velocity", "infer"),
        ("sample_cfg1",),
        ("sample_cfg27",),
        ("sample_ode",),
    ],
    "specdec__lantern": [("plain",), ("chain_plain",), ("lantern_add",)],
}
"""Runs of a fixture that are computed apart, the cheapest first: what is wrong there is wrong in the whole, whose other
runs need no run with errors then, which takes longer than all else."""


def _is_found(changed: Callable[..., Path], name: str, **change: Callable[[dict[str, Any]], object]) -> bool:
    """Whether a change of the arrays, or one that stands already, makes the fixture differ."""
    reports = (parity.check_fixture(changed(name, facts=_only(*part), **change)) for part in PARTS[name])
    if any("differ" in report.line() for report in reports if not report.ok):
        return True
    whole = parity.check_fixture(changed(name, **change))
    assert whole.ok or "differ" in whole.line(), whole.line()
    return not whole.ok


@pytest.mark.parametrize(("name", "part"), [(name, part) for name, parts in PARTS.items() for part in parts])
def test_a_part_of_a_fixture_is_a_fixture(changed: Callable[..., Path], name: str, part: tuple[str, ...]) -> None:
    report = parity.check_fixture(changed(name, facts=_only(*part)))
    assert report.ok, report.line()
    assert report.differences


@pytest.fixture
def one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to six runs with errors explain two right results apart at a tie; what is wrong is so after the first."""
    monkeypatch.setattr(rounding, "RUNS", 1)


@pytest.mark.usefixtures("one_run")
def test_a_small_change_of_logits_is_found(changed: Callable[..., Path]) -> None:
    # Their spread is one and 1e-4 of it is allowed.
    path = changed(
        "llamagen-gpt__c2i",
        facts=_only("logits"),
        arrays=lambda a: a["logits"].__setitem__((0, 3, 7), a["logits"][0, 3, 7] + 5e-4),
    )
    assert "logits differs" in parity.check_fixture(path).line()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("llamagen-gpt__c2i", {"norm_eps": 1e-4}),
        ("llamagen-gpt__c2i", {"rope_base": 9000}),
        ("nar__c2i", {"norm_eps": 1e-4}),
        ("mar__tiny", {"norm_eps": 1e-4}),
    ],
)
@pytest.mark.usefixtures("one_run")
def test_another_constant_is_found(changed: Callable[..., Path], name: str, change: dict[str, Any]) -> None:
    def changes(facts: dict[str, Any]) -> None:
        facts["config"].update(change)
        _only("logits", "encoder_out", "z", "net_out")(facts)

    report = parity.check_fixture(changed(name, facts=changes))
    assert not report.ok
    assert "differs" in report.line()


@pytest.mark.parametrize("name", ["llamagen-gpt__t2i", "rar__tiny", "maskbit-gen__bert-8bit", "pixelflow__c2i"])
@pytest.mark.usefixtures("one_run")
def test_one_other_weight_is_found(changed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Every weight takes part: a twentieth more of any one of them, and the fixture fails."""
    real, names = parity_generators.values, json.loads((FIXTURES / f"{name}.json").read_text())["state_dict"]
    # A constant over all keys shifts every score alike, so that the softmax is blind to it.
    blind = ("k_norm.bias", "key.bias")
    for other in [n for n in names if not n.endswith(blind)][:: max(1, len(names) // 8)]:
        monkeypatch.setattr(
            parity_generators, "values", lambda n, shape, other=other: real(n, shape) * (1.05 if n == other else 1.0)
        )
        assert _is_found(changed, name), other


_COMBINED = {"xar": {"noise"}, "specdec": {"codebook"}}
"""Inputs that went into other inputs (x_t; nearest, sq_dist) and are not read themselves."""


@pytest.mark.parametrize("name", ["maskgit-titok__vit", "mar__tiny-t500", "xar__tiny", "specdec__lantern"])
@pytest.mark.usefixtures("one_run")
def test_every_input_is_used(changed: Callable[..., Path], name: str) -> None:
    def other(array: np.ndarray) -> np.ndarray:
        if array.dtype.kind == "f":
            return np.roll(array, 1, -1) * array.dtype.type(1.01)
        return np.roll(array, 1, -1) if array.ndim > 1 else np.where(array > 0, array - 1, array + 1)

    for key in json.loads((FIXTURES / f"{name}.json").read_text())["inputs"]:
        is_found = _is_found(changed, name, arrays=lambda a, key=key: a.update({key: other(a[key])}))
        assert is_found == (key not in _COMBINED.get(name.split("__")[0], ())), key


def test_the_tables_of_the_rules_follow_from_the_codebook() -> None:
    with np.load(FIXTURES / "specdec__lantern.npz") as a, np.load(FIXTURES / "specdec__gsd.npz") as b:
        assert torch.equal(nearest_codes(torch.from_numpy(a["codebook"])), torch.from_numpy(a["nearest"]).long())
        wide = b["codebook"].astype(np.float64)
        # float32 sums of eight squares.
        assert np.allclose(((wide[:, None] - wide[None]) ** 2).sum(-1), b["sq_dist"], atol=1e-4)


@pytest.mark.usefixtures("one_run")
def test_what_one_pass_gives_is_held_to_the_limit_whatever_the_samplers_error(changed: Callable[..., Path]) -> None:
    # Upstream's smooth sampling moves by 1.3e-4 in float32; its logits do not.
    path = changed(
        "var-gen__d3",
        facts=_only("logits", "smooth"),
        arrays=lambda a: a["logits"].__setitem__((0, 3, 7), a["logits"][0, 3, 7] + 3e-4),
    )
    assert "logits differs" in parity.check_fixture(path).line()


@pytest.mark.usefixtures("one_run")
def test_one_other_token_is_found(changed: Callable[..., Path]) -> None:
    path = changed(
        "rar__tiny",
        facts=_only("sampled"),
        arrays=lambda a: a["sampled"].__setitem__((1, 5), (a["sampled"][1, 5] + 1) % 64),
    )
    assert "1 of 32 sampled differ" in parity.check_fixture(path).line()


@pytest.mark.usefixtures("one_run")
def test_settings_come_from_the_file(changed: Callable[..., Path]) -> None:
    def weaker(facts: dict[str, Any]) -> None:
        _only("sampled")(facts)
        facts["outputs"]["sampled"] = facts["outputs"]["sampled"].replace("cfg_scale=3.0", "cfg_scale=1.5")

    assert "sampled differ" in parity.check_fixture(changed("llamagen-gpt__c2i", facts=weaker)).line()


@pytest.mark.usefixtures("one_run")
def test_outputs_are_computed_from_inputs_alone(changed: Callable[..., Path]) -> None:
    """With other noise, the recorded samples cannot come out."""
    path = changed(
        "llamagen-gpt__c2i",
        facts=_only("sampled"),
        arrays=lambda a: a.__setitem__("exp_noise", a["exp_noise"][::-1].copy()),
    )
    assert "sampled differ" in parity.check_fixture(path).line()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: f["config"].__setitem__("dimm", 3), "config.dimm is a key that this network does not know"),
        (lambda f: f["config"].__setitem__("n_kv_head", 2), "n_kv_head is 2"),
        (lambda f: f["config"].__setitem__("block_size", 15), "must be a square number"),
        (lambda f: f["config"].__setitem__("model_type", "v2i"), "must be 'c2i' or 't2i'"),
        (lambda f: f["state_dict"].__setitem__("extra.weight", [3]), "1 not in our network: extra.weight"),
        (lambda f: f["state_dict"].__setitem__("norm.weight", [3]), "1 of another shape"),
        (lambda f: f["outputs"].__setitem__("greedy_cfg1", "generate(cfg_scal=1.0, top_k=1)"), "no setting 'cfg_scal'"),
        (lambda f: f["outputs"].__setitem__("further", "something else"), "the NPZ lacks the output further"),
        (lambda f: f.pop("outputs"), "lacks outputs"),
        (lambda f: f.__setitem__("outputs", {}), "lists no outputs"),
        (lambda f: f.__setitem__("outputs", ["logits"]), "outputs is list, but must be a JSON object"),
        (lambda f: f.__setitem__("state_dict", []), "state_dict is list, but must be a JSON object"),
        (lambda f: f["inputs"].pop("class_ids"), "records no input class_ids"),
    ],
)
def test_what_does_not_fit_is_said(
    changed: Callable[..., Path], change: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    report = parity.check_fixture(changed("llamagen-gpt__c2i", facts=change))
    assert not report.ok
    assert sentence in report.line()


def test_a_missing_array_file_is_said(tmp_path: Path) -> None:
    shutil.copy(FIXTURES / "rar__tiny.json", tmp_path)
    assert "cannot be read" in parity.check_fixture(tmp_path / "rar__tiny.json").line()


def test_pairs() -> None:
    text = "sample(cfg=3.0, decay=power-cosine, on=True, n=[2, 1], mask id = V): t = 2*x, tau=max(0.2, 1), s=i/n; k=4"
    assert pairs(text) == {"cfg": 3.0, "decay": "power-cosine", "on": True, "n": [2, 1], "k": 4}


def test_all_shared_fixtures(shared: Path) -> None:
    paths = sorted((shared / "parity_gen").glob("*.json"))
    assert len(paths) >= 31
    # Those that lie here byte for byte are checked above.
    wrong = [r.line() for r in map(parity.check_fixture, not_copied(paths, FIXTURES)) if not r.ok]
    assert not wrong


def test_every_released_generator_would_load(shared: Path) -> None:
    read = [json.loads(p.read_text()) for p in sorted((shared / "official_gen").glob("*.json"))]
    assert len(read) >= 60
    for m in read:
        family, card = registry.family(m["family"]), registry.model(m["name"]).card
        assert card.kind == "generator"
        for config in (m["config"], card.arch):
            with torch.device("meta"):
                network = build_network(family, config, random=False)
            assert compare_names(names_of(network), m["state_dict"], ()) == [], m["name"]
            whole = {n: list(t.shape) for n, t in network.state_dict().items() if not t.is_floating_point()}
            assert whole == {n: b["shape"] for n, b in m["int_buffers"].items()}, m["name"]
        fids = {p.value for p in card.published if p.metric == "fid"}
        assert fids == {v["value"] for k, v in m["published"].items() if k.lower().startswith("fid")}, m["name"]


def test_an_unknown_family_is_said(changed: Callable[..., Path]) -> None:
    with pytest.raises(VtbenchError):
        registry.family("no-such-family")
    path = changed("rar__tiny", facts=lambda f: f.__setitem__("family", "no-such-family"))
    assert "no-such-family" in parity.check_fixture(path).line()
