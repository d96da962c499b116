"""PixelDiT: a transformer over patches whose output conditions one over pixels; no tokenizer (arXiv:2511.20645).

NVlabs/PixelDiT as of the fork gcy-hub/PixelDiT @ 91d45ab: pixdit_core/{modules,pixeldit_c2i,pixeldit_t2i}.py,
c2i/src/diffusion.py, t2i/diffusion/model/dpm_solver.py.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import sampling
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.flow_solvers import Dpm, Solved, solve
from vtbench.adapters.networks.parts.infer import Shapes, count
from vtbench.adapters.networks.parts.pixel_blocks import JointBlock, PatchBlock, PixelBlock, Turn, turn_of_grid
from vtbench.adapters.networks.parts.positions import sincos
from vtbench.adapters.networks.parts.transformer import RMSNorm, TimeEmbedder
from vtbench.models.replay import Replay
from vtbench.types.errors import VtbenchError

SETTINGS = (
    "sampler",
    "num_steps",
    "guidance",
    "timeshift",
    "guidance_interval_min",
    "guidance_interval_max",
    "last_step",
    "exact_henu",
)
TEXT_SETTINGS = ("steps", "order", "cfg_scale", "flow_shift", "interval_min", "interval_max")
PERIOD = 10.0
"""Greatest period of a time's sinusoids."""
TEXT_KEYS = ("txt_embed_dim", "txt_max_length", "num_text_blocks", "use_text_rope")


