"""Float64 as the yardstick of whole fixtures: other processors pass, wrong networks fail, ties are told from errors.

Truths: fixtures made by upstream's classes; and another processor's float32, stood in for by float64 runs whose every
result is rounded otherwise than the check rounds them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vtbench.adapters.networks import mar
from vtbench.adapters.networks.parts import diffusion, normal_bins
from vtbench.models.replay import Inputs
from vtbench.proving import parity, parity_generators
from vtbench.proving.fixtures import Report, read_arrays, read_facts
from vtbench.proving.parity_tokenizers import TokenizerCheck
from vtbench.proving.rounding import random_errors

TESTS = Path(__file__).parents[1]
TOKENIZERS, GENERATORS = TESTS / "parity", TESTS / "parity_gen"
AMPLIFYING = ("mar__other-epsilon", "mar__tiny-t500", "var-gen__d3")
"""Fixtures whose samplers take rounding beyond the plain limit."""


class _OtherProcessor:
    """A generator's network as another processor's float32 gives it: each result with an error of its own."""

    def __init__(self, network: Any, seed: int) -> None:
        self.network, self.seed = network, seed

    def replay(self, inputs: Any) -> dict[str, torch.Tensor]:
        wide = {n: t.double() if t.is_floating_point() else t for n, t in inputs.arrays.items()}
        with random_errors(self.seed, bits_lost=1):
            arrays = self.network.replay(replace(inputs, arrays=Inputs(wide)))
        return {n: t.float() if t.is_floating_point() else t for n, t in arrays.items()}


@pytest.mark.parametrize("seed", [101, 102, 103])
@pytest.mark.parametrize("name", AMPLIFYING)
def test_other_processors_pass(monkeypatch: pytest.MonkeyPatch, name: str, seed: int) -> None:
    real = parity_generators.in_dtype

    def other(network: Any, dtype: torch.dtype) -> Any:
        return _OtherProcessor(real(network, torch.float64), seed) if dtype == torch.float32 else real(network, dtype)

    monkeypatch.setattr(parity_generators, "in_dtype", other)
    report = parity.check_fixture(GENERATORS / f"{name}.json")
    assert report.ok, report.line()


@pytest.mark.parametrize("name", ["main", "empty-bins-rectangle", "one-channel"])
def test_other_tables_of_bins_pass(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Differences of near numbers make them differ between processors, and the decoder amplifies that."""
    real = normal_bins.table

    def other(bits: int, std_range: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        if dtype == torch.float64:
            return real(bits, std_range, dtype)
        with random_errors(bits, bits_lost=0):
            return real(bits, std_range, torch.float64).float()

    monkeypatch.setattr(normal_bins, "table", other)
    report = parity.check_fixture(TOKENIZERS / f"tokenbridge__{name}.json")
    assert report.ok, report.line()
    assert report.differences[1].greatest > 0, "the table is the same as upstream's"


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    def make(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
        facts = json.loads(path.read_text())
        change(facts)
        (tmp_path / path.name).write_text(json.dumps(facts))
        (tmp_path / path.name).with_suffix(".npz").write_bytes(path.with_suffix(".npz").read_bytes())
        return tmp_path / path.name

    return make


@pytest.mark.parametrize("name", ["mar__other-epsilon", "mar__tiny-t500"])
@pytest.mark.parametrize(
    ("word", "instead"),
    [("cfg_schedule=linear", "cfg_schedule=constant"), ("temperature=0.9", "temperature=0.89"), ("cfg=", "cfg=0.9")],
)
def test_a_wrong_sampler_fails_where_the_limit_is_raised(
    changed: Callable[..., Path], name: str, word: str, instead: str
) -> None:
    def other(facts: dict[str, Any]) -> None:
        facts["outputs"] = {n: text.replace(word, instead) for n, text in facts["outputs"].items()}

    report = parity.check_fixture(changed(GENERATORS / f"{name}.json", other))
    assert any("sample_" in reason for reason in report.reasons), report.line()


@pytest.mark.parametrize("name", ["mar__other-epsilon", "mar__tiny-t500"])
@pytest.mark.parametrize("wrong", ["order", "scale", "epsilon", "noise"])
def test_a_wrong_network_fails_where_the_limit_is_raised(
    monkeypatch: pytest.MonkeyPatch, name: str, wrong: str
) -> None:
    moments, forward = diffusion.Diffusion.moments, mar.Head.forward
    if wrong == "order":
        # eps and variance change places.
        monkeypatch.setattr(mar.Head, "forward", lambda *a: torch.cat([*forward(*a).chunk(2, dim=1)][::-1], dim=1))
    elif wrong == "scale":
        # The last layer's modulation without the one that scale is added to.
        monkeypatch.setattr(mar, "modulate", lambda x, shift, scale: x * (1.001 + scale[..., : x.shape[-1]]) + shift)
    elif wrong == "epsilon":
        norm = torch.nn.functional.layer_norm
        monkeypatch.setattr(
            torch.nn.functional,
            "layer_norm",
            lambda x, shape, weight, bias, eps: norm(x, shape, weight, bias, 10 * eps + 1e-4),
        )
    else:

        def wider(*a: Any) -> Any:
            mean, log_variance, start = moments(*a)
            return mean, log_variance + 0.01, start

        monkeypatch.setattr(diffusion.Diffusion, "moments", wider)
    report = parity.check_fixture(GENERATORS / f"{name}.json")
    assert not report.ok, report.line()
    assert any(not d.ok and d.exact is not None and d.exact > d.allowed for d in report.differences)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a["vae"].update(norm_eps=1e-5),
        lambda a: a.update(latent_scale=0.2326),
        lambda a: a["quantizer"].update(std_range=3.01),
        lambda a: a["quantizer"].update(max=5.01),
        lambda a: a["vae"].update(encoder_attn_resolutions=[16, 32]),
    ],
)
def test_a_wrong_tokenizer_fails_where_the_limit_is_raised(
    changed: Callable[..., Path], change: Callable[[dict[str, Any]], object]
) -> None:
    path = changed(TOKENIZERS / "tokenbridge__main.json", lambda facts: change(facts["arch"]))
    assert not parity.check_fixture(path).ok


