"""PixelFlow: flow matching in pixels over a pyramid of resolutions, without a tokenizer (arXiv:2504.07963).

ShoufaChen/PixelFlow @ 8805204: pixelflow/model.py, pipeline_pixelflow.py, scheduling_pixelflow.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer_generators, sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.diffusers_blocks import TimeEmbedding
from vtbench.adapters.networks.parts.transformer import (
    Mlp,
    RMSNorm,
    heads_of,
    merged,
    modulate,
    rotate_pairs,
    tanh_gelu,
)
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError

SETTINGS = ("num_inference_steps", "guidance_scale", "shift")
STAGE_GUIDANCE = (0.0, 1 / 6, 2 / 3, 1.0)
"""Share of the guidance in each of the four stages of a class model; text models have it whole throughout
(pipeline_pixelflow.py:268-272)."""


class _Attention(nn.Module):
    """q and k are normalised over all heads together, then turned; keys of another width for text (118-162)."""

    def __init__(self, dim: int, heads: int, source: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.o_proj = nn.Linear(dim, dim, bias=bias), nn.Linear(dim, dim, bias=bias)
        self.k_proj, self.v_proj = nn.Linear(source, dim, bias=bias), nn.Linear(source, dim, bias=bias)
        self.q_norm, self.k_norm = RMSNorm(dim, 1e-6), RMSNorm(dim, 1e-6)

    def forward(self, x: Tensor, source: Tensor, turn: tuple[Tensor, Tensor], bias: Tensor | None, own: bool) -> Tensor:
        """own: `source` lies on the same grid, so that its keys are turned too."""
        q = rotate_pairs(heads_of(self.q_norm(self.q_proj(x)), self.heads), *turn)
        k, v = heads_of(self.k_norm(self.k_proj(source)), self.heads), heads_of(self.v_proj(source), self.heads)
        k = rotate_pairs(k, *turn) if own else k
        out: Tensor = self.o_proj(merged(F.scaled_dot_product_attention(q, k, v, attn_mask=bias)))
        return out


class _Modulation(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 6 * dim)


class _Block(nn.Module):
    """norm1 modulated, attention gated; text attention ungated; norm3 modulated, MLP gated (231-296)."""

    def __init__(self, dim: int, heads: int, text: int | None, *, bias: bool) -> None:
        super().__init__()
        self.norm1, self.attn1 = _Modulation(dim), _Attention(dim, heads, dim, bias=bias)
        self.plain = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.has_text = text is not None
        if text is not None:
            self.norm2, self.attn2 = RMSNorm(dim, 1e-6), _Attention(dim, heads, text, bias=bias)
        self.norm3, self.mlp = RMSNorm(dim, 1e-6), Mlp(dim, 4 * dim, act=tanh_gelu)

    def forward(
        self, x: Tensor, c: Tensor, turn: tuple[Tensor, Tensor], text: Tensor | None, bias: Tensor | None
    ) -> Tensor:
        six = self.norm1.linear(F.silu(c))[:, None].chunk(6, dim=-1)
        inner = modulate(self.plain(x), six[0], six[1])
        x = x + six[2] * self.attn1(inner, inner, turn, None, True)
        if text is not None:
            x = x + self.attn2(self.norm2(x), text, turn, bias, False)
        out: Tensor = x + six[5] * self.mlp(modulate(self.norm3(x), six[3], six[4]))
        return out


class PixelFlow(nn.Module):
    """config: {"model": in_channels, out_channels, num_attention_heads, attention_head_dim, depth, patch_size,
    attention_bias, num_classes (0: none), cross_attention_dim (null: none)}, {"scheduler": num_train_timesteps,
    num_stages, gamma}."""

    optional: tuple[str, ...] = ()
    infer_arch = staticmethod(infer_generators.pixelflow)

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        top = Config(config, "config")
        top.any("sampling")
        c, s = top.sub("model"), top.sub("scheduler")
        top.done()
        self.heads, self.head = c.integer("num_attention_heads"), c.integer("attention_head_dim")
        if self.head % 4:
            raise VtbenchError(f"config.model.attention_head_dim is {self.head}, but must be a multiple of 4")
        dim, depth, bias = self.heads * self.head, c.integer("depth"), c.flag("attention_bias", True)
        self.channels, self.out_channels = c.integer("in_channels", 3), c.integer("out_channels", 3)
        self.patch, self.classes = c.integer("patch_size"), c.integer("num_classes", 0, at_least=0)
        text = c.any("cross_attention_dim")
        text = None if text is None else c.integer("cross_attention_dim")
        for key in ("dropout", "init_weights"):
            c.any(key)
        c.done()
        if bool(self.classes) == (text is not None):
            raise VtbenchError("config.model must have either num_classes or cross_attention_dim: one condition")
        self.conditioning = "class" if self.classes else "text"
        self.stages = Stages(s.integer("num_train_timesteps"), s.integer("num_stages"), s.number("gamma"))
        s.done()
        if self.classes and len(self.stages.table) > len(STAGE_GUIDANCE):
            raise VtbenchError(
                "config.scheduler.num_stages must be at most 4: upstream states guidance for four stages"
            )
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(self.channels, dim, self.patch, stride=self.patch)})
        self.timestep_embedder, self.latent_size_embedder = TimeEmbedding(dim), TimeEmbedding(dim)
        if self.classes:
            self.class_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(self.classes + 1, dim)})
        self.transformer_blocks = nn.ModuleList(_Block(dim, self.heads, text, bias=bias) for _ in range(depth))
        self.norm_out = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.proj_out_1, self.proj_out_2 = nn.Linear(dim, 2 * dim), nn.Linear(dim, self.patch**2 * self.out_channels)

    def angles(self, grid: int) -> Tensor:
        """(grid^2, head/2): the column turns the first half of a head, the row the second (diffusers' order)."""
        half = self.head // 2
        freqs = 1.0 / (10000 ** (torch.arange(0, half, 2, dtype=torch.float32) / half))
        line = torch.outer(torch.arange(grid, dtype=torch.float32), freqs)
        columns, rows = line[None].expand(grid, -1, -1), line[:, None].expand(-1, grid, -1)
        return torch.cat([columns, rows], dim=-1).flatten(0, 1).to(self.proj_out_2.weight.device)

    def forward(
        self, x: Tensor, t: Tensor, labels: Tensor | None, text: Tensor | None, text_mask: Tensor | None
    ) -> Tensor:
        """x (B, 3, h, h) in [-1, 1] and beyond, t (B,) in 0..999 -> velocity (B, 3, h, h): data less noise."""
        grid = x.shape[-1] // self.patch
        size = torch.full((1,), float(grid), device=x.device)
        c = self.timestep_embedder(t) + self.latent_size_embedder(size)
        if labels is not None:
            c = c + self.class_embedder["embedding_table"](labels)
        angles = self.angles(grid)
        turn = (angles.cos().to(x.dtype), angles.sin().to(x.dtype))
        bias = None if text_mask is None else ((1 - text_mask.to(x.dtype)) * -10000.0)[:, None, None]
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            x = block(x, c, turn, text, bias)
        shift, scale = self.proj_out_1(F.silu(c))[:, None].chunk(2, dim=-1)
        x = self.proj_out_2(modulate(self.norm_out(x), shift, scale))
        x = torch.unflatten(torch.unflatten(x, -1, (self.patch, self.patch, self.out_channels)), 1, (grid, grid))
        return sampling.finite(x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3), "PixelFlow")

    def generate(
        self,
        start: Tensor,
        block_noise: Sequence[Tensor],
        *,
        labels: Tensor | None = None,
        text: tuple[Tensor, Tensor, Tensor, Tensor] | None = None,
        num_inference_steps: int | Sequence[int] = 10,
        guidance_scale: float = 4.0,
        shift: float = 1.0,
        trace: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """start (B, 3, h, h) normal at the lowest resolution, block noise of each further stage -> (B, 3, H, H).

        text: features, mask, null features, null mask. `trace` gets the latents after stage 0 and the timesteps.
        """
        if isinstance(num_inference_steps, int):
            num_inference_steps = [num_inference_steps] * len(self.stages.table)
        steps = list(num_inference_steps)
        if len(steps) != len(self.stages.table) or min(steps) < 1:
            raise VtbenchError(f"num_inference_steps is {steps}, but must be positive, one or {len(self.stages.table)}")
        guided, x, used = guidance_scale > 0, start, []
        both: dict[str, Tensor | None] = {"labels": None, "text": None, "text_mask": None}
        if labels is not None:
            if int(labels.min()) < 0 or int(labels.max()) >= self.classes:
                raise VtbenchError(f"a class label lies outside 0..{self.classes - 1}: give labels of the training set")
            both["labels"] = torch.cat([torch.full_like(labels, self.classes), labels])
        elif text is not None:
            both["text"] = torch.cat([text[2].expand_as(text[0]), text[0]])
            both["text_mask"] = torch.cat([text[3].expand_as(text[1]), text[1]])
        else:
            raise VtbenchError("PixelFlow needs class labels or text features: give one of them")
        for stage in range(len(self.stages.table)):
            if stage:
                alpha, beta = self.stages.entry(stage)
                x = alpha * F.interpolate(x, scale_factor=2, mode="nearest") + beta * block_noise[stage - 1]
            scale = (guidance_scale - 1) * STAGE_GUIDANCE[stage] + 1 if self.classes else guidance_scale
            timesteps, times = self.stages.steps(stage, steps[stage], shift)
            used.append(timesteps)
            for i, timestep in enumerate(timesteps.tolist()):
                at = torch.full((2 * len(x),), timestep, device=x.device)
                null, cond = self(torch.cat([x, x]), at, **both).chunk(2)
                v = sampling.guide(cond, null, scale) if guided else cond
                x = x + float(times[i + 1] - times[i]) * v
            if trace is not None and stage == 0:
                trace["stage0"] = x
        if trace is not None:
            trace["timesteps"] = torch.cat(used)
        return x

    def block_noise(self, noise: sampling.Noise, side: int) -> Tensor:
        """(B, 3, side, side): covariance (1 - gamma) I + gamma 11^T + 1e-6 I inside each 2 x 2 (135-140)."""
        gamma = self.stages.gamma
        covariance = torch.eye(4, dtype=torch.float64) * (1 - gamma + 1e-6) + torch.full((4, 4), gamma)
        factor = torch.linalg.cholesky(covariance.double()).float()
        drawn = noise.normal(self.channels, side // 2, side // 2, 4)
        blocks = drawn @ factor.T.to(drawn.device)
        return torch.unflatten(blocks, -1, (2, 2)).permute(0, 1, 2, 4, 3, 5).flatten(4, 5).flatten(2, 3)

    @staticmethod
    def to_image(latents: Tensor) -> Tensor:
        """[-1, 1] -> [0, 1], clamped."""
        return (latents / 2 + 0.5).clamp(0, 1)

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        a = fixture.arrays
        labels, text = a.get("class_ids"), a.get("text")
        grid = int(a["latent_size"][0])
        angles = torch.repeat_interleave(self.angles(grid), 2, dim=-1)
        out = {
            "velocity": self(a["x_t"], a["t"], labels, text, a.get("text_mask")),
            "rope": torch.stack([angles.cos(), angles.sin()], dim=-1),
            "stage_table": torch.tensor(self.stages.table),
        }
        four = None if text is None else (text, a["text_mask"], a["null_text"], a["null_mask"])
        endings = ("latents", "stage0", "image", "timesteps")
        for run, stated in fixture.runs(*endings, marks=SETTINGS).items():
            trace: dict[str, Tensor] = {}
            blocks = [fixture.noise(f"{run}_blocknoise{i}") for i in range(1, len(self.stages.table))]
            latents = self.generate(
                fixture.noise(f"{run}_init"),
                blocks,
                labels=labels,
                text=four,
                **sampling.known(stated, *SETTINGS),
                trace=trace,
            )
            out |= {
                f"{run}_latents": latents,
                f"{run}_stage0": trace["stage0"],
                f"{run}_image": self.to_image(latents).permute(0, 2, 3, 1),
                f"{run}_timesteps": trace["timesteps"],
            }
        return out


class Stages:
    """When each resolution runs (scheduling_pixelflow.py:28-101).

    table: per stage the original start, the start that the jump leaves (1 / (sqrt(1 - 1/gamma)(1 - s) + s) s), the
    end, and the first and last Timestep, which share out 0..999 by the stages' lengths.
    """

    def __init__(self, timesteps: int, stages: int, gamma: float) -> None:
        if gamma >= 0:
            raise VtbenchError(f"config.scheduler.gamma is {gamma}, but must be negative: blocks anticorrelate")
        self.gamma, self.timesteps = gamma, timesteps
        originals = [int(timesteps * (i / stages)) / timesteps for i in range(stages)]
        starts = [self._alpha(s) * s for s in originals]
        ends = [*originals[1:], 1.0]
        lengths = [e - s for s, e in zip(starts, ends, strict=True)]
        self.table: list[list[float]] = []
        for i in range(stages):
            first = int(sum(lengths[:i]) / sum(lengths) * timesteps)
            if i + 1 < stages:
                after = int(sum(lengths[: i + 1]) / sum(lengths) * timesteps)
                last = after - (after - first) / timesteps
            else:
                last = timesteps - 1.0
            self.table.append([originals[i], starts[i], ends[i], float(first), last])

    def _alpha(self, s: float) -> float:
        return 1 / (math.sqrt(1 - 1 / self.gamma) * (1 - s) + s)

    def entry(self, stage: int) -> tuple[float, float]:
        """(alpha, beta) of entering a stage: alpha x + beta block noise (pipeline_pixelflow.py:199-208)."""
        s = self.table[stage][0]
        alpha = self._alpha(s)
        return alpha, alpha * (1 - s) / math.sqrt(-self.gamma)

    def steps(self, stage: int, count: int, shift: float) -> tuple[Tensor, Tensor]:
        """Timesteps (count,) float32, and the times (count + 1,) float64 within the stage, which end at 1."""
        first, last = self.table[stage][3:]
        end = 1 - 1 / self.timesteps
        times = torch.linspace(0.0, end, count, dtype=torch.float64)
        times = times / (shift + (1 - shift) * times)
        timesteps = ((last - first) / end * times + first).float()
        return timesteps, torch.cat([times, torch.ones(1, dtype=torch.float64)])
