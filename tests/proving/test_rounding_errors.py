"""Float64 as parity's yardstick: other processors pass, wrong networks fail, ties are told from errors.

Truths: numbers and their roundings worked out by hand; fixtures made by upstream's classes; and another processor's
float32, stood in for by float64 runs whose every result is rounded otherwise than the check rounds them.
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
from vtbench.proving.rounding import Array, measure, random_errors

TESTS = Path(__file__).parents[1]
TOKENIZERS, GENERATORS = TESTS / "parity", TESTS / "parity_gen"
AMPLIFYING = ("mar__other-epsilon", "mar__tiny-t500", "var-gen__d3")
"""Fixtures whose samplers take rounding beyond the plain limit."""


# -- the errors ------------------------------------------------------------------------------------------------------


def test_errors_are_within_a_unit_and_turn_with_the_sign() -> None:
    x = torch.rand(10_000, dtype=torch.float64) + 1
    with random_errors(3):
        one = x * 1.0
    with random_errors(3, -1):
        other = x * 1.0
    # Sixteen of float32's units between 1 and 2, whose mantissa has 23 bits.
    unit = 16 * 2.0**-23
    assert float((one - x).abs().max()) <= unit
    assert float((one - x).abs().mean()) == pytest.approx(unit / 2, rel=0.05)
    assert torch.equal(one - x, x - other)


def test_numbers_that_float32_holds_with_bits_to_spare_stay() -> None:
    x = torch.tensor([0.0, -0.0, 1.0, -3.5, 1000.0, float("inf"), -float("inf"), 0.5], dtype=torch.float64)
    with random_errors(0):
        assert torch.equal(x * 1.0, x)
        assert torch.equal(torch.softmax(torch.tensor([0.0, -2000.0], dtype=torch.float64), 0)[1], x[0])
        assert bool(torch.isfinite(torch.exp(torch.arange(-750.0, 0.0, dtype=torch.float64))).all())


@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_a_variance_loses_what_a_difference_of_squares_cancels(mean: float) -> None:
    """As torch's float32 kernel for channels-last memory does, whose error the runs with errors cover; not more, so
    that an epsilon of another network stays outside. Without a mean there is nothing to cancel."""
    x = (torch.randn(1, 64, 16, 16, generator=torch.Generator().manual_seed(0)) + mean).double()
    weight, bias = torch.full((64,), 1.5, dtype=torch.float64), torch.full((64,), -4.0, dtype=torch.float64)

    def norm(x: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
        weights = (weight.to(x.dtype), bias.to(x.dtype))
        return torch.nn.functional.group_norm(x, 32, *weights, eps)

    exact, moved = norm(x), torch.zeros_like(x)
    for run in range(6):
        with random_errors(run // 2, 1 - 2 * (run % 2)):
            moved = moved.maximum((norm(x) - exact).abs())
    wide = norm(x.float().contiguous(memory_format=torch.channels_last)).double()
    assert float((wide - exact).abs().max()) < float(moved.max()) / 2
    unit = 16 * 2.0**-23
    greatest = float((exact - bias[0]).abs().max())
    assert float(moved.max()) < unit * (1.5 * mean**2 * greatest + 2 * float(exact.abs().max()))
    assert float((norm(x, 2e-2) - exact).abs().max()) > float(moved.max()) / 2


def test_what_moves_or_chooses_numbers_makes_no_error() -> None:
    x = torch.rand(50, dtype=torch.float64)
    with random_errors(0):
        for moved in (
            x.clone(),
            torch.cat([x[:9], x[9:]]),
            x[torch.arange(50)],
            x.clamp(0, 1),
            torch.where(x > 2, 0, x),
        ):
            assert torch.equal(moved, x)
        assert torch.full((2,), 0.1, dtype=torch.float64)[0] == 0.1
        assert not torch.equal(x + 0.1, torch.from_numpy(x.numpy() + 0.1))


# -- one array -------------------------------------------------------------------------------------------------------


def _cancelling(x: torch.Tensor) -> torch.Tensor:
    """x, but for what float32 loses beside a thousand: amplifies rounding a thousandfold."""
    return (x + 1000) - 1000


def _arrays(recorded: torch.Tensor, ours: torch.Tensor) -> dict[str, Array]:
    return {"a": Array(recorded, 1e-6, ours)}


def test_amplified_rounding_raises_the_limit_and_a_real_deviation_does_not_pass() -> None:
    x = torch.linspace(0, 1, 64, dtype=torch.float64)

    def evaluate(dtype: torch.dtype, errors: Any) -> dict[str, torch.Tensor]:
        with errors:
            return {"a": _cancelling(x.to(dtype))}

    ours = _cancelling(x.float())
    right = _arrays(ours.clone(), ours)
    assert measure(right, evaluate) is None
    assert not bool(right["a"].strays().any())
    assert right["a"].off(ours) > 1e-6
    # Half of sixteen units between 512 and 1024, each 2^-14; two operations, each of which adds its own.
    assert right["a"].allowed < 2 * 8 * 2.0**-13
    wrong = _arrays(ours + 0.01, ours)
    measure(wrong, evaluate)
    assert bool(wrong["a"].strays().all())


def test_a_float32_that_is_wrong_by_itself_fails() -> None:
    """Upstream's array equals our float64; only our float32 is off by more than rounding."""
    x = torch.linspace(0, 1, 64, dtype=torch.float64)

    def evaluate(dtype: torch.dtype, errors: Any) -> dict[str, torch.Tensor]:
        with errors:
            return {"a": x * 3.3}

    arrays = _arrays((x * 3.3).float(), (x * 3.3).float() + 1e-4)
    measure(arrays, evaluate)
    assert bool(arrays["a"].strays().all())
    report = Report("one")
    report.judge(arrays.items())
    assert "in float32 differs by 1.00e-04 from our own float64" in report.line()


