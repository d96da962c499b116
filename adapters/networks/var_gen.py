"""VAR: next-scale prediction over the multi-scale tokens of its VQ-VAE (arXiv:2404.02905).

FoundationVision/VAR @ 78b9539: models/var.py, basic_var.py, quant.py, helpers.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import archs, infer_generators, sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.multiscale import MultiScaleVQ
from vtbench.adapters.networks.parts.transformer import Cache, Mlp, heads_of, merged, tanh_gelu
from vtbench.adapters.networks.var import Var
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError

SETTINGS = ("cfg", "top_k", "top_p", "more_smooth")
_TRAINING = (
    "cond_drop_rate",
    "drop_rate",
    "attn_drop_rate",
    "drop_path_rate",
    "flash_if_available",
    "fused_if_available",
)
_RELEASED_VAE = {"vae_ch160v4096z32.pth": (4096, 32)}
"""Codebook size and width of the tokenizer that a configuration names by its file."""


class Attention(nn.Module):
    """mat_qkv without bias, to which (q_bias, zero_k_bias, v_bias) are added (basic_var.py:58-113)."""

    def __init__(self, dim: int, heads: int, *, l2_norm: bool) -> None:
        super().__init__()
        self.heads, self.l2_norm = heads, l2_norm
        if l2_norm:
            self.scale_mul_1H11 = nn.Parameter(torch.full((1, heads, 1, 1), math.log(4.0)))
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        self.zero_k_bias: Tensor
        self.register_buffer("zero_k_bias", torch.zeros(dim))
        self.mat_qkv, self.proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None, cache: Cache | None, layer: int) -> Tensor:
        bias = torch.cat([self.q_bias, self.zero_k_bias, self.v_bias])
        q, k, v = (heads_of(p, self.heads) for p in F.linear(x, self.mat_qkv.weight, bias).chunk(3, dim=-1))
        scale = 0.25 / math.sqrt(q.shape[-1])
        if self.l2_norm:
            q = F.normalize(q, dim=-1) * self.scale_mul_1H11.clamp(max=math.log(100)).exp()
            k, scale = F.normalize(k, dim=-1), 1.0
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        out: Tensor = self.proj(merged(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)))
        return out


class Block(nn.Module):
    """Six modulation vectors in the order gamma1, gamma2, scale1, scale2, shift1, shift2 (basic_var.py:116-159).

    shared: they come from one layer for all blocks, plus the block's own `ada_gss`.
    """

    def __init__(self, dim: int, heads: int, hidden: int, *, eps: float, l2_norm: bool, shared: bool) -> None:
        super().__init__()
        self.attn, self.ffn = Attention(dim, heads, l2_norm=l2_norm), Mlp(dim, hidden, act=tanh_gelu)
        self.norm, self.shared = nn.LayerNorm(dim, eps=eps, elementwise_affine=False), shared
        if shared:
            self.ada_gss = nn.Parameter(torch.zeros(1, 1, 6, dim))
        else:
            self.ada_lin = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def forward(self, x: Tensor, condition: Tensor, mask: Tensor | None, cache: Cache | None, layer: int) -> Tensor:
        """condition: (B, dim), or (B, 1, 6, dim) if shared."""
        six = self.ada_gss + condition if self.shared else self.ada_lin(condition)[:, None].unflatten(-1, (6, -1))
        gamma1, gamma2, scale1, scale2, shift1, shift2 = six.unbind(2)
        x = x + self.attn(self.norm(x) * (scale1 + 1) + shift1, mask, cache, layer) * gamma1
        out: Tensor = x + self.ffn(self.norm(x) * (scale2 + 1) + shift2) * gamma2
        return out


class Head(nn.Module):
    """Modulation before the logits: scale, then shift (basic_var.py:165-174)."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=eps, elementwise_affine=False)
        self.ada_lin = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.ada_lin(condition)[:, None].chunk(2, dim=-1)
        out: Tensor = self.norm(x) * (scale + 1) + shift
        return out