def test_a_float32_slip_of_one_network_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half precision in float32's path alone: float64 is right, what users run is not."""
    real = mar.Head.forward

    def slip(self: mar.Head, x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        out = real(self, x, t, condition)
        return out.bfloat16().to(out.dtype) if out.dtype == torch.float32 else out

    monkeypatch.setattr(mar.Head, "forward", slip)
    line = parity.check_fixture(GENERATORS / "mar__other-epsilon.json").line()
    assert "net_out in float32 differs by" in line


def test_a_token_at_a_tie_may_fall_either_way(tmp_path: Path) -> None:
    """An input between two pictures, moved until one token is about to change: upstream's may be either."""
    source = TOKENIZERS / "vqgan__f4-v128.json"
    facts, arrays = read_facts(source), read_arrays(source)
    check = TokenizerCheck(facts, arrays, Report("tie"))
    network = check.network(facts["arch"])
    one, other = torch.from_numpy(arrays["input"]), torch.from_numpy(arrays["input"]).flip(-1) * 0.9

    def tokens(share: float) -> torch.Tensor:
        with torch.inference_mode():
            encoded = network.double().encode(((1 - share) * one + share * other).float().double())
        return encoded.tokens

    low, high = 0.0, 0.05
    assert not torch.equal(tokens(low), tokens(high))
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if not torch.equal(tokens(low), tokens(middle)) else (middle, high)
    before, after = tokens(low), tokens(high)
    assert int((before != after).sum()) == 1
    arrays["input"] = ((1 - low) * one + low * other).float().numpy()
    picture = torch.from_numpy(arrays["input"])
    for recorded, passes in ((before, True), (after, True), ((before + 1) % 128, False)):
        network = check.network(facts["arch"])
        with torch.inference_mode():
            encoded = network.encode(picture)
            arrays["tokens_canonical"] = recorded.numpy()
            arrays["pre_quant"] = encoded.pre_quant.numpy()
            arrays["recon"] = network.decode(recorded, size=(picture.shape[2], picture.shape[3])).numpy()
        arrays["quantized"] = _rows_of(network, recorded, encoded.quantized).numpy()
        np.savez(tmp_path / "vqgan__tie.npz", **arrays)
        (tmp_path / "vqgan__tie.json").write_text(json.dumps(facts))
        report = parity.check_fixture(tmp_path / "vqgan__tie.json")
        assert report.ok == passes, report.line()
        assert report.ties in ((0, 1) if passes else (0,))


def _rows_of(network: Any, tokens: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    rows = network.state_dict()["quantize.embedding.weight"][tokens]
    return rows.transpose(1, 2).reshape(like.shape)
