"""Self-guidance, CSpD, token-opt and VA-pi's objective: limiting cases and refusals; parity is tests/proving's."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import GENERATOR_FIXTURES, of_fixture, random_images, random_tensor

from vtbench import registry
from vtbench.adapters.builtin import token_opt
from vtbench.adapters.networks import va_pi
from vtbench.adapters.networks.maskgit_sg import share_after
from vtbench.adapters.networks.speculative_continuous import Kernel, OfOneImage, Verdict
from vtbench.models.network import build_network
from vtbench.models.noise import Seeded
from vtbench.proving import parity_generators
from vtbench.types.adapter import Prompt
from vtbench.types.errors import VtbenchError

MAR = json.loads((GENERATOR_FIXTURES / "cspd__mar.json").read_text())["config"]
CALM = {"post_fill_scale": {"diffloss.net.final_layer.linear.weight": 0.3}}


# -- CSpD ------------------------------------------------------------------------------------------------------------


class _Tokenizer:
    card = dataclasses.replace(registry.model("mar-kl16-vae").card, downsample=None)

    def decode(self, tokens: Any, seeds: Any) -> torch.Tensor:
        return tokens.values[:, :3].float()


def _mar(folder: Path, small: dict[str, Any], **options: Any) -> Any:
    """A tiny MAR by its adapter, a draft's checkpoint beside it."""
    entry, arch = registry.model("mar-base"), {k: v for k, v in MAR["target"].items() if k != "num_sampling_steps"}
    for name, config in (("model", arch), ("draft", small)):
        network = parity_generators.fill(build_network(entry.family, config), CALM)
        torch.save({"model": network.state_dict()}, folder / f"{name}.pt")
    sampler = {"num_iter": 4, "cfg": 2.0, "num_sampling_steps": "3,0", "draft": str(folder / "draft.pt")}
    generator = entry.family.build(
        dataclasses.replace(entry.card, arch=arch), {**entry.card.options, **sampler, **options}
    )
    generator.attach(_Tokenizer())
    generator.load({"model": folder / "model.pt"})
    return generator