class VarGenerator(nn.Module):
    """config: {"var": …, "vae": …}, or VAR's own keys with `vae` naming the released tokenizer's file.

    The tokenizer's embedding and Phi take part in the sampling: `vae` is ours if the configuration describes it, else
    it is given to `generate`.
    """

    optional: tuple[str, ...] = ()
    infer_arch = staticmethod(infer_generators.var)

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        nested = Config(config, "config") if "var" in config else None
        c = nested.sub("var") if nested else Config(config, "config")
        self.helpers: dict[str, nn.Module] = {}
        patches = c.integers("patch_nums")
        if nested:
            vocabulary, width = self._describe(nested.sub("vae"), patches)
            nested.done()
        else:
            vocabulary, width = _RELEASED_VAE[c.choice("vae", tuple(_RELEASED_VAE))]
        dim, heads, self.classes = c.integer("embed_dim"), c.integer("num_heads"), c.integer("num_classes")
        eps, shared = c.number("norm_eps", 1e-6), c.flag("shared_aln", False)
        l2_norm, hidden = c.flag("attn_l2_norm", True), round(dim * c.number("mlp_ratio", 4.0))
        depth = c.integer("depth")
        for key in _TRAINING:
            c.any(key)
        c.done()
        if dim % heads:
            raise VtbenchError(f"config.embed_dim is {dim}, but must be a multiple of num_heads {heads}")
        self.scales = tuple((p, p) for p in patches)
        self.pixels = 16 * patches[-1]
        self.lengths = [p * p for p in patches]
        total, self.vocabulary, self.shared = sum(self.lengths), vocabulary, shared
        self.pos_start = nn.Parameter(torch.zeros(1, self.lengths[0], dim))
        self.pos_1LC = nn.Parameter(torch.zeros(1, total, dim))
        level = torch.repeat_interleave(torch.arange(len(patches)), torch.tensor(self.lengths), output_size=total)
        mask = torch.zeros(total, total).masked_fill(level[:, None] < level[None], -math.inf)
        self.lvl_1L: Tensor
        self.attn_bias_for_masking: Tensor
        self.register_buffer("lvl_1L", level[None])
        self.register_buffer("attn_bias_for_masking", mask[None, None])
        self.word_embed, self.class_emb = nn.Linear(width, dim), nn.Embedding(self.classes + 1, dim)
        self.lvl_embed = nn.Embedding(len(patches), dim)
        if shared:
            self.shared_ada_lin = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(
            Block(dim, heads, hidden, eps=eps, l2_norm=l2_norm, shared=shared) for _ in range(depth)
        )
        self.head_nm, self.head = Head(dim, eps), nn.Linear(dim, vocabulary)

    def _describe(self, c: Config, patches: Sequence[int]) -> tuple[int, int]:
        """Builds the tokenizer of a configuration; returns its codebook size and width."""
        vocabulary, width = c.integer("vocab_size"), c.integer("z_channels")
        if c.integers("v_patch_nums", default=patches) != tuple(patches):
            raise VtbenchError("config.vae.v_patch_nums and config.var.patch_nums differ: both must list the scales")
        arch = {
            "in_channels": 3,
            "out_channels": 3,
            "ch": c.integer("ch"),
            "z_channels": width,
            "ch_mult": list(c.integers("ch_mult", default=archs.F16)),
            "num_res_blocks": c.integer("num_res_blocks", 2),
            "attention": "last level and middle",
            "quant_conv_ks": c.integer("quant_conv_ks", 3),
            "norm_groups": 32,
            "norm_eps": 1e-6,
            "quantizer": {
                "type": "multi-scale residual vq",
                "codebook_size": vocabulary,
                "embed_dim": width,
                "znorm": c.flag("using_znorm", False),
                "quant_resi": c.number("quant_resi", 0.5),
                "share_quant_resi": c.integer("share_quant_resi", 4, at_least=0),
                "v_patch_nums": list(patches),
            },
        }
        for key in ("dropout", "beta", "test_mode", "default_qresi_counts"):
            c.any(key)
        c.done()
        self.helpers["vae"] = Var(arch).eval()
        return vocabulary, width

    def hidden(self, x: Tensor, classes: Tensor, mask: Tensor | None, cache: Cache | None) -> Tensor:
        """x (B, n, dim), classes (B, dim) -> logits (B, n, V) float32."""
        condition = self.shared_ada_lin(classes)[:, None].unflatten(-1, (6, -1)) if self.shared else classes
        for i, block in enumerate(self.blocks):
            x = block(x, condition, mask, cache, i)
        return sampling.finite(sampling.widened(self.head(self.head_nm(x, classes))), "VAR")

    @property
    def positions(self) -> Tensor:
        """(1, L, dim): level and position embeddings."""
        out: Tensor = self.lvl_embed(self.lvl_1L) + self.pos_1LC
        return out

    def teacher_forced(self, labels: Tensor, teacher: Tensor) -> Tensor:
        """teacher: `teacher_input` of the tokens, (B, L - first, width) -> logits (B, L, V)."""
        classes = self.class_emb(labels)
        x = torch.cat([classes[:, None] + self.pos_start, self.word_embed(teacher)], dim=1) + self.positions
        return self.hidden(x, classes, self.attn_bias_for_masking.to(x.dtype), None)

    def generate(
        self,
        labels: Tensor,
        noise: sampling.Noise | None,
        *,
        vae: Any = None,
        cfg: float = 1.5,
        top_k: int = 0,
        top_p: float = 0.0,
        more_smooth: bool = False,
        cache: bool = True,
    ) -> Sampled:
        """Labels (B,) -> tokens of all scales and the latent (var.py:126-190). noise None: the most likely tokens.

        Guidance of scale si is t = cfg si / (scales - 1): (1 + t) cond - t null; cfg 0 is no guidance.
        more_smooth: codes are mixed by a Gumbel softmax; the tokens are then those that would have been drawn.
        """
        vae = vae if vae is not None else self.helpers.get("vae")
        if vae is None:
            raise VtbenchError("VAR samples with its tokenizer's codes: attach var-vae before generating")
        if int(labels.min()) < 0 or int(labels.max()) >= self.classes:
            raise VtbenchError(f"a class label lies outside 0..{self.classes - 1}: give labels of the training set")
        quantizer: MultiScaleVQ = vae.bottleneck
        classes = self.class_emb(torch.cat([labels, torch.full_like(labels, self.classes)]))
        positions = self.positions
        x = classes[:, None] + self.pos_start + positions[:, : self.lengths[0]]
        side, first = self.scales[-1], len(labels)
        latent = torch.zeros(first, quantizer.embedding.embedding_dim, *side, device=x.device, dtype=x.dtype)
        kept, whole, tokens, logits_of = (Cache() if cache else None), x, [], []
        start = 0
        for si, length in enumerate(self.lengths):
            ratio = si / (len(self.scales) - 1) if len(self.scales) > 1 else 0.0
            if kept is not None:
                logits = self.hidden(x, classes, None, kept)
            else:
                end = start + length
                mask = self.attn_bias_for_masking[:, :, :end, :end].to(x.dtype)
                logits = self.hidden(whole, classes, mask, None)[:, -length:]
            cond, null = logits.chunk(2)
            logits = (1 + cfg * ratio) * cond - cfg * ratio * null
            logits_of.append(logits)
            kept_logits = sampling.drop_tail(sampling.keep_top_k(logits, top_k), top_p)
            p = torch.softmax(kept_logits, dim=-1)
            if noise is None or more_smooth:
                tokens.append(p.argmax(dim=-1))
            else:
                tokens.append(sampling.draw(p, noise.exponential(length, self.vocabulary)))
            if more_smooth:
                gumbel = 0.0 if noise is None else noise.gumbel(length, self.vocabulary)
                codes = _mixed(kept_logits, ratio, gumbel, quantizer.embedding.weight, x.dtype)
            else:
                codes = quantizer.embedding(tokens[-1])
            latent = latent + enlarge(quantizer, codes, si, side)
            start += length
            if si + 1 < len(self.scales):
                following = F.interpolate(latent, size=self.scales[si + 1], mode="area").flatten(2).transpose(1, 2)
                x = self.word_embed(following) + positions[:, start : start + self.lengths[si + 1]]
                x = torch.cat([x, x])
                whole = torch.cat([whole, x], dim=1)
        return Sampled(torch.cat(tokens, dim=1), latent, torch.cat(logits_of, dim=1))

    @staticmethod
    def image(vae: Any, latent: Tensor) -> Tensor:
        """The image (B, 3, H, W) in [0, 1] of a latent (B, C, h, w), by the tokenizer's network."""
        out: Tensor = (vae.decoder(vae.post_quant_conv(latent)).clamp(-1, 1) + 1) / 2
        return out

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        arrays, vae = fixture.arrays, self.helpers["vae"]
        labels = arrays["class_ids"]
        teacher = teacher_input(vae, arrays["tokens_in"])
        out = {
            "var_input": teacher,
            "logits": self.teacher_forced(labels, teacher),
            "logits_uncond": self.teacher_forced(torch.full_like(labels, self.classes), teacher),
        }
        for run, stated in fixture.runs("fhat", "image", "logits", marks=SETTINGS).items():
            settings = sampling.known(stated, *SETTINGS)
            noise = None
            if not run.startswith("greedy"):
                recorded = fixture.noise("gumbel_noise" if settings.get("more_smooth") else "exp_noise")
                noise = sampling.Recorded(p.transpose(0, 1) for p in recorded.split(self.lengths))
            sampled = self.generate(labels, noise, **settings)
            out |= {run: sampled.tokens, f"{run}_fhat": sampled.latent, f"{run}_logits": sampled.logits}
            if fixture.wanted(run, "image"):
                out[f"{run}_image"] = self.image(vae, sampled.latent)
        return out


