"""Tokenizers whose decoder is a sampler, at the fixtures' small sizes: seeds, budgets, options, costs.

That the networks compute what upstream computes is the matter of the parity fixtures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_networks import FIXTURES, filled, random_images
from support import cuts

import vtbench
from vtbench import registry
from vtbench.adapters.networks.parts.positions import sincos
from vtbench.models import weights
from vtbench.models.arch import flatten, own_card
from vtbench.models.names import manifest, names_of
from vtbench.models.native import NetworkTokenizer
from vtbench.models.network import build_network
from vtbench.models.system import ModelSystem
from vtbench.running.rescore import add_metrics
from vtbench.types.cards import Fixed
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents, unpack

SMALL: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "flowmo": ("flowmo-lo", "flowmo__main", {"steps": 3}),
    "flextok": ("flextok-d12-d12-in1k", "flextok__main", {"steps": 2, "tokens": 32, "scaling_factor": 0.5}),
    "semanticist": ("semanticist-tok-l", "semanticist__main", {"steps": "2", "tokens": 16}),
    "d-ar": ("d-ar-tokenizer-v1", "d-ar__main", {}),
}
"""{family: (a released model, the fixture whose small network stands in for its own, options)}."""
SMALL_VAE = {"block_out_channels": [32, 64], "layers_per_block": 1, "norm_groups": 32, "latent_channels": 4}
SIDE = {"flowmo": 32}
"""Of the fixtures' pictures; 64 where it is not here."""


def small(family: str, shared: Path, **options: Any) -> NetworkTokenizer:
    """The released card with the fixture's small network, whose weights are made from their names."""
    name, fixture, fixed = SMALL[family]
    entry = registry.model(name)
    place = FIXTURES if (FIXTURES / f"{fixture}.json").is_file() else shared / "parity"
    arch = json.loads((place / f"{fixture}.json").read_text())["arch"]
    if "num_denoising_steps" in arch:
        fixed = {"steps": arch["num_denoising_steps"]}
    sizes = Fixed(SIDE.get(family, 64))
    card = replace(entry.card, arch=arch, sizes=sizes, options={**entry.card.options, **fixed, **options})
    return filled(entry.family, card)


def pictures(family: str, count: int) -> torch.Tensor:
    side = SIDE.get(family, 64)
    return random_images(count, side, side)


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


@pytest.mark.parametrize(
    ("family", "change", "said"),
    [
        ("flowmo", {"attention_scale": "1/sqrt"}, "attention_scale"),
        ("flowmo", {"context_dim": 20}, "bits"),
        ("flowmo", {"encoder.heads": 3}, "rope_axes"),
        ("flowmo", {"sampler.cfg_interval": [2, 1]}, "rising noise levels"),
        ("flowmo", {"sampler.cfg": 1.5}, "a key that this network does not know"),
        ("flowmo", {"quantizer.entropy_loss_weight": 0.1}, "a key that this network does not know"),
        ("flextok", {"encoder.qkv_bias": True}, "a key that this network does not know"),
        ("flextok", {"vae.act_fn": "relu"}, "a key that this network does not know"),
        ("flextok", {"register_positions": "sincos"}, "register_positions"),
        ("flextok", {"quantizer.levels": [8, 1]}, "at least 2"),
        ("semanticist", {"dit.learn_sigma": False}, "learn_sigma"),
        ("semanticist", {"sampler.betas": "cosine"}, "betas"),
        ("semanticist", {"image_size": 100}, "multiple of 16"),
        ("d-ar", {"rope_axes": [16, 32]}, "add up to head_dim"),
        ("d-ar", {"diffusion.mlp_head": True}, "share_time_encoding must be true"),
        ("d-ar", {"diffusion.repa_layer": 8}, "a key that this network does not know"),
        ("d-ar", {"num_queries": 2000}, "must lie in"),
    ],
)
def test_what_means_nothing_is_refused(family: str, change: dict[str, Any], said: str, shared: Path) -> None:
    tokenizer = small(family, shared)
    arch = json.loads(json.dumps(tokenizer.arch))
    for key, value in change.items():
        *folders, leaf = key.split(".")
        level = arch
        for folder in folders:
            level = level[folder]
        level[leaf] = value
    with pytest.raises(VtbenchError, match=said), torch.device("meta"):
        build_network(tokenizer.family, arch)


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


