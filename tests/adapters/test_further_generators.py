"""D-AR, DiT, ENAT, FAR, MaskGen, self-guided MaskGIT, PixelDiT and TokenBridge as generators.

Batches, caches, options, refusals.
Parity with upstream is tests/proving/test_generator_parity.py's.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import GENERATOR_FIXTURES, random_tensor

from vtbench import registry
from vtbench.adapters.networks.parts.captions import PooledTextTower, Text
from vtbench.adapters.networks.parts.flow_solvers import Dpm, rising_times, solve
from vtbench.models.made_weights import fill_
from vtbench.models.network import build_network
from vtbench.models.noise import Seeded
from vtbench.proving import parity_generators
from vtbench.types.adapter import Prompt
from vtbench.types.cards import Fixed
from vtbench.types.errors import VtbenchError

FAR = {
    **{f"{s}_{n}": v for s in ("encoder", "decoder") for n, v in (("embed_dim", 16), ("depth", 1), ("num_heads", 2))},
    **{"img_size": 256, "vae_embed_dim": 4, "diffloss_d": 1, "diffloss_w": 16, "num_sampling_steps": "2,0"},
}
"""FAR's samplers know a grid of 16 only, so that its tiny model is one."""
TINY: dict[str, tuple[str, dict[str, Any] | None, dict[str, Any]]] = {
    "d-ar": ("d-ar-gen__c2i", None, {"cfg_scale": "1.2,8.0", "top_k": 20, "temperature": 0.9, "cfg_interval": 5}),
    "dit": ("dit__tiny", None, {"num_inference_steps": 3, "guidance_scale": 3.0}),
    "enat": ("enat__e3d1", None, {"sample_steps": 3, "cfg_scale": 2.5, "mask_temp": 1.5, "samp_temp": 6.0}),
    "far": ("far", {**FAR, "mask": False, "class_num": 1000, "buffer_size": 4}, {"cfg": 2.0, "temperature": 1.0}),
    "far-masked": ("far", {**FAR, "mask": True, "class_num": 1000, "buffer_size": 4}, {"cfg": 2.0, "temperature": 0.9}),
    "far-text": ("far", {**FAR, "buffer_size": 0}, {"cfg": 2.0}),
    "maskgen-kl": ("maskgen__kl", None, {"num_iter": 3, "cfg": 3.0, "temperature": 1.0, "aesthetic_score": 6.0}),
    "maskgen-vq": ("maskgen__vq", None, {"num_sample_steps": 3, "guidance_scale": 3.0, "randomize_temperature": 1.5}),
    "maskgit-sg": ("maskgit-sg__cls", None, {"timesteps": 3, "guidance_scale": 1.0, "temperature": 4.5}),
    "pixeldit": ("pixeldit__c2i", None, {"num_steps": 3, "guidance": 3.25, "timeshift": 2.0, "last_step": 0.1}),
    "tokenbridge": ("tokenbridge-gen__tiny", None, {"num_iter": 3, "cfg": 3.0, "temperature": 0.9}),
}
"""name: fixture or family, configuration where it is not the fixture's, options that take numbers."""
CACHED = ("d-ar", "tokenbridge")


def _network(name: str) -> Any:
    fixture, config, _ = TINY[name]
    if config is None:
        config = json.loads((GENERATOR_FIXTURES / f"{fixture}.json").read_text())["config"]
    kept = {"not_filled": ["channel_mask", "reconstruction_values", "boundaries"]}
    # Far from 1e4, where a diffusion over weights that were never trained would blow up a rounding.
    calm = {
        "post_fill_scale": {"diffloss.net.index_cond_embed.weight": 0.05, "diffloss.net.final_layer.linear.weight": 0.3}
    }
    network = build_network(registry.family(fixture.split("__")[0]), config)
    return parity_generators.fill(network, kept | calm).requires_grad_(False)


