"""MaskBit's generators."""

from __future__ import annotations

from typing import Any

from vtbench.adapters.networks.parts import generating
from vtbench.types.cards import Card, Family, Fixed, Published, Weights

_README = "MaskBit README.md:71-78"
_PROTOCOL = "ADM, 50k samples, {} steps"


def _card(bits: int, fid: float, guidance: float, warmth: float, power: float, *further: Published) -> Card:
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
        published=(Published("fid", fid, _README, _PROTOCOL.format(64)), *further),
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
    _card(10, 1.68, 6.4, 10.5, 2.5),
    _card(12, 1.65, 7.1, 8.2, 3.0),
    _card(
        14,
        1.62,
        7.1,
        7.8,
        3.0,
        Published("fid", 1.56, _README, _PROTOCOL.format(128), "randomize_temperature 9.0"),
        Published("fid", 1.52, _README, _PROTOCOL.format(256), "guidance 5.8, randomize_temperature 10.3"),
    ),
    _card(16, 1.64, 6.5, 7.5, 2.5),
    _card(18, 1.67, 5.7, 8.5, 2.5),
)


def _sample(self: generating.NativeGenerator, given: Any, noise: Any) -> Any:
    groups = self.network.generate(given, noise, **self.options)
    self.spent = {"nfe": float(self.options["num_steps"])}
    return self.of_codes(self.network.joined(groups), 256, len(groups))


FAMILY: Family = Family(
    name="maskbit-gen",
    title="MaskBit masked generator",
    cards=CARDS,
    build=generating.build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.maskbit_gen:MaskBitGenerator",
    fixtures=("maskbit-gen",),
)
