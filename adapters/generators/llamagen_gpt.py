"""LlamaGen's autoregressive generators, class- and text-conditional."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vtbench.models import checkpoint, fill
from vtbench.models.native_generator import NativeGenerator, build, text_features
from vtbench.models.network import build_network
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import Conditions, samples
from vtbench.types.errors import VtbenchError

_SOURCES = stated(
    "FoundationVision/LlamaGen@ce98ec4",
    licence="README.md:121",
    trained_on="README.md:43, 90-91",
    arch="autoregressive/models/gpt.py:406-447",
    weights="README.md:55-61, 90-91",
    tokenizer="README.md:47, 85",
    options="GETTING_STARTED.md:45-53 (classes), autoregressive/sample/sample_t2i.py (text)",
)

_README = "LlamaGen README.md:54-61"
_SIZES = {"B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1280, 36, 20), "XXL": (1536, 48, 24), "3B": (3200, 24, 32)}
"""Preset: width, layers, heads (gpt.py:406-447)."""
_DATA = {None: ("ImageNet-1k",), 1: ("LAION-COCO 50M",), 2: ("LAION-COCO 50M", "internal 10M")}
"""By the stage of the text models, the second of which goes on from the first."""
_GUIDANCE = {"B": 2.0, "L": 2.0, "XL": 1.75, "XXL": 1.75, "3B": 1.65}
"""Of the 50,000 samples behind the FID (GETTING_STARTED.md:45-53), with all codes (sample_c2i_ddp.py:184)."""


def _arch(size: str, pixels: int, kind: str) -> dict[str, Any]:
    dim, depth, heads = _SIZES[size]
    condition = (
        {"num_classes": 1000, "cls_token_num": 1} if kind == "c2i" else {"caption_dim": 2048, "cls_token_num": 120}
    )
    return {
        "dim": dim,
        "n_layer": depth,
        "n_head": heads,
        "multiple_of": 256,
        "model_type": kind,
        "vocab_size": 16384,
        "block_size": (pixels // 16) ** 2,
        **condition,
    }


def _protocol(size: str, pixels: int) -> Conditions:
    guidance = _GUIDANCE[size]
    words = [f"guidance {guidance:g}, all codes"]
    stated: dict[str, Any] = {"options": (("cfg_scale", guidance), ("top_k", 0))}
    if pixels == 384:
        words, stated = ["resized to 256", *words], {"size": 256, **stated}
    return samples("ADM", 50_000, *words, **stated)


def _card(size: str, pixels: int, fid: float | None = None, *, stage: int | None = None) -> Card:
    kind = "c2i" if stage is None else "t2i"
    file = f"c2i_{size}_{pixels}" if stage is None else f"t2i_{size}_stage{stage}_{pixels}"
    options: dict[str, Any] = {
        "cfg_scale": _GUIDANCE[size] if kind == "c2i" else 7.5,
        "cfg_interval": -1,
        "temperature": 1.0,
        "top_k": 0 if kind == "c2i" else 1000,
        "top_p": 1.0,
        "cache": True,
        # plain, speculative (same distribution), relaxed (LANTERN: near codes lend their mass).
        "decoding": "plain",
        # A smaller LlamaGen checkpoint of the same grid; its sizes are read from its tensors.
        "draft": "",
        "draft_tokens": 4,
        "lantern_k": 1000,
        "lantern_delta": 0.1,
    }
    if kind == "t2i":
        options["text_encoder"] = "google/flan-t5-xl"
    return Card(
        name=f"llamagen-{file.replace('_', '-').lower()}",
        family="llamagen-gpt",
        kind="generator",
        title=f"LlamaGen {size}, {pixels} x {pixels}, {'classes' if kind == 'c2i' else f'text, stage {stage}'}",
        sizes=Fixed(pixels),
        licence="MIT",
        paper="https://arxiv.org/abs/2406.06525",
        code="https://github.com/FoundationVision/LlamaGen",
        sources=_SOURCES,
        weights=(
            Weights(
                file=f"{file}.pt",
                hub="FoundationVision/LlamaGen" if kind == "c2i" else "peizesun/llamagen_t2i",
                key=("model", "module", "state_dict"),
                licence="MIT",
            ),
        ),
        trained_on=_DATA[stage],
        options=options,
        published=() if fid is None else (Published("fid", fid, _README, _protocol(size, pixels)),),
        arch=_arch(size, pixels, kind),
        aliases=(f"llamagen_{file}",),
        tokenizer=f"llamagen-vq-ds16-{kind}",
        conditioning="class" if kind == "c2i" else "text",
        stochastic=True,
    )


CARDS = (
    _card("B", 256, 5.46),
    _card("B", 384, 6.09),
    _card("L", 256, 3.80),
    _card("L", 384, 3.07),
    _card("XL", 384, 2.62),
    _card("XXL", 384, 2.34),
    _card("3B", 384, 2.18),
    _card("XL", 256, stage=1),
    _card("XL", 512, stage=2),
)


_DECODING = ("plain", "speculative", "relaxed")


def _sample(generator: NativeGenerator, source: Any, noise: Any) -> tuple[Any, dict[str, float]]:
    options, network, mask = dict(generator.options), generator.network, None
    options.pop("text_encoder", None)
    mode, path, ahead, k, delta = (
        options.pop(n) for n in ("decoding", "draft", "draft_tokens", "lantern_k", "lantern_delta")
    )
    if mode not in _DECODING:
        raise VtbenchError(f"decoding is {mode!r}, but must be one of {', '.join(_DECODING)}")
    if generator.card.conditioning == "text":
        source, mask = text_features(generator, source, length=network.prefix, left=True)
    if mode == "plain":
        tokens = network.generate(source, noise, text_mask=mask, **options)
        cost = {"nfe": float(network.length)}
    else:
        relax = None
        if mode == "relaxed":
            codes = generator.attached().network.bottleneck.embedding.weight  # type: ignore[attr-defined]
            relax = network.relaxation(codes, int(k), float(delta))
        options.pop("cache")
        draft = _draft(generator, str(path))
        tokens, spent = network.speculate(
            draft, source, noise, text_mask=mask, ahead=int(ahead), relax=relax, **options
        )
        drafted = sum(s.drafted for s in spent)
        cost = {
            "nfe": sum(s.target for s in spent) / len(spent),
            "draft_nfe": sum(s.draft for s in spent) / len(spent),
            **({"acceptance": sum(s.accepted for s in spent) / drafted} if drafted else {}),
        }
    return generator.of_codes(tokens, network.grid * 16, len(tokens)), cost


def _draft(generator: NativeGenerator, path: str) -> Any:
    """The draft of the option, built from its tensors' shapes and kept; heads by preset, else 64 channels each."""
    import torch

    if not path:
        raise VtbenchError("speculative decoding needs a smaller model: give its checkpoint by --option draft=FILE")
    if path not in generator.kept:
        files = {"model": Path(path)}
        tensors = checkpoint.read(files["model"], generator.card.weights[0].key)
        if "tok_embeddings.weight" not in tensors:
            raise VtbenchError(f"{path} has no tok_embeddings.weight: the draft must be a LlamaGen checkpoint")
        dim = int(tensors["tok_embeddings.weight"].shape[1])
        depth = 1 + max(int(n.split(".")[1]) for n in tensors if n.startswith("layers."))
        heads = next((h for d, n, h in _SIZES.values() if (d, n) == (dim, depth)), dim // 64 or 1)
        hidden = int(tensors["layers.0.feed_forward.w1.weight"].shape[0])
        # multiple_of = the hidden width itself rounds 8/3 dim up to exactly it.
        arch = {**(generator.card.arch or {}), "dim": dim, "n_layer": depth, "n_head": heads, "multiple_of": hidden}
        network = fill.fill(build_network(generator.family, arch, random=False), generator.card, files)
        network = network.to(device=generator.device, dtype=getattr(torch, generator.dtype))
        generator.kept[path] = network.eval().requires_grad_(False)
    return generator.kept[path]


FAMILY: Family = Family(
    name="llamagen-gpt",
    title="LlamaGen autoregressive transformer",
    cards=CARDS,
    build=build(lambda: FAMILY, _sample),
    network="vtbench.adapters.networks.llamagen_gpt:LlamaGenGpt",
    fixtures=("llamagen-gpt",),
)