def _generate(name: str, network: Any) -> Callable[..., torch.Tensor]:
    """(rows of a batch of four, seeds, options) -> tokens or latents."""
    kind = name.split("-")[0]

    def run(rows: list[int], seeds: list[int], **changed: Any) -> torch.Tensor:
        options, noise = {**TINY[name][2], **changed}, Seeded(seeds)
        if kind == "maskgen":
            text = Text(*(random_tensor(4, n, 40, seed=n)[rows] for n in (5, 1)))
            null = Text(*(random_tensor(1, n, 40, seed=9 + n) for n in (5, 1)))
            return network.generate(text, null, noise, **options)
        if name == "far-text":
            return network.generate(random_tensor(4, 300, 1536)[rows], noise, **options)
        labels = torch.tensor([1, 7, 3, 3])[rows]
        if kind == "pixeldit":
            return network.generate(labels, noise.normal(3, 8, 8), **options).x
        out = network.generate(labels, noise, **options)
        return out.latent if kind == "tokenbridge" else out

    return run


@pytest.mark.parametrize("name", TINY)
def test_batches_caches_nan_and_options(name: str) -> None:
    """A batch of four is four of one; a cache changes nothing; options out of range and NaN weights are refused."""
    network = _network(name)
    run, seeds = _generate(name, network), [5, 6, 7, 8]
    with torch.inference_mode():
        together = run([0, 1, 2, 3], seeds)
        alone = torch.cat([run([i], [seed]) for i, seed in enumerate(seeds)])
        assert together.shape == alone.shape
        if together.is_floating_point():
            # Matrix products of another batch size are summed in another order.
            assert float((together - alone).abs().max()) < 2e-3 * float(together.std())
        else:
            assert torch.equal(together, alone)
        assert not torch.equal(together[2], together[3]), "the same class or text, another seed"
        if name in CACHED:
            assert torch.equal(together, run([0, 1, 2, 3], seeds, cache=False))
        for option in TINY[name][2]:
            for wrong in (-2, float("nan"), "many"):
                with pytest.raises(VtbenchError, match=option):
                    run([0], [1], **{option: wrong})
        for weight in network.parameters():
            weight.fill_(float("nan"))
        with pytest.raises(VtbenchError, match="NaN"):
            run([0], [1])


def _adapter(model: str, name: str, folder: Path, **options: Any) -> Any:
    """The adapter of a released model over the tiny network, read from a file."""
    entry, network = registry.model(model), _network(name)
    config = TINY[name][1] or json.loads((GENERATOR_FIXTURES / f"{TINY[name][0]}.json").read_text())["config"]
    size = entry.card.sizes.size if name != "pixeldit" else 8  # type: ignore[union-attr]
    card = dataclasses.replace(entry.card, arch=config, sizes=Fixed(size))
    torch.save(network.state_dict(), folder / "model.pt")
    files = {"model": folder / "model.pt"}
    if any(w.role == "text_encoder" for w in card.weights):
        tower = fill_(PooledTextTower(width=40, layers=12, heads=1))
        torch.save(tower.state_dict(), folder / "clip.pt")
        files["text_encoder"] = folder / "clip.pt"
    generator = entry.family.build(card, {**dict(entry.card.options), **options})
    vocabulary = getattr(network, "vocabulary", None)
    generator.attach(_Tokenizer(() if vocabulary is None else (vocabulary,)))
    generator.load(files)
    return generator


class _Tokenizer:
    """Stands in for a loaded tokenizer: remembers which captions it was to read."""

    read: Any = None

    def __init__(self, alphabets: tuple[int, ...]) -> None:
        self.card = dataclasses.replace(registry.model("sd-vae-ft-ema").card, alphabets=alphabets)

    def decode(self, tokens: Any, seeds: Any) -> torch.Tensor:
        return torch.zeros(len(tokens), 3, *tokens.size)

    def reading(self, features: Any) -> Any:
        import contextlib

        self.read = features
        return contextlib.nullcontext()


