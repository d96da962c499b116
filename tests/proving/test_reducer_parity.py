"""Upstream's reducers against our rules, and that the checker can fail.

The fixtures in tests/parity_reduction hold the inputs and outputs of upstream's own functions (each names the commit).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import changed_fixtures, command, not_copied

from vtbench import registry
from vtbench.proving import parity_reducers
from vtbench.proving.parity import check_fixture
from vtbench.proving.parity_reducers import _rule

FIXTURES = Path(__file__).parents[1] / "parity_reduction"
NAMES = sorted(p.stem for p in FIXTURES.glob("*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_ours_equals_upstream(name: str) -> None:
    report = check_fixture(FIXTURES / f"{name}.json")
    assert report.ok, report.line()


def test_all_shared_fixtures(shared: Path) -> None:
    paths = sorted((shared / "reduction" / "parity").glob("*.json"))
    assert len(paths) >= 87
    # Those that lie here byte for byte are checked above.
    assert [r.line() for r in map(check_fixture, not_copied(paths, FIXTURES)) if not r.ok] == []


def test_every_rule_has_a_fixture_here_or_is_a_table() -> None:
    methods = {m for _, card in registry.reducers().items() for m in card.rules}
    whole_tables = {"btp", "btp-spatial-init", "evit-schedule", "hiprune", "tome-schedule", "uniform-sampling"}
    towers = {"tower-attention", "tower-hired", "tower-visionzip", "tower-vscan"}
    assert methods - {n.split("__")[0] for n in NAMES} == whole_tables | towers, "those are read from ../shared"


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    return changed_fixtures(FIXTURES, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_another_output_is_found(changed: Callable[..., Path], name: str) -> None:
    """One index more, or a hundredth of the spread, in any one output."""

    def other(array: Any) -> Any:
        if array.dtype == bool:
            return ~array
        if array.dtype.kind in "iu":
            return array + 1
        array.flat[0] += 0.01 * np.abs(array).max()
        return array

    outputs = json.loads((FIXTURES / f"{name}.json").read_text())["outputs"]
    for key in (o["array"] for o in outputs.values() if isinstance(o, dict)):
        path = changed(name, arrays=lambda a, key=key: a.update({key: other(a[key])}))
        assert not check_fixture(path).ok, key


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("visionzip__d5-c3-odd", {"contextual": 2}),
        ("vispruner__k16-r0.5", {"important_ratio": 0.25}),
        ("tome__distill", {"r": 6}),
        ("fourier-vlm__9x7to4x5", {"norm": None}),
        ("hired__two-images", {"alpha": 0.3}),
        ("fastv__k18", {"sys": 4}),
        ("sparsevlm-rank__r64-l6", {"layer": 15}),
        ("pyramiddrop__stage0", {"rank_layer": "layers.1"}),
        ("evit__keep0.5-fuse", {"fuse_token": False}),
    ],
)
def test_another_parameter_is_found(changed: Callable[..., Path], name: str, change: dict[str, Any]) -> None:
    assert not check_fixture(changed(name, facts=lambda f: f["params"].update(change))).ok


def test_what_agrees_in_float32_is_right_whatever_float64_decides(
    changed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """VisPruner's rounds build on one another, so that one rounding changes all that follow: a rule that keeps in
    float64 what it drops in float32 keeps what upstream's float32 kept."""
    own = _rule("fastv")

    def turned(inputs: Any, params: Any, weights: Any) -> Any:
        out = own(inputs, params, weights)
        return out if inputs["attn_last"].dtype == torch.float32 else {n: a.flip(-1) for n, a in out.items()}

    monkeypatch.setattr(parity_reducers, "_rule", lambda method: turned)
    report = check_fixture(FIXTURES / "fastv__k18.json")
    assert report.line() == "pass  fastv__k18  tokens 100.00% equal"
    # One that does not agree is told from a tie by float64, which says otherwise.
    assert not check_fixture(changed("fastv__k18", arrays=lambda a: a["out_kept"].__setitem__(0, 1))).ok


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: f.update(what="sampler fixture"), "what is 'sampler fixture': 'reducer fixture' is known here"),
        (lambda f: f.update(schema=2), "has schema 2, this vtbench checks schema 1"),
        (lambda f: f.update(inputs=[1]), "inputs is [1], but must be a JSON object"),
        (lambda f: f["inputs"].update(attn_last=3), "attn_last is 3, but must say array, shape and dtype"),
        (lambda f: f["inputs"].clear(), "our rule for fastv asks for 'attn_last', which the fixture's params, inputs"),
        (lambda f: f["params"].pop("rank"), "our rule for fastv asks for 'rank', which the fixture's params, inputs"),
        (lambda f: f["params"].update(rank="nine"), "our rule for fastv cannot take the fixture's params, inputs and"),
        (lambda f: f["params"].update(sys=3, hue=1), "our rule for fastv does not read the params K, hue, text"),
        (lambda f: f.update(tolerance={"kept": {"rtol": 5}}), "tolerance of kept is {'rtol': 5}, wanted an rtol of 0"),
        (lambda f: f.update(tolerance={"values": "loose"}), "tolerance of values is 'loose', wanted an rtol of 0 to"),
        (lambda f: f.update(weights={"state_dict": {"w": [-1]}}), "weight w has the shape [-1], but must have a list"),
        (lambda f: f.update(weights={"state_dict": {"w": [10**6] * 3}}), "asks for 1000000000000000000 weights"),
        (
            lambda f: f.update(weights={"state_dict": {"w": [1]}, "after_fill": "turned"}),
            "weights were changed after they were filled, 'turned'",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    changed: Callable[..., Path], change: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    report = check_fixture(changed("fastv__k18", facts=change))
    assert not report.ok
    assert sentence in report.line()
    assert "broke" not in report.line()


def test_words_are_no_array(changed: Callable[..., Path]) -> None:
    path = changed("fastv__k18", arrays=lambda a: a.update(out_kept=np.array(["a"] * 18)))
    assert "out_kept of the NPZ is <U1, but must hold numbers or booleans" in check_fixture(path).line()


def test_plain_numbers_and_arrays_are_one(changed: Callable[..., Path]) -> None:
    """Upstream's positions as a JSON list instead of an array, and counts as an array instead of a list."""
    with np.load(FIXTURES / "fastv__k18.npz") as arrays:
        kept = arrays["out_kept"].tolist()
    counts = {"tokens_per_image": {"array": "out_counts", "shape": [2], "dtype": "int64"}}
    for shift in (0, 1):
        listed = [place + shift for place in kept]
        one = changed("fastv__k18", facts=lambda f, k=listed: f["outputs"].update(kept=k))
        other = changed(
            "vwt-inter__t0.3",
            facts=lambda f: f["outputs"].update(counts),
            arrays=lambda a, s=shift: a.update(out_counts=np.array([28, 32 + s])),
        )
        assert check_fixture(one).ok is check_fixture(other).ok is (shift == 0)


def test_a_scale_that_words_state_is_read(changed: Callable[..., Path]) -> None:
    path = changed(
        "dynamicvit__r0.7",
        facts=lambda f: f.update(weights={**f["weights"], "scheme": "fill.py; then every out_conv.4.weight times 2.5"}),
    )
    assert not check_fixture(path).ok


def test_what_does_not_fit_is_said(changed: Callable[..., Path]) -> None:
    for facts, sentence in (
        (lambda f: f.update(method="no-such"), "no reducer has a rule for the method 'no-such'"),
        (lambda f: f.pop("outputs"), "lacks outputs or params"),
        (lambda f: f["inputs"]["attn_last"].update(array="in_else"), "the NPZ holds no array in_else"),
        (lambda f: f["outputs"].clear(), "lists no outputs"),
    ):
        report = check_fixture(changed("fastv__k18", facts=facts))
        assert not report.ok
        assert sentence in report.line()


def test_reducers_are_listed_with_what_is_known() -> None:
    code, out, _ = command("list", "reducers", "--json")
    assert code == 0
    by_name = {entry["name"]: entry for entry in json.loads(out)}
    assert by_name["fastv"]["query_aware"] is True
    assert by_name["pvc"]["state"] == "no code"
    for name, card in registry.reducers().items():
        # What is nobody's method (tokens drawn without looking, a smaller picture) has no upstream, and says so.
        own = name in ("random", "resize")
        assert bool(card.rules) != bool(card.no_code or own), name
        assert card.code or card.no_code or own, name
        assert not card.code or card.commit or card.no_code, name


def test_where_upstream_gives_no_number_neither_may_we(changed: Callable[..., Path]) -> None:
    """VFlowOpt without a token that receives enough: the mean of no rows."""
    name = "vflowopt-importance__t1.5-a0.3"

    def path(of: slice) -> Path:
        return changed(
            name,
            facts=lambda f: f["params"].update(t=1e6),
            arrays=lambda a: a["out_importance"].__setitem__(of, np.nan),
        )

    assert check_fixture(path(slice(None))).ok
    report = check_fixture(path(slice(0, 1)))
    assert not report.ok
    assert "no number in other places" in report.line()
