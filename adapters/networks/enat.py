"""ENAT: masked tokens attend to visible ones, visible ones not to masked, and their features are used again
(arXiv:2411.06959).

LeapLabTHU/ENAT @ 550f22c: libs/models.py, libs/modules.py, libs/multiway.py, libs/nat_misc.py.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.diffusers_blocks import plain_norm
from vtbench.adapters.networks.parts.infer import Shapes, count
from vtbench.adapters.networks.parts.transformer import Mlp, check_heads, heads_of, merged, modulate, tanh_gelu
from vtbench.models.replay import Replay

SETTINGS = ("sample_steps", "cfg_scale", "mask_temp", "samp_temp")


class _Attention(nn.Module):
    """Keys and values by kv.A for rows of the condition, by kv.B for rows of their own kind."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.q = heads, nn.Linear(dim, dim)
        self.kv = nn.ModuleDict({"A": nn.Linear(dim, 2 * dim), "B": nn.Linear(dim, 2 * dim)})
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, beside: Tensor | None) -> Tensor:
        """x (B, n, dim) attends to the rows `beside` (B, m, dim) and to itself."""
        kv = self.kv["B"](x)
        if beside is not None:
            kv = torch.cat([self.kv["A"](beside), kv], dim=1)
        q, (k, v) = heads_of(self.q(x), self.heads), (heads_of(p, self.heads) for p in kv.chunk(2, dim=-1))
        out: Tensor = self.proj(merged(F.scaled_dot_product_attention(q, k, v)))
        return out


class _Block(nn.Module):
    """Eight vectors: shift, scale of own rows; of the condition's rows; gate; shift, scale, gate of the MLP (103-155).

    Norms without parameters, eps 1e-6.
    """

    def __init__(self, dim: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.attn, self.mlp = _Attention(dim, heads), Mlp(dim, int(dim * ratio), act=tanh_gelu)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 8 * dim))

    def forward(self, x: Tensor, c: Tensor, beside: Tensor | None) -> Tensor:
        v = self.adaLN_modulation(c)[:, None].chunk(8, dim=-1)
        if beside is not None:
            beside = modulate(plain_norm(beside), v[2], v[3])
        x = x + v[4] * self.attn(modulate(plain_norm(x), v[0], v[1]), beside)
        out: Tensor = x + v[7] * self.mlp(modulate(plain_norm(x), v[5], v[6]))
        return out


@dataclass
class Seen:
    """What a step leaves to the next: which tokens were masked, bool (B, N), and all features (B, N, dim)."""

    masked: Tensor
    features: Tensor


