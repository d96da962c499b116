"""MaskBit's generator: masked prediction of groups of bits (arXiv:2409.16211).

markweberdev/maskbit @ 5ea3d73: modeling/bert.py, modeling/modules/{sampling,masking,factorization}.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer_generators, sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.transformer import heads_of, merged
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError

ANNEALINGS = ("none", "linear", "cosine")
SETTINGS = (
    "guidance_scale",
    "guidance_annealing",
    "scale_pow",
    "softmax_temperature",
    "use_sampling_annealing",
    "randomize_temperature",
    "num_steps",
    "mask_schedule_strategy",
)


class _Mha(nn.Module):
    """nn.MultiheadAttention's keys: in_proj_weight, in_proj_bias, out_proj."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor) -> Tensor:
        projected = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = (heads_of(part, self.heads) for part in projected.chunk(3, dim=-1))
        out: Tensor = self.out_proj(merged(F.scaled_dot_product_attention(q, k, v)))
        return out


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int, *, before: bool) -> None:
        super().__init__()
        self.mha, self.norm, self.before = _Mha(dim, heads), nn.LayerNorm(dim, eps=1e-12), before

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.mha(self.norm(x)) if self.before else self.norm(x + self.mha(x))
        return out


class _FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int, *, before: bool) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.norm, self.before = nn.LayerNorm(dim, eps=1e-12), before

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.net(self.norm(x)) if self.before else self.norm(x + self.net(x))
        return out