class PixelDit:
    """The network of a config: of text where it has one of TEXT_KEYS, else of classes."""

    def __new__(cls, config: Mapping[str, Any]) -> Any:
        return PixelDitText(config) if any(k in config for k in TEXT_KEYS) else PixelDitClass(config)

    @staticmethod
    def infer_arch(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """Of class models: heads as wide as their norms, patches as large as their pixels are many."""
        table, q_norm = "y_embedder.embedding_table.weight", "patch_blocks.0.attn.q_norm.weight"
        if table not in shapes or q_norm not in shapes or "pixel_embedder.proj.weight" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        classes, dim = shapes[table]
        arch["num_classes"], arch["hidden_size"], arch["num_groups"] = classes - 1, dim, dim // shapes[q_norm][0]
        arch["pixel_hidden_size"], arch["in_channels"] = shapes["pixel_embedder.proj.weight"]
        arch["patch_size"] = round((shapes["s_embedder.proj.weight"][1] / arch["in_channels"]) ** 0.5)
        for side in ("patch", "pixel"):
            arch[f"{side}_depth"] = count(shapes, f"{side}_blocks.{{i}}.")
        vectors = shapes["pixel_blocks.0.adaLN_modulation.0.weight"][0] // arch["patch_size"] ** 2
        arch["pit_adaln_post_modulation"] = vectors == 4 * arch["pixel_hidden_size"]
        return arch


class _PixelDit(nn.Module):
    """What both share: embeddings of patches, pixels and times, the blocks of pixels, the last layer."""

    optional: tuple[str, ...] = ()

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.channels, self.heads = c.integer("in_channels", 3), c.integer("num_groups")
        dim, pixel, self.patch = c.integer("hidden_size"), c.integer("pixel_hidden_size"), c.integer("patch_size")
        width, heads = c.integer("pixel_attn_hidden_size", dim), c.integer("pixel_num_groups", self.heads)
        for name, head in (("hidden_size", dim // self.heads), ("pixel_attn_hidden_size", width // heads)):
            if head % 4:
                raise VtbenchError(f"config.{name} leaves heads of {head} channels, but must leave a multiple of 4")
        self.absolute = c.flag("use_pixel_abs_pos", True)
        if self.absolute and pixel % 4:
            raise VtbenchError(f"config.pixel_hidden_size is {pixel}, but must be a multiple of 4: a table of sines")
        after = c.flag("pit_adaln_post_modulation", False)
        self.pixel_embedder = nn.ModuleDict({"proj": nn.Linear(self.channels, pixel)})
        self.s_embedder = nn.ModuleDict({"proj": nn.Linear(self.channels * self.patch**2, dim)})
        self.t_embedder = TimeEmbedder(dim, period=PERIOD)
        self.pixel_blocks = nn.ModuleList(
            PixelBlock(pixel, dim, self.patch, width=width, heads=heads, after=after)
            for _ in range(c.integer("pixel_depth"))
        )
        self.pixel_head, self.dim = width // heads, dim
        self.final_layer = nn.ModuleDict({"norm": RMSNorm(pixel, 1e-6), "linear": nn.Linear(pixel, self.channels)})

    def cells(self, x: Tensor) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return x.shape[2] // self.patch, x.shape[3] // self.patch

    def patches(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, L, C p p) embedded: (B, L, dim)."""
        rows, columns = self.cells(x)
        x = torch.unflatten(torch.unflatten(x, 3, (columns, self.patch)), 2, (rows, self.patch))
        out: Tensor = self.s_embedder["proj"](x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2))
        return out

    def embedded(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B L, p p, pixel)."""
        height, width = x.shape[2:]
        pixels = self.pixel_embedder["proj"](x.permute(0, 2, 3, 1))
        if self.absolute:
            pixels = pixels + sincos(height, width, pixels.shape[-1]).to(x).unflatten(0, (height, width))
        rows, columns = self.cells(x)
        pixels = pixels.unflatten(2, (columns, self.patch)).unflatten(1, (rows, self.patch))
        return pixels.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(0, 2)  # type: ignore[no-any-return]

    def painted(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W), s (B, L, dim) -> tokens of the pixels, and the velocity (B, C, H, W)."""
        rows, columns = self.cells(x)
        turn, pixels = turn_of_grid(self.pixel_head, rows, columns, x), self.embedded(x)
        for block in self.pixel_blocks:
            pixels = block(pixels, s.flatten(0, 1), turn, len(x))
        out = self.final_layer["linear"](self.final_layer["norm"](pixels))
        out = out.unflatten(1, (self.patch, self.patch)).unflatten(0, (len(x), rows, columns))
        return pixels, sampling.finite(out.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3), "PixelDiT")

    def grid_turn(self, x: Tensor) -> Turn:
        return turn_of_grid(self.dim // self.heads, *self.cells(x), x)

    def check_side(self, side: int) -> None:
        if side < self.patch or side % self.patch:
            raise VtbenchError(f"a side of {side} pixels is no multiple of the patch of {self.patch}")

    @staticmethod
    def to_image(x: Tensor) -> Tensor:
        """[-1, 1] -> [0, 1], clamped."""
        return (x / 2 + 0.5).clamp(0, 1)


class PixelDitClass(_PixelDit):
    """config: in_channels, num_groups (heads), hidden_size, pixel_hidden_size, patch_depth, pixel_depth, patch_size,
    num_classes, use_pixel_abs_pos, pit_adaln_post_modulation. Times run from 0, noise, to 1, data."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        c = Config(config, "config")
        super().__init__(c)
        self.classes = c.integer("num_classes", 1000)
        self.y_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(self.classes + 1, self.dim)})
        self.patch_blocks = nn.ModuleList(PatchBlock(self.dim, self.heads) for _ in range(c.integer("patch_depth")))
        c.done()

    def patched(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """(B, L, dim) after the last block of patches."""
        c = F.silu(self.t_embedder(t) + self.y_embedder["embedding_table"](labels))[:, None]
        s, turn = self.patches(x), self.grid_turn(x)
        for block in self.patch_blocks:
            s = block(s, c, turn)
        return s

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """x (B, C, H, W), t (B,) in [0, 1], labels (B,) with num_classes for none -> data less noise (B, C, H, W)."""
        s = self.patched(x, t, labels)
        return self.painted(x, F.silu(self.t_embedder(t)[:, None] + s))[1]

    def generate(self, labels: Tensor, start: Tensor, **options: Any) -> Solved:
        """labels (B,), start (B, C, H, W) normal -> images in [-1, 1] and beyond. Options: `flow_solvers.solve`'s."""
        self.check_side(start.shape[-1])
        sampling.labels_within(labels, self.classes)
        both = torch.cat([torch.full_like(labels, self.classes), labels])

        def halves(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            null, cond = self(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
            return null, cond

        return solve(halves, start, **options)

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        a = fixture.arrays
        x, t, labels = a["x_t"], a["t"], a["class_ids"]
        s = self.patched(x, t, labels)
        pixels, velocity = self.painted(x, F.silu(self.t_embedder(t)[:, None] + s))
        out = {
            "time_embedding": self.t_embedder(t),
            "patch_tokens": s,
            "pixel_embedded": self.embedded(x),
            "pixel_tokens": pixels,
            "velocity": velocity,
            "velocity_uncond": self(x, t, torch.full_like(labels, self.classes)),
        }
        for run, stated in fixture.runs("sample", "velocities", "timesteps", marks=("num_steps",)).items():
            solved = self.generate(labels, fixture.noise(f"{run}_init"), **sampling.known(stated, *SETTINGS))
            out[f"{run}_sample"], out[f"{run}_timesteps"] = solved.x, solved.times
            out[f"{run}_velocities"] = torch.stack(solved.velocities)
        return out


class PixelDitText(_PixelDit):
    """config: as for classes, with txt_embed_dim, txt_max_length, use_text_rope, text_rope_theta,
    pixel_attn_hidden_size, pixel_num_groups. Times run from 1000, noise, to 0; velocity is noise less data."""

    optional = ("_repa_projector.",)

    def __init__(self, config: Mapping[str, Any]) -> None:
        c = Config(config, "config")
        super().__init__(c)
        self.text_width, self.text_length = c.integer("txt_embed_dim", 4096), c.integer("txt_max_length", 1024)
        self.turns_text, self.theta = c.flag("use_text_rope", True), c.number("text_rope_theta", 10000.0)
        for key in ("num_text_blocks", "repa_encoder_index"):
            c.any(key)
        self.y_pos_embedding = nn.Parameter(torch.zeros(1, self.text_length, self.dim))
        self.y_embedder = nn.ModuleDict({"proj": nn.Linear(self.text_width, self.dim), "norm": RMSNorm(self.dim, 1e-6)})
        self.patch_blocks = nn.ModuleList(JointBlock(self.dim, self.heads) for _ in range(c.integer("patch_depth")))
        c.done()

    def read(self, text: Tensor) -> Tensor:
        """(B, n, width) -> (B, n, dim), cut to the greatest length."""
        out: Tensor = self.y_embedder["norm"](self.y_embedder["proj"](text[:, : self.text_length]))
        return out

    def streams(self, x: Tensor, t: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Patches (B, L, dim) and text (B, n, dim) after the last joint block."""
        y, turn, turn_text = self.read(text), self.grid_turn(x), None
        y = y + self.y_pos_embedding[:, : y.shape[1]]
        if self.turns_text:
            head = self.dim // self.heads
            freqs = 1.0 / (self.theta ** (torch.arange(0, head, 2, device=x.device).float() / head))
            angles = torch.outer(torch.arange(y.shape[1], device=x.device).float(), freqs)
            turn_text = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        c, s = F.silu(self.t_embedder(t))[:, None], self.patches(x)
        for block in self.patch_blocks:
            s, y = block(s, y, c, turn, turn_text)
        return s, y

    def forward(self, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """x (B, C, H, W), t (B,) in 0..1000, text (B, n, width) -> noise less data (B, C, H, W)."""
        s, _ = self.streams(x, t, text)
        return self.painted(x, F.silu(self.t_embedder(t)[:, None] + s))[1]

    def generate(self, text: Tensor, null: Tensor, start: Tensor, **options: Any) -> Solved:
        """text and null text (B, n, width), start (B, C, H, W) normal -> images, about [-1, 1]. Options: Dpm's."""
        self.check_side(start.shape[-1])
        return Dpm(**options).solve(self, start, text, null.expand_as(text))

    def replay(self, fixture: Replay) -> dict[str, Tensor]:
        """The arrays of a fixture."""
        a = fixture.arrays
        s, y = self.streams(a["x_t"], a["t"], a["text"])
        out = {
            "text_embedded": self.read(a["text"]),
            "patch_tokens": s,
            "text_tokens": y,
            "velocity": self(a["x_t"], a["t"], a["text"]),
        }
        for run, stated in fixture.runs("sample", "intermediates", "times", marks=("steps",)).items():
            options, start = sampling.known(stated, *TEXT_SETTINGS), fixture.noise(f"{run}_init")
            solved = self.generate(a["text"], a["null_text"], start, **options)
            out[f"{run}_sample"], out[f"{run}_times"] = solved.x, solved.times
            out[f"{run}_intermediates"] = torch.stack(solved.velocities)
        return out
