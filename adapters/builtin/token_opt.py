"""Tokens optimised at test time over any TiTok: `token-opt:NAME`.

The encoder's tokens are only a start: Adam moves them until the decoded image is nearest the one to be coded
(lukaslaobeyer/token-opt @ d04bcb9, arXiv:2506.08257; the objective is ours, upstream's hooks). Slower by two passes of
the decoder an iteration, for the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vtbench.models.native import NetworkTokenizer
from vtbench.models.network import load_class
from vtbench.models.noise import Seeded
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Card, Family, Wrapping
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents, Tokens

if TYPE_CHECKING:
    import torch

OPTIONS: Mapping[str, Any] = {
    "objective": "mse",
    "iterations": 100,
    "lr": 0.1,
    "ema_decay": 0.0,
    "token_noise": 0.0,
    "reg_weight": 0.0,
    "reg_type": "seed",
}
"""objective: mse or l1 of pixels. iterations: upstream's default is 600. token_noise: deviation of the noise at the
start; it falls to 0 over two thirds of the run. reg_weight: of the mean square distance to the start (seed) or to 0."""


def card_for(base: Card) -> Card:
    """The card of `token-opt:BASE`."""
    if base.family != "titok":
        raise VtbenchError(
            f"token-opt:{base.name}: {base.name} is no TiTok, whose decoder the optimisation goes through"
        )
    return replace(
        base,
        name=f"token-opt:{base.name}",
        family="token-opt",
        title=f"{base.title}, tokens optimised at test time",
        weights=(),
        options=OPTIONS,
        published=(),
        sources={},
        aliases=(),
        knob=None,
        knob_values=(),
        paper="https://arxiv.org/abs/2506.08257",
        code="https://github.com/lukaslaobeyer/token-opt",
        note=f"Weights of {base.name}. The bits are those of {base.name}; encoding takes `iterations` decodings more.",
    )


def wrap(base: Tokenizer, options: Mapping[str, Any]) -> OptimisedTokenizer:
    """The optimising tokenizer over `base`, which is loaded already."""
    return OptimisedTokenizer(card_for(base.card), options, base)


class OptimisedTokenizer(Tokenizer):
    """Encodes by optimisation, decodes as its base does."""

    def __init__(self, card: Card, options: Mapping[str, Any], base: Tokenizer) -> None:
        super().__init__(card, options)
        if not isinstance(base, NetworkTokenizer):
            raise VtbenchError(f"{card.name}: {type(base).__name__} has no native network to optimise through")
        self.base = base
        self.device, self.dtype = base.device, base.dtype
        o = self.options
        self.settings = load_class("vtbench.adapters.networks.token_opt:Settings")(
            num_iter=o["iterations"],
            lr=o["lr"],
            ema_decay=o["ema_decay"],
            token_noise=o["token_noise"],
            reg_weight=o["reg_weight"],
            reg_type=o["reg_type"],
        )

    def parameter_count(self) -> int | None:
        return self.base.parameter_count()

    def cost(self) -> Mapping[str, float]:
        return {"decodings": float(self.options["iterations"])}

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        import torch

        network, draws = self.base.network, Seeded(seeds, self.base.device)
        optimiser = load_class("vtbench.adapters.networks.token_opt:TokenOptimiser")(
            network, self.settings, lambda shape: draws.normal(*shape[1:])
        )
        against = load_class("vtbench.adapters.networks.token_opt:against")
        dtype = getattr(torch, self.base.dtype)
        with torch.inference_mode(False), torch.no_grad():
            target = images.to(device=self.base.device, dtype=dtype).clone()
            optimised = optimiser.run(against(str(self.options["objective"]), target), optimiser.encode(target))
            last = optimised.tokens[-1]
        size = (int(images.shape[2]), int(images.shape[3]))
        if network.quantize is None:
            mean = last.chunk(2, dim=1)[0]
            return Latents(mean.to(getattr(torch, str(self.base.options.get("latent_dtype", "float16")))).cpu(), size)
        with torch.inference_mode():
            indices = network.quantize(last)[0]
        return Codes(indices.long().cpu(), tuple(network.alphabets), size)

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        return self.base.decode(tokens, seeds)


def _build(card: Card, options: Mapping[str, Any]) -> Tokenizer:
    raise VtbenchError("token-opt works on another tokenizer: give token-opt:NAME, such as token-opt:titok-l32")


FAMILY = Family(
    name="token-opt",
    title="Tokens optimised at test time (token-opt)",
    cards=(),
    build=_build,
    network="vtbench.adapters.networks.token_opt:TokenOpt",
    fixtures=("token-opt",),
    wraps=Wrapping("token-opt", card_for, wrap),
)
