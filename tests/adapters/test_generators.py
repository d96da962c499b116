"""Native generators as generators: seeds, batches, caches, costs, speculative decoding, and what they refuse."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from small_networks import GENERATOR_FIXTURES

from vtbench import registry
from vtbench.adapters.networks.parts import sampling
from vtbench.adapters.networks.speculative import Relaxation, nearest_codes, verify_chain
from vtbench.models.network import build_network
from vtbench.models.noise import Seeded
from vtbench.proving import parity_generators
from vtbench.types.adapter import Prompt
from vtbench.types.cards import Fixed
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents

CONFIGS = {p.stem: json.loads(p.read_text())["config"] for p in GENERATOR_FIXTURES.glob("*.json")}
GPT = CONFIGS["llamagen-gpt__c2i"]
RUNS = {
    "llamagen-gpt__c2i": {"cfg_scale": 2.0, "top_k": 20},
    "nar__c2i": {"cfg_scale": 2.0, "top_k": 20},
    "var-gen__d3": {"cfg": 1.5, "top_k": 40},
    "maskgit-titok__vit": {"num_sample_steps": 4, "guidance_decay": "linear"},
    "maskgit-titok__uvit": {"num_sample_steps": 4, "guidance_decay": "power-cosine"},
    "maskbit-gen__lfqbert-8bit": {"num_steps": 4, "mask_schedule_strategy": "arccos"},
    "rar__tiny": {"guidance_scale": 4.0},
    "mar__tiny-t500": {"num_iter": 3, "cfg": 2.0},
    "xar__tiny": {"num_steps": 2, "cfg": 2.0},
}
CACHED = ("llamagen-gpt__c2i", "var-gen__d3", "rar__tiny")


def _network(name: str, config: Mapping[str, Any] | None = None) -> Any:
    network = build_network(registry.family(name.split("__")[0]), config or CONFIGS[name])
    for helper in getattr(network, "helpers", {}).values():
        parity_generators.fill(helper, {})
    return parity_generators.fill(network, {"not_filled": ["mask", "attn_bias_for_masking"]}).requires_grad_(False)


def _values(generated: Any) -> torch.Tensor:
    return generated if isinstance(generated, torch.Tensor) else generated.tokens


@pytest.mark.parametrize("name", RUNS)
def test_a_batch_of_four_is_four_of_one(name: str) -> None:
    network, labels, seeds = _network(name), torch.tensor([1, 7, 3, 3]), [5, 6, 7, 8]
    with torch.inference_mode():
        together = _values(network.generate(labels, Seeded(seeds), **RUNS[name]))
        alone = [_values(network.generate(labels[i : i + 1], Seeded([s]), **RUNS[name])) for i, s in enumerate(seeds)]
    if together.is_floating_point():
        # Matrix products of another batch size are summed in another order; these samplers amplify it.
        spread = float(together.std())
        assert float((together - torch.cat(alone)).abs().max()) < 2e-3 * spread
    else:
        assert torch.equal(together, torch.cat(alone))
        # The same class with other seeds gives other tokens.
        assert not torch.equal(together[2], together[3])


@pytest.mark.parametrize("name", CACHED)
def test_the_cache_changes_nothing(name: str) -> None:
    network, labels = _network(name), torch.tensor([1, 7])
    with torch.inference_mode():
        with_and_without = [
            _values(network.generate(labels, Seeded([1, 2]), cache=cache, **RUNS[name])) for cache in (True, False)
        ]
    assert torch.equal(*with_and_without)


@pytest.mark.parametrize("name", RUNS)
def test_nan_is_refused(name: str) -> None:
    network = _network(name)
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(float("nan"))
    with torch.inference_mode(), pytest.raises(VtbenchError, match="NaN"):
        network.generate(torch.tensor([1]), Seeded([1]), **RUNS[name])


class _Tokenizer:
    """Stands in for a loaded tokenizer: remembers what it decoded."""

    def __init__(self, alphabets: tuple[int, ...]) -> None:
        self.card = dataclasses.replace(registry.model("llamagen-vq-ds16-c2i").card, alphabets=alphabets)
        self.network = torch.nn.Module()
        self.network.bottleneck = torch.nn.Module()
        self.network.bottleneck.embedding = torch.nn.Embedding(128, 8)
        self.decoded: Any = None

    def decode(self, tokens: Codes | Latents, seeds: Any) -> torch.Tensor:
        self.decoded = tokens
        return torch.zeros(len(tokens), 3, *tokens.size)


def _generator(tmp_path: Path, config: Mapping[str, Any], **options: Any) -> Any:
    entry = registry.model("llamagen-c2i-b-256")
    card = dataclasses.replace(entry.card, arch=config)
    path = tmp_path / "model.pt"
    torch.save({"model": _network("llamagen-gpt__c2i", config).state_dict()}, path)
    generator = entry.family.build(card, options)
    generator.attach(_Tokenizer((128,)))
    generator.load({"model": path})
    return generator


def test_the_adapter_makes_codes_of_its_tokenizer(tmp_path: Path) -> None:
    generator = _generator(tmp_path, GPT)
    prompts = [Prompt(id=str(i), label=i) for i in range(3)]
    images = generator.generate(prompts, [1, 2, 3])
    assert images.shape == (3, 3, 64, 64)
    codes = generator.tokenizer.decoded
    assert codes.indices.shape == (3, 16, 1)
    assert codes.grids == ((4, 4),)
    assert generator.cost() == {"nfe": 16.0}
    assert generator.parameter_count() == sum(p.numel() for p in generator.network.parameters())


def test_bits_of_a_binary_tokenizer(tmp_path: Path) -> None:
    generator = _generator(tmp_path, GPT)
    generator.attach(_Tokenizer((2,) * 8))
    generator.of_codes(torch.tensor([[5, 128, 0, 255]]), 32, 1)
    assert generator.tokenizer.decoded.indices[0].tolist() == [
        [1, 0, 1, 0, 0, 0, 0, 0],
        [0] * 7 + [1],
        [0] * 8,
        [1] * 8,
    ]


def test_what_an_adapter_refuses(tmp_path: Path) -> None:
    generator = _generator(tmp_path, GPT)
    with pytest.raises(VtbenchError, match="no label"):
        generator.generate([Prompt(id="a", text="a cat")], [1])
    with pytest.raises(VtbenchError, match="1 prompts and 2 seeds"):
        generator.generate([Prompt(id="a", label=1)], [1, 2])
    with pytest.raises(VtbenchError, match="class label 11 of the prompt a lies outside"):
        generator.generate([Prompt(id="a", label=11)], [1])
    with pytest.raises(VtbenchError, match="decoding is 'guess'"):
        _generator(tmp_path, GPT, decoding="guess").generate([Prompt(id="a", label=1)], [1])
    with pytest.raises(VtbenchError, match="needs a smaller model"):
        _generator(tmp_path, GPT, decoding="speculative").generate([Prompt(id="a", label=1)], [1])
    generator.tokenizer = None
    with pytest.raises(VtbenchError, match="attach that tokenizer"):
        generator.generate([Prompt(id="a", label=1)], [1])


@pytest.mark.parametrize("decoding", ["speculative", "relaxed"])
def test_speculative_decoding_by_options(tmp_path: Path, decoding: str) -> None:
    draft = {**GPT, "n_layer": 1}
    path = tmp_path / "draft.pt"
    # 64 channels, one layer: no preset, so its heads are taken to be 64 channels wide.
    torch.save({"model": _network("llamagen-gpt__c2i", {**draft, "n_head": 1}).state_dict()}, path)
    options = {"decoding": decoding, "draft": str(path), "draft_tokens": 3, "lantern_k": 10, "lantern_delta": 0.5}
    generator = _generator(tmp_path, GPT, **options)
    prompts = [Prompt(id=str(i), label=i) for i in range(4)]
    generator.generate(prompts, [1, 2, 3, 4])
    together, cost = generator.tokenizer.decoded.indices, generator.cost()
    assert 16 / 4 <= cost["nfe"] <= 16
    assert 0 < cost["acceptance"] <= 1
    assert cost["draft_nfe"] > 0
    for i, prompt in enumerate(prompts):
        generator.generate([prompt], [i + 1])
        assert torch.equal(generator.tokenizer.decoded.indices[0], together[i])


def test_a_draft_equal_to_the_target_is_always_accepted() -> None:
    network = _network("llamagen-gpt__c2i")
    with torch.inference_mode():
        _, spent = network.speculate(network, torch.tensor([2]), Seeded([3]), ahead=3)
    assert spent[0].accepted == spent[0].drafted
    # The first token alone, then four an evaluation.
    assert spent[0].target == 1 + -(-15 // 4)


def _exact(config: Mapping[str, Any], ahead: int, cfg_scale: float) -> tuple[float, int]:
    """(p value, draws) of a chi-square test of the decoded sequences against the target's exact distribution."""
    target, draft = _network("llamagen-gpt__c2i", config), _network("llamagen-gpt__c2i", {**config, "n_layer": 1})
    vocabulary, length, label = config["vocab_size"], config["block_size"], torch.tensor([1])
    every = torch.cartesian_prod(*[torch.arange(vocabulary)] * length)
    with torch.inference_mode():
        cond, null = target.condition(label.expand(len(every)))
        logits = [target.teacher_forced(c, every, None) for c in (cond, null)]
        logs = torch.log_softmax(sampling.guide(*logits, cfg_scale).double(), dim=-1)
        exact = logs.gather(2, every[..., None])[..., 0].sum(dim=1).exp().numpy()
        draws = 1500
        tokens, _ = target.speculate(draft, label.expand(draws), Seeded(range(draws)), ahead=ahead, cfg_scale=cfg_scale)
    places = (tokens * vocabulary ** torch.arange(length - 1, -1, -1)).sum(dim=1).numpy()
    counts = np.bincount(places, minlength=len(exact)).astype(float)
    # Cells with fewer than five expected draws are put together, as the test wants.
    rare = exact * draws < 5
    seen, expected = counts[~rare], exact[~rare] * draws
    if rare.any():
        seen, expected = np.append(seen, counts[rare].sum()), np.append(expected, exact[rare].sum() * draws)
    return float(stats.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue), draws


