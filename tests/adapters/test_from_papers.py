"""CTF and DAR, built from papers without an upstream to compare: their limiting cases, and an effect of each.

Tiny models are trained here in seconds, on sequences whose law is known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from vtbench import registry
from vtbench.adapters.networks.coarse_to_fine import CoarseToFine, clusters
from vtbench.adapters.networks.dar import CORNERS, Dar, zigzag
from vtbench.adapters.networks.llamagen_gpt import LlamaGenGpt
from vtbench.adapters.networks.parts.positions import rotary
from vtbench.adapters.networks.parts.transformer import rotate_pairs
from vtbench.models.made_weights import fill_
from vtbench.models.noise import Seeded
from vtbench.types.errors import VtbenchError

CODES, CLASSES = 16, 2
GPT = {"dim": 32, "n_layer": 1, "n_head": 2, "block_size": 16, "num_classes": CLASSES, "multiple_of": 16}
DAR = {
    **{"grid": 4, "codebook_size": CODES, "code_dim": 8, "dim": 32, "depth": 1, "heads": 2, "hidden": 64},
    **{"num_classes": CLASSES, "corner": "top-left", "first": "along", "split": [4, 4, 4, 4], "rope_base": 100.0},
    "class_position": [0, 0],
}
FINE = {"cfg_scale": 1.0, "cfg_fine": 1.0, "temperature": 1.0, "temperature_fine": 1.0}


def _ctf(count: int, *, cut: bool = True, **fine: Any) -> CoarseToFine:
    config = {"coarse": {**GPT, "vocab_size": count}, "fine": {**GPT, "vocab_size": CODES}, "cut": cut}
    network = CoarseToFine({**config, "reads_class": True, **fine})
    fill_(network)
    network.codes.copy_(torch.arange(CODES) * count // CODES)
    return network.eval().requires_grad_(False)


def _circle() -> torch.Tensor:
    turn = 2 * torch.pi * torch.arange(CODES) / CODES
    return torch.stack([turn.cos(), turn.sin()], dim=1)


def _trained(network: Any, loss: Callable[[torch.Generator], torch.Tensor], steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    adam = torch.optim.Adam(network.requires_grad_(True).parameters(), lr=3e-3, foreach=False)
    for _ in range(steps):
        adam.zero_grad()
        loss(generator).backward()
        adam.step()
    network.requires_grad_(False)


# -- CTF -------------------------------------------------------------------------------------------------------------


def test_as_many_clusters_as_codes_is_the_plain_model() -> None:
    network, labels = _ctf(CODES), torch.tensor([0, 1])
    with torch.inference_mode():
        drawn = network.generate(labels, Seeded([1, 2]), **FINE)
        plain = network.coarse.generate(labels, Seeded([1, 2]), cfg_scale=1.0, temperature=1.0)
    assert isinstance(network.coarse, LlamaGenGpt)
    assert torch.equal(drawn.tokens, drawn.coarse)
    assert torch.equal(drawn.coarse, plain)
    assert drawn.passes == 16 + 1


def test_one_cluster_leaves_all_to_stage_2() -> None:
    network, labels = _ctf(1), torch.tensor([0, 1])
    with torch.inference_mode():
        drawn = network.generate(labels, Seeded([1, 2]), **FINE)
    assert not bool(drawn.coarse.any())
    assert len(drawn.tokens.unique()) > 4


def test_cut_codes_lie_in_their_cluster_and_names_of_clusters_do_not_matter() -> None:
    network, labels = _ctf(4), torch.tensor([0, 1])
    with torch.inference_mode():
        drawn = network.generate(labels, Seeded([1, 2]), **FINE)
        assert torch.equal(network.codes[drawn.tokens], drawn.coarse)
        free = _ctf(4, cut=False).generate(labels, Seeded([1, 2]), **FINE)
        assert not torch.equal(network.codes[free.tokens], free.coarse)
        cold = [network.generate(labels, Seeded(s), **{**FINE, "temperature_fine": 0.0}) for s in ([1, 2], [1, 2])]
        assert torch.equal(cold[0].tokens, network.fine_logits(cold[0].coarse, labels, 1.0).argmax(dim=-1))
        # Cluster c is now called turned[c]: rows of the tables that name clusters move with it.
        turned = torch.tensor([2, 0, 3, 1])
        for weight in (network.coarse.tok_embeddings.weight, network.coarse.output.weight):
            weight[turned] = weight.clone()
        network.fine.tok_embeddings.weight[turned] = network.fine.tok_embeddings.weight.clone()
        network.codes.copy_(turned[network.codes])
        again = network.fine_logits(turned[cold[0].coarse], labels, 1.0)
        assert torch.equal(again.argmax(dim=-1), cold[0].tokens)
        greedy = network.coarse.generate(labels, None)
        network.codes.copy_(turned.argsort()[network.codes])
    assert torch.equal(turned.argsort()[greedy], _ctf(4).coarse.generate(labels, None))


def test_batches_caches_and_options_of_ctf() -> None:
    network, labels, seeds = _ctf(4), torch.tensor([0, 1, 1, 0]), [1, 2, 3, 4]
    with torch.inference_mode():
        together = network.generate(labels, Seeded(seeds), **FINE).tokens
        alone = [network.generate(labels[i : i + 1], Seeded([s]), **FINE).tokens for i, s in enumerate(seeds)]
        assert torch.equal(together, torch.cat(alone))
        assert torch.equal(together, network.generate(labels, Seeded(seeds), **FINE, cache=False).tokens)
        for option in FINE:
            for wrong in (-1.0, float("nan")):
                with pytest.raises(VtbenchError, match=option.removesuffix("_scale")):
                    network.generate(labels, Seeded(seeds), **{**FINE, option: wrong})
    with pytest.raises(VtbenchError, match="cut is missing"):
        CoarseToFine({"coarse": {**GPT, "vocab_size": 4}, "fine": {**GPT, "vocab_size": CODES}, "reads_class": True})


def test_k_means_finds_neighbours() -> None:
    """Four clusters of a circle of 16 codes are arcs; as many as codes are the codes; no seed gives another count."""
    options = {"iterations": 20, "normalise": False, "generator": torch.Generator().manual_seed(3)}
    found_clusters = clusters(_circle(), 4, **options)  # type: ignore[arg-type]
    changes = int((found_clusters != found_clusters.roll(1)).sum())
    assert changes == len(found_clusters.unique())
    assert len(clusters(_circle(), CODES, **options).unique()) == CODES  # type: ignore[arg-type]
    with pytest.raises(VtbenchError, match="not 17"):
        clusters(_circle(), 17, **options)  # type: ignore[arg-type]


def _distance(codes: torch.Tensor) -> float:
    """Of a pair trained on random walks round the circle: how far the steps that it draws are from the walks' law."""
    network = _ctf(4)
    torch.manual_seed(0)
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    network.codes.copy_(codes)

    def walks(generator: torch.Generator, count: int) -> torch.Tensor:
        steps = torch.randint(-1, 2, (count, 16), generator=generator)
        steps[:, 0] = torch.randint(CODES, (count,), generator=generator)
        return steps.cumsum(dim=1) % CODES

    def loss(generator: torch.Generator) -> torch.Tensor:
        tokens, labels = walks(generator, 32), torch.zeros(32, dtype=torch.int64)
        coarse = codes[tokens]
        first = network.coarse.teacher_forced(network.coarse.condition(labels)[0], coarse, None)
        fine = network.fine_logits(coarse, labels, 1.0)
        return F.cross_entropy(first.flatten(0, 1), coarse.flatten()) + F.cross_entropy(
            fine.flatten(0, 1), tokens.flatten()
        )

    _trained(network, loss, 150)
    with torch.inference_mode():
        drawn = network.generate(torch.zeros(128, dtype=torch.int64), Seeded(range(128)), **FINE).tokens
    steps = (drawn[:, 1:] - drawn[:, :-1] + 1) % CODES
    shares = torch.bincount(steps.flatten(), minlength=CODES) / steps.numel()
    return float(1 - torch.minimum(shares[:3], torch.full((3,), 1 / 3)).sum())


