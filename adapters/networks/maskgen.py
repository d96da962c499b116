"""MaskGen: text to TA-TiTok's tokens by masked generation, of codes or of continuous tokens (arXiv:2501.07730).

bytedance/1d-tokenizer @ 942a96f: modeling/maskgen.py, whose line numbers are given.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.mar import Head, Rows, sample_masked
from vtbench.adapters.networks.parts import sampling
from vtbench.adapters.networks.parts.captions import Conditioned, Text
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.diffusers_blocks import ContinuousNorm, JointBlock
from vtbench.adapters.networks.parts.diffusion import Diffusion
from vtbench.adapters.networks.parts.infer import Shapes, count
from vtbench.adapters.networks.parts.transformer import sinusoid
from vtbench.models.noise import gumbel
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError

DECAYS = ("linear", "cosine", "none", "flippedcosine")
SETTINGS = (
    "guidance_scale",
    "guidance_decay",
    "guidance_decay_scale_pow",
    "randomize_temperature",
    "num_sample_steps",
    "prob_sorting",
)
KL_SETTINGS = ("num_iter", "cfg", "cfg_schedule", "temperature")


class MaskGen:
    """The network of a config: of continuous tokens where the tokenizer's quantize_mode is vae, else of codes."""

    def __new__(cls, config: Mapping[str, Any]) -> Any:
        vq = Config(config, "config").sub("model").sub("vq_model")
        return MaskGenKl(config) if vq.any("quantize_mode") == "vae" else MaskGenVq(config)

    @staticmethod
    def infer_arch(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """Sizes of either; heads are as many as in `like`, since no shape shows them."""
        kl = like["model"]["vq_model"].get("quantize_mode") == "vae"
        table, blocks = ("decoder_pos_embed_learned", "decoder_blocks") if kl else ("pos_embed", "blocks")
        text, pooled = ("text_emb", "text_pooled_emb") if kl else ("text_embed_proj", "cond_pooled_proj")
        if table not in shapes or f"{text}.weight" not in shapes or f"{blocks}.0.attn.add_q_proj.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        vq, g = arch["model"]["vq_model"], arch["model"]["maskgen"]
        vq["num_latent_tokens"], g["decoder_embed_dim"] = shapes[table][1:]
        vq["text_embed_dim"], g["decoder_depth"] = shapes[f"{text}.weight"][1], count(shapes, blocks + ".{i}.")
        micro = shapes[f"{pooled}.weight"][1] - vq["text_embed_dim"]
        g["micro_condition"], g["micro_condition_embed_dim"] = micro > 0, micro or g["micro_condition_embed_dim"]
        if kl:
            vq["token_size"], losses = shapes["z_proj.weight"][1], arch["losses"]
            losses["diffloss_w"] = shapes["diffloss.net.input_proj.weight"][0]
            losses["diffloss_d"] = count(shapes, "diffloss.net.res_blocks.{i}.")
        else:
            vq["codebook_size"] = shapes["embeddings.weight"][0] - g["condition_num_classes"] - 2
        return arch


class MaskGenVq(Conditioned):
    """config: model.vq_model, model.maskgen. Ids: codes 0..V-1, mask V; further rows of the table are not used.

    The head is tied to the table (lm_head.weight is embeddings.weight) unless weight_tying is false.
    """

    optional: tuple[str, ...] = ()

    def __init__(self, config: Mapping[str, Any]) -> None:
        top = Config(config, "config")
        super().__init__(top)
        for key in ("dataset", "losses"):
            top.any(key)
        self.vocabulary = self.vq.integer("codebook_size")
        classes, self.tied = self.g.integer("condition_num_classes", 1000), self.g.flag("weight_tying", True)
        self.schedule: str = self.g.choice("mask_schedule_strategy", sampling.SCHEDULES, "arccos")
        for level in (self.vq, self.g, top):
            level.done()
        self.text_embed_proj = nn.Linear(self.text_width, self.dim)
        self.cond_pooled_proj = nn.Linear(self.text_width + self.micro, self.dim)
        self.blocks = nn.ModuleList(
            JointBlock(self.dim, self.heads, last=i == self.depth - 1) for i in range(self.depth)
        )
        self.norm = ContinuousNorm(self.dim)
        self.embeddings = nn.Embedding(self.vocabulary + 1 + classes + 1, self.dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.length, self.dim))
        self.lm_head: nn.Module = nn.Module() if self.tied else nn.Linear(self.dim, self.vocabulary)
        if self.tied:
            self.lm_head.weight = self.embeddings.weight
            self.lm_head.register_parameter("bias", None)

    def sines(self, score: float, like: Tensor) -> Tensor:
        """Sines, then cosines; periods up to 1000, a zero behind them where the width is odd (208-249)."""
        cosines, sines = sinusoid(
            torch.tensor([score * 100], device=like.device), 2 * (self.micro // 2), dtype=like.dtype, period=1000.0
        ).chunk(2, dim=1)
        return torch.cat([sines, cosines, torch.zeros_like(sines[:, : self.micro % 2])], dim=1)

    def forward(self, ids: Tensor, text: Text, score: float) -> Tensor:
        """ids (B, N) with V where masked -> logits (B, N, V) float32."""
        c = self.cond_pooled_proj(self.with_score(text.pooled[:, 0], score))
        context, x = self.text_embed_proj(text.states), self.embeddings(ids) + self.pos_embed[:, : ids.shape[1]]
        for block in self.blocks:
            context, x = block(context, x, c)
        weight = self.lm_head.weight[: self.vocabulary]
        logits = nn.functional.linear(self.norm(x, c), weight, self.lm_head.bias)  # type: ignore[arg-type]
        return sampling.finite(sampling.widened(logits), "MaskGen")

    def scale(self, guidance: float, decay: str, power: float, ratio: float) -> float:
        """Guidance of a step that ends at `ratio` of all (328-349); flippedcosine falls to (3 - g) / 2, as written."""
        if decay == "cosine":
            return (guidance - 1) * sampling.cosine_power(ratio, power) + 1
        if decay == "flippedcosine":
            return (guidance - 1) * (0.5 - sampling.cosine_power(ratio, power)) + 1
        return ratio * (guidance - 1) + 1 if decay == "linear" else guidance

    def generate(
        self,
        text: Text,
        null: Text,
        noise: sampling.Noise,
        *,
        guidance_scale: float = 12.0,
        guidance_decay: str = "cosine",
        guidance_decay_scale_pow: float = 1.0,
        randomize_temperature: float = 1.5,
        num_sample_steps: int = 16,
        prob_sorting: bool = True,
        aesthetic_score: float | None = None,
        trace: list[Tensor] | None = None,
    ) -> Tensor:
        """Captions and the empty one -> tokens (B, N) (328-395). `trace` gets the ids before each step and at the end.

        Per step Gumbel noise (N, V) of the tokens, then, with prob_sorting, (N,) of the confidence, which is the
        chosen logit after guidance and temperature. Upstream's softmax_temperature_annealing=False divides by 0 at the
        last step, and so is not offered.
        """
        sampling.one_of("guidance_decay", guidance_decay, DECAYS)
        steps = sampling.whole("num_sample_steps", num_sample_steps)
        sampling.number("guidance_scale", guidance_scale)
        sampling.number("guidance_decay_scale_pow", guidance_decay_scale_pow, above=True)
        sampling.number("randomize_temperature", randomize_temperature)
        score = self.score if aesthetic_score is None else sampling.number("aesthetic_score", aesthetic_score)
        both, batch = text.joined(null), len(text.states)
        ids = torch.full((batch, self.length), self.vocabulary, dtype=torch.int64, device=text.states.device)
        for step in range(steps):
            ratio = (step + 1) / steps
            if trace is not None:
                trace.append(ids)
            scale = self.scale(guidance_scale, guidance_decay, guidance_decay_scale_pow, ratio)
            if scale != 0:
                cond, empty = self(torch.cat([ids, ids]), both, score).chunk(2)
                logits = cond + (cond - empty) * scale
            else:
                logits = self(ids, text, score)
            logits = logits / (0.5 + 0.8 * (1 - ratio))
            warmth, masked = randomize_temperature * (1 - ratio), ids == self.vocabulary
            drawn = (logits + warmth * noise.gumbel(self.length, self.vocabulary)).argmax(dim=-1)
            confidence = torch.gather(logits, -1, drawn[..., None])[..., 0].masked_fill(~masked, math.inf)
            drawn = torch.where(masked, drawn, ids)
            if prob_sorting:
                confidence = confidence + warmth * noise.gumbel(self.length)
            if step == steps - 1:
                ids = drawn
                break
            length = math.floor(self.length * sampling.mask_share(ratio, self.schedule))
            keep = torch.clamp((masked.sum(dim=1) - 1).clamp(max=length), min=1)
            ids = torch.where(sampling.lowest(confidence, keep), self.vocabulary, drawn)
        if trace is not None:
            trace.append(ids)
        return ids

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        a = fixture.arrays
        text, null = Text(a["text"], a["text_pooled"]), Text(a["null_text"], a["null_pooled"])
        ids = torch.where(a["mask"].bool(), self.vocabulary, a["tokens_in"])
        empty = Text(null.states.expand(len(ids), -1, -1), null.pooled.expand(len(ids), -1, -1))
        out = {"logits": self(ids, text, self.score), "logits_uncond": self(ids, empty, self.score)}
        for run, stated in fixture.runs("ids", marks=("num_sample_steps",)).items():
            stated.pop("softmax_temperature_annealing", None)
            settings, noise = sampling.known(stated, *SETTINGS), sampling.Greedy(len(ids))
            if settings.get("randomize_temperature", 1.5) != 0:
                token, sure = fixture.noise(f"{run}_u_token"), fixture.arrays.get(f"{run}_u_conf")
                draws = [u for i in range(len(token)) for u in (token[i], *([] if sure is None else [sure[i]]))]
                noise = sampling.Recorded(gumbel(u) for u in draws)  # type: ignore[assignment]
            trace: list[Tensor] = []
            self.generate(text, null, noise, **settings, trace=trace)
            out[f"{run}_ids"] = torch.stack(trace)
        return out


class MaskGenKl(Conditioned):
    """config: model.vq_model (token_size, scale_factor), model.maskgen, losses (diffloss_d, diffloss_w,
    num_sampling_steps)."""

    optional: tuple[str, ...] = ()

    def __init__(self, config: Mapping[str, Any]) -> None:
        top = Config(config, "config")
        super().__init__(top)
        losses, self.channels = top.sub("losses"), self.vq.integer("token_size")
        self.scale_factor = self.vq.number("scale_factor", 0.7525)
        top.any("dataset")
        self.sections = str(losses.any("num_sampling_steps", "100"))
        head = Head(self.channels, self.dim, losses.integer("diffloss_d"), losses.integer("diffloss_w"))
        for level in (self.vq, self.g, losses, top):
            level.done()
        if self.scale_factor <= 0:
            raise VtbenchError(f"config.model.vq_model.scale_factor is {self.scale_factor}, but must be above 0")
        dim = self.dim
        self.text_emb = nn.Linear(self.text_width, dim)
        self.text_pooled_emb = nn.Linear(self.text_width + self.micro, dim)
        self.decoder_blocks = nn.ModuleList(
            JointBlock(dim, self.heads, last=i == self.depth - 1) for i in range(self.depth)
        )
        self.decoder_norm = ContinuousNorm(dim)
        self.z_proj, self.z_proj_ln = nn.Linear(self.channels, dim), nn.LayerNorm(dim, eps=1e-6)
        self.decoder_pos_embed_learned = nn.Parameter(torch.zeros(1, self.length, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.diffusion_pos_embed_learned = nn.Parameter(torch.zeros(1, self.length, dim))
        self.diffloss = nn.ModuleDict({"net": head})

    @property
    def head(self) -> Head:
        return self.diffloss["net"]  # type: ignore[return-value]

    def sines(self, score: float, like: Tensor) -> Tensor:
        """Sines and cosines by turns, of base 10000 (600-618)."""
        wide = torch.promote_types(like.dtype, torch.float32)
        steps = torch.arange(0, self.micro, 2, dtype=wide, device=like.device)
        angles = torch.tensor([[score * 100]], dtype=wide, device=like.device) * 10000.0 ** (-steps / self.micro)
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, : self.micro].to(like.dtype)

    def features(self, tokens: Tensor, masked: Tensor, text: Text, score: float) -> Tensor:
        """tokens (B, N, C), masked bool (B, N) -> conditions (B, N, E) of the head (529-556)."""
        c = self.text_pooled_emb(self.with_score(text.pooled[:, 0], score))
        context, x = self.text_emb(text.states), self.z_proj_ln(self.z_proj(tokens))
        x = torch.where(masked[..., None], self.mask_token.to(x.dtype), x) + self.decoder_pos_embed_learned
        for block in self.decoder_blocks:
            context, x = block(context, x, c)
        return sampling.finite(self.decoder_norm(x, c) + self.diffusion_pos_embed_learned, "MaskGen")

    def generate(
        self,
        text: Text,
        null: Text,
        noise: sampling.Noise,
        *,
        orders: Tensor | None = None,
        num_iter: int = 32,
        cfg: float = 3.0,
        cfg_schedule: str = "linear",
        temperature: float = 1.0,
        aesthetic_score: float | None = None,
    ) -> Tensor:
        """Captions and the empty one -> latents (B, C, 1, N) in the tokenizer's scale (641-726); MAR's sampler."""
        score = self.score if aesthetic_score is None else sampling.number("aesthetic_score", aesthetic_score)
        if orders is None:
            orders = noise.uniform(self.length).argsort(dim=-1)
        both, weight = text.joined(null), self.z_proj.weight
        tokens = sample_masked(
            self.head,
            Diffusion(self.sections),
            lambda tokens, masked, twice: self.features(tokens, masked, both if twice else text, score),
            noise,
            torch.zeros(len(text.states), self.length, self.channels, device=weight.device, dtype=weight.dtype),
            orders,
            num_iter=num_iter,
            cfg=cfg,
            cfg_schedule=cfg_schedule,
            temperature=temperature,
        )
        return tokens.transpose(1, 2)[:, :, None] / self.scale_factor

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture; an aesthetic score stands in the description of a run."""
        a, diffusion = fixture.arrays, Diffusion(self.sections)
        text, null = Text(a["text"], a["text_pooled"]), Text(a["null_text"], a["null_pooled"])
        stated_score = re.search(r"sincos\((\d+)\)", fixture.texts.get("z", ""))
        score = float(stated_score[1]) / 100 if stated_score else self.score
        t = torch.full((len(a["x_t"]),), diffusion.map[1])
        mean, log_variance, _ = diffusion.moments(self.head(a["x_t"], t, a["cond"]), a["x_t"], 1)
        out = {
            "z": self.features(a["tokens_in"], a["mask"].bool(), text, score),
            "net_out": self.head(a["x_t"], a["t"], a["cond"]),
            "p_mean": mean,
            "p_log_variance": log_variance,
            "timestep_map": torch.tensor(diffusion.map),
        }
        for run, stated in fixture.runs(marks=("num_iter",)).items():
            asked = float(stated.pop("aes_scores", 6.0))
            noise = Rows(fixture.draws(run.removeprefix("sample_")), len(text.states))
            settings = sampling.known(stated, *KL_SETTINGS)
            out[run] = self.generate(text, null, noise, orders=a["orders"], aesthetic_score=asked, **settings)
        return out