def test_nan_fails() -> None:
    x = torch.linspace(0, 1, 8, dtype=torch.float64)
    arrays = _arrays(x.float(), torch.full((8,), float("nan")))
    measure(arrays, lambda dtype, errors: {"a": x})
    assert bool(arrays["a"].strays().all())


def test_integers_may_differ_at_a_tie_alone() -> None:
    scores = torch.tensor([[1.0, 1.0 + 1e-8], [1.0, 1.1], [2.0, 1.0]], dtype=torch.float64)

    def evaluate(dtype: torch.dtype, errors: Any) -> dict[str, torch.Tensor]:
        with errors:
            return {"tokens": (scores * 1.0).argmax(dim=1)}

    exact = torch.tensor([1, 1, 0])
    for recorded, strays in (([0, 1, 0], 0), ([1, 0, 0], 1), ([0, 1, 1], 1)):
        arrays = {"tokens": Array(torch.tensor(recorded), 0.0, exact)}
        measure(arrays, evaluate)
        assert int(arrays["tokens"].strays().sum()) == strays, recorded
    report = Report("one")
    arrays = {"tokens": Array(exact, 0.0, torch.tensor([0, 1, 0]))}
    measure(arrays, evaluate)
    report.judge(arrays.items())
    assert report.line() == "pass  one  tokens 66.67% equal (1 at a tie)"


def test_a_network_without_float64_is_held_to_the_plain_limit() -> None:
    def evaluate(dtype: torch.dtype, errors: Any) -> dict[str, torch.Tensor]:
        raise RuntimeError("expected scalar type Float but found Double")

    x = torch.linspace(0, 1, 8)
    for shift, ok in ((5e-7, True), (5e-6, False)):
        arrays, report = _arrays(x, x + shift), Report("one")
        report.no_float64 = measure(arrays, evaluate)
        report.judge(arrays.items())
        assert report.ok == ok
        assert "no float64: RuntimeError: expected scalar type Float but found Double" in report.line()


# -- whole fixtures --------------------------------------------------------------------------------------------------


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