def test_random_clusters_fail() -> None:
    """The paper's ablation: with clusters of near codes the pair draws more nearly the law than with random ones."""
    near = torch.arange(CODES) // 4
    assert _distance(near) < 0.7 * _distance(near[torch.randperm(CODES, generator=torch.Generator().manual_seed(2))])


# -- DAR -------------------------------------------------------------------------------------------------------------


def _dar(**changed: Any) -> Dar:
    network = Dar({**DAR, **changed})
    return fill_(network).eval().requires_grad_(False)  # type: ignore[no-any-return]


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("first", ["along", "across"])
def test_the_order_is_a_walk_over_neighbours(corner: str, first: str) -> None:
    order = zigzag(8, corner, first)
    assert torch.equal(order.sort().values, torch.arange(64))
    raster = torch.arange(64)
    assert torch.equal(raster[order][order.argsort()], raster)
    cells = torch.stack([order // 8, order % 8], dim=1)
    assert int((cells[1:] - cells[:-1]).abs().max()) == 1
    assert int((torch.stack([raster // 8, raster % 8], dim=1).diff(dim=0)).abs().max()) == 7, "a raster jumps"


def test_the_order_is_the_zigzag_of_jpeg() -> None:
    """ITU-T T.81, figure 5, up to transposition."""
    jpeg = [0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5]
    assert zigzag(8, "top-left", "along")[:16].tolist() == jpeg
    across = zigzag(8, "top-left", "across")
    assert (across % 8 * 8 + across // 8)[:16].tolist() == jpeg


def test_rotary_scores_depend_on_differences_and_fall_back_to_two_axes() -> None:
    q, k = torch.randn(2, 1, 16, generator=torch.Generator().manual_seed(2)).double()

    def score(a: list[float], b: list[float], split: tuple[int, ...]) -> float:
        ends = [rotate_pairs(x, *rotary(torch.tensor([p]).double(), split, 100.0, x)) for x, p in ((q, a), (k, b))]
        return float((ends[0] * ends[1]).sum())

    four = (4, 4, 4, 4)
    moved = score([3, 5, 2, 7], [1, 1, 1, 0], four)
    assert score([13, 4, 7, 9], [11, 0, 6, 2], four) == pytest.approx(moved)
    assert score([3, 5, 2, 8], [1, 1, 1, 0], four) != pytest.approx(moved)
    # Without channels for the next place it is two-dimensional.
    assert score([3, 5, 9, 9], [1, 1, 0, 0], (8, 8, 0, 0)) == pytest.approx(score([3, 5], [1, 1], (8, 8)))


def test_batches_caches_and_options_of_dar() -> None:
    network, labels, seeds = _dar(), torch.tensor([0, 1, 1, 0]), [1, 2, 3, 4]
    run = {"guidance_scale": 3.0, "guidance_power": 1.5}
    with torch.inference_mode():
        together = network.generate(labels, Seeded(seeds), **run)
        alone = [network.generate(labels[i : i + 1], Seeded([s]), **run) for i, s in enumerate(seeds)]
        assert torch.equal(together, torch.cat(alone))
        assert torch.equal(together, network.generate(labels, Seeded(seeds), **run, cache=False))
        # Teacher forced, the tokens drawn are the likeliest again where they were drawn without noise.
        plain = network.generate(labels, _NoNoise(4), guidance_scale=1.0, guidance_power=1.0)
        logits = network(plain, labels)
        assert torch.equal(logits.argmax(dim=-1), plain[:, network.order])
        # Guidance of one is none, whatever its power.
        one = [network.generate(labels, Seeded(seeds), guidance_scale=1.0, guidance_power=p) for p in (0.5, 2.0)]
        assert torch.equal(*one)
        for option in run:
            for wrong in (-1.0, float("nan")):
                with pytest.raises(VtbenchError, match=option):
                    network.generate(labels, Seeded(seeds), **{**run, option: wrong})
    for unstated in ("corner", "first", "split", "rope_base", "class_position"):
        with pytest.raises(VtbenchError, match=f"{unstated} is missing"):
            Dar({name: value for name, value in DAR.items() if name != unstated})


class _NoNoise:
    def __init__(self, batch: int) -> None:
        self.batch = batch

    def exponential(self, *shape: int) -> torch.Tensor:
        return torch.ones(self.batch, *shape)


def test_guidance_draws_what_is_typical_of_the_class() -> None:
    """Trained on two classes that prefer other halves of the codes, seven to three: guidance draws more of its half."""
    network = _dar()
    torch.manual_seed(0)
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    network.codebook.copy_(torch.randn(CODES, 8, generator=torch.Generator().manual_seed(1)))

    def loss(generator: torch.Generator) -> torch.Tensor:
        labels = torch.randint(CLASSES, (32,), generator=generator)
        own = (torch.rand(32, 16, generator=generator) < 0.7).long()
        half = torch.where(own == 1, labels[:, None], 1 - labels[:, None])
        tokens = half * 8 + torch.randint(8, (32, 16), generator=generator)
        # A tenth without a class, as guidance needs.
        given_labels = torch.where(torch.rand(32, generator=generator) < 0.1, CLASSES, labels)
        return F.cross_entropy(network(tokens, given_labels).flatten(0, 1), tokens[:, network.order].flatten())

    _trained(network, loss, 120)
    labels = torch.arange(128) % CLASSES
    with torch.inference_mode():
        drawn = [network.generate(labels, Seeded(range(128)), guidance_scale=g, guidance_power=1.0) for g in (1.0, 4.0)]
    plain, guided = (float((tokens // 8 == labels[:, None]).float().mean()) for tokens in drawn)
    # 2048 draws: a share of 0.7 is known to 0.01.
    assert plain == pytest.approx(0.7, abs=0.06)
    assert guided > plain + 0.05


@pytest.mark.parametrize("name", ["ctf", "dar"])
def test_the_families_say_that_there_is_no_upstream(name: str) -> None:
    family = registry.family(name)
    assert "no upstream to compare" in family.title
    assert family.cards == ()
