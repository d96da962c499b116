"""Upstream's own outputs against ours, and that the checker can fail.

The fixtures in tests/parity were made by running upstream's classes (each names the commit) on weights made from the
parameters' names; their tolerances say how far upstream itself moves between convolution kernels.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import changed_fixtures

from vtbench import registry
from vtbench.models.made_weights import values
from vtbench.models.names import manifest
from vtbench.proving import fixtures, parity, parity_tokenizers
from vtbench.types.errors import VtbenchError

FIXTURES = Path(__file__).parents[1] / "parity"
VQGAN = "vqgan__f4-v128"


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    return changed_fixtures(FIXTURES, tmp_path)


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.json")), ids=lambda p: p.stem)
def test_our_network_computes_what_upstream_computes(path: Path) -> None:
    report = parity.check_fixture(path)
    assert report.ok, report.line()
    assert report.differences, "nothing was compared"


def test_the_line_says_verdict_share_and_differences() -> None:
    line = parity.check_fixture(FIXTURES / f"{VQGAN}.json").line()
    assert line.startswith(f"pass  {VQGAN}  tokens 100.00% equal  pre_quant ")
    assert " quantized " in line
    assert " recon " in line


def test_a_wrong_epsilon_is_caught(changed: Callable[..., Path]) -> None:
    report = parity.check_fixture(changed(VQGAN, lambda f: f["arch"].update(norm_eps=1e-5)))
    assert not report.ok
    assert any("differ" in reason for reason in report.reasons)


def test_a_perturbed_weight_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    fill = parity_tokenizers.fill_

    def perturbed(module: torch.nn.Module) -> torch.nn.Module:
        fill(module)
        with torch.no_grad():
            module.state_dict()["decoder.up.0.block.1.conv2.weight"][0, 0, 1, 1] += 1e-3
        return module

    monkeypatch.setattr(parity_tokenizers, "fill_", perturbed)
    report = parity.check_fixture(FIXTURES / f"{VQGAN}.json")
    assert [d.array for d in report.differences if not d.ok] == ["recon"], report.line()


def test_a_swapped_token_is_caught(changed: Callable[..., Path]) -> None:
    def swap(arrays: dict[str, Any]) -> None:
        tokens = arrays["tokens_canonical"]
        tokens[0, 7] = (tokens[0, 7] + 1) % 128

    report = parity.check_fixture(changed(VQGAN, arrays=swap))
    assert report.equal_tokens == 255 / 256
    # The decoder reads the file's tokens, so that the picture differs too.
    assert any(d.array == "recon" and not d.ok for d in report.differences)


def test_decoding_sees_the_tokens_alone(changed: Callable[..., Path]) -> None:
    """A decoder that remembered the encoder's latent would give the same picture for other tokens."""
    report = parity.check_fixture(changed(VQGAN, arrays=lambda a: a["tokens_canonical"].fill(3)))
    recon = next(d for d in report.differences if d.array == "recon")
    assert recon.greatest > 0.1


def test_wrong_names_and_shapes_are_caught(changed: Callable[..., Path]) -> None:
    def rename(facts: dict[str, Any]) -> None:
        state = facts["state_dict"]
        state["encoder.conv_inn.weight"] = state.pop("encoder.conv_in.weight")
        state["decoder.conv_out.bias"] = [4]

    line = parity.check_fixture(changed(VQGAN, rename)).line()
    assert "1 not in our network: encoder.conv_inn.weight" in line
    assert "1 not upstream: encoder.conv_in.weight" in line
    assert "decoder.conv_out.bias is [3], upstream has [4]" in line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.update(schema=2), "schema 2"),
        (lambda f: f.update(family="vqgann"), "vqgan"),
        (lambda f: f["arch"].update(temb_channels=512), "arch.temb_channels is a key that this network does not know"),
        (lambda f: f["arch"]["quantizer"].update(remap="used.npy"), "arch.quantizer.remap"),
        (lambda f: f["arch"].update(attn_type="axial"), "'axial', but must be 'vanilla' or 'linear' or 'none'"),
        (lambda f: f["arch"].update(double_z=True), "arch.double_z"),
        (lambda f: f["arch"].pop("ch"), "arch.ch is missing"),
        (lambda f: f["arch"].update(ch="32"), "arch.ch is '32'"),
        (lambda f: f["arch"].update(ch=40), "norm groups do not divide"),
        (lambda f: f["arch"].update(quantizer=None), "arch.quantizer is null"),
        (lambda f: f["decode"].update(steps=3), "our network broke: TypeError"),
        (lambda f: f["decode"].update({"from": ["codes"]}), "lacks the array codes"),
        (lambda f: f["tolerance"].pop("recon"), "no tolerance for recon"),
        (lambda f: f.pop("arch"), "lacks arch"),
        (lambda f: f.update(arch=[1]), "arch is [1], wanted a dictionary"),
        (lambda f: f.update(family=None), "family is None, wanted a name"),
        (lambda f: f.update(state_dict=[1]), "state_dict is [1], wanted a dictionary of shapes"),
        (lambda f: f.update(decode=None), "decode is None, wanted a dictionary"),
        (lambda f: f["decode"].update({"from": []}), "decode does not say array and from"),
        (lambda f: f.update(runs=[{"array": "recon"}]), "run 1 does not say array and from"),
        (lambda f: f.update(input={}), "input names no array"),
        (lambda f: f["tolerance"].update(recon="none"), "tolerance of recon is 'none', wanted a number"),
        (lambda f: f["shapes"].update(pre_quant=[1, 2]), "pre_quant of the NPZ is [1, 32, 16, 16], the fixture says"),
        (lambda f: f["shapes"].update(stray=[1]), "stray of the NPZ is not there"),
    ],
)
def test_what_cannot_be_checked_is_said(
    changed: Callable[..., Path], change: Callable[[dict[str, Any]], object], said: str
) -> None:
    report = parity.check_fixture(changed(VQGAN, change))
    assert not report.ok
    assert said in report.line()


