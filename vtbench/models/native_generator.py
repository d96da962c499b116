"""The one generator that wraps every native network: weights, seeds, labels, and the tokenizer that makes the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.models.fill import fill
from vtbench.models.network import build_network
from vtbench.models.noise import Seeded
from vtbench.types.adapter import Generator, Prompt, Tokenizer
from vtbench.types.cards import Card, Family, Fixed
from vtbench.types.environment import offline
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents

if TYPE_CHECKING:
    import torch

Sample = Callable[["NativeGenerator", Any, Any], tuple["torch.Tensor", Mapping[str, float]]]
"""(generator, conditions, noise) -> images (B, 3, H, W) in [0, 1], and what they cost, as `Generator.cost` says.

Conditions are labels (B,) or prompts."""


CELL = 16
"""Pixels a side of a token of every released tokenizer whose codes a native generator draws on a grid."""


class NativeGenerator(Generator):
    """Options are the sampler's. `load.load` hands in a loaded tokenizer by `attach` before `load`."""

    def __init__(self, card: Card, options: Mapping[str, Any] | None, *, family: Family, sample: Sample) -> None:
        super().__init__(card, options)
        self.family, self.sample = family, sample
        self.network: Any = None
        self.tokenizer: Tokenizer | None = None
        self.text_encoder: tuple[Any, Any] | None = None
        self.kept: dict[str, Any] = {}
        """What the family keeps from one call to the next, such as a draft model by its path."""
        self._cost: Mapping[str, float] = {}

    def attach(self, tokenizer: Tokenizer) -> None:
        """The loaded tokenizer that the card names."""
        self.tokenizer = tokenizer

    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        """`files`: the roles of the card's weights; others (a draft's) are left to the family."""
        import torch

        if self.card.arch is None:
            raise VtbenchError(f"the card {self.card.name} states no arch")
        own = {role: path for role, path in files.items() if role in {w.role for w in self.card.weights} | {"model"}}
        network = fill(build_network(self.family, self.card.arch, random=False), self.card, own)
        self.network = network.to(device=device, dtype=getattr(torch, dtype)).eval().requires_grad_(False)
        self.device, self.dtype = device, dtype
        if self.card.conditioning == "class":
            self.classes = int(getattr(self.network, "classes", 0)) or None
        self._check_vocabulary()
        cell = self.tokenizer.card.downsample if self.tokenizer is not None and self.tokenizer.card.alphabets else None
        pixels = getattr(self.network, "pixels", None)
        if pixels is not None and cell not in (None, CELL):
            self.card = replace(self.card, sizes=Fixed(pixels * cell // CELL))

    def _check_vocabulary(self) -> None:
        """Refuses a tokenizer of another vocabulary than the network was built for: its tokens would mean nothing."""
        theirs = set(self.tokenizer.card.alphabets) if self.tokenizer is not None else set()
        ours = getattr(self.network, "vocabulary", None)
        # Of binary alphabets a token is several; a stand-in for a tokenizer may have none.
        if self.tokenizer is None or ours is None or len(theirs) != 1 or theirs in ({2}, {ours}):
            return
        name = self.tokenizer.card.name
        raise VtbenchError(
            f"{self.card.name} draws from {ours} codes, and its tokenizer {name} has {min(theirs)}, so that its tokens "
            "mean others: give a generator of that tokenizer"
        )

    def parameter_count(self) -> int | None:
        return None if self.network is None else sum(p.numel() for p in self.network.parameters())

    def cost(self) -> Mapping[str, float]:
        return dict(self._cost)

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> torch.Tensor:
        import torch

        if self.network is None:
            raise VtbenchError(f"{self.card.name} is not loaded: call load with its files first")
        if len(prompts) != len(seeds):
            raise VtbenchError(f"there are {len(prompts)} prompts and {len(seeds)} seeds: give one seed a prompt")
        conditions: Any = self._labels(prompts) if self.card.conditioning == "class" else list(prompts)
        self._cost = {}
        with torch.inference_mode():
            images, self._cost = self.sample(self, conditions, Seeded(seeds, self.device))
        return images.float()

    def _labels(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """int64 (B,) on the device; refused where a prompt has none, or one that the network does not know."""
        import torch

        count = int(getattr(self.network, "classes", 0))
        unlabelled = [p.id for p in prompts if p.label is None]
        if unlabelled:
            raise VtbenchError(f"{self.card.name} is class-conditional, but the prompt {unlabelled[0]} has no label")
        outside = next((p for p in prompts if not 0 <= int(p.label or 0) < count), None)
        if outside is not None:
            raise VtbenchError(
                f"the class label {outside.label} of the prompt {outside.id} lies outside 0..{count - 1}"
            )
        return torch.tensor([p.label for p in prompts], device=self.device)

    def of_codes(self, tokens: torch.Tensor, size: int, seeds: int) -> torch.Tensor:
        """Tokens (B, N) of the named tokenizer -> images; binary alphabets get the bits of a token, lowest first."""
        import torch

        tokenizer = self.attached()
        alphabets = tuple(tokenizer.card.alphabets)
        indices = tokens.cpu()[..., None]
        if len(alphabets) > 1 and set(alphabets) == {2}:
            indices = (indices >> torch.arange(len(alphabets))) & 1
        side = round(indices.shape[1] ** 0.5)
        grids = ((side, side),) if side * side == indices.shape[1] else ()
        # A tokenizer in sizes of its own may have other cells than the released one.
        size = side * tokenizer.card.downsample if grids and tokenizer.card.downsample else size
        return tokenizer.decode(Codes(indices.long(), alphabets, (size, size), grids), [0] * seeds)

    def of_latents(self, latents: torch.Tensor, size: int) -> torch.Tensor:
        """Latents (B, C, h, w) in the scale in which the tokenizer counts them, which is its generators' -> images."""
        return self.attached().decode(Latents(latents.float().cpu(), (size, size)), [0] * len(latents))

    def attached(self) -> Tokenizer:
        """The tokenizer of `attach`; refused before that."""
        if self.tokenizer is None:
            raise VtbenchError(f"{self.card.name} makes tokens of {self.card.tokenizer}: attach that tokenizer first")
        return self.tokenizer


def text_features(
    generator: NativeGenerator, prompts: Sequence[Prompt], *, length: int, left: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (B, length, width) and mask (B, length) of a T5 encoder, whose hub id or folder is an option.

    left: padded on the left, as LlamaGen feeds them. Captions are used as they stand (upstream cleans HTML first).
    """
    import torch
    from transformers import T5EncoderModel

    _check_texts(generator, prompts)
    split, encoder = _text_encoder(generator, T5EncoderModel)
    batch = split(
        [p.text for p in prompts], max_length=length, padding="max_length", truncation=True, return_tensors="pt"
    )
    with torch.inference_mode():
        ids, mask = (batch[n].to(generator.device) for n in ("input_ids", "attention_mask"))
        features = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    if left:
        counts = mask.sum(dim=1).tolist()
        features = torch.stack([torch.roll(f, length - n, 0) for f, n in zip(features, counts, strict=True)])
        mask = mask.flip(1)
    dtype = getattr(torch, generator.dtype)
    return features.to(device=generator.device, dtype=dtype), mask.to(generator.device)


def hidden_states(
    generator: NativeGenerator, prompts: Sequence[Prompt], *, length: int, before: str = ""
) -> torch.Tensor:
    """Last hidden states (B, length, width) of a language model, whose hub id or folder is an option; padded behind.

    before: an instruction put before every caption. Of its states only the first token's is kept, and of the whole
    the last length - 1 (Sana's way: PixelDiT t2i/inference.py).
    """
    import torch
    from transformers import AutoModel

    _check_texts(generator, prompts)
    split, model = _text_encoder(generator, AutoModel)
    whole = length + len(split(before)["input_ids"]) - 2 if before else length
    batch = split(
        [before + str(p.text) for p in prompts],
        max_length=whole,
        padding="max_length",
        truncation=True,
        return_tensors="pt",
    )
    with torch.inference_mode():
        ids, mask = (batch[n].to(generator.device) for n in ("input_ids", "attention_mask"))
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    states = torch.cat([states[:, :1], states[:, states.shape[1] - length + 1 :]], dim=1)
    return states.to(dtype=getattr(torch, generator.dtype))


def _check_texts(generator: NativeGenerator, prompts: Sequence[Prompt]) -> None:
    textless = [p.id for p in prompts if p.text is None]
    if textless:
        raise VtbenchError(f"{generator.card.name} is text-conditional, but the prompt {textless[0]} has no text")


def _text_encoder(generator: NativeGenerator, kind: Any) -> tuple[Any, Any]:
    """(tokenizer, encoder of transformers' class `kind` on the generator's device, float32), loaded once."""
    from transformers import AutoTokenizer

    if generator.text_encoder is None:
        name = str(generator.options["text_encoder"])
        local = offline() or Path(name).is_dir()
        try:
            split = AutoTokenizer.from_pretrained(name, local_files_only=local)
            encoder: Any = kind.from_pretrained(name, use_safetensors=True, local_files_only=local)
        except (OSError, ValueError) as bad:
            raise VtbenchError(
                f"the text encoder {name} cannot be loaded ({str(bad).splitlines()[0]}): "
                "give a local folder with safetensors by --option text_encoder=DIR"
            ) from bad
        generator.text_encoder = split, encoder.to(generator.device).eval()
    return generator.text_encoder


def build(family: Callable[[], Family], sample: Sample) -> Callable[[Card, Mapping[str, Any]], NativeGenerator]:
    """The `build` of a family; `family` is called late, as the family holds its build."""

    def make(card: Card, options: Mapping[str, Any]) -> NativeGenerator:
        return NativeGenerator(card, options, family=family(), sample=sample)

    return make
