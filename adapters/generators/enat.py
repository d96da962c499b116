"""ENAT's generators."""

from __future__ import annotations

from typing import Any

from vtbench.models.native_generator import NativeGenerator, build
from vtbench.types.cards import Card, Family, Fixed, Weights, stated

_SOURCES = stated(
    "LeapLabTHU/ENAT@550f22c",
    licence="has no licence file",
    trained_on="README.md:110",
    arch="README.md:70-125",
    weights="README.md",
    tokenizer="README.md:51-52",
    options="README.md:70-105",
)


def _card(size: int, drive: str, file: str, *, guidance: float, warmth: float) -> Card:
    return Card(
        name=f"enat-l-{size}",
        family="enat",
        kind="generator",
        title=f"ENAT-L, {size} x {size}",
        sizes=Fixed(size),
        licence="none stated (the repository has no licence file)",
        paper="https://arxiv.org/abs/2411.06959",
        code="https://github.com/LeapLabTHU/ENAT",
        sources=_SOURCES,
        weights=(Weights(file=file, url=f"https://drive.google.com/uc?export=download&id={drive}"),),
        trained_on=("ImageNet-1k",),
        options={
            "sample_steps": 8,
            "cfg_scale": guidance,
            "mask_temp": 1.5,
            "samp_temp": warmth,
        },
        arch={
            "input_size": size // 16,
            "hidden_size": 1024,
            "num_heads": 16,
            "num_classes": 1000,
            "codebook_size": 1024,
            "enc_dec": [22, 2],
            "mlp_ratio": 4.0,
            "class_dropout_prob": 0.1,
        },
        aliases=(f"enat_L_in{size}",),
        tokenizer="maskgit-vqgan-imagenet-f16-256",
        conditioning="class",
        stochastic=True,
        note="Trained on the JAX file of MaskGIT's VQGAN; its tokens are those of the PyTorch port named here.",
    )


CARDS = (
    _card(256, "1IMT5u5nAp_wWyLyEXaLSYtnEc91UPVol", "nnet_ema.pth", guidance=2.5, warmth=6.0),
    _card(512, "1LA4axsWGRso_scFbCUwQ3CigsMvAfWzb", "nnet_ema_512.pth", guidance=3.5, warmth=4.0),
)


def _sample(generator: NativeGenerator, labels: Any, noise: Any) -> tuple[Any, dict[str, float]]:
    network = generator.network
    tokens = network.generate(labels, noise, **generator.options)
    return generator.of_codes(tokens, network.pixels, len(tokens)), {"nfe": float(generator.options["sample_steps"])}


FAMILY: Family = Family(
    name="enat",
    title="ENAT non-autoregressive transformer",
    cards=CARDS,
    build=build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.enat:Enat",
    fixtures=("enat",),
)