class MaskBitGenerator(nn.Module):
    """config: img_size, input_stride, hidden_dim, codebook_size, codebook_splits, depth, heads, mlp_dim, nclass,
    use_prenorm, and `inputs` ("bits": LFQBert, the default and all released files; "embeddings": Bert).

    A token is split into `codebook_splits` groups of bits, each predicted and masked for itself. The class comes last.
    """

    optional: tuple[str, ...] = ()
    infer_arch = staticmethod(infer_generators.maskbit)

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(config, "config")
        cells, rest = divmod(c.integer("img_size", 256), c.integer("input_stride", 16))
        if rest:
            raise VtbenchError("config.img_size must be a multiple of input_stride: tokens lie on a grid")
        dim, self.splits = c.integer("hidden_dim", 768), c.integer("codebook_splits", 1)
        size, heads = c.integer("codebook_size", 1024), c.integer("heads", 8)
        bits = size.bit_length() - 1
        if 2**bits != size or bits % self.splits:
            raise VtbenchError(
                f"config.codebook_size is {size}, but must be a power of two whose exponent {self.splits} divides"
            )
        if dim % heads:
            raise VtbenchError(f"config.hidden_dim {dim} is no multiple of heads {heads}")
        depth, hidden, self.classes = c.integer("depth", 24), c.integer("mlp_dim", 3072), c.integer("nclass", 1000)
        before = c.flag("use_prenorm", False)
        self.bitwise = c.choice("inputs", ("bits", "embeddings"), "bits") == "bits"
        for key in ("dropout", "sampling"):
            c.any(key)
        c.done()
        self.pixels = c.integer("img_size", 256)
        self.length, self.group, self.vocabulary = cells**2, bits // self.splits, 2 ** (bits // self.splits)
        self.pos_emb = nn.Parameter(torch.zeros(1, self.length + 1, dim))
        self.class_emb = nn.Embedding(self.classes + 1, dim)
        if self.bitwise:
            self.bits_to_indices: Tensor
            self.register_buffer("bits_to_indices", 2 ** torch.arange(self.group, dtype=torch.int32))
            self.input_proj = nn.Linear(bits, dim)
        else:
            self.tok_emb_list = nn.ModuleList(nn.Embedding(self.vocabulary + 1, dim) for _ in range(self.splits))
        self.first_layer = nn.Sequential(nn.LayerNorm(dim, eps=1e-12))
        layers = (
            nn.ModuleList([_Attention(dim, heads, before=before), _FeedForward(dim, hidden, before=before)])
            for _ in range(depth)
        )
        self.transformer = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.norm_after_transformer = nn.LayerNorm(dim, eps=1e-12) if before else nn.Identity()
        self.last_layer = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim, eps=1e-12))
        if self.bitwise:
            self.prediction_layer = nn.Linear(dim, self.splits * self.vocabulary)
        else:
            self.bias = nn.ParameterList(
                nn.Parameter(torch.zeros(self.length, self.vocabulary)) for _ in range(self.splits)
            )

    @staticmethod
    def complete(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
        """`config` with `inputs`, which upstream's does not state, from the parameters' names."""
        return {"inputs": "bits" if "input_proj.weight" in names else "embeddings", **config}

    @staticmethod
    def rename(name: str) -> str:
        """The hub files keep input_proj under token_emb (demo_utils.py:52-53)."""
        return name.replace("token_emb.", "input_proj.", 1) if name.startswith("token_emb.") else name

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """tokens (B, N, splits), `vocabulary` where masked; labels (B,), `classes` for none -> (B, N, splits, V)."""
        if self.bitwise:
            signs = ((tokens[..., None].int() & self.bits_to_indices) != 0).to(self.pos_emb.dtype) * 2 - 1
            x = self.input_proj(signs.masked_fill((tokens == self.vocabulary)[..., None], 0.0).flatten(2))
        else:
            x = self.tok_emb_list[0](tokens[..., 0])
            for i in range(1, self.splits):
                x = x + self.tok_emb_list[i](tokens[..., i])
        x = self.first_layer(torch.cat([x, self.class_emb(labels)[:, None]], dim=1) + self.pos_emb)
        for pair in self.transformer["layers"]:  # type: ignore[attr-defined]
            for layer in pair:
                x = layer(x)
        x = self.last_layer(self.norm_after_transformer(x))
        if self.bitwise:
            logits = self.prediction_layer(x).unflatten(-1, (self.splits, self.vocabulary))[:, : self.length]
        else:
            tables = [e.weight.T[:, : self.vocabulary] for e in self.tok_emb_list]  # type: ignore[index]
            each = [(x @ t)[:, : self.length] + b for t, b in zip(tables, self.bias, strict=True)]
            logits = torch.stack(each, dim=2)
        return sampling.finite(sampling.widened(logits), "MaskBit")

    def generate(
        self,
        labels: Tensor,
        noise: sampling.Noise,
        *,
        guidance_scale: float = 3.0,
        guidance_annealing: str = "none",
        scale_pow: float = 4.0,
        softmax_temperature: float = 1.0,
        use_sampling_annealing: bool = False,
        randomize_temperature: float = 4.5,
        num_steps: int = 12,
        mask_schedule_strategy: str = "linear",
        trace: list[tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """Labels (B,) -> groups (B, N, splits) of the last prediction (sampling.py:50-133).

        Per step, exponential noise (N, splits, V) for the tokens, then Gumbel noise (N, splits) for the confidence.
        `trace` gets (tokens before the step, prediction).
        """
        if guidance_annealing not in ANNEALINGS:
            raise VtbenchError(f"guidance_annealing is {guidance_annealing!r}, but must be one of {ANNEALINGS}")
        none, shape = torch.full_like(labels, self.classes), (self.length, self.splits)
        tokens = torch.full((len(labels), *shape), self.vocabulary, dtype=torch.int64, device=labels.device)
        predicted = tokens
        for i in range(num_steps):
            progress, masked = (i + 1) / num_steps, tokens == self.vocabulary
            if guidance_scale != 0:
                cond, null = self(torch.cat([tokens, tokens]), torch.cat([labels, none])).chunk(2)
                part = {"none": 1.0, "linear": i / num_steps}.get(guidance_annealing)
                part = sampling.cosine_power(i / num_steps, scale_pow) if part is None else part
                logits = cond + guidance_scale * part * (cond - null)
            else:
                logits = self(tokens, labels)
            warmth = 0.5 + 0.8 * (1 - progress) if use_sampling_annealing else softmax_temperature
            p = torch.softmax(logits / warmth, dim=-1)
            predicted = torch.where(masked, sampling.draw(p, noise.exponential(*shape, self.vocabulary)), tokens)
            chosen = torch.gather(p, -1, predicted.clamp(max=self.vocabulary - 1)[..., None])[..., 0]
            chosen = chosen.masked_fill(~masked, math.inf)
            confidence = chosen.log() + noise.gumbel(*shape) * randomize_temperature * (1 - progress)
            if trace is not None:
                trace.append((tokens, predicted))
            share = torch.tensor(sampling.mask_share(progress, mask_schedule_strategy))
            wanted = int(torch.floor(share * (self.length * self.splits)))
            # Where bounds cross, torch.clamp gives the upper: one masked unit gives a count of 0 (sampling.py:121).
            count = torch.minimum(torch.full_like(labels, max(wanted, 1)), masked.sum(dim=(1, 2)) - 1)
            again = sampling.lowest(confidence.flatten(1), count).unflatten(1, shape)
            tokens = torch.where(again, self.vocabulary, predicted)
        return predicted

    def joined(self, groups: Tensor) -> Tensor:
        """(B, N, splits) -> tokens (B, N): group i holds the bits from i group upwards (factorization.py:7-24)."""
        places = torch.arange(self.splits, device=groups.device) * self.group
        return (groups << places).sum(dim=-1)

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        arrays, endings = fixture.arrays, ("masked", "pred", "tokens")
        labels, none = arrays["class_ids"], torch.full_like(arrays["class_ids"], self.classes)
        masked = torch.where(arrays["mask"].bool(), self.vocabulary, arrays["tokens_in"])
        out = {"logits": self(masked, labels), "logits_uncond": self(masked, none)}
        for run, stated in fixture.runs(*endings, marks=SETTINGS).items():
            gumbel = fixture.noise(f"{run}_gumbel")
            # Greedy runs record no noise for the tokens, whose draw is the argmax.
            flat = torch.ones(len(labels), self.length, self.splits, self.vocabulary)
            drawn = [flat] * len(gumbel) if run.startswith("greedy") else fixture.noise(f"{run}_exp")
            noise = sampling.Recorded(u for pair in zip(drawn, gumbel, strict=True) for u in pair)
            trace: list[tuple[Tensor, Tensor]] = []
            last = self.generate(labels, noise, **sampling.known(stated, *SETTINGS), trace=trace)
            out |= {
                f"{run}_masked": torch.stack([t for t, _ in trace]),
                f"{run}_pred": torch.stack([p for _, p in trace]),
                f"{run}_tokens": self.joined(last),
            }
        return out