class Enat(nn.Module):
    """config: input_size (tokens a side), hidden_size, num_heads, mlp_ratio, num_classes, class_dropout_prob,
    codebook_size, enc_dec (blocks of visible and of masked tokens). Id codebook_size is the mask."""

    optional = ("prev_embedder.",)
    """Stored and never used (models.py:197)."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(config, "config")
        self.grid, dim, heads = c.integer("input_size"), c.integer("hidden_size"), c.integer("num_heads")
        check_heads(dim, heads)
        self.length, self.vocabulary = self.grid**2, c.integer("codebook_size", 1024)
        self.pixels, self.classes = 16 * self.grid, c.integer("num_classes", 1000)
        ratio, (self.inner, outer) = c.number("mlp_ratio", 4.0), c.integers("enc_dec", length=2)
        null = c.number("class_dropout_prob", 0.1) > 0
        for key in ("in_channels", "depth", "learn_sigma", "sampling"):
            c.any(key)
        c.done()
        self.x_embedder = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(self.vocabulary + 1, dim),
                "position_embeddings": nn.Embedding(self.length, dim),
                "LayerNorm": nn.LayerNorm(dim, eps=1e-6),
            }
        )
        self.y_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(self.classes + null, dim)})
        self.prev_embedder = Mlp(dim, 4 * dim)
        self.prev_proj = nn.ModuleDict({"norm": nn.LayerNorm(dim, eps=1e-6), "mlp": Mlp(dim, 4 * dim, act=tanh_gelu)})
        self.blocks = nn.ModuleList(_Block(dim, heads, ratio) for _ in range(self.inner + outer))
        self.norm, self.mlm_layer = nn.LayerNorm(dim), _MlmLayer(dim, self.vocabulary + 1)

    @staticmethod
    def infer_arch(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """Heads of 64 channels, and as many blocks of masked tokens as in `like`, which no shape shows."""
        if "prev_proj.norm.weight" not in shapes or "x_embedder.word_embeddings.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        ids, dim = shapes["x_embedder.word_embeddings.weight"]
        arch["codebook_size"], arch["hidden_size"] = ids - 1, dim
        arch["num_heads"] = like["num_heads"] if dim == like["hidden_size"] else dim // 64 or 1
        arch["input_size"] = math.isqrt(shapes["x_embedder.position_embeddings.weight"][0])
        arch["num_classes"] = shapes["y_embedder.embedding_table.weight"][0] - (like["class_dropout_prob"] > 0)
        arch["mlp_ratio"] = shapes["blocks.0.mlp.fc1.weight"][0] / dim
        outer = like["enc_dec"][1]
        arch["enc_dec"] = [count(shapes, "blocks.{i}.") - outer, outer]
        return arch

    def forward(self, ids: Tensor, labels: Tensor, before: Seen | None = None) -> tuple[Tensor, Seen]:
        """ids (B, N), one count of masks a row, labels (B,) -> logits (B, N, V) float32, and what the next step reuses.

        `before`: of a step whose visible tokens are visible still: their features are taken from it (243-292).
        """
        e = self.x_embedder
        positions = e["position_embeddings"].weight[: ids.shape[1]]  # type: ignore[index]
        x = e["LayerNorm"](e["word_embeddings"](ids) + positions)
        c, masked = self.y_embedder["embedding_table"](labels), ids == self.vocabulary
        features = torch.empty_like(x)
        fresh, beside = ~masked, None
        if before is not None and bool((~before.masked).any()):
            fresh, again = ~masked & before.masked, ~before.masked
            rows = before.features[again].unflatten(0, (len(ids), -1))
            beside = rows + self.prev_proj["mlp"](self.prev_proj["norm"](rows))
            features[again] = beside.flatten(0, 1)
        visible = x[fresh].unflatten(0, (len(ids), -1))
        for block in self.blocks[: self.inner]:
            visible = block(visible, c, beside) if visible.shape[1] else visible
        features[fresh] = visible.flatten(0, 1)
        rest, shown = x[masked].unflatten(0, (len(ids), -1)), features[~masked].unflatten(0, (len(ids), -1))
        for block in self.blocks[self.inner :]:
            rest = block(rest, c, shown)
        features[masked] = rest.flatten(0, 1)
        logits = self.mlm_layer(self.norm(features), e["word_embeddings"].weight)[..., : self.vocabulary]
        return sampling.finite(sampling.widened(logits), "ENAT"), Seen(masked, features)

    def generate(
        self,
        labels: Tensor,
        noise: sampling.Noise,
        *,
        sample_steps: int = 8,
        cfg_scale: float = 2.5,
        mask_temp: float = 1.5,
        samp_temp: float = 6.0,
        reuse: bool = True,
        trace: list[Tensor] | None = None,
    ) -> Tensor:
        """Labels (B,) -> tokens (B, N) (nat_misc.py:46-86). `trace` gets the ids before each step.

        Per step exponential noise (N, V) of the draw, then Gumbel noise (N,) of the confidence, log p of the token
        drawn. Guidance is cfg_scale times the share of the steps behind, so none at the first. reuse=False encodes all
        visible tokens anew, which gives other tokens: reuse is how ENAT is trained.
        """
        steps = sampling.whole("sample_steps", sample_steps)
        for name, value in (("cfg_scale", cfg_scale), ("mask_temp", mask_temp), ("samp_temp", samp_temp)):
            sampling.number(name, value)
        sampling.labels_within(labels, self.classes)
        ids = torch.full((len(labels), self.length), self.vocabulary, dtype=torch.int64, device=labels.device)
        # Label 1000, hard-coded upstream: of a table with other classes it would be another's or none.
        empty, own, other = torch.full_like(labels, self.classes), None, None
        for step in range(steps):
            ratio = (step + 1) / steps
            if trace is not None:
                trace.append(ids)
            cond, own = self(ids, labels, own if reuse else None)
            null, other = self(ids, empty, other if reuse else None)
            logs = torch.log_softmax(cond + (cond - null) * (cfg_scale * step / steps), dim=-1)
            p = torch.softmax(logs / max(samp_temp * (1 - ratio), 1e-3), dim=-1)
            masked = ids == self.vocabulary
            drawn = torch.where(masked, sampling.draw(p, noise.exponential(self.length, self.vocabulary)), ids)
            chosen = torch.gather(logs, -1, drawn[..., None])[..., 0].masked_fill(~masked, math.inf)
            confidence = chosen + mask_temp * (1 - ratio) * noise.gumbel(self.length)
            lowest = confidence.argsort(dim=-1)[:, : math.floor(self.length * math.cos(ratio * math.pi / 2))]
            ids = torch.where(torch.zeros_like(masked).scatter(1, lowest, True), self.vocabulary, drawn)
        return drawn

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        a = fixture.arrays
        labels, none = a["class_ids"], torch.full_like(a["class_ids"], self.classes)
        first, second = (torch.where(a[n].bool(), self.vocabulary, a["tokens_in"]) for n in ("mask1", "mask2"))
        logits, seen = self(first, labels)
        again, after = self(second, labels, seen)
        out = {
            "logits_mask1": logits,
            "feat_mask1": seen.features,
            "logits_mask2_reuse": again,
            "feat_mask2_reuse": after.features,
            "logits_mask2_fresh": self(second, labels)[0],
            "logits_uncond_mask1": self(first, none)[0],
            "logits_allmask": self(torch.full_like(first, self.vocabulary), labels)[0],
        }
        for run, stated in fixture.runs("ids", "tokens", marks=SETTINGS).items():
            settings, trace = sampling.known(stated, *SETTINGS), list[Tensor]()
            noise: sampling.Noise = sampling.Greedy(len(labels))
            if not run.startswith("greedy"):
                draws = zip(fixture.noise(f"{run}_exp"), fixture.noise(f"{run}_gumbel"), strict=True)
                noise = sampling.Recorded(d for pair in draws for d in pair)
            out[f"{run}_tokens"] = self.generate(labels, noise, **settings, trace=trace)
            out[f"{run}_ids"] = torch.stack(trace)
        return out


class _MlmLayer(nn.Module):
    """fc, GELU, ln, then the words' embeddings and a bias: logits (libs/modules.py)."""

    def __init__(self, dim: int, ids: int) -> None:
        super().__init__()
        self.fc, self.ln = nn.Linear(dim, dim), nn.LayerNorm(dim)
        self.bias = nn.Parameter(torch.zeros(1, 1, ids))

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        return self.ln(F.gelu(self.fc(x))) @ words.T + self.bias
