"""Tokenizers whose decoder is a sampler, at the fixtures' small sizes: seeds, budgets, options, costs.

That the networks compute what upstream computes is the matter of the parity fixtures.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import random_images
from small_sampling_tokenizers import SIDE, SMALL, pictures, small
from support import cuts

import vtbench
from vtbench.models.system import ModelSystem
from vtbench.running.rescore import add_metrics
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents, unpack


@pytest.mark.parametrize("family", SMALL)
def test_four_images_are_four_times_one_and_bytes_are_enough(family: str, shared: Path) -> None:
    tokenizer, images, seeds = small(family, shared), pictures(family, 4), [5, 6, 7, 8]
    budget = tokenizer.options.get("tokens")
    tokens = tokenizer.encode(images, seeds, budget)
    together = tokenizer.decode(tokens, seeds)
    assert together.shape == images.shape
    assert torch.equal(tokenizer.decode(tokens, seeds), together), "the same seeds, the same picture"
    # A fresh network, of the same weights.
    other = small(family, shared)
    spread = float(together.std())
    for i in (0, 3):
        alone = tokenizer.encode(images[i : i + 1], seeds[i : i + 1], budget)
        if isinstance(alone, Codes):
            assert isinstance(tokens, Codes)
            assert torch.equal(alone.indices, tokens.indices[i : i + 1])
        else:
            assert isinstance(alone, Latents)
            assert isinstance(tokens, Latents)
            # In half precision another batch size may round a number over.
            assert torch.allclose(alone.values, tokens.values[i : i + 1], rtol=2e-3, atol=2e-3)
        bytes_only = other.decode(unpack(tokens.pack()[i]), seeds[i : i + 1])
        assert torch.allclose(bytes_only, together[i : i + 1], atol=2e-4 * max(1.0, spread))


@pytest.mark.parametrize("family", SMALL)
def test_another_seed_is_another_picture(family: str, shared: Path) -> None:
    tokenizer = small(family, shared)
    assert tokenizer.card.stochastic
    tokens = tokenizer.encode(pictures(family, 1).repeat(2, 1, 1, 1), [1, 1])
    one, other = tokenizer.decode(tokens, [1, 2])
    assert float((one - other).abs().max()) > 1e-3
    swapped = tokenizer.decode(tokens, [2, 1])
    assert torch.allclose(swapped, torch.stack([other, one]), atol=1e-4 * max(1.0, float(one.std())))


@pytest.mark.parametrize(
    ("family", "options", "evaluations"),
    [
        ("flowmo", {"steps": 2}, 2),
        ("flowmo", {"steps": 5, "guidance": 1.0}, 5),
        ("flextok", {"steps": 3}, 3),
        ("semanticist", {"steps": "3"}, 3),
        ("d-ar", {}, 4),
    ],
)
def test_evaluations_are_counted(family: str, options: dict[str, Any], evaluations: int, shared: Path) -> None:
    """As often as the decoder's network really ran; a batch doubled for guidance counts once."""
    tokenizer = small(family, shared, **options)
    part = {"flowmo": "decoder", "flextok": "decoder.module_dict.dec_transformer", "semanticist": "dit"}
    ran: list[int] = []
    inner = tokenizer.network.get_submodule(part.get(family, "diff_decoder.net"))
    inner.register_forward_hook(lambda *_: ran.append(1))
    assert tokenizer.cost() == {}
    output = ModelSystem(tokenizer, "resize").produce(pictures(family, 2), [1, 2], [])
    assert tokenizer.cost() == {"nfe": evaluations}
    assert output.cost == {"nfe": evaluations}
    assert len(ran) == evaluations