@pytest.mark.parametrize(
    ("metadata", "wanted"),
    [
        ({"vae": "{'scaling_factor': 0.25, '_target_': 'x'}"}, {"scaling_factor": 0.25}),
        (
            {
                "vae": "{'scaling_factor': 2}",
                "decoder": "{'module_dict': {'dec_time_embedder': {'max_timestep': 1.0}}}",
            },
            {"scaling_factor": 2.0, "max_timestep": 1.0},
        ),
        ({"vae": "{'scaling_factor': None}"}, {}),
        ({"vae": "{'scaling_factor': True}"}, {}),
        ({"vae": "__import__('os').getcwd()"}, {}),
        ({"vae": "[" * 5000}, {}),
        ({"vae": "'text'", "decoder": "{'module_dict': 3}"}, {}),
        ({"format": "pt"}, {}),
        ({}, {}),
    ],
)
def test_flextok_reads_what_its_file_states(
    metadata: dict[str, str], wanted: dict[str, float], shared: Path, tmp_path: Path
) -> None:
    """Upstream keeps its configuration as Python literals in the metadata of the safetensors."""
    tokenizer = small("flextok", shared)
    path = tmp_path / "model.safetensors"
    save_file({n: t.contiguous() for n, t in tokenizer.network.state_dict().items()}, path, metadata or None)
    unstated = {**tokenizer.card.options, "scaling_factor": 0.0}
    arch = json.loads(json.dumps(tokenizer.arch))
    arch["vae"]["scaling_factor"] = None
    card = replace(tokenizer.card, arch=arch, options=unstated)
    loaded = tokenizer.family.build(card, unstated)
    loaded.load({"model": path})
    assert loaded.network.scale == wanted.get("scaling_factor", 1.0)
    assert loaded.network.max_timestep == wanted.get("max_timestep", 1000.0)
    assert bool(loaded.notes) == ("scaling_factor" not in wanted)
    assert ModelSystem(loaded, "resize").notes == loaded.notes
    chosen = tokenizer.family.build(card, {**unstated, "scaling_factor": 0.5})
    chosen.load({"model": path})
    assert (chosen.network.scale, chosen.notes) == (0.5, ())


def test_flextoks_posterior_is_not_its_decoders_noise(shared: Path) -> None:
    tokenizer = small("flextok", shared, posterior="sample")
    settings = tokenizer.encode_settings((64, 64), [3, 4]), tokenizer.decode_settings((64, 64), [3, 4])
    ours, theirs = (s["noise"].flatten() for s in settings)
    assert ours.shape == theirs.shape
    assert abs(float(torch.corrcoef(torch.stack([ours, theirs]))[0, 1])) < 0.2
    assert torch.equal(ours, tokenizer.encode_settings((64, 64), [3, 4])["noise"].flatten())


def test_semanticist_comes_in_two_files(shared: Path, tmp_path: Path) -> None:
    """An averaged file holds what was trained, under a compiled part's names; the VAE is another repository's, with
    attention in its encoder that nobody runs."""
    tokenizer = small("semanticist", shared)
    state = tokenizer.network.state_dict()
    # A constant of upstream's, which made weights overwrote.
    side = round(state["dit.pos_embed"].shape[1] ** 0.5)
    state["dit.pos_embed"].copy_(sincos(side, side, state["dit.pos_embed"].shape[2])[None])
    trained = {
        n.replace("dit.", "dit._orig_mod.", 1): t
        for n, t in state.items()
        if not n.startswith("vae.") and n != "dit.pos_embed"
    }
    vae = {n.removeprefix("vae."): t.contiguous() for n, t in state.items() if n.startswith("vae.")}
    vae["encoder.down_blocks.4.attentions.0.to_q.weight"] = torch.zeros(2, 2)
    torch.save(trained, tmp_path / "semanticist_tok_L.pkl")
    save_file(vae, tmp_path / "diffusion_pytorch_model.safetensors")
    loaded = tokenizer.family.build(tokenizer.card, dict(tokenizer.options))
    loaded.load(weights.find(tokenizer.card, tmp_path).files)
    image = pictures("semanticist", 1)
    wanted, tokens = tokenizer.encode(image, [1], 5), loaded.encode(image, [1], 5)
    assert isinstance(wanted, Latents)
    assert isinstance(tokens, Latents)
    assert torch.equal(tokens.values, wanted.values)
    assert torch.equal(loaded.decode(tokens, [1]), tokenizer.decode(wanted, [1]))


