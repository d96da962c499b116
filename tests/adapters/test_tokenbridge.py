"""Post-training quantization: upstream's recorded quantizer, arithmetic of bits, and decoding from tokens alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate
from scipy.stats import norm
from small_networks import arch_of

import vtbench
from vtbench import registry
from vtbench.adapters.builtin import tokenbridge
from vtbench.adapters.networks.parts import normal_bins
from vtbench.adapters.networks.parts.normal_bins import NormalBins
from vtbench.models.made_weights import fill_
from vtbench.models.network import build_network
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Card, Multiple
from vtbench.types.errors import VtbenchError
from vtbench.types.names import Source
from vtbench.types.tokens import Codes, Latents, Tokens, unpack

FIXTURE = Path(__file__).parent / "tokenbridge_quantizer.npz"
"""Arrays of the parity fixture tokenbridge__main (upstream at 3ede2818) that concern the quantizer."""
ULPS = 2e-5
"""Processors round float32 exp and erf differently in the last place, 6e-8; the table divides that by a bin's
probability, 1/64, and stretches it by 5/3: 6e-6 a place."""


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    with np.load(FIXTURE) as arrays:
        return {name: arrays[name] for name in arrays.files}


def bins_of(recorded: dict[str, Any]) -> NormalBins:
    return NormalBins.symmetric(int(recorded["bits"]), float(recorded["maximum"]), float(recorded["std_range"]))


def test_table_and_boundaries_are_upstreams(recorded: dict[str, Any]) -> None:
    edges = normal_bins.boundaries(int(recorded["bits"]), float(recorded["std_range"]))
    assert np.abs(edges - recorded["boundaries"]).max() < 1e-6
    valid = recorded["table_valid"].astype(bool)
    # The recorded table is in units of the latent, reached through the quantizer itself.
    ours = bins_of(recorded).values(torch.arange(len(valid))).numpy()
    assert valid.sum() > 2
    assert np.abs(ours - recorded["table"])[valid].max() < ULPS


def test_tokens_and_values_are_upstreams(recorded: dict[str, Any]) -> None:
    quantizer = bins_of(recorded)
    for latent, tokens, values in (
        ("fixed_latent", "fixed_tokens", "fixed_dequant"),
        ("pre_quant", "tokens", "quantized"),
    ):
        got = quantizer.indices(torch.from_numpy(recorded[latent]))
        assert np.array_equal(got.numpy(), recorded[tokens].astype(np.int64))
        assert np.abs(quantizer.values(got).numpy() - recorded[values]).max() < ULPS


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_table_is_the_mean_of_each_bin(bits: int) -> None:
    edges = normal_bins.boundaries(bits, 3.0)
    assert np.allclose(np.diff(norm.cdf(edges[1:-1])), 2.0**-bits, atol=1e-12)
    for i in (0, 2**bits // 2, 2**bits - 1):
        mass = integrate.quad(norm.pdf, edges[i], edges[i + 1])[0]
        first = integrate.quad(lambda x: x * norm.pdf(x), edges[i], edges[i + 1])[0]
        # float32 differences of nearly equal probabilities lose digits.
        assert float(normal_bins.table(bits, 3.0)[i]) == pytest.approx(first / mass, abs=1e-4)


def test_search_equals_the_argmin_over_all_values() -> None:
    quantizer = NormalBins.symmetric(7, 4.0, 2.5)
    x = torch.linspace(-6, 6, 5001)
    y = ((x + 4) / 8 * 5 - 2.5).clamp(-2.5, 2.5)
    assert torch.equal(quantizer.indices(x), (y[:, None] - quantizer.table).abs().argmin(dim=1))
    # The lower of two that are equally near: 0 lies between the two middle values of a symmetric table.
    assert int(quantizer.indices(torch.zeros(1))) == 63


class Pooled(Tokenizer):
    """Latents: 4 x 4 means of the three colours, in several layouts."""

    layout = "map"

    def encode(self, images: torch.Tensor, seeds: Any, budget: float | None = None) -> Tokens:
        z = torch.nn.functional.avg_pool2d(images, 4) * 4 - 2
        size = (images.shape[2], images.shape[3])
        z = z.to(getattr(torch, self.options["latent_dtype"]))
        if self.layout == "map":
            return Latents(z, size)
        if self.layout == "last":
            return Latents(z.movedim(1, -1).contiguous(), size, 3)
        return Latents(z.flatten(2).transpose(1, 2).contiguous(), size, 2)

    def decode(self, tokens: Tokens, seeds: Any) -> torch.Tensor:
        assert isinstance(tokens, Latents)
        z = tokens.values.float()
        if self.layout == "last":
            z = z.movedim(-1, 1)
        elif self.layout == "sequence":
            z = z.transpose(1, 2).unflatten(2, (tokens.size[0] // 4, tokens.size[1] // 4))
        return torch.nn.functional.interpolate((z + 2) / 4, scale_factor=4)


CARD = Card(
    "pooled",
    "test",
    "continuous",
    "Means of 4 x 4",
    Multiple(4, 4),
    latent_channels=3,
    downsample=4,
    options={"latent_dtype": "float16"},
)


@pytest.mark.parametrize("layout", ["map", "last", "sequence"])
def test_decodes_from_the_tokens_alone(layout: str) -> None:
    def fresh() -> tokenbridge.TokenBridge:
        base = Pooled(CARD)
        base.layout = layout
        return tokenbridge.wrap(base, {"bits": 5})

    x = torch.rand(4, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    tokens = fresh().encode(x, [0] * 4)
    assert isinstance(tokens, Codes)
    assert tokens.alphabets == (32, 32, 32) == fresh().card.alphabets
    assert tokens.positions == [6] * 4
    assert list(tokens.bits()) == [6 * 3 * 5.0] * 4
    one = fresh().decode(fresh().encode(x, [0] * 4), [0] * 4)
    again = torch.cat([fresh().decode(unpack(b), [0]) for b in tokens.pack()])
    assert torch.equal(one, again)
    plain = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(x, 4), scale_factor=4)
    assert float((one - plain).abs().max()) < 0.2
    assert float((one - plain).abs().max()) > 0


def test_more_bits_less_error_and_scale_is_undone() -> None:
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def error(**options: Any) -> float:
        bridge = tokenbridge.wrap(Pooled(CARD), options)
        plain = Pooled(CARD, {"latent_dtype": "float32"})
        return float(
            (bridge.decode(bridge.encode(x, [0, 0]), [0, 0]) - plain.decode(plain.encode(x, [0, 0]), [0, 0])).std()
        )

    errors = [error(bits=b) for b in tokenbridge.BITS]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 16
    # Twice the scale with twice the range is the same quantizer.
    assert error(bits=4, scale=2.0, range=10.0) == pytest.approx(error(bits=4), rel=1e-5)


def test_card() -> None:
    card = tokenbridge.card_for(registry.model("taef2").card)
    assert (card.kind, card.knob, card.alphabets) == ("discrete", "bits", (64,) * 32)
    assert card.tokens_at_256 == registry.model("taef2").card.tokens_at_256
    with pytest.raises(VtbenchError, match="continuous tokenizers only"):
        tokenbridge.card_for(registry.model("llamagen-vq-ds16-c2i").card)
    for wrong in ({"bits": 0}, {"bits": 13}, {"range": 0.0}, {"scale": -1.0}, {"bits": 10, "std_range": 1.0}):
        with pytest.raises(VtbenchError):
            tokenbridge.wrap(Pooled(CARD), wrong)


def test_a_range_too_narrow_for_the_outer_bins_is_upstreams_argmin() -> None:
    """Outer bins without width stand for 0 upstream, so that the table does not rise; the first nearest is taken."""
    rule = NormalBins(4, -2.0, 4.0, 1.0)
    assert float(rule.table[0]) == 0.0
    x = torch.linspace(-3, 5, 801)
    y = ((x + 2) / 6 * 2 - 1).clamp(-1, 1)
    assert torch.equal(rule.indices(x), (y[:, None] - rule.table).abs().argmin(dim=1))
    assert torch.equal(rule.values(torch.arange(16)), (rule.table + 1) / 2 * 6 - 2)


def test_mars_autoencoder_and_its_quantized_form_share_a_file(tmp_path: Path) -> None:
    """From a file in MAR's container: counted latents are scaled, a sample is the seed's, the bridge is the model."""
    arch = arch_of("tokenbridge__main")
    network = fill_(build_network(registry.family("tokenbridge"), arch))
    torch.save({"model": network.state_dict()}, tmp_path / "kl16.ckpt")
    x = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))

    def load(name: str, arch: dict[str, Any], **options: Any) -> Any:
        entry = registry.model(name)
        built = registry.build(replace(entry, card=replace(entry.card, arch=arch)), {**entry.card.options, **options})
        built.load({"model": tmp_path / "kl16.ckpt"})
        return built

    plain = load("mar-kl16-vae", {**arch, "quantizer": None}, latent_dtype="float32")
    latents = plain.encode(x, [1, 2])
    with torch.inference_mode():
        mean = network.encode(x * 2 - 1).latent_mean
    assert torch.equal(latents.values, mean * 0.2325)
    sampled = load("mar-kl16-vae", {**arch, "quantizer": None}, latent_dtype="float32", posterior="sample")
    one, other = sampled.encode(x, [1, 2]).values, sampled.encode(x, [1, 3]).values
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[1], other[1])
    assert not torch.equal(one[0], latents.values[0])
    with pytest.raises(VtbenchError, match="posterior='mean'"):
        load("mar-kl16-vae", arch, posterior="mean")

    native = load("tokenbridge-mar-kl16", arch)
    bridge = tokenbridge.wrap(load("mar-kl16-vae", {**arch, "quantizer": None}), {"bits": 6})
    ours, theirs = native.encode(x, [0, 0]), bridge.encode(x, [0, 0])
    assert torch.equal(ours.indices, theirs.indices)
    assert ours.alphabets == theirs.alphabets == (64,) * 16
    assert float((native.decode(ours, [0, 0]) - bridge.decode(theirs, [0, 0])).abs().max()) < 1e-5


def test_what_the_autoencoder_cannot_be_is_refused() -> None:
    arch = registry.model("tokenbridge-mar-kl16").card.arch
    assert arch is not None
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"vae": {**arch["vae"], "double_z": False}}, "arch.vae.double_z"),
        ({"vae": {**arch["vae"], "tanh_out": True}}, "arch.vae.tanh_out"),
        ({"latent_scale": 0}, "latent_scale"),
        ({"quantizer": {**arch["quantizer"], "levels": 32}}, "levels"),
        ({"quantizer": {**arch["quantizer"], "type": "fsq"}}, "type"),
        ({"quantizer": {**arch["quantizer"], "max": -5.0}}, "range"),
        ({"shift": 1.0}, "arch.shift"),
    ]
    with torch.device("meta"):
        for change, said in wrong:
            with pytest.raises(VtbenchError, match=said):
                build_network(registry.family("tokenbridge"), {**arch, **change})


def test_the_registry_says_what_is_wrapped() -> None:
    wrapping, inner = registry.wrapper("tokenbridge:pca") or (None, "")
    assert wrapping is registry.family("tokenbridge").wraps
    assert inner == "pca"
    assert [registry.wrapper(n) for n in ("pca", "family:mar-vae", "no-such:pca", "folder:x")] == [None] * 4
    entry = registry.model("tokenbridge:pca")
    assert entry.inner == registry.model("pca")
    assert (entry.card.name, entry.family.name, entry.file) == (
        "tokenbridge:pca",
        "tokenbridge",
        Path(str(tokenbridge.__file__)),
    )
    own, rest = registry.split_options(entry, {"bits": "3", "channels": "8"})
    assert own == {**tokenbridge.OPTIONS, "bits": 3}
    assert rest == {"channels": "8"}


def test_an_inner_model_that_is_not_there_is_named_with_the_true_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VTBENCH_OFFLINE", "1")
    (loads,) = vtbench.check("tokenbridge:sd-vae-ft-mse")
    assert loads.status == "not checked"
    assert "stabilityai/sd-vae-ft-mse" in loads.said
    assert "there is no model" not in loads.said
    for run in (vtbench.check, vtbench.evaluate):
        with pytest.raises(VtbenchError, match=r"no model 'sd-vae-ft-mes' .did you mean sd-vae-ft-mse"):
            run("tokenbridge:sd-vae-ft-mes")
        with pytest.raises(VtbenchError, match="tokenbridge:jpeg: jpeg is codec"):
            run("tokenbridge:jpeg")


def test_two_families_cannot_wrap_under_one_prefix() -> None:
    every = registry._Models()
    family = registry.family("tokenbridge")
    module = ModuleType("first")
    module.__file__ = "first.py"
    module.FAMILY = replace(family, cards=())  # type: ignore[attr-defined]
    every.add(module, Source("the first", Path("first.py")))
    assert family.wraps is not None
    for prefix, said in (("tokenbridge", "given by both the first and the second"), ("folder", "which is taken")):
        other = ModuleType("second")
        other.__file__ = "second.py"
        other.FAMILY = replace(  # type: ignore[attr-defined]
            family, name=f"second-{prefix}", cards=(), wraps=replace(family.wraps, prefix=prefix)
        )
        with pytest.raises(VtbenchError, match=said):
            every.add(other, Source("the second", Path("second.py")))
