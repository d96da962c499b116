"""MaskGIT with self-guidance: the difference to a second pass that sees only feedback steers the first
(UnlockMGM, arXiv:2410.13136).

JiwanHur/UnlockMGM @ 33e139a: muse/modeling_transformer_toast.py (whose line numbers are given), muse/sampling.py.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.infer import Shapes, count
from vtbench.adapters.networks.parts.transformer import RMSNorm, check_heads, heads_of, merged
from vtbench.models.noise import gumbel
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError

SETTINGS = ("sampling_type", "guidance_scale", "temperature", "timesteps", "noise_schedule", "greedy")
LARGEST = math.log(3.4028234663852886e38)
"""Confidence of a known token before its noise: the logarithm of float32's greatest number, whatever the dtype."""
_TRAINING = (
    "initializer_range",
    "hidden_dropout",
    "attention_dropout",
    "train_head",
    "predict_all",
    "lambda_var",
    "encoder_hidden_size",
    "mask_token_id",
    "_class_name",
    "_version",
)


class _Sizes:
    """What the layers share: width, whether they have biases, and their norm."""

    def __init__(self, c: Config) -> None:
        self.dim, self.heads = c.integer("hidden_size", 768), c.integer("num_attention_heads", 12)
        check_heads(self.dim, self.heads)
        self.hidden, self.bias = c.integer("intermediate_size", 3072), c.flag("use_bias", False)
        self.eps = c.number("layer_norm_eps", 1e-5)
        self.rms = c.choice("norm_type", ("layernorm", "rmsnorm"), "layernorm") == "rmsnorm"
        self.normformer, self.maskgit = c.flag("use_normformer", True), c.flag("use_maskgit_mlp", False)

    def linear(self, width: int, out: int) -> nn.Linear:
        return nn.Linear(width, out, bias=self.bias)

    def norm(self, dim: int | None = None) -> nn.Module:
        dim = dim or self.dim
        return RMSNorm(dim, self.eps) if self.rms else self.layer_norm(dim)

    def layer_norm(self, dim: int) -> nn.Module:
        return nn.LayerNorm(dim, eps=self.eps, bias=self.bias)


class _Attention(nn.Module):
    def __init__(self, s: _Sizes) -> None:
        super().__init__()
        self.heads = s.heads
        self.query, self.key, self.value, self.out = (s.linear(s.dim, s.dim) for _ in range(4))

    def forward(self, x: Tensor, signal: Tensor | None) -> Tensor:
        """A signal (B, n, dim) is projected as values are, bias and all, and added to them (119-122)."""
        value = self.value(x) if signal is None else self.value(x) + self.value(signal)
        q, k, v = (heads_of(part, self.heads) for part in (self.query(x), self.key(x), value))
        out: Tensor = self.out(merged(F.scaled_dot_product_attention(q, k, v)))
        return out


