"""Vector quantizers of the transformers library that can decode: Janus and Emu3, alone or inside their VLM's folder.

The library's own class computes; here are ranges, the strict loading and the tokens. Its Chameleon, GLM-Image and Flava
(DALL-E) quantizers have no decoder, so that nothing can be reconstructed through them: a sentence says what to take.
Pixels are normalised by `image_mean` and `image_std` of the folder's preprocessor_config.json, else to [-1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.models.fill import fill
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Adopting, Card, Family, Multiple, Weights
from vtbench.types.errors import MissingExtra, VtbenchError
from vtbench.types.foreign import read_object
from vtbench.types.tokens import Codes, Tokens

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Kind:
    """A class of transformers: its configuration's class, and the names under which configs state two sizes."""

    config: str
    codebook: str
    frames: bool
    """`encode` wants the images' sizes too and `decode` a grid of codes (Emu3); else rows of codes (Janus)."""


CLASSES: Mapping[str, tuple[str, Kind]] = {
    "janus_vqgan": ("JanusVQVAE", Kind("JanusVQVAEConfig", "num_embeddings", frames=False)),
    "emu3_vqgan": ("Emu3VQVAE", Kind("Emu3VQVAEConfig", "codebook_size", frames=True)),
}
"""By `model_type`: the only classes that a config may name."""
WHOLE = {"janus": "janus_vqgan", "emu3": "emu3_vqgan"}
"""`model_type` of a whole VLM, whose `vq_config` is its quantizer's."""
NO_DECODER = {
    "chameleon": "chameleon-vqgan or anole-7b-v0.1-vqgan with upstream's own file",
    "chameleon_vqgan": "chameleon-vqgan or anole-7b-v0.1-vqgan with upstream's own file",
    "flava": "openai-dalle-dvae with OpenAI's own files",
    "flava_image_codebook": "openai-dalle-dvae with OpenAI's own files",
    "glm_image": "another tokenizer",
    "glm_image_vqmodel": "another tokenizer",
}
"""Types without a decoder in the library, and what to use instead."""


def read_config(folder: Path) -> tuple[str, dict[str, Any]]:
    """(model type of the quantizer, its configuration) from config.json."""
    if not (folder / "config.json").is_file():
        raise VtbenchError(f"{folder} holds no config.json: give a folder that transformers wrote")
    config = read_object(folder / "config.json")
    kind = str(config.get("model_type"))
    if kind in WHOLE:
        inner = config.get("vq_config")
        if not isinstance(inner, dict):
            raise VtbenchError(f"{folder / 'config.json'} is of a {kind} without a vq_config: fetch it again")
        kind, config = WHOLE[kind], inner
    if kind in NO_DECODER:
        raise VtbenchError(
            f"{folder} holds a {kind}, for which transformers has no decoder, so it cannot reconstruct: "
            f"use {NO_DECODER[kind]}"
        )
    if kind not in CLASSES:
        raise VtbenchError(
            f"{folder / 'config.json'} is of the type {kind!r}; known are {', '.join(sorted({*CLASSES, *WHOLE}))}"
        )
    return kind, config


