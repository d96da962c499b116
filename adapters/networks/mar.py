"""MAR: masked autoregression over continuous tokens with a diffusion head (arXiv:2406.11838).

LTH14/mar @ fe470ac: models/mar.py, models/diffloss.py. Line numbers are mar.py's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vtbench.adapters.networks.parts import infer_generators, sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.diffusion import Diffusion
from vtbench.adapters.networks.parts.transformer import Block, FinalLayer, TimeEmbedder, modulate
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError

SETTINGS = ("num_iter", "cfg", "cfg_schedule", "temperature")
SCALE = 0.2325
"""Latents of the KL-16 tokenizer are multiplied by it before MAR sees them (main_mar.py)."""


class _ResBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_ln = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        shift, scale, gate = self.adaLN_modulation(y).chunk(3, dim=-1)
        out: Tensor = x + gate * self.mlp(modulate(self.in_ln(x), shift, scale))
        return out


class Head(nn.Module):
    """The diffusion net: x (n, D), t (n,) of 0..999, condition (n, E) -> eps | variance value (n, 2 D), or (n, `out`).

    time: channels of the time's sinusoids.
    """

    def __init__(
        self, dim: int, condition: int, depth: int, width: int, *, out: int | None = None, time: int = 256
    ) -> None:
        super().__init__()
        self.time_embed, self.cond_embed = TimeEmbedder(width, width=time), nn.Linear(condition, width)
        self.input_proj = nn.Linear(dim, width)
        self.res_blocks = nn.ModuleList(_ResBlock(width) for _ in range(depth))
        self.final_layer = FinalLayer(width, out or 2 * dim)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        y = self.time_embed(t) + self.cond_embed(condition)
        x = self.input_proj(x)
        for block in self.res_blocks:
            x = block(x, y)
        out: Tensor = self.final_layer(x, y)
        return out

    def guided(self, x: Tensor, t: Tensor, condition: Tensor, scale: float) -> Tensor:
        """condition (2n, E) = cond | null; the first n of x and t are used for both. Only eps is guided (240-248)."""
        n = len(condition) // 2
        out = self(torch.cat([x[:n], x[:n]]), torch.cat([t[:n], t[:n]]), condition)
        eps, rest = out.chunk(2, dim=1)
        eps = sampling.guide(eps[:n], eps[n:], scale)
        return torch.cat([torch.cat([eps, eps]), rest], dim=1)


class Mar(nn.Module):
    """config: img_size, vae_stride, patch_size, vae_embed_dim, {encoder,decoder}_{embed_dim,depth,num_heads},
    mlp_ratio, norm_eps, class_num, buffer_size, diffloss_d, diffloss_w, num_sampling_steps (a section string)."""

    optional: tuple[str, ...] = ()
    infer_arch = staticmethod(infer_generators.mar)

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(config, "config")
        self.patch, self.channels = c.integer("patch_size", 1), c.integer("vae_embed_dim", 16)
        self.grid, rest = divmod(c.integer("img_size", 256), c.integer("vae_stride", 16) * self.patch)
        if rest or not self.grid:
            raise VtbenchError("config.img_size must be a multiple of vae_stride x patch_size: tokens lie on a grid")
        self.length, self.dim = self.grid**2, self.channels * self.patch**2
        self.pixels = c.integer("img_size", 256)
        inner, outer = c.integer("encoder_embed_dim"), c.integer("decoder_embed_dim")
        ratio, eps = c.number("mlp_ratio", 4.0), c.number("norm_eps", 1e-6)
        self.buffer, self.classes = c.integer("buffer_size", 64), c.integer("class_num", 1000)
        depth, width = c.integer("diffloss_d", 3), c.integer("diffloss_w", 1024)
        self.sections = str(c.any("num_sampling_steps", "100"))

        def blocks(side: str, dim: int) -> nn.ModuleList:
            heads = c.integer(f"{side}_num_heads")
            if dim % heads:
                raise VtbenchError(f"config.{side}_embed_dim {dim} is no multiple of {heads} heads")
            count = c.integer(f"{side}_depth")
            return nn.ModuleList(Block(dim, heads, int(dim * ratio), eps=eps, qkv_bias=True) for _ in range(count))

        positions = self.length + self.buffer
        self.fake_latent, self.class_emb = nn.Parameter(torch.zeros(1, inner)), nn.Embedding(self.classes, inner)
        self.z_proj, self.z_proj_ln = nn.Linear(self.dim, inner), nn.LayerNorm(inner, eps=1e-6)
        self.encoder_pos_embed_learned = nn.Parameter(torch.zeros(1, positions, inner))
        self.encoder_blocks, self.encoder_norm = blocks("encoder", inner), nn.LayerNorm(inner, eps=eps)
        self.decoder_embed, self.mask_token = nn.Linear(inner, outer), nn.Parameter(torch.zeros(1, 1, outer))
        self.decoder_pos_embed_learned = nn.Parameter(torch.zeros(1, positions, outer))
        self.decoder_blocks, self.decoder_norm = blocks("decoder", outer), nn.LayerNorm(outer, eps=eps)
        self.diffusion_pos_embed_learned = nn.Parameter(torch.zeros(1, self.length, outer))
        self.diffloss = nn.ModuleDict({"net": Head(self.dim, outer, depth, width)})
        for key in (
            "mask_ratio_min",
            "label_drop_prob",
            "attn_dropout",
            "proj_dropout",
            "diffusion_batch_mul",
            "grad_checkpointing",
            "sampling",
        ):
            c.any(key)
        c.done()

    @property
    def head(self) -> Head:
        return self.diffloss["net"]  # type: ignore[return-value]

    def encode(self, tokens: Tensor, masked: Tensor, classes: Tensor) -> Tensor:
        """tokens (B, L, D), masked bool (B, L) with one count a row, classes (B, E) -> (B, buffer + visible, E)."""
        x = torch.cat([classes[:, None].expand(-1, self.buffer, -1), self.z_proj(tokens)], dim=1)
        x = self.z_proj_ln(x + self.encoder_pos_embed_learned)
        x = x[self._visible(masked)].unflatten(0, (len(tokens), -1))
        for block in self.encoder_blocks:
            x = block(x)
        out: Tensor = self.encoder_norm(x)
        return out

    def decode(self, x: Tensor, masked: Tensor) -> Tensor:
        """The encoder's output -> conditions (B, L, E) of the diffusion head."""
        visible, x = self._visible(masked), self.decoder_embed(x)
        full = self.mask_token.to(x.dtype).expand(*visible.shape, -1).clone()
        full[visible] = x.flatten(0, 1)
        full = full + self.decoder_pos_embed_learned
        for block in self.decoder_blocks:
            full = block(full)
        out: Tensor = self.decoder_norm(full)[:, self.buffer :] + self.diffusion_pos_embed_learned
        return sampling.finite(out, "MAR")

    def _visible(self, masked: Tensor) -> Tensor:
        first = torch.ones(len(masked), self.buffer, dtype=torch.bool, device=masked.device)
        return torch.cat([first, ~masked], dim=1)

    def generate(
        self,
        labels: Tensor,
        noise: sampling.Noise,
        *,
        orders: Tensor | None = None,
        num_iter: int = 64,
        cfg: float = 1.0,
        cfg_schedule: str = "linear",
        temperature: float = 1.0,
        sections: str | None = None,
    ) -> Tensor:
        """Labels (B,) -> latents (B, channels, h, w), scaled (250-330).

        orders (B, L): the first entries stay masked longest; drawn from the noise if not given. Per iteration normal
        noise (n, D) an image for the start and for each diffusion step.
        """
        if cfg_schedule not in ("linear", "constant"):
            raise VtbenchError(f"cfg_schedule is {cfg_schedule!r}, but must be linear or constant")
        if not 1 <= num_iter <= self.length:
            raise VtbenchError(f"num_iter is {num_iter}, but {self.length} tokens take 1 to {self.length} iterations")
        if int(labels.min()) < 0 or int(labels.max()) >= self.classes:
            raise VtbenchError(f"a class label lies outside 0..{self.classes - 1}: give labels of the training set")
        if orders is None:
            orders = noise.uniform(self.length).argsort(dim=-1)
        diffusion, batch, guided = Diffusion(sections or self.sections), len(labels), cfg != 1.0
        classes = self.class_emb(labels)
        if guided:
            classes = torch.cat([classes, self.fake_latent.expand(batch, -1)])
        tokens = torch.zeros(batch, self.length, self.dim, device=labels.device, dtype=self.z_proj.weight.dtype)
        masked = torch.ones(batch, self.length, dtype=torch.bool, device=labels.device)
        left = self.length
        for step in range(num_iter):
            both = (torch.cat([tokens, tokens]), torch.cat([masked, masked])) if guided else (tokens, masked)
            z = self.decode(self.encode(*both, classes), both[1])
            length = math.floor(self.length * math.cos(math.pi / 2 * (step + 1) / num_iter))
            length = max(1, min(left - 1, length))
            after = torch.zeros_like(masked).scatter(1, orders[:, :length], True)
            # The last iteration predicts all that is left.
            chosen = masked if step == num_iter - 1 else masked & ~after
            count = left if step == num_iter - 1 else left - length
            scale = 1 + (cfg - 1) * (self.length - length) / self.length if cfg_schedule == "linear" else cfg
            condition = z[torch.cat([chosen, chosen]) if guided else chosen]

            def net(x: Tensor, t: Tensor, c: Tensor = condition, s: float = scale) -> Tensor:
                return self.head.guided(x, t, c, s)[: len(x)] if guided else self.head(x, t, c)

            def drawn(n: int = count) -> Tensor:
                return noise.normal(n, self.dim).flatten(0, 1).to(classes.dtype)

            predicted = diffusion.sample(net, drawn(), drawn, temperature)
            tokens = tokens.clone()
            tokens[chosen] = predicted
            masked, left = after, length
        return self.unpatched(tokens)

    def unpatched(self, tokens: Tensor) -> Tensor:
        """(B, L, c p q) -> (B, c, h p, w q) (131-150)."""
        x = torch.unflatten(tokens, 1, (self.grid, self.grid))
        x = torch.unflatten(x, -1, (self.channels, self.patch, self.patch))
        return x.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        a = fixture.arrays
        labels, masked, diffusion = a["class_ids"], a["mask"].bool(), Diffusion(self.sections)
        null = self.fake_latent.expand(len(labels), -1)
        encoded = self.encode(a["tokens_in"], masked, self.class_emb(labels))
        half = len(a["x_t"]) // 2
        twice_x, twice_t = (torch.cat([a[n][:half], a[n][:half]]) for n in ("x_t", "t"))
        # In the descriptions the scale is the last argument of the call, and the step reads "spaced index 1".
        scale = re.search(r"(-?[\d.]+)\)\s*$", fixture.texts.get("net_out_cfg", ""))
        index = re.search(r"index (\d+)", fixture.texts.get("p_mean", ""))
        step = int(index[1]) if index else 1
        t = torch.full((len(a["x_t"]),), diffusion.map[step])
        mean, log_variance, start = diffusion.moments(self.head(a["x_t"], t, a["cond"]), a["x_t"], step)
        out = {
            "encoder_out": encoded,
            "z": self.decode(encoded, masked),
            "z_uncond": self.decode(self.encode(a["tokens_in"], masked, null), masked),
            "net_out": self.head(a["x_t"], a["t"], a["cond"]),
            "net_out_cfg": self.head.guided(twice_x, twice_t, a["cond"], float(scale[1]) if scale else 2.5),
            "p_mean": mean,
            "p_log_variance": log_variance,
            "p_xstart": start,
            "timestep_map": torch.tensor(diffusion.map),
            "sampler_betas": torch.from_numpy(diffusion.betas).float(),
        }
        for run, stated in fixture.runs(marks=SETTINGS).items():
            noise = _Rows(fixture.draws(run.removeprefix("sample_")), len(labels))
            out[run] = self.generate(labels, noise, orders=a["orders"], **sampling.known(stated, *SETTINGS))
        return out


class _Rows(sampling.Recorded):
    """Draws recorded for all images' tokens at once, (B n, D) or with the unused rows of the null half (2 B n, D)."""

    def __init__(self, draws: list[Tensor], batch: int) -> None:
        super().__init__(draws)
        self.batch = batch

    def normal(self, *shape: int) -> Tensor:
        draw = next(self._left, None)
        rows = self.batch * shape[0]
        if draw is None or len(draw) not in (rows, 2 * rows):
            raise VtbenchError(f"the recorded noise has no draw of {rows} rows here: it is of another run")
        return torch.unflatten(draw[:rows], 0, (self.batch, shape[0]))
