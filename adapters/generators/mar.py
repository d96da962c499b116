"""MAR's generators."""

from __future__ import annotations

from typing import Any

from vtbench.adapters.networks.parts import generating
from vtbench.types.cards import Card, Family, Fixed, Published, Weights

_README = "MAR README.md:61-63"
_BOX = "https://www.dropbox.com/scl/fi"


def _card(
    size: str, fid: float, score: float, cfg: float, trunk: tuple[int, int, int], head: tuple[int, int], url: str
) -> Card:
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
        weights=(Weights(file="checkpoint-last.pth", url=f"{_BOX}/{url}", key=("model_ema", "model"), licence="MIT"),),
        options={
            "num_iter": 256,
            "cfg": cfg,
            "cfg_schedule": "linear",
            "temperature": 1.0,
            "num_sampling_steps": "100",
        },
        published=(
            Published("fid", fid, _README, "ADM, 50k samples"),
            Published("is", score, _README, "ADM, 50k samples"),
        ),
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
        2.31,
        281.7,
        2.9,
        (768, 12, 12),
        (6, 1024),
        "f6dpuyjb7fudzxcyhvrhk/checkpoint-last.pth?rlkey=a6i4bo71vhfo4anp33n9ukujb&dl=1",
    ),
    _card(
        "large",
        1.78,
        296.0,
        3.0,
        (1024, 16, 16),
        (8, 1280),
        "pxacc5b2mrt3ifw4cah6k/checkpoint-last.pth?rlkey=m48ovo6g7ivcbosrbdaz0ehqt&dl=1",
    ),
    _card(
        "huge",
        1.55,
        303.7,
        3.2,
        (1280, 20, 16),
        (12, 1536),
        "1qmfx6fpy3k7j9vcjjs3s/checkpoint-last.pth?rlkey=4lae281yzxb406atp32vzc83o&dl=1",
    ),
)


def _sample(self: generating.NativeGenerator, given: Any, noise: Any) -> Any:
    options = dict(self.options)
    sections = str(options.pop("num_sampling_steps"))
    latents = self.network.generate(given, noise, sections=sections, **options)
    self.spent = {"nfe": float(options["num_iter"])}
    return self.of_latents(latents, 256)


FAMILY: Family = Family(
    name="mar",
    title="MAR masked autoregressive transformer",
    cards=CARDS,
    build=generating.build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.mar:Mar",
    fixtures=("mar",),
)
