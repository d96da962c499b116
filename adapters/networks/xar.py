"""xAR: next-cluster prediction of continuous tokens by flow matching (arXiv:2502.20388).

OliverRensu/xAR @ 121e9c9: models/xar.py, models/rope.py, sampler.py. Line numbers are xar.py's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer_generators, sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.transformer import Cache, RMSNorm, TimeEmbedder, heads_of, merged, rotate_pairs
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError

SETTINGS = ("num_steps", "cfg")
SIDE, QUADRANT = 16, 8
"""The grid of tokens and of a cluster: hard-coded upstream, as are 16 channels (320-335)."""
CLUSTERS, MEMBERS = (SIDE // QUADRANT) ** 2, QUADRANT**2


class _Rope(nn.Module):
    """EVA's two-dimensional positions over the grid, in cluster order (rope.py:95-146); the tables are stored."""

    def __init__(self, head: int) -> None:
        super().__init__()
        half = head // 2
        freqs = 1.0 / (10000 ** (torch.arange(0, half, 2)[: half // 2].float() / half))
        line = torch.repeat_interleave(torch.outer(torch.arange(SIDE).float(), freqs), 2, dim=-1)
        rows, columns = line[:, None].expand(-1, SIDE, -1), line[None].expand(SIDE, -1, -1)
        angles = clustered(torch.cat([rows, columns], dim=-1)[None]).flatten(0, 2)
        self.freqs_cos: Tensor
        self.freqs_sin: Tensor
        self.register_buffer("freqs", freqs)
        self.register_buffer("freqs_cos", angles.cos())
        self.register_buffer("freqs_sin", angles.sin())

    def forward(self, x: Tensor, start: int) -> Tensor:
        """x (B, heads, n, head) at positions start.."""
        rows = slice(start, start + x.shape[2])
        return rotate_pairs(x, self.freqs_cos[rows, 0::2], self.freqs_sin[rows, 0::2])


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj, self.rope = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), _Rope(dim // heads)

    def forward(self, x: Tensor, start: int, mask: Tensor | None, cache: Cache | None, layer: int) -> Tensor:
        q, k, v = (heads_of(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        q, k = self.rope(q, start), self.rope(k, start)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        out: Tensor = self.proj(merged(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))
        return out


class _GatedMlp(nn.Module):
    """fc2(gelu(fc1_g x) fc1_x x) (179-184)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1_g, self.fc1_x, self.fc2 = nn.Linear(dim, hidden), nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1_g(x)) * self.fc1_x(x))
        return out


class _Block(nn.Module):
    """Weight-free RMSNorm; vectors gamma1, gamma2, scale1, scale2, shift1, shift2, one set a token (190-198)."""

    def __init__(self, dim: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.norm = RMSNorm(dim, 1e-6, affine=False)
        self.attn, self.mlp = _Attention(dim, heads), _GatedMlp(dim, int(dim * ratio * 2 / 3))
        self.ada_lin = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def forward(self, x: Tensor, c: Tensor, start: int, mask: Tensor | None, cache: Cache | None, layer: int) -> Tensor:
        gamma1, gamma2, scale1, scale2, shift1, shift2 = self.ada_lin(c).chunk(6, dim=-1)
        x = x + self.attn(self.norm(x) * (scale1 + 1) + shift1, start, mask, cache, layer) * gamma1
        out: Tensor = x + self.mlp(self.norm(x) * (scale2 + 1) + shift2) * gamma2
        return out


class Xar(nn.Module):
    """config: {encoder,decoder}_{embed_dim,depth,num_heads}, mlp_ratio; the rest must be what upstream hard-codes."""

    optional: tuple[str, ...] = ()
    infer_arch = staticmethod(infer_generators.xar)

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(config, "config")
        for key, only in (
            ("img_size", 256),
            ("vae_stride", 16),
            ("patch_size", 1),
            ("vae_embed_dim", 16),
            ("class_num", 1000),
            ("clusters", 4),
        ):
            c.choice(key, (only,), only)
        self.channels, self.classes = 16, 1000
        inner, outer, ratio = c.integer("encoder_embed_dim"), c.integer("decoder_embed_dim"), c.number("mlp_ratio", 4.0)
        if inner != outer:
            raise VtbenchError("config: encoder_embed_dim and decoder_embed_dim differ, but one condition serves both")

        def blocks(side: str, dim: int) -> nn.ModuleList:
            heads = c.integer(f"{side}_num_heads")
            if dim % heads or dim // heads % 4:
                raise VtbenchError(f"config.{side}_embed_dim {dim} over {heads} heads must give a multiple of 4")
            return nn.ModuleList(_Block(dim, heads, ratio) for _ in range(c.integer(f"{side}_depth")))

        positions = CLUSTERS * MEMBERS
        self.encoder_pos_embed_learned = nn.Parameter(torch.zeros(1, positions, inner))
        self.decoder_pos_embed_learned = nn.Parameter(torch.zeros(1, positions, outer))
        cluster = torch.arange(positions) // MEMBERS
        self.mask: Tensor
        hidden = torch.zeros(positions, positions).masked_fill(cluster[:, None] < cluster[None], -math.inf)
        self.register_buffer("mask", hidden[None, None])
        self.class_emb, self.time_embed = nn.Embedding(self.classes + 1, inner), TimeEmbedder(inner)
        self.z_proj, self.z_proj_ln = nn.Linear(self.channels, inner), RMSNorm(inner, 1e-6)
        self.encoder_blocks, self.encoder_norm = blocks("encoder", inner), RMSNorm(inner, 1e-6)
        self.decoder_embed = nn.Linear(inner, outer)
        self.decoder_blocks, self.decoder_norm = blocks("decoder", outer), RMSNorm(outer, 1e-6)
        self.pred = nn.Linear(outer, self.channels)
        for key in ("sampling", "grad_checkpointing", "label_drop_prob", "attn_dropout", "proj_dropout"):
            c.any(key)
        c.done()

    def condition(self, labels: Tensor, times: Tensor) -> Tensor:
        """labels (B,), times (B, clusters) in [0, 1] -> (B, clusters x 64, dim).

        The time is cast to float32 before it becomes an integer of 0..1000 (435): 0.68 would differ in float64.
        """
        steps = (times.float() * 1000).long()
        of_clusters = self.time_embed(steps.flatten()).unflatten(0, tuple(steps.shape))
        return torch.repeat_interleave(self.class_emb(labels)[:, None] + of_clusters, MEMBERS, dim=1)

    def encode(self, x: Tensor, c: Tensor, start: int, mask: Tensor | None, cache: Cache | None) -> Tensor:
        """x (B, n, 16) in cluster order at positions start.. -> (B, n, dim)."""
        rows = slice(start, start + x.shape[1])
        x = self.z_proj_ln(self.z_proj(x) + self.encoder_pos_embed_learned[:, rows])
        for i, block in enumerate(self.encoder_blocks):
            x = block(x, c, start, mask, cache, i)
        out: Tensor = self.encoder_norm(x)
        return out

    def decode(self, x: Tensor, c: Tensor, start: int, mask: Tensor | None, cache: Cache | None) -> Tensor:
        """The encoder's output -> velocity (B, n, 16): noise less data."""
        x = self.decoder_embed(x) + self.decoder_pos_embed_learned[:, start : start + x.shape[1]]
        for i, block in enumerate(self.decoder_blocks, start=len(self.encoder_blocks)):
            x = block(x, c, start, mask, cache, i)
        return sampling.finite(self.pred(self.decoder_norm(x)), "xAR")

    def velocity(self, x: Tensor, labels: Tensor, times: Tensor, cluster: int, cache: Cache) -> Tensor:
        """Velocity of cluster number `cluster`, (B, 64, 16); its keys are not kept.

        x holds that cluster alone, or the finished one before it in front (whose keys stay); times (B, 1 or 2).
        """
        first = cluster * MEMBERS + MEMBERS - x.shape[1]
        c, kept = self.condition(labels, times), cluster * MEMBERS
        mask = self.mask[:, :, first : first + x.shape[1], : first + x.shape[1]].to(x.dtype)
        out = self.decode(self.encode(x, c, first, mask, cache), c, first, mask, cache)
        cache.cut(kept)
        return out[:, -MEMBERS:]

    def generate(
        self, labels: Tensor, noise: sampling.Noise, *, num_steps: int = 50, cfg: float = 2.7, stochastic: bool = True
    ) -> Tensor:
        """Labels (B,) -> latents (B, 16, 16, 16), scaled (455-478, sampler.py:97-218).

        stochastic: Euler-Maruyama over linspace(1, 0.04, steps), then a last step to 0, with normal noise (64, 16) for
        the start and every step but the last; else Euler over linspace(1, 0, steps + 1). The state is float64.
        Guidance of cluster k: 1 + (cfg - 1) k / 3, where that is above one.
        """
        if num_steps < 1:
            raise VtbenchError(f"num_steps is {num_steps}, but must be at least 1")
        if int(labels.min()) < 0 or int(labels.max()) >= self.classes:
            raise VtbenchError(f"a class label lies outside 0..{self.classes - 1}: give labels of the training set")
        both, dtype = torch.cat([labels, torch.full_like(labels, self.classes)]), self.z_proj.weight.dtype
        if stochastic:
            times = torch.cat([torch.linspace(1.0, 0.04, num_steps, dtype=torch.float64), torch.zeros(1)]).tolist()
        else:
            times = torch.linspace(1.0, 0.0, num_steps + 1, dtype=torch.float64).tolist()
        cache, done = Cache(), list[Tensor]()
        for k in range(CLUSTERS):
            scale = 1 + (cfg - 1) * k / (CLUSTERS - 1)
            x = noise.normal(MEMBERS, self.channels).double()
            for i, (t, after) in enumerate(itertools.pairwise(times)):
                doubled = torch.cat([x, x]).to(dtype)
                at = torch.full((len(both), 1), t, dtype=torch.float64, device=labels.device)
                if i == 0 and k > 0:
                    doubled = torch.cat([torch.cat([done[-1], done[-1]]).to(dtype), doubled], dim=1)
                    at = torch.cat([torch.zeros_like(at), at], dim=1)
                v = self.velocity(doubled, both, at, k, cache).double()
                drift = v
                if stochastic:
                    score = (-(1 - t) * v - torch.cat([x, x])) / t
                    drift = v - t * score
                cond, null = drift.chunk(2)
                # A scale of at most one is no guidance (sampler.py:90, 159).
                drift, dt = sampling.guide(cond, null, scale) if scale > 1 else cond, after - t
                if stochastic and i < num_steps - 1:
                    step_noise = noise.normal(MEMBERS, self.channels).double()
                    x = x + drift * dt + math.sqrt(2 * t) * (step_noise * math.sqrt(abs(dt)))
                else:
                    x = x + drift * dt
            done.append(x)
        return unclustered(torch.stack(done, dim=1)).to(dtype)

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        a = fixture.arrays
        labels, x = a["class_ids"], a["x_t"]
        parts = clustered(a["latent"].permute(0, 2, 3, 1))
        c = self.condition(labels, a["t"].unflatten(0, (CLUSTERS, -1)).T)
        encoded = self.encode(x, c, 0, self.mask, None)
        cache = Cache()

        def infer(tokens: Tensor, cluster: int, *times: float) -> Tensor:
            at = torch.tensor(times).expand(len(labels), -1)
            return self.velocity(tokens, labels, at, cluster, cache)

        # The times of both steps, as the fixture's descriptions state them.
        step0, cached = (float(fixture.settings.get(f"infer_{n}", {}).get("t", d)) for n, d in _STEPS)
        here = x[:, MEMBERS : 2 * MEMBERS]
        out = {
            "clusters": parts,
            "encoder_out": encoded,
            "velocity": self.decode(encoded, c, 0, self.mask, None),
            "infer_step0": infer(x[:, :MEMBERS], 0, step0),
            "infer_step1_prefix": infer(torch.cat([parts[:, 0], here], dim=1), 1, 0.0, step0),
            "infer_step1_cached": infer(here, 1, cached),
        }
        for run, stated in fixture.runs(marks=("num_steps", "cfg")).items():
            draws = fixture.draws(run.removeprefix("sample_"))
            # A run of the deterministic sampler records the initial latents and nothing else.
            settings = sampling.known(stated, *SETTINGS)
            noise = sampling.Recorded(draws)
            out[run] = self.generate(labels, noise, stochastic=len(draws) > CLUSTERS, **settings)
        return out


_STEPS = (("step0", 0.7), ("step1_cached", 0.4))


def clustered(x: Tensor) -> Tensor:
    """(B, 16, 16, C) -> (B, 4, 64, C): quadrants in raster order, raster inside."""
    split = torch.unflatten(torch.unflatten(x, 1, (-1, QUADRANT)), 3, (-1, QUADRANT))
    return split.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)


def unclustered(x: Tensor) -> Tensor:
    """(B, 4, 64, C) -> (B, C, 16, 16)."""
    split = torch.unflatten(torch.unflatten(x, 1, (SIDE // QUADRANT, -1)), 3, (QUADRANT, QUADRANT))
    return split.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