class _Mlp(nn.Module):
    """MaskGIT's: the norm lies over output + input."""

    def __init__(self, s: _Sizes) -> None:
        super().__init__()
        self.intermediate_output, self.layer_output = s.linear(s.dim, s.hidden), s.linear(s.hidden, s.dim)
        # A LayerNorm whatever norm_type says (217).
        self.layer_norm = s.layer_norm(s.dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer_norm(self.layer_output(F.gelu(self.intermediate_output(x))) + x)
        return out


class _GatedMlp(nn.Module):
    """Normformer's: norm, two layers of which one is activated, norm, layer."""

    def __init__(self, s: _Sizes) -> None:
        super().__init__()
        self.pre_mlp_layer_norm = s.layer_norm(s.dim)
        self.wi_0, self.wi_1, self.wo = s.linear(s.dim, s.hidden), s.linear(s.dim, s.hidden), s.linear(s.hidden, s.dim)
        self.mid_mlp_layer_norm = s.norm(s.hidden) if s.normformer else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.pre_mlp_layer_norm(x)
        x = F.gelu(self.wi_0(x)) * self.wi_1(x)
        out: Tensor = self.wo(x if self.mid_mlp_layer_norm is None else self.mid_mlp_layer_norm(x))
        return out


class _Layer(nn.Module):
    """MaskGIT's, norms behind, or pre-norm with a gated MLP (245-308)."""

    def __init__(self, s: _Sizes) -> None:
        super().__init__()
        self.attn_layer_norm, self.attention, self.behind = s.norm(), _Attention(s), s.maskgit
        self.ffn: nn.Module = _Mlp(s) if s.maskgit else _GatedMlp(s)
        self.post_attn_layer_norm = s.norm() if s.normformer else None

    def forward(self, x: Tensor, signal: Tensor | None) -> Tensor:
        mixed = self.attention(x if self.behind else self.attn_layer_norm(x), signal)
        x = x + (mixed if self.post_attn_layer_norm is None else self.post_attn_layer_norm(mixed))
        if self.behind:
            out: Tensor = self.ffn(self.attn_layer_norm(x))
            return out
        return x + self.ffn(x)


class _Anchor(nn.Module):
    """A direction a class: factors' sum of a position's and a class's vectors, normed, projected (395-426)."""

    def __init__(self, classes: int, factors: int, dim: int) -> None:
        super().__init__()
        self.mlp_p, self.mlp_c = nn.Embedding(1, dim * factors), nn.Embedding(classes, dim * factors)
        self.mlp_f, self.mlp_t, self.layer_norm = nn.Embedding(1, factors), nn.Linear(dim, dim), nn.LayerNorm(dim)

    def forward(self, labels: Tensor) -> Tensor:
        vectors = (self.mlp_p.weight + self.mlp_c(labels)).unflatten(1, (-1, self.mlp_f.weight.shape[1]))
        out: Tensor = self.mlp_t(self.layer_norm((self.mlp_f.weight[0] * vectors).sum(dim=-1)))
        return out[:, None]


class MaskGitSg(nn.Module):
    """config: open-muse's MaskGitTransformer, with use_toast, tg_factor, use_blank_second.

    Ids: codes 0..V-1, class V + label (first in the sequence), mask vocab_size - 1. There is no null class.
    """

    optional: tuple[str, ...] = ()

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(config, "config")
        s, ids = _Sizes(c), c.integer("vocab_size")
        self.vocabulary, self.length = c.integer("codebook_size", 1024), c.integer("num_vq_tokens", 256)
        self.classes, self.mask, self.blank = c.integer("num_classes", 1000), ids - 1, c.flag("use_blank_second", False)
        self.pixels = 16 * math.isqrt(self.length)
        if self.vocabulary + self.classes > self.mask:
            raise VtbenchError(f"config.vocab_size is {ids}: codes, classes and a mask take more")
        c.unused(("add_cross_attention", "project_encoder_hidden_states"), "self-guidance is for class models")
        positions, depth = c.integer("max_position_embeddings", 256), c.integer("num_hidden_layers", 12)
        self.embed = nn.ModuleDict(
            {"word_embeddings": nn.Embedding(ids, s.dim), "position_embeddings": nn.Embedding(positions, s.dim)}
        )
        if c.flag("layer_norm_embeddings", False):
            self.embed["embeddings_ln"] = s.norm()
        self.transformer_layers = nn.ModuleList(_Layer(s) for _ in range(depth))
        self.encoder_layer_norm = s.norm() if c.flag("use_encoder_layernorm", True) else None
        self.mlm_layer: nn.ModuleDict | None = None
        if c.flag("use_mlm_layer", True):
            parts: dict[str, nn.Module] = {"mlm_dense": s.linear(s.dim, s.dim), "to_logits": s.linear(s.dim, ids)}
            if c.flag("use_mlm_layernorm", True):
                parts["mlm_ln"] = s.norm()
            self.mlm_layer = nn.ModuleDict(parts)
        else:
            c.any("use_mlm_layernorm")
            self.to_logits = s.linear(s.dim, ids)
        self.guides, factors = c.flag("use_toast", False), c.integer("tg_factor", 16)
        if self.guides:
            self.cls_anchor_gen = _Anchor(self.classes, factors, s.dim)
            self.top_down_transform = nn.Parameter(torch.zeros(s.dim, s.dim))
            self.decoders = nn.ModuleList(
                nn.ModuleDict({n: nn.Linear(s.dim, s.dim, bias=False) for n in ("linear", "linear2")})
                for _ in range(depth)
            )
        for key in _TRAINING:
            c.any(key)
        c.done()

    @staticmethod
    def infer_arch(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """Sizes; the number of heads, and what has no parameters, stay as in `like`."""
        words, inner = "embed.word_embeddings.weight", "transformer_layers.0.ffn.intermediate_output.weight"
        if words not in shapes or inner not in shapes or "cls_anchor_gen.mlp_f.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        arch["vocab_size"], arch["hidden_size"] = shapes[words]
        arch["max_position_embeddings"] = shapes["embed.position_embeddings.weight"][0]
        arch["num_vq_tokens"], arch["intermediate_size"] = arch["max_position_embeddings"] - 1, shapes[inner][0]
        arch["num_hidden_layers"] = count(shapes, "transformer_layers.{i}.")
        arch["num_classes"], arch["tg_factor"] = (
            shapes["cls_anchor_gen.mlp_c.weight"][0],
            shapes["cls_anchor_gen.mlp_f.weight"][1],
        )
        arch["codebook_size"] = min(like["codebook_size"], arch["vocab_size"] - arch["num_classes"] - 1)
        return arch

    def states(self, ids: Tensor, signals: list[Tensor] | None = None) -> Tensor:
        """ids (B, 1 + N), class first -> (B, 1 + N, dim) after the last layer."""
        x = self.embed["word_embeddings"](ids) + self.embed["position_embeddings"].weight[: ids.shape[1]]
        if "embeddings_ln" in self.embed:
            x = self.embed["embeddings_ln"](x)
        for i, layer in enumerate(self.transformer_layers):
            x = layer(x, None if signals is None else signals[i])
        return x

    def logits(self, x: Tensor) -> Tensor:
        """States -> (B, N, V) float32, without the class's row and the ids above the codes."""
        if self.encoder_layer_norm is not None:
            x = self.encoder_layer_norm(x)
        if self.mlm_layer is not None:
            x = F.gelu(self.mlm_layer["mlm_dense"](x))
            x = self.mlm_layer["mlm_ln"](x) if "mlm_ln" in self.mlm_layer else x
            x = self.mlm_layer["to_logits"](x)
        else:
            x = self.to_logits(x)
        return sampling.finite(sampling.widened(x[:, 1:, : self.vocabulary]), "MaskGIT")

    def weak(self, ids: Tensor, labels: Tensor, states: Tensor) -> Tensor:
        """Logits (B, N, V) of the second pass: what is like the class in the states feeds back, from the last layer
        down; with use_blank_second the ids themselves, the class too, are masks (702-765)."""
        like = F.normalize(states, dim=-1) @ F.normalize(self.cls_anchor_gen(labels), dim=-1).transpose(1, 2)
        x, signals = states * like.clamp(0, 1) @ self.top_down_transform, list[Tensor]()
        for decoder in reversed(self.decoders):
            x = decoder["linear"](x)  # type: ignore[index]
            signals.insert(0, decoder["linear2"](x))  # type: ignore[index]
        return self.logits(self.states(torch.full_like(ids, self.mask) if self.blank else ids, signals))

    def generate(
        self,
        labels: Tensor,
        noise: sampling.Noise,
        *,
        guidance_scale: float = 1.0,
        temperature: float = 25.0,
        timesteps: int = 18,
        noise_schedule: str = "cosine",
        trace: dict[str, list[Tensor]] | None = None,
    ) -> Tensor:
        """Labels (B,) -> tokens (B, N) (933-1023). Guidance 0 is MaskGIT's own sampling, one pass a step.

        Per step exponential noise (N, V) of the draw, then uniform (N,) of the confidence, log p + T Gumbel. T falls by
        1 - step / steps cumulatively. `trace` gets ids, what is masked again, and T of every step.
        """
        steps = sampling.whole("timesteps", timesteps)
        sampling.number("guidance_scale", guidance_scale)
        warmth = sampling.number("temperature", temperature)
        share_after(0.5, noise_schedule)
        sampling.labels_within(labels, self.classes)
        if guidance_scale and not self.guides:
            raise VtbenchError(
                "guidance_scale is above 0, but this network has no feedback (config.use_toast): set it 0"
            )
        ids = torch.full((len(labels), self.length), self.mask, dtype=torch.int64, device=labels.device)
        drawn = ids
        for step in range(steps):
            whole = torch.cat([labels[:, None] + self.vocabulary, ids], dim=1)
            states = self.states(whole)
            logits = self.logits(states)
            if guidance_scale:
                logits = guided(logits, self.weak(whole, labels, states), guidance_scale)
            p, unknown = torch.softmax(logits, dim=-1), ids == self.mask
            drawn = torch.where(unknown, sampling.draw(p, noise.exponential(self.length, self.vocabulary)), ids)
            ratio = (step + 1) / steps
            wanted = math.floor(self.length * share_after(ratio, noise_schedule))
            keep = torch.clamp((unknown.sum(dim=1) - 1).clamp(max=wanted), min=1)
            warmth *= 1 - ratio
            sure = torch.gather(p, -1, drawn[..., None])[..., 0].clamp(min=1e-20).log()
            sure = torch.where(unknown, sure, torch.full_like(sure, LARGEST))
            sure = sure + warmth * gumbel(noise.uniform(self.length))
            masked = sure < torch.gather(sure.sort(dim=-1).values, 1, keep[:, None])
            for name, value in (("ids", drawn), ("masked", masked.long()), ("temperatures", torch.tensor(warmth))):
                if trace is not None:
                    trace.setdefault(name, []).append(value)
            ids = torch.where(masked, self.mask, drawn)
        return drawn

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        a = fixture.arrays
        labels = a["class_ids"]
        ids = torch.cat(
            [labels[:, None] + self.vocabulary, torch.where(a["mask"].bool(), self.mask, a["tokens_in"])], 1
        )
        states = self.states(ids)
        logits = self.logits(states)
        out = {"logits": logits, "hidden": states}
        if self.guides:
            weak, scale = self.weak(ids, labels, states), fixture.stated.get("guided_logits", {})
            out |= {"class_anchor": self.cls_anchor_gen(labels), "toast_logits": weak}
            out["guided_logits"] = guided(logits, weak, float(scale.get("guidance_scale", 1.0)))
        for run, stated in fixture.runs("ids", "masked", "temperatures", marks=("timesteps",)).items():
            settings, trace = sampling.known(stated, *SETTINGS), dict[str, list[Tensor]]()
            kind, greedy = settings.pop("sampling_type", "self_guidance"), settings.pop("greedy", False)
            if kind == "maskgit":
                settings["guidance_scale"] = 0
            sure = fixture.noise(f"{run}_u")
            draws = torch.ones(*sure.shape, self.vocabulary) if greedy else fixture.noise(f"{run}_e")
            pairs = zip(draws, sure, strict=True)
            self.generate(labels, sampling.Recorded(d for pair in pairs for d in pair), **settings, trace=trace)
            out |= {f"{run}_{name}": torch.stack(values) for name, values in trace.items()}
        return out


def guided(logits: Tensor, weak: Tensor, scale: float) -> Tensor:
    """weak + (1 + g) (logits - weak) (977)."""
    return weak + (1 + scale) * (logits - weak)


def share_after(ratio: float, schedule: str) -> float:
    """Share of masked tokens, float32: cosine, linear, sigmoid, or powP (muse/sampling.py). At 18 steps and cosine the
    twelfth is just below a half, as float32's cosine has it."""
    t = torch.tensor(float(ratio))
    if schedule == "cosine":
        return float(torch.cos(t * math.pi * 0.5))
    if schedule == "linear":
        return float((1 - t).clamp(1e-6, 1.0))
    if schedule == "sigmoid":
        low, high = torch.sigmoid(torch.tensor(-3.0)), torch.sigmoid(torch.tensor(3.0))
        return float(((high - torch.sigmoid(t * 6 - 3)) / (high - low)).clamp(1e-6, 1.0))
    try:
        power = float(schedule.removeprefix("pow")) if schedule.startswith("pow") else math.nan
    except ValueError:
        power = math.nan
    if not 0 < power < math.inf:
        raise VtbenchError(f"noise_schedule is {schedule!r}, but must be cosine, linear, sigmoid or powP, P above 0")
    return float((1.0 - t**power).clamp(1e-6, 1.0))