def test_keys_that_do_not_apply_may_be_null(changed: Callable[..., Path]) -> None:
    report = parity.check_fixture(changed(VQGAN, lambda f: f["arch"].update(temb_channels=None, noise={}.get("x"))))
    assert report.ok, report.line()


def test_a_missing_npz_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x__y.json"
    path.write_text((FIXTURES / f"{VQGAN}.json").read_text())
    assert "x__y.npz cannot be read" in parity.check_fixture(path).line()


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.9])
def test_a_truncated_npz_or_json_is_said(tmp_path: Path, keep: float) -> None:
    raw, text = (FIXTURES / f"{VQGAN}.npz").read_bytes(), (FIXTURES / f"{VQGAN}.json").read_text()
    path = tmp_path / "x__y.json"
    path.write_text(text)
    path.with_suffix(".npz").write_bytes(raw[: int(len(raw) * keep)])
    assert "x__y.npz cannot be read" in parity.check_fixture(path).line()
    path.write_text(text[: int(len(text) * keep)])
    assert "cannot be read as a fixture" in parity.check_fixture(path).line()


def test_a_failure_is_exit_code_1_and_a_pass_0(changed: Callable[..., Path]) -> None:
    from typer.testing import CliRunner

    from vtbench.cli import app

    good = str(FIXTURES / f"{VQGAN}.json")
    bad = str(changed(VQGAN, lambda f: f["arch"].update(norm_eps=1e-5)))
    assert CliRunner().invoke(app, ["adapter", "parity", good]).exit_code == 0
    both = CliRunner().invoke(app, ["adapter", "parity", bad, good])
    assert both.exit_code == 1
    assert [line[:4] for line in both.output.splitlines()] == ["FAIL", "pass"], "the others are still checked"


def test_further_runs_are_checked_with_their_own_arch_and_arrays(changed: Callable[..., Path]) -> None:
    entry = {
        "array": "recon",
        "from": ["tokens_canonical"],
        "stage": "recon",
        "tokens": 256,
        "arch": {"quantizer": {"l2_norm": False}},
        "arrays": {"tokens_canonical": "tokens_canonical", "pre_quant": "pre_quant"},
    }

    def good(facts: dict[str, Any]) -> None:
        facts["runs"] = [entry]
        facts["tolerance"]["runs"] = {"rtol": 1e-4}

    report = parity.check_fixture(changed(VQGAN, good))
    assert report.ok, report.line()
    last = report.differences[-1]
    with np.load(FIXTURES / f"{VQGAN}.npz") as archive:
        assert last.allowed == pytest.approx(1e-4 * np.abs(archive["recon"]).max())

    def other(facts: dict[str, Any]) -> None:
        good(facts)
        facts["runs"] = [{**entry, "arch": {"quantizer": {"l2_norm": True}}}]

    assert not parity.check_fixture(changed(VQGAN, other)).ok

    def fewer(facts: dict[str, Any]) -> None:
        good(facts)
        facts["runs"] = [{**entry, "tokens": 255}]

    assert "255 tokens" in parity.check_fixture(changed(VQGAN, fewer)).line()


def test_constants_are_put_back_after_the_fill(changed: Callable[..., Path]) -> None:
    """With another constant under a filled name, the result must change: `not_filled` is obeyed."""
    zeros = [0.0, 0.0, 0.0]
    report = parity.check_fixture(changed(VQGAN, lambda f: f.update(not_filled={"decoder.conv_out.bias": zeros})))
    recon = next(d for d in report.differences if d.array == "recon")
    # The fill puts at most 0.1 there.
    assert 3e-5 < recon.greatest <= 0.1 + 3e-5


def test_the_last_alias_of_tied_weights_is_in_use() -> None:
    """Upstream's shared RQ codebook is one module under four names; the recorded tokens hold only with the last."""
    name = "rq-vae__f4-d4-v128-shared"
    facts = json.loads((FIXTURES / f"{name}.json").read_text())
    network = parity_tokenizers.TokenizerCheck(facts, {}, fixtures.Report(name)).network(facts["arch"])
    state = network.state_dict()
    wanted = values("quantizer.codebooks.3.weight", (129, 32)).astype(np.float32)
    for depth in range(4):
        assert np.array_equal(state[f"quantizer.codebooks.{depth}.weight"].numpy(), wanted)


def test_the_fill_is_the_rule_of_the_fixtures(shared: Path) -> None:
    """Against the rule's own file, for every kind of name and shape that it tells apart."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("fixture_fill", shared / "parity" / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    rule = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rule)
    shapes = [(), (5,), (1, 4, 6), (6, 5), (4, 3, 3, 3)]
    for leaf in ("weight", "bias", "gamma", "scale", "running_var", "running_mean"):
        for shape in shapes:
            assert np.array_equal(values(f"a.b.{leaf}", shape), rule.values(f"a.b.{leaf}", shape))


def test_a_manifest_allocates_nothing_and_needs_a_network() -> None:
    from dataclasses import replace

    family = registry.family("ibq")
    card = next(c for c in family.cards if c.name == "ibq-262144")
    found = manifest(family, card)
    assert found["quantize.embedding.weight"] == [262144, 256]
    with pytest.raises(VtbenchError, match="no native network"):
        manifest(family, replace(card, arch=None))
