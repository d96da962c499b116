"""MAR's generators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vtbench.models import checkpoint, fill
from vtbench.models.native_generator import NativeGenerator, build
from vtbench.models.network import build_network, load_class
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import samples
from vtbench.types.errors import VtbenchError

_SOURCES = stated(
    "LTH14/mar@fe470ac",
    licence="LICENSE",
    trained_on="README.md:26",
    arch="models/mar.py",
    weights="README.md:61-63",
    tokenizer="README.md:96",
    options="README.md:109-145",
)

_README = "MAR README.md:61-63"
_BOX = "https://www.dropbox.com/scl/fi"


def _card(
    size: str, url: str, trunk: tuple[int, int, int], head: tuple[int, int], *, cfg: float, fid: float, score: float
) -> Card:
    """trunk: width, layers and heads of encoder and decoder; head: layers and width of the diffusion net."""
    dim, depth, heads = trunk
    return Card(
        name=f"mar-{size}",
        family="mar",
        kind="generator",
        title=f"MAR-{size[0].upper()}",
        sizes=Fixed(256),
        licence="MIT",
        paper="https://arxiv.org/abs/2406.11838",
        code="https://github.com/LTH14/mar",
        sources=_SOURCES,
        weights=(Weights(file="checkpoint-last.pth", url=f"{_BOX}/{url}", key=("model_ema", "model"), licence="MIT"),),
        options={
            "num_iter": 256,
            "cfg": cfg,
            "cfg_schedule": "linear",
            "temperature": 1.0,
            "num_sampling_steps": "100",
            # plain, or speculative: CSpD, a smaller MAR's checkpoint drafting (defaults of its run.py).
            "decoding": "plain",
            "draft": "",
            "draft_iterations": 8,
            "inner_temperature": 42.0,
            "target_share": 0.15,
        },
        published=(
            Published("fid", fid, _README, samples("ADM", 50_000)),
            Published("is", score, _README, samples("ADM", 50_000)),
        ),
        trained_on=("ImageNet-1k",),
        arch={
            "img_size": 256,
            "vae_stride": 16,
            "patch_size": 1,
            "vae_embed_dim": 16,
            "class_num": 1000,
            "buffer_size": 64,
            "diffloss_d": head[0],
            "diffloss_w": head[1],
            "num_sampling_steps": "100",
            "encoder_embed_dim": dim,
            "encoder_depth": depth,
            "encoder_num_heads": heads,
            "decoder_embed_dim": dim,
            "decoder_depth": depth,
            "decoder_num_heads": heads,
            "mlp_ratio": 4,
        },
        aliases=(f"mar_{size}",),
        tokenizer="mar-kl16-vae",
        conditioning="class",
        stochastic=True,
    )


CARDS = (
    _card(
        "base",
        "f6dpuyjb7fudzxcyhvrhk/checkpoint-last.pth?rlkey=a6i4bo71vhfo4anp33n9ukujb&dl=1",
        trunk=(768, 12, 12),
        head=(6, 1024),
        cfg=2.9,
        fid=2.31,
        score=281.7,
    ),
    _card(
        "large",
        "pxacc5b2mrt3ifw4cah6k/checkpoint-last.pth?rlkey=m48ovo6g7ivcbosrbdaz0ehqt&dl=1",
        trunk=(1024, 16, 16),
        head=(8, 1280),
        cfg=3.0,
        fid=1.78,
        score=296.0,
    ),
    _card(
        "huge",
        "1qmfx6fpy3k7j9vcjjs3s/checkpoint-last.pth?rlkey=4lae281yzxb406atp32vzc83o&dl=1",
        trunk=(1280, 20, 16),
        head=(12, 1536),
        cfg=3.2,
        fid=1.55,
        score=303.7,
    ),
)


def _sample(generator: NativeGenerator, labels: Any, noise: Any) -> tuple[Any, dict[str, float]]:
    options, network = dict(generator.options), generator.network
    sections, mode, path, ahead, inner, share = (
        options.pop(n)
        for n in ("num_sampling_steps", "decoding", "draft", "draft_iterations", "inner_temperature", "target_share")
    )
    if mode not in ("plain", "speculative"):
        raise VtbenchError(f"decoding is {mode!r}, but must be plain or speculative")
    if mode == "plain":
        latents = network.generate(labels, noise, sections=str(sections), **options)
        return generator.of_latents(latents, network.pixels), {"nfe": float(options["num_iter"])}
    speculate = load_class("vtbench.adapters.networks.speculative_continuous:generate")
    latents, cost = speculate(
        network,
        _draft(generator, str(path)),
        labels,
        noise,
        sections=str(sections),
        num_draft=ahead,
        inner_temperature=inner,
        ratio=share,
        **options,
    )
    return generator.of_latents(latents, network.pixels), cost


def _draft(generator: NativeGenerator, path: str) -> Any:
    """The smaller MAR of the option, its sizes read off its tensors, and kept."""
    import torch

    if not path:
        raise VtbenchError("speculative decoding needs a smaller model: give its checkpoint by --option draft=FILE")
    if path not in generator.kept:
        files = {"model": Path(path)}
        tensors = checkpoint.read(files["model"], generator.card.weights[0].key)
        infer = load_class(FAMILY.network or "").infer_arch
        arch = infer({name: tuple(t.shape) for name, t in tensors.items()}, generator.card.arch)
        if arch is None:
            raise VtbenchError(f"{path} is no checkpoint of MAR: the draft must be a smaller model of the family")
        network = fill.fill(build_network(FAMILY, arch, random=False), generator.card, files)
        network = network.to(device=generator.device, dtype=getattr(torch, generator.dtype))
        generator.kept[path] = network.eval().requires_grad_(False)
    return generator.kept[path]


FAMILY: Family = Family(
    name="mar",
    title="MAR masked autoregressive transformer",
    cards=CARDS,
    build=build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.mar:Mar",
    fixtures=("mar",),
)