@pytest.mark.parametrize(
    ("family", "better", "wrong", "said"),
    [
        ("flowmo", {"guidance": 3.0}, {"steps": 0}, "at least 1"),
        ("flowmo", {"schedule": "linear"}, {"schedule": "cosine"}, "schedule is 'cosine'"),
        ("flextok", {"guidance": 1.0}, {"steps": -1}, "at least 1"),
        ("flextok", {"guidance_kind": "cfg"}, {"guidance_kind": "nope"}, "guidance_kind is 'nope'"),
        ("semanticist", {"guidance": 1.0}, {"steps": "none"}, "section string"),
        ("semanticist", {"steps": "ddim4"}, {"steps": "0"}, "keeps no timestep"),
        ("d-ar", {"steps": 2}, {"steps": 5}, "must lie in 1..4"),
    ],
)
def test_options_of_the_sampler_matter(
    family: str, better: dict[str, Any], wrong: dict[str, Any], said: str, shared: Path
) -> None:
    tokenizer = small(family, shared)
    tokens = tokenizer.encode(pictures(family, 1), [1])
    plain = tokenizer.decode(tokens, [1])
    assert float((small(family, shared, **better).decode(tokens, [1]) - plain).abs().max()) > 1e-3
    with pytest.raises(VtbenchError, match=said):
        small(family, shared, **wrong).decode(tokens, [1])


@pytest.mark.parametrize(("family", "most"), [("flextok", 32), ("semanticist", 16)])
def test_a_budget_is_kept_and_paid_for(family: str, most: int, shared: Path) -> None:
    """The leading tokens of the whole code, and log2 of how many there might be."""
    tokenizer, image = small(family, shared), pictures(family, 1)
    assert tokenizer.takes_budget
    assert tokenizer.card.knob == "tokens"
    whole = tokenizer.encode(image, [1], most)
    few = tokenizer.encode(image, [1], 3)
    assert (whole.positions, few.positions) == ([most], [3])
    each = 16.0 if isinstance(few, Latents) else math.log2(64000)
    channels = tokenizer.network.dim if isinstance(few, Latents) else 1
    assert float(few.bits()[0]) == pytest.approx(3 * each * channels + math.log2(4))
    kept, all_of_it = (t.values if isinstance(t, Latents) else t.indices for t in (few, whole))  # type: ignore[attr-defined]
    assert torch.equal(kept, all_of_it[:, :3])
    back = unpack(few.pack()[0])
    assert float(back.bits()[0]) == float(few.bits()[0])
    assert float((tokenizer.decode(back, [1]) - tokenizer.decode(whole, [1])).abs().max()) > 1e-3
    for bad in (0, most + 1, 2.5):
        with pytest.raises(VtbenchError, match=f"from 1 to {most}"):
            tokenizer.encode(image, [1], bad)


@pytest.mark.parametrize("family", SMALL)
def test_pictures_of_another_size_are_refused_by_the_network_and_served_by_the_rule(family: str, shared: Path) -> None:
    tokenizer, side = small(family, shared), SIDE.get(family, 64)
    with pytest.raises(VtbenchError, match=f"the image is {side + 1} x {side}"):
        tokenizer.encode(random_images(1, side + 1, side), [0])
    odd = random_images(1, side + 13, side // 2 - 1)
    output = ModelSystem(tokenizer, "resize").produce(odd, [3], [])
    assert output.images.shape == odd.shape
    assert bool(torch.isfinite(output.images).all())


def test_a_run_says_how_often_the_network_ran(shared: Path, tmp_path: Path) -> None:
    """In every row, and as a score; also after scores are made anew from the rows."""
    tokenizer = small("flowmo", shared, steps=2, guidance=1.0)
    images = cuts(tmp_path / "images", 2)
    (run,) = vtbench.evaluate(
        tokenizer, images=images, tasks=["compression"], save=["images"], out=tmp_path / "out"
    ).runs
    assert [row["cost"] for row in run.rows()] == [{"nfe": 2.0}] * 2
    for read in (run, add_metrics(run.path, ["bias-r"])):
        score = read.score("nfe")
        assert score is not None
        assert (score["value"], score["n"], score["unit"]) == (2.0, 2, "evaluations/image")


def test_flextoks_posterior_is_not_its_decoders_noise(shared: Path) -> None:
    tokenizer = small("flextok", shared, posterior="sample")
    settings = tokenizer.encode_settings((64, 64), [3, 4]), tokenizer.decode_settings((64, 64), [3, 4])
    ours, theirs = (s["noise"].flatten() for s in settings)
    assert ours.shape == theirs.shape
    assert abs(float(torch.corrcoef(torch.stack([ours, theirs]))[0, 1])) < 0.2
    assert torch.equal(ours, tokenizer.encode_settings((64, 64), [3, 4])["noise"].flatten())
