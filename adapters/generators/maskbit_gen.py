"""MaskBit's generators."""

from __future__ import annotations

from typing import Any

from vtbench.models.native_generator import NativeGenerator, build
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import Conditions, samples

_SOURCES = stated(
    "markweberdev/maskbit@5ea3d73",
    licence="LICENSE",
    trained_on="README.md:42, 82",
    arch="configs/generator/*.yaml",
    weights="README.md:71-78",
    tokenizer="configs/generator/*.yaml",
    options="configs/generator/*.yaml, README.md:71-78",
)

_README = "MaskBit README.md:71-78"


def _protocol(steps: int, **options: float) -> Conditions:
    """options: what the note beside the number says of them."""
    return samples("ADM", 50_000, f"{steps} steps", options=(("num_steps", steps), *options.items()))


def _card(bits: int, *further: Published, fid: float, guidance: float, warmth: float, power: float) -> Card:
    stem = f"maskbit_generator_{bits}bit"
    return Card(
        name=stem.replace("_", "-"),
        family="maskbit-gen",
        kind="generator",
        title=f"MaskBit generator, {bits} bits",
        sizes=Fixed(256),
        licence="Apache-2.0",
        paper="https://arxiv.org/abs/2409.16211",
        code="https://github.com/markweberdev/maskbit",
        sources=_SOURCES,
        weights=(Weights(file=f"{stem}.bin", hub=f"markweber/{stem}"),),
        options={
            "guidance_scale": guidance,
            "guidance_annealing": "cosine",
            "scale_pow": power,
            "softmax_temperature": 1.0,
            "use_sampling_annealing": False,
            "randomize_temperature": warmth,
            "num_steps": 64,
            "mask_schedule_strategy": "arccos",
        },
        published=(Published("fid", fid, _README, _protocol(64)), *further),
        trained_on=("ImageNet-1k",),
        arch={
            "img_size": 256,
            "hidden_dim": 1024,
            "codebook_size": 2**bits,
            "codebook_splits": 2,
            "depth": 24,
            "heads": 16,
            "mlp_dim": 4096,
            "nclass": 1000,
            "input_stride": 16,
            "use_prenorm": False,
        },
        aliases=(stem,),
        tokenizer=f"maskbit-{bits}bit",
        conditioning="class",
        stochastic=True,
    )


CARDS = (
    _card(10, fid=1.68, guidance=6.4, warmth=10.5, power=2.5),
    _card(12, fid=1.65, guidance=7.1, warmth=8.2, power=3.0),
    _card(
        14,
        Published("fid", 1.56, _README, _protocol(128, randomize_temperature=9.0), "randomize_temperature 9.0"),
        Published(
            "fid",
            1.52,
            _README,
            _protocol(256, guidance_scale=5.8, randomize_temperature=10.3),
            "guidance 5.8, randomize_temperature 10.3",
        ),
        fid=1.62,
        guidance=7.1,
        warmth=7.8,
        power=3.0,
    ),
    _card(16, fid=1.64, guidance=6.5, warmth=7.5, power=2.5),
    _card(18, fid=1.67, guidance=5.7, warmth=8.5, power=2.5),
)


def _sample(generator: NativeGenerator, labels: Any, noise: Any) -> tuple[Any, dict[str, float]]:
    groups = generator.network.generate(labels, noise, **generator.options)
    images = generator.of_codes(generator.network.joined(groups), generator.network.pixels, len(groups))
    return images, {"nfe": float(generator.options["num_steps"])}


FAMILY: Family = Family(
    name="maskbit-gen",
    title="MaskBit masked generator",
    cards=CARDS,
    build=build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.maskbit_gen:MaskBitGenerator",
    fixtures=("maskbit-gen",),
)
