"""TokenBridge's generator: MAR's autoencoder, and an autoregressive head over the channels of a token
(arXiv:2503.16430).

YuqingWang1029/TokenBridge @ 3ede281: models/tokenbridge.py, whose line numbers are given.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.mar import check_options, masked_after
from vtbench.adapters.networks.parts import infer_generators, normal_bins, sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.infer import Shapes, count
from vtbench.adapters.networks.parts.masked_autoencoder import TRAINING, MaskedAutoencoder
from vtbench.adapters.networks.parts.transformer import Cache
from vtbench.adapters.networks.rar import Block, Final
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError

SETTINGS = ("num_iter", "cfg", "cfg_schedule", "temperature")
ORDER = (8, 1, 10, 9, 6, 12, 4, 0, 3, 11, 7, 14, 2, 15, 13, 5)
"""The order in which the head draws the channels (321-327)."""


@dataclass
class Sampled:
    """tokens int64 (B, L, 16), channels in their own order; latent (B, 16, h, w)."""

    tokens: Tensor
    latent: Tensor


class TokenBridgeGenerator(MaskedAutoencoder):
    """config: MAR's but for the diffusion head; quant_levels, quant_min, quant_max, std_range, channel_embed_dim,
    channel_depth, channel_heads."""

    optional: tuple[str, ...] = ()

    def __init__(self, config: Mapping[str, Any]) -> None:
        c = Config(config, "config")
        super().__init__(c, output="output_pos_embed")
        if self.channels != len(ORDER) or self.patch != 1:
            raise VtbenchError(
                f"config has {self.channels} channels in patches of {self.patch}, but TokenBridge's head draws "
                f"{len(ORDER)} channels of single cells"
            )
        levels = self.vocabulary = c.integer("quant_levels", 16)
        self.low, self.high = c.number("quant_min", -5.0), c.number("quant_max", 5.0)
        self.std_range, dim = c.number("std_range", 3.0), c.integer("channel_embed_dim")
        if not self.high > self.low or not self.std_range > 0:
            raise VtbenchError("config: quant_max must lie above quant_min, and std_range above 0")
        hidden, depth = int(dim * c.number("mlp_ratio", 4.0)), c.integer("channel_depth")
        heads, n, eps = c.integer("channel_heads"), self.channels, c.number("norm_eps", 1e-6)
        if dim % heads:
            raise VtbenchError(f"config.channel_embed_dim {dim} is no multiple of {heads} heads")
        for key in (*TRAINING, "channel_order"):
            c.any(key)
        c.done()
        self.condition_proj = nn.Linear(self.outer, dim)
        self.channel_embed = nn.Parameter(torch.zeros(1, n, dim))
        self.timesteps_embeddings = nn.Parameter(torch.zeros(1, n, dim))
        self.token_embeddings = nn.ModuleList(nn.Embedding(levels, dim) for _ in range(n - 1))
        self.channel_blocks = nn.ModuleList(Block(dim, heads, hidden) for _ in range(depth))
        self.channel_norm, self.channel_final = nn.LayerNorm(dim, eps=eps), Final(dim)
        self.channel_heads = nn.ModuleList(nn.Linear(dim, levels) for _ in range(n))
        # Upstream stores what follows from its configuration.
        with torch.device("cpu"):
            edges = torch.from_numpy(normal_bins.edges(levels, self.std_range)).float()
            self.register_buffer("channel_mask", torch.full((n, n), -math.inf).triu(1))
            self.register_buffer("reconstruction_values", normal_bins.means(levels, self.std_range))
            self.register_buffer("boundaries", edges)

    @staticmethod
    def infer_arch(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """Sizes of the autoencoder as MAR's, and of the head; its heads are as many as in `like`."""
        if "channel_mask" not in shapes or "output_pos_embed" not in shapes or "fake_latent" not in shapes:
            return None
        arch = copy.deepcopy(dict(like)) | infer_generators.masked_autoencoder(shapes, like, "output_pos_embed")
        arch["quant_levels"], arch["channel_embed_dim"] = shapes["channel_heads.0.weight"]
        arch["channel_depth"] = count(shapes, "channel_blocks.{i}.")
        return arch

    def quantized(self, latent: Tensor) -> Tensor:
        """Tokens (B, L, 16) of latents (B, 16, h, w): the nearest value of the table (432-479)."""
        s, x = self.std_range, self.patched(latent)
        x = ((x - self.low) / (self.high - self.low) * (2 * s) - s).clamp(-s, s)
        return (x[..., None] - self.reconstruction_values).abs().argmin(dim=-1)  # type: ignore[operator]

    def values(self, tokens: Tensor) -> Tensor:
        """(B, L, 16) -> the latent's values in that layout."""
        s, table = self.std_range, self.reconstruction_values
        return ((table + s) / (2 * s) * (self.high - self.low) + self.low)[tokens]  # type: ignore[operator, index]

    def head(self, x: Tensor, c: Tensor, cache: Cache | None, mask: Tensor | None) -> Tensor:
        """x, c (n, m, dim) -> (n, m, dim), before the layers of the channels."""
        for i, block in enumerate(self.channel_blocks):
            x = block(x, c, mask, cache, i)
        out: Tensor = self.channel_final(self.channel_norm(x), c)
        return sampling.finite(out, "TokenBridge")

    def channel_logits(self, z: Tensor, tokens: Tensor) -> Tensor:
        """Training's: z (n, E), tokens (n, 16) in ORDER -> logits (n, 16, levels); z itself comes first (775-820)."""
        first = self.condition_proj(z)[:, None]
        before = [e(tokens[:, i])[:, None] for i, e in enumerate(self.token_embeddings)]
        x = torch.cat([first, *before], dim=1) + self.channel_embed
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        x = self.head(x, first + self.timesteps_embeddings, None, mask)
        return torch.stack([layer(x[:, i]) for i, layer in enumerate(self.channel_heads)], dim=1)

    def draw_channels(
        self, z: Tensor, noise: sampling.Noise | None, temperature: float, *, cache: bool = True, batch: int = 1
    ) -> Tensor:
        """z (n, E) of `batch` images -> tokens (n, 16) in ORDER; exponential noise (n / batch, levels) a channel.

        The start has the first time's embedding in it, as training's has not (842).
        """
        c = self.condition_proj(z)[:, None] + self.timesteps_embeddings
        kept, tokens = Cache() if cache else None, list[Tensor]()
        x = c[:, :1] + self.channel_embed[:, :1]
        whole = x
        for i, layer in enumerate(self.channel_heads):
            if kept is not None:
                out = self.head(x, c[:, i : i + 1], kept, None)
            else:
                mask = torch.ones(i + 1, i + 1, dtype=torch.bool, device=x.device).tril()
                out = self.head(whole, c[:, : i + 1], None, mask)
            logits = layer(out[:, -1])
            if temperature == 0 or noise is None:
                tokens.append(logits.argmax(dim=-1))
            else:
                p = torch.softmax(sampling.widened(logits) / temperature, dim=-1)
                drawn = noise.exponential(len(p) // batch, p.shape[-1])
                tokens.append(sampling.draw(p, drawn.reshape(p.shape).to(p.dtype)))
            if i + 1 < len(ORDER):
                x = self.token_embeddings[i](tokens[-1])[:, None] + self.channel_embed[:, i + 1 : i + 2]
                whole = torch.cat([whole, x], dim=1)
        return torch.stack(tokens, dim=1)

    def generate(
        self,
        labels: Tensor,
        noise: sampling.Noise | None,
        *,
        orders: Tensor | None = None,
        num_iter: int = 64,
        cfg: float = 1.0,
        cfg_schedule: str = "linear",
        temperature: float = 1.0,
        cache: bool = True,
    ) -> Sampled:
        """Labels (B,) -> tokens and latents (880-975). Guidance mixes the features, not logits.

        orders (B, L): the first entries stay masked longest, drawn if not given. temperature 0: the likeliest.
        """
        check_options(self.length, num_iter, cfg, cfg_schedule, temperature)
        sampling.labels_within(labels, self.classes)
        if orders is None:
            if noise is None:
                raise VtbenchError("TokenBridge draws its order of tokens: give noise or orders")
            orders = noise.uniform(self.length).argsort(dim=-1)
        cond, null = self.class_emb(labels), self.fake_latent.expand(len(labels), -1)
        masked, left = self.start(labels)[1], self.length
        tokens = torch.zeros(len(labels), self.length, self.channels, dtype=torch.int64, device=labels.device)
        inverse = torch.tensor(ORDER, device=labels.device).argsort()
        for step in range(num_iter):
            values = self.values(tokens).to(cond.dtype)
            z = self.decode(self.encode(values, masked, cond), masked)
            length = masked_after(self.length, left, step, num_iter)
            after = torch.zeros_like(masked).scatter(1, orders[:, :length], True)
            chosen = masked if step == num_iter - 1 else masked & ~after
            z = z[chosen]
            if cfg != 1.0:
                empty = self.decode(self.encode(values, masked, null), masked)[chosen]
                scale = 1 + (cfg - 1) * (self.length - length) / self.length if cfg_schedule == "linear" else cfg
                z = sampling.guide(z, empty, scale)
            tokens = tokens.clone()
            drawn = self.draw_channels(z, noise, temperature, cache=cache, batch=len(labels))
            tokens[chosen] = drawn[:, inverse]
            masked, left = after, length
        return Sampled(tokens, self.unpatched(self.values(tokens)))

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        a = fixture.arrays
        labels, masked, tokens = a["class_ids"], a["mask"].bool(), self.quantized(a["latent"])
        values = self.values(tokens)
        z = self.decode(self.encode(values, masked, self.class_emb(labels)), masked)
        null = self.fake_latent.expand(len(labels), -1)
        out = {
            "tokens": tokens,
            "dequant": values,
            "z": z,
            "z_uncond": self.decode(self.encode(values, masked, null), masked),
            "channel_logits": self.channel_logits(z[masked], tokens[masked][:, list(ORDER)]),
            "channel_greedy": self.draw_channels(z[masked], None, 0.0),
            "reconstruction_values": self.reconstruction_values,
            "boundaries": self.boundaries,
        }
        for run, stated in fixture.runs("tokens", marks=("num_iter",)).items():
            settings = sampling.known(stated, *SETTINGS)
            warm = settings.get("temperature", 1.0) != 0
            noise = sampling.Flat(fixture.noise(f"{run}_exp"), len(labels)) if warm else None
            sampled = self.generate(labels, noise, orders=a["orders"], **settings)
            out[run], out[f"{run}_tokens"] = sampled.latent, sampled.tokens
        return {name: array for name, array in out.items() if isinstance(array, Tensor)}