@pytest.mark.parametrize(
    ("model", "name", "options", "nfe"),
    [
        ("d-ar-l", "d-ar", {}, 16),
        ("dit-xl-2-256-native", "dit", {"num_inference_steps": 2}, 2),
        ("enat-l-256", "enat", {"sample_steps": 2}, 2),
        ("far-base", "far", {}, 10),
        ("maskgen-vq-l", "maskgen-vq", {"num_sample_steps": 2}, 2),
        ("maskgen-kl-l", "maskgen-kl", {"num_iter": 2}, 2),
        ("maskgit-sg-256", "maskgit-sg", {"timesteps": 2}, 4),
        ("pixeldit-xl-256-ep320", "pixeldit", {"num_steps": 2}, 2),
        ("tokenbridge-large", "tokenbridge", {"num_iter": 2}, 2),
    ],
)
def test_by_its_adapter(model: str, name: str, options: dict[str, Any], nfe: int, tmp_path: Path) -> None:
    generator = _adapter(model, name, tmp_path, **options)
    prompts = [Prompt(id="a", label=1, text="a red cube"), Prompt(id="b", label=2, text="two dogs")]
    images = generator.generate(prompts, [1, 2])
    assert images.shape[:2] == (2, 3)
    assert generator.cost() == {"nfe": nfe}
    if name.startswith("maskgen"):
        assert generator.tokenizer.read.shape == (2, 77, 40)
        assert not torch.equal(*generator.tokenizer.read)
        with pytest.raises(VtbenchError, match="has no text"):
            generator.generate([Prompt(id="a", label=1)], [1])


@pytest.mark.parametrize("fixture", ["maskgen__vq", "maskgen__kl"])
def test_maskgen_without_a_score_or_a_tied_head(fixture: str) -> None:
    """The pooled text alone conditions; a head of its own is as large as the codebook."""
    config = json.loads((GENERATOR_FIXTURES / f"{fixture}.json").read_text())["config"]
    config["model"]["maskgen"] |= {
        "micro_condition": False,
        "weight_tying": False if fixture == "maskgen__vq" else None,
    }
    network = fill_(build_network(registry.family("maskgen"), config)).requires_grad_(False)
    text = Text(*(random_tensor(2, n, 40, seed=n) for n in (5, 1)))
    steps = {"num_sample_steps" if fixture == "maskgen__vq" else "num_iter": 2}
    with torch.inference_mode():
        low, high = (network.generate(text, text, Seeded([1, 2]), aesthetic_score=s, **steps) for s in (1.0, 9.0))
    assert torch.equal(low, high)


def test_guidance_of_one_is_none() -> None:
    """D-AR with "1,1" and "0.5" leaves the null half out; DiT at most 1 too."""
    run = _generate("d-ar", _network("d-ar"))
    with torch.inference_mode():
        assert torch.equal(run([0], [1], cfg_scale="1,1"), run([0], [1], cfg_scale=0.5))
        run = _generate("dit", _network("dit"))
        assert torch.equal(run([0], [1], guidance_scale=1.0), run([0], [1], guidance_scale=0.0))


def test_the_solvers_are_of_their_order() -> None:
    """On dx/dt = x, whose solution is known: doubling the steps divides the error by two, or by four."""

    def error(steps: int, sampler: str) -> float:
        x = torch.ones(1, dtype=torch.float64)
        solved = solve(lambda x, t: (x, x), x, sampler=sampler, num_steps=steps, exact_henu=True)
        return abs(float(solved.x) - 2.718281828459045)

    for sampler, factor in (("euler", 2), ("flow_dpm", 4)):
        assert error(40, sampler) / error(80, sampler) == pytest.approx(factor, rel=0.1)
    # The last step of Heun's is Euler's: of second order but for an error of dt^2 / 2.
    assert error(80, "heun") < error(80, "euler") / 20


def test_times_compare_in_float32() -> None:
    """A released interval starts at 0.1, and the eleventh of a hundred times is 0.1: guided from the twelfth on."""
    assert float(rising_times(100, 1.0)[10]) == pytest.approx(0.1)
    options = {"num_steps": 100, "guidance": 3.0, "guidance_interval_min": 0.1}
    solved = solve(lambda x, t: (0 * x, 0 * x + 1), torch.ones(1), **options)  # type: ignore[arg-type]
    scales = [round(float(v)) for v in solved.velocities]
    assert scales == [1] * 11 + [3] * 89


def test_dpm_reaches_data() -> None:
    """A velocity of noise - data with data 0.3 is solved exactly, whatever the steps: x0 is always 0.3."""

    def velocity(x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return (x - 0.3) / (t / 1000)[:, None, None, None]

    start = random_tensor(2, 3, 4, 4).double()
    for steps in (2, 5):
        solved = Dpm(steps=steps, cfg_scale=1.0).solve(velocity, start, start, start)
        # The start is taken for noise, which is just below level 1.
        assert float((solved.x - 0.3).abs().max()) < 1e-4
        assert solved.evaluations == steps