def test_cspd_by_options(tmp_path: Path) -> None:
    """Four of one are a batch of four; two iterations are the target's, the draft's two are judged at once."""
    draft = {k: v for k, v in MAR["draft"].items() if k != "num_sampling_steps"}
    generator = _mar(tmp_path, draft, decoding="speculative", draft_iterations=3, target_share=0.25)
    prompts = [Prompt(id=str(i), label=i) for i in range(4)]
    together = generator.generate(prompts, [1, 2, 3, 4])
    cost = generator.cost()
    assert (cost["nfe"], cost["draft_nfe"]) == (3.0, 2.0)
    assert 0 <= cost["acceptance"] <= 1
    alone = torch.cat([generator.generate([p], [i + 1]) for i, p in enumerate(prompts)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_a_draft_equal_to_the_target_is_always_kept(tmp_path: Path) -> None:
    """Judged after every iteration, on the same mask and noise: the ratio is one."""
    same = {k: v for k, v in MAR["target"].items() if k != "num_sampling_steps"}
    # 32 channels in one head: what shapes tell of a width that the card's model has too.
    generator = _mar(tmp_path, same, decoding="speculative", draft_iterations=1, target_share=0.25)
    generator.generate([Prompt(id="a", label=1)], [1])
    assert generator.cost()["acceptance"] == 1.0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"decoding": "guess"}, "decoding is 'guess'"),
        ({"decoding": "speculative", "draft": ""}, "needs a smaller model"),
        ({"decoding": "speculative", "draft_iterations": 0}, "num_draft is 0"),
        ({"decoding": "speculative", "inner_temperature": float("nan")}, "inner_temperature is nan"),
        ({"decoding": "speculative", "target_share": -0.5}, "ratio is -0.5"),
    ],
)
def test_what_cspd_refuses(options: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    same = {k: v for k, v in MAR["target"].items() if k != "num_sampling_steps"}
    with pytest.raises(VtbenchError, match=sentence):
        _mar(tmp_path, same, **options).generate([Prompt(id="a", label=1)], [1])


def test_rejected_tokens_come_from_the_target() -> None:
    """Far from the draft the residual is the target's own distribution; equal kernels are never rejected."""
    n, zero, one = 4000, torch.zeros(4000, 1), torch.ones(4000, 1)
    far, near = Kernel(6 * one, one, zero), Kernel(zero, one, zero)
    draws = OfOneImage(Seeded([3]))
    tokens, _, kept = Verdict(far, near, 1.0).sampled(zero, draws)
    assert float(kept.float().mean()) < 0.01
    # 4000 draws of deviation 1: the mean is known to 0.016, the deviation to 0.011; four times that.
    assert float(tokens.mean()) == pytest.approx(6, abs=0.07)
    assert float(tokens.std()) == pytest.approx(1, abs=0.05)
    tokens, ratio, kept = Verdict(near, near, 42.0).sampled(random_tensor(n, 1), draws)
    assert bool(kept.all())
    assert torch.allclose(ratio, torch.ones(n))


# -- self-guidance ---------------------------------------------------------------------------------------------------


def test_guidance_zero_is_plain_and_the_counts_are_the_released_ones() -> None:
    config = json.loads((GENERATOR_FIXTURES / "maskgit-sg__cls.json").read_text())["config"]
    family = registry.family("maskgit-sg")
    guides, plain = (
        parity_generators.fill(build_network(family, {**config, "use_toast": on}), {}).requires_grad_(False)
        for on in (True, False)
    )
    labels = torch.tensor([1, 4])
    run = {"guidance_scale": 0.0, "temperature": 4.5, "timesteps": 4}
    with torch.inference_mode():
        assert torch.equal(
            guides.generate(labels, Seeded([1, 2]), **run), plain.generate(labels, Seeded([1, 2]), **run)
        )
        with pytest.raises(VtbenchError, match="has no feedback"):
            plain.generate(labels, Seeded([1, 2]), guidance_scale=1.0)
        with pytest.raises(VtbenchError, match="noise_schedule is 'pow-1'"):
            plain.generate(labels, Seeded([1, 2]), guidance_scale=0.0, noise_schedule="pow-1")
    # parity_notes_gen2.md, in torch's float32: the twelfth of 18 is just below 128.
    counts = [int(256 * share_after((i + 1) / 18, "cosine")) for i in range(17)]
    assert counts == [255, 252, 247, 240, 232, 221, 209, 196, 181, 164, 146, 127, 108, 87, 66, 44, 22]


# -- token-opt -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def titok() -> Any:
    return of_fixture("titok__vq_pixeldec")


def _optimised(base: Any, **options: Any) -> Any:
    return token_opt.wrap(base, {**token_opt.OPTIONS, **options})


def test_optimised_tokens_decode_nearer_to_the_image(titok: Any) -> None:
    """After a few steps the decoded image is nearer than the encoder's own tokens make it; four of one is a batch."""
    tokenizer = _optimised(titok, iterations=6, token_noise=0.05, reg_weight=0.01)
    side = tokenizer.base.network.fixed_size
    images, base = random_images(2, side, side), tokenizer.base
    with torch.inference_mode():
        codes = tokenizer.encode(images, [1, 2])
        errors = [((t.decode(t.encode(images, [1, 2]), [1, 2]) - images) ** 2).mean() for t in (base, tokenizer)]
        # The weights are made, so that there is little to gain.
        assert float(errors[1]) < float(errors[0])
        for i in range(2):
            assert torch.equal(tokenizer.encode(images[i : i + 1], [i + 1]).indices, codes.indices[i : i + 1])
    assert codes.alphabets == base.encode(images, [1, 2]).alphabets
    assert tokenizer.cost() == {"decodings": 6.0}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"iterations": 0}, "num_iter is 0"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"token_noise": -0.1}, "token_noise is -0.1"),
        ({"reg_weight": 1.0, "reg_type": "start"}, "reg_type is 'start'"),
        ({"ema_decay": 1.5}, "ema_decay is 1.5"),
        ({"token_noise": 0.1, "iterations": 1}, "give num_iter of at least 2"),
    ],
)
def test_what_token_opt_refuses(options: dict[str, Any], sentence: str, titok: Any) -> None:
    with pytest.raises(VtbenchError, match=sentence):
        _optimised(titok, **options)


def test_token_opt_is_for_titok() -> None:
    with pytest.raises(VtbenchError, match="is no TiTok"):
        token_opt.card_for(registry.model("llamagen-vq-ds16-c2i").card)
    assert token_opt.card_for(registry.model("titok-l32").card).name == "token-opt:titok-l32"


# -- VA-pi -----------------------------------------------------------------------------------------------------------


def test_the_gains_and_the_context_of_va_pi() -> None:
    """Gains are apart from their own picture's mean; no noise leaves the context, noise for sure replaces it."""
    tokens = torch.randint(9, (4, 6), generator=torch.Generator().manual_seed(1))
    gains = va_pi.advantages(torch.tensor([1.0, 2.0, 3.0, 5.0, 5.0, 5.0]), 3)
    assert torch.allclose(gains, torch.tensor([-1.0, 0.0, 1.0, 0.0, 0.0, 0.0]), atol=1e-6)
    assert torch.equal(va_pi.noisy_context(tokens, torch.rand(4, 5), tokens[:, 1:], 0.0), tokens[:, :-1])
    assert torch.equal(va_pi.noisy_context(tokens, torch.rand(4, 5), tokens[:, 1:], 2.0), tokens[:, 1:])