@pytest.mark.parametrize(("ahead", "cfg_scale"), [(2, 1.0), (3, 2.0)])
def test_plain_speculative_decoding_is_exact(ahead: int, cfg_scale: float) -> None:
    """1500 images of four tokens out of three, against all 81 sequences' probabilities; fixed seeds."""
    tiny = {**GPT, "dim": 16, "n_layer": 2, "n_head": 2, "vocab_size": 3, "block_size": 4, "num_classes": 4}
    p, _ = _exact(tiny, ahead, cfg_scale)
    assert p > 0.001


def test_the_residual_is_what_makes_it_exact() -> None:
    """By arithmetic: acceptance times draft plus rejection times residual is the target."""
    p, q = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.2, 0.5, 0.3])
    out = torch.zeros(3)
    for x in range(3):
        accepted, _ = verify_chain([x], torch.stack([p, p]), q[None], iter([0.0]))
        assert accepted == 1
        chance = min(1.0, float(p[x] / q[x]))
        out[x] += q[x] * chance
        if chance < 1:
            _, rest = verify_chain([x], torch.stack([p, p]), q[None], iter([1.0]))
            out += q[x] * (1 - chance) * rest
    assert torch.allclose(out, p, atol=1e-6)


def test_relaxation_is_bounded() -> None:
    nearest = nearest_codes(torch.arange(5.0)[:, None])
    assert nearest[0].tolist() == [1, 2, 3, 4]
    p = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25])
    assert Relaxation(nearest, 3, 0.55).borrowed(p, 0) == pytest.approx(0.5)
    assert Relaxation(nearest, 3, 0.1).borrowed(p, 0) is None
    # delta > 1: at most (delta - 1) p(x).
    assert Relaxation(nearest, 3, 4.0).borrowed(p, 0) == pytest.approx(0.2)