def test_flextoks_vaes_give_the_latents_of_a_posterior(shared: Path) -> None:
    """Rectangles, and a sample that is the mean where the noise is nought."""
    entry = registry.model("flextok-vae-c4")
    arch = {"in_channels": 3, "vae": {**SMALL_VAE, "scaling_factor": 0.5}}
    tokenizer = filled(entry.family, replace(entry.card, arch=arch))
    images, network = random_images(2, 16, 24), tokenizer.network
    latents = tokenizer.encode(images, [0, 1])
    assert isinstance(latents, Latents)
    assert latents.values.shape == (2, 4, 8, 12)
    pixels = images * 2 - 1
    mean = network.encode(pixels).latent_mean
    assert torch.equal(network.encode(pixels, noise=torch.zeros(2, 4, 8, 12)).latent_mean, mean)
    assert torch.allclose(latents.values.float(), mean * 0.5, rtol=1e-3, atol=1e-4)
    assert tokenizer.decode(latents, [0, 1]).shape == images.shape
    with pytest.raises(VtbenchError, match="multiples of 2"):
        tokenizer.encode(random_images(1, 17, 24), [0])


def test_a_budget_of_ones_own_network_ends_where_its_tokens_do(shared: Path) -> None:
    arch = small("flextok", shared).arch
    entry = registry.model("flextok-d12-d12-in1k")
    card = own_card(entry.card, entry.family, arch)
    assert (card.tokens_at_256, card.options["tokens"], card.knob_values) == (32, 32, (1, 2, 4, 8, 16, 32))
    assert entry.card.options["tokens"] == 256
    # A budget in bits per pixel counts no tokens.
    dct = registry.model("dct").card
    assert dct.options[dct.knob or ""] != dct.tokens_at_256


UNTOLD = {
    "flowmo": ("image_size", "code_length", "sampler.steps", "quantizer.bits_per_id", "quantizer.ids_per_position"),
    "flextok": ("encoder.head_dim", "decoder.head_dim", "vae.scaling_factor"),
    "semanticist": ("encoder.num_heads", "dit.num_heads", "sampler.steps"),
    "d-ar": ("image_size", "num_queries", "queries_per_step", "num_query_groups", "num_denoising_steps"),
}
"""What no shape tells, and stays as in the arch that is changed."""


@pytest.mark.parametrize("family", SMALL)
def test_sizes_are_read_off_the_shapes(family: str, shared: Path) -> None:
    """Of the released and of an own network, from another's arch; names of others are not taken for its own."""
    tokenizer = small(family, shared)
    infer = type(tokenizer.network).infer_arch
    archs = [(names_of(tokenizer.network), tokenizer.arch)]
    archs += [(manifest(tokenizer.family, card), card.arch) for card in tokenizer.family.cards[-1:]]
    for shapes, arch in archs:
        like = json.loads(json.dumps(tokenizer.family.cards[0].arch))
        wanted = flatten(arch)
        inferred = flatten(infer(shapes, like))
        differing = {key for key in wanted if inferred[key] != wanted[key]}
        assert differing <= set(UNTOLD[family])
    assert infer({"encoder.conv_in.weight": [1, 1, 3, 3]}, tokenizer.arch) is None