class TransformersVQ(Tokenizer):
    """One codebook; images of any size in multiples of the downsampling."""

    def __init__(self, card: Card, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(card, options)
        self.model: Any = None
        self.kind: Kind | None = None
        self.mean: Any = 0.5
        self.std: Any = 0.5

    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        import torch

        folder = files["folder"]
        name, config = read_config(folder)
        class_name, self.kind = CLASSES[name]
        try:
            import transformers
        except ImportError:
            raise MissingExtra("transformers", "hub", class_name) from None
        if not hasattr(transformers, class_name):
            raise VtbenchError(
                f"transformers {transformers.__version__} has no {class_name}: pip install -U transformers"
            )
        try:
            settings = getattr(transformers, self.kind.config)(**config)
            self.model = getattr(transformers, class_name)(settings)
        except Exception as bad:
            text = " ".join(str(bad).split())[:200]
            raise VtbenchError(f"{class_name} cannot be built from {folder}'s config ({text}): fetch it again") from bad
        fill(self.model, self.card, files)
        self.model.to(device=device, dtype=getattr(torch, dtype)).eval().requires_grad_(False)
        self.device, self.dtype = device, dtype
        self._normalisation(folder)
        self._agree(str(folder))

    def take(self, model: Any, kind: Kind) -> None:
        """Takes the library's model where and as it is; pixels are normalised to [-1, 1]."""
        self.model, self.kind = model, kind
        self.device, self.dtype = str(model.device), str(model.dtype).removeprefix("torch.")
        self._normalisation(None)
        self._agree(f"this {type(model).__name__}")

    def _normalisation(self, folder: Path | None) -> None:
        import torch

        stated: dict[str, Any] = {}
        if folder is not None and (folder / "preprocessor_config.json").is_file():
            stated = read_object(folder / "preprocessor_config.json")
        mean, std = (stated.get(n) or [0.5] * 3 for n in ("image_mean", "image_std"))
        self.mean, self.std = (torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in (mean, std))

    def _agree(self, where: str) -> None:
        """Sizes by the model's own config; an error where a named card says otherwise."""
        assert self.kind is not None
        config = self.model.config
        factor, book = 2 ** (len(config.channel_multiplier) - 1), int(getattr(config, self.kind.codebook))
        stated = (self.card.downsample, self.card.alphabets[0] if self.card.alphabets else None)
        for what, says, has in zip(("downsampling", "codebook size"), stated, (factor, book), strict=True):
            if says is not None and says != has:
                raise VtbenchError(
                    f"{where} holds a model with {what} {has}; {self.card.name} has {says}: another model"
                )
        self.card = replace(
            self.card,
            sizes=Multiple(of=factor, at_least=factor),
            downsample=factor,
            alphabets=(book,),
            latent_channels=int(config.embed_dim),
            tokens_at_256=(256 // factor) ** 2,
        )

    def parameter_count(self) -> int | None:
        return None if self.model is None else sum(p.numel() for p in self.model.parameters())

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        import torch

        assert self.kind is not None
        size = (int(images.shape[2]), int(images.shape[3]))
        factor = int(self.card.downsample or 1)
        grid = (size[0] // factor, size[1] // factor)
        x = ((images - self.mean) / self.std).to(device=self.device, dtype=getattr(torch, self.dtype))
        with torch.inference_mode():
            if self.kind.frames:
                codes = torch.stack(list(self.model.encode(x, torch.tensor([size] * len(x))).image_tokens))
            else:
                codes = self.model.encode(x).image_tokens
        return Codes(codes.reshape(len(x), -1).long().cpu(), self.card.alphabets, size, (grid,))

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        import torch

        assert self.kind is not None
        if not isinstance(tokens, Codes):
            raise VtbenchError(f"{self.card.name} decodes codes, not {type(tokens).__name__}")
        h, w = tokens.grids[0]
        codes = tokens.indices[..., 0].to(self.device)
        with torch.inference_mode():
            if self.kind.frames:
                out = self.model.decode(codes.view(-1, h, w))
            else:
                # The class decodes to the grid of its configuration only; its weights serve every grid.
                quantizer = self.model.quantize
                configured, quantizer.quant_state_dims = quantizer.quant_state_dims, [h, w]
                try:
                    out = self.model.decode(codes)
                finally:
                    quantizer.quant_state_dims = configured
        images: torch.Tensor = out.float().cpu() * self.std + self.mean
        return images


def _card(name: str, title: str, hub: str, licence: str, *, book: int, channels: int, factor: int, **more: Any) -> Card:
    sources = {
        "licence": f"{hub}, model card",
        "arch": f"{hub}, config.json",
        "weights": hub,
        **more.pop("sources", {}),
    }
    return Card(
        name=name,
        family="transformers",
        kind="discrete",
        title=title,
        sizes=Multiple(of=factor, at_least=factor),
        licence=licence,
        weights=(Weights(file="model", role="folder", hub=hub, licence=licence),),
        tokens_at_256=(256 // factor) ** 2,
        alphabets=(book,),
        latent_channels=channels,
        downsample=factor,
        value_range=(-1.0, 1.0),
        extra="hub",
        sources=sources,
        **more,
    )


CARDS = (
    _card(
        "janus-pro-1b-vq16-transformers",
        "Janus-Pro 1B's VQ-16 in transformers' format",
        "deepseek-community/Janus-Pro-1B",
        "DeepSeek Model License",
        book=16384,
        channels=8,
        factor=16,
        code="https://github.com/deepseek-ai/Janus",
        paper="https://arxiv.org/abs/2501.17811",
        sources={"trained_on": "deepseek-ai/Janus@1daa72f README.md names none"},
        note="The folder is the whole VLM; its vqmodel is read.",
    ),
    _card(
        "emu3-vq-transformers",
        "Emu3's vision tokenizer in transformers' format",
        "Emu3-community/Emu3-Chat-hf",
        "Apache-2.0",
        book=32768,
        channels=4,
        factor=8,
        code="https://github.com/baaivision/Emu3",
        paper="https://arxiv.org/abs/2409.18869",
        trained_on=("LAION-High-Resolution", "InternVid"),
        sources={"trained_on": "arXiv:2409.18869; baaivision/Emu3@f6ea9aa README.md names none"},
        note="The folder is the whole VLM; its vqmodel is read.",
    ),
    Card(
        name="transformers-vq",
        family="transformers",
        kind="discrete",
        title="Any Janus or Emu3 quantizer in transformers' format (--checkpoint FOLDER)",
        licence="as stated beside the given weights",
        code="https://github.com/huggingface/transformers",
        sources=dict.fromkeys(("licence", "arch", "weights", "trained_on"), "the folder that is given"),
        weights=(Weights(file="model.safetensors", role="folder"),),
        value_range=(-1.0, 1.0),
        extra="hub",
        note="Sizes and codebook come from the folder's config.json.",
    ),
)


def _kind_of(model: Any) -> Kind | None:
    """How the class of a model that the library built is called; None for anybody else's."""
    names = {base.__name__ for base in type(model).__mro__ if base.__module__.startswith("transformers.")}
    own = getattr(type(model), "encode", None)
    if own is None or not str(own.__module__).startswith("transformers."):
        return None
    return next((kind for name, kind in CLASSES.values() if name in names), None)


def _card_for(model: Any) -> Card | None:
    if _kind_of(model) is None:
        return None
    generic = next(card for card in CARDS if card.name == "transformers-vq")
    return replace(generic, name=type(model).__name__.lower(), title=type(model).__name__, weights=(), note=None)


def _adopt(model: Any, card: Card, options: Mapping[str, Any]) -> TransformersVQ:
    kind = _kind_of(model)
    assert kind is not None
    tokenizer = TransformersVQ(card, options)
    tokenizer.take(model, kind)
    return tokenizer


FAMILY = Family(
    "transformers",
    "Vector quantizers of the transformers library",
    CARDS,
    TransformersVQ,
    adopts=Adopting(_card_for, _adopt),
)