def test_pixelflow_by_its_adapter(tmp_path: Path) -> None:
    """Four of one are a batch of four; the block noise has upstream's covariance."""
    entry, config = registry.model("pixelflow-xl-c2i"), CONFIGS["pixelflow__c2i"]
    card = dataclasses.replace(entry.card, arch=config, sizes=Fixed(64))
    torch.save(_network("pixelflow__c2i").state_dict(), tmp_path / "model.pt")
    generator = entry.family.build(card, {"num_inference_steps": 1})
    generator.load({"model": tmp_path / "model.pt"})
    prompts = [Prompt(id=str(i), label=i) for i in range(4)]
    together = generator.generate(prompts, [1, 2, 3, 4])
    assert together.shape == (4, 3, 64, 64)
    assert generator.cost() == {"nfe": 4.0}
    alone = torch.cat([generator.generate([p], [i + 1]) for i, p in enumerate(prompts)])
    # float32 sums in another order, through four evaluations.
    assert float((together - alone).abs().max()) < 1e-4
    noise = generator.network.block_noise(Seeded([1]), 256)
    cells = noise.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).permute(0, 1, 2, 4, 3, 5).reshape(-1, 4)
    gamma = -1 / 3
    wanted = torch.eye(4) * (1 - gamma) + gamma
    # 49152 cells: a covariance is known to about 1/sqrt(49152) = 0.005, its greatest of 16 errors to four times that.
    assert torch.allclose(torch.cov(cells.T), wanted, atol=0.02)
