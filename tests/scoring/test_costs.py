"""What a system costs, by arithmetic; and which metrics can be had for what they are made from."""

from __future__ import annotations

import pytest

from vtbench.scoring.costs import Costs, cost_scores
from vtbench.scoring.loading import load_metrics


def test_times_memory_and_operations_by_hand() -> None:
    """Four images, the third slow: 0.1 + 0.1 + 0.7 + 0.1 s to encode, 0.25 s each to decode, two seconds in all."""
    times = {"encode": [0.1, 0.1, 0.7, 0.1], "decode": [0.25] * 4}
    costs = Costs(5, 2, times, {"nfe": [10.0, 12.0]}, 3 << 20, "of the process", 70, {"encode": 5.0, "decode": 6.0})
    scores = {s.metric: s for s in cost_scores("a task", costs)}
    values = {name: s.value for name, s in scores.items()}
    assert values["images-per-second"] == pytest.approx(2.0)
    assert values["encode-seconds-p50"] == 0.1
    assert values["encode-seconds-p95"] == 0.7
    assert values["decode-seconds-p95"] == 0.25
    assert (values["nfe"], scores["nfe"].better) == (11.0, "lower")
    assert (values["peak-memory"], values["parameters"], values["macs"]) == (3.0, 70.0, 11.0)
    assert {s.missing for s in scores.values()} == {0}
    assert {
        name: s.n for name, s in scores.items() if name in ("macs", "nfe", "peak-memory", "encode-seconds-p50")
    } == {
        "macs": 1,
        "nfe": 2,
        "peak-memory": 5,
        "encode-seconds-p50": 4,
    }


@pytest.mark.parametrize(
    ("n", "middle", "late"), [(1, 0, 0), (2, 1, 1), (3, 1, 2), (10, 5, 9), (20, 10, 19), (21, 10, 19)]
)
def test_percentiles_are_times_that_were_taken(n: int, middle: int, late: int) -> None:
    """The one that half, or 95 of 100, of the ordered times come before."""
    times = [float(k) for k in reversed(range(n))]
    values = {s.metric: s.value for s in cost_scores("a task", Costs(n, 1, {"encode": times}))}
    assert (values["encode-seconds-p50"], values["encode-seconds-p95"]) == (middle, late)


def test_what_is_not_known_is_null_with_its_reason() -> None:
    scores = {s.metric: s for s in cost_scores("a task", Costs(3, None, {"encode": []}, memory_what="not here"))}
    assert {s.value for s in scores.values()} == {None}
    assert {(s.n, s.missing) for s in scores.values()} == {(0, 3)}
    assert "warms up" in (scores["encode-seconds-p50"].why or "")
    assert scores["peak-memory"].why == "not here"
    assert "macs" not in {s.metric for s in cost_scores("a task", Costs(3, None, counts_macs=False))}


def test_what_a_language_model_was_not_timed_at_says_why() -> None:
    counts = {"seconds-prefill": [0.5, 1.5], "seconds-decoded-token": [], "flops-prefill": []}
    scores = {s.metric: s for s in cost_scores("answers", Costs(3, 1, counts=counts))}
    prompt, token = scores["seconds-prefill"], scores["seconds-decoded-token"]
    assert (prompt.value, prompt.unit, prompt.better) == (1.0, "s/prompt", "lower")
    assert (token.value, token.unit) == (None, "s/token")
    assert "answers of one token, behind which none is decoded" in (token.why or "")
    assert "operations unknown" in (scores["flops-prefill"].why or "")


def test_a_metric_of_rows_brings_its_inputs_along() -> None:
    metrics = load_metrics(["psnr-pooled"], "cpu")
    assert list(metrics.ready) == ["psnr-pooled", "mse"]
    assert list(metrics.cards()) == ["psnr-pooled"]
    assert list(metrics.per_image()) == ["mse"]
    assert metrics.unavailable == {}
    without = metrics.without({"mse": "no time"})
    assert (list(without.ready), without.unavailable) == (["psnr-pooled"], {"mse": "no time"})


def test_without_an_input_a_metric_of_rows_has_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from vtbench.metrics.psnr import MSE
    from vtbench.types.errors import Unavailable

    def refuse(self: object, device: str = "cpu") -> None:
        raise Unavailable("there is no mse today")

    monkeypatch.setattr(MSE, "load", refuse)
    metrics = load_metrics(["psnr-pooled", "psnr"], "cpu")
    assert list(metrics.ready) == ["psnr"]
    assert metrics.unavailable == {"psnr-pooled": "there is no mse today"}