def _mixed(logits: Tensor, ratio: float, gumbel: Tensor | float, codes: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, n, C): the codebook's rows (V, C) in the proportions of a Gumbel softmax of logits (B, n, V).

    It sharpens from scale to scale; ratio: the scale's number over that of the last (var.py:126-190).
    """
    tau = max(0.27 * (1 - ratio * 0.95), 0.005)
    shares = torch.softmax((logits * (1 + ratio) + gumbel) / tau, dim=-1).to(dtype)
    return shares @ codes


class Sampled:
    """tokens int64 (B, L), scale-major; latent (B, C, h, w), the sum over scales; guided logits (B, L, V)."""

    def __init__(self, tokens: Tensor, latent: Tensor, logits: Tensor) -> None:
        self.tokens, self.latent, self.logits = tokens, latent, logits


def enlarge(quantizer: MultiScaleVQ, codes: Tensor, scale: int, side: tuple[int, int]) -> Tensor:
    """What codes (B, h w, C) of a scale add to the latent: bicubic to the full grid (not at the last), then Phi."""
    size = quantizer.scales[scale]
    grid = torch.unflatten(codes.transpose(1, 2), -1, size).contiguous()
    if scale != len(quantizer.scales) - 1:
        grid = F.interpolate(grid, size=side, mode="bicubic").contiguous()
    out: Tensor = quantizer.phi(scale)(grid)
    return out


def teacher_input(vae: Any, tokens: Tensor) -> Tensor:
    """Tokens (B, L) -> (B, L - first, C): the latent so far, at the size of each next scale (quant.py:169-184)."""
    quantizer: MultiScaleVQ = vae.bottleneck
    scales, side = quantizer.scales, quantizer.scales[-1]
    parts, out = torch.split(tokens, [h * w for h, w in scales], dim=1), []
    latent: Tensor | float = 0.0
    for si, following in enumerate(scales[1:]):
        latent = latent + enlarge(quantizer, quantizer.embedding(parts[si]), si, side)
        out.append(F.interpolate(latent, size=following, mode="area").flatten(2).transpose(1, 2))
    return torch.cat(out, dim=1)
