"""Autoencoders of the diffusers library: one wrapper for every class that takes one image and gives it back.

A model comes as a folder in diffusers' own format (`config.json` with `_class_name`, weights as safetensors), from the
hub or from disk. The library's own class computes; here are ranges, latent scaling, seeds and tokens.

Counted latents are those that generators see: `(z - shift) * scale` with `shift_factor`, `scaling_factor`,
`latents_mean` and `latents_std` of the model's config, as diffusers' pipelines apply them (pipelines/flux, qwenimage,
cosmos: `(z - mean) * scaling_factor / std`; pipelines/flux2: the running statistics of `bn` on 2 x 2 packed channels).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.adapters.networks.diffusers_folders import find_folder, load_model
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Card, Fixed, Multiple
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Codes, Latents, Tokens

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Kind:
    """How a class of diffusers is called.

    frames: takes (B, C, T, H, W), here with T = 1. posterior: `encode` gives a Gaussian with mean and deviation.
    unit_range: speaks [0, 1] instead of [-1, 1]. own_scaling: `encode` and `decode` scale by themselves.
    noisy: `decode` draws noise from a generator. packed: scaling acts on 2 x 2 packed channels (`bn`).
    """

    frames: bool = False
    posterior: bool = True
    unit_range: bool = False
    own_scaling: bool = False
    noisy: bool = False
    packed: bool = False


CLASSES: Mapping[str, Kind] = {
    "AsymmetricAutoencoderKL": Kind(),
    "AutoencoderDC": Kind(posterior=False),
    "AutoencoderKL": Kind(),
    "AutoencoderKLCosmos": Kind(frames=True, posterior=False),
    "AutoencoderKLFlux2": Kind(packed=True),
    "AutoencoderKLHunyuanImage": Kind(),
    "AutoencoderKLKVAE": Kind(),
    "AutoencoderKLQwenImage": Kind(frames=True),
    "AutoencoderKLQwenImage21": Kind(frames=True),
    "AutoencoderKLWan": Kind(frames=True),
    "AutoencoderRAE": Kind(posterior=False, unit_range=True, own_scaling=True),
    "AutoencoderTiny": Kind(posterior=False),
    "AutoencoderVidTok": Kind(frames=True),
    "ConsistencyDecoderVAE": Kind(noisy=True),
    "VQModel": Kind(posterior=False),
}
"""The only classes that a config may name."""


def pack(z: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) -> (B, 4C, h/2, w/2), channel-major as Flux2Pipeline._patchify_latents."""
    b, c, h, w = z.shape
    return z.view(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(b, 4 * c, h // 2, w // 2)


def unpack(z: torch.Tensor) -> torch.Tensor:
    """The inverse of `pack`."""
    b, c, h, w = z.shape
    return z.view(b, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(b, c // 4, 2 * h, 2 * w)


class DiffusersVAE(Tokenizer):
    """A diffusers autoencoder as a tokenizer: `Latents` (scaled, `latent_dtype`), or `Codes` for vector quantizers.

    Options: `posterior` = mode (mean) or sample (mean + deviation x noise of the image's seed); `latent_dtype`.
    """

    def __init__(self, card: Card, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(card, options)
        self.model: Any = None
        self.kind = Kind()
        if self.options.get("posterior", "mode") not in ("mode", "sample"):
            raise VtbenchError(f"posterior={self.options['posterior']!r} is not known: give mode or sample")
        if self.options.get("latent_dtype", "float16") not in ("float16", "bfloat16", "float32"):
            raise VtbenchError(
                f"latent_dtype={self.options['latent_dtype']!r} is not known: give float16, bfloat16 or float32"
            )

    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        inner = next((w.file for w in self.card.weights if w.role == "folder"), "")
        folder = find_folder(files["folder"], inner)
        model, name = load_model(folder, dtype, sorted(CLASSES), files["folder"])
        self.take(model.to(device), name, str(folder))
        self.device, self.dtype = device, dtype

    def take(self, model: Any, name: str, where: str) -> None:
        """Takes the library's model of the class `name`, where and as it is; `where` it comes from, for messages."""
        self.model, self.kind = model, CLASSES[name]
        if self.options.get("posterior") == "sample" and not self._has_posterior():
            raise VtbenchError(f"{name} has no posterior to sample from: leave out posterior=sample")
        if name == "AutoencoderVidTok" and not model.is_causal:
            raise VtbenchError("this AutoencoderVidTok is not causal, so it takes no single image: use a causal one")
        self.device, self.dtype = str(model.device), str(model.dtype).removeprefix("torch.")
        self._agree(where)

    def _has_posterior(self) -> bool:
        return self.kind.posterior and not self._codebook()

    def _codebook(self) -> int | None:
        """Size of the codebook where the model quantizes, else None."""
        config = self.model.config
        if "num_vq_embeddings" in config:
            return int(config["num_vq_embeddings"])
        return int(config["codebook_size"]) if config.get("regularizer") == "fsq" else None

    def _factor(self) -> int:
        """Image pixels per latent cell along a side."""
        config = self.model.config
        if "encoder_patch_size" in config:
            return int(config["patch_size"])
        stated = config.get("spatial_compression_ratio") or vars(self.model).get("spatial_compression_ratio")
        if stated:
            return int(stated)
        blocks = ("block_out_channels", "down_block_out_channels", "encoder_block_out_channels", "ch_mult")
        levels = next(config[b] for b in blocks if config.get(b))
        return 2 ** (len(levels) - 1)

    def _agree(self, where: str) -> None:
        """Sizes by the model's own config; an error where a named card says otherwise."""
        config, factor = self.model.config, self._factor()
        self._check_colours(where)
        names = ("vq_embed_dim", "latent_channels", "z_dim", "z_channels", "encoder_hidden_size")
        channels = next(int(config[n]) for n in names if config.get(n))
        book = self._codebook()
        stated = (
            self.card.latent_channels,
            self.card.downsample,
            self.card.alphabets[0] if self.card.alphabets else None,
        )
        for what, says, has in zip(
            ("latent channels", "downsampling", "codebook size"), stated, (channels, factor, book), strict=True
        ):
            if says is not None and says != has:
                raise VtbenchError(
                    f"{where} holds a model with {what} {has}; {self.card.name} has {says}: another model"
                )
        sizes: Fixed | Multiple
        if "encoder_patch_size" in config:
            sizes = Fixed(factor * (config["encoder_input_size"] // config["encoder_patch_size"]))
        else:
            sizes = (
                Multiple(of=2 * factor, at_least=2 * factor)
                if self.kind.packed
                else Multiple(of=factor, at_least=factor)
            )
        self.card = replace(
            self.card,
            kind="discrete" if book else "continuous",
            sizes=sizes,
            latent_channels=channels,
            downsample=factor,
            alphabets=(book,) if book else (),
            tokens_at_256=self.card.tokens_at_256 or math.ceil(256 / factor) ** 2,
            stochastic=self.card.stochastic or self.kind.noisy,
            value_range=(0.0, 1.0) if self.kind.unit_range else (-1.0, 1.0),
        )

    def _check_colours(self, where: str) -> None:
        """Refuses a model of other than three channels; some take patches of them, folded into channels."""
        config = self.model.config
        patch = config.get("patch_size") or 1
        folded = 3 * math.prod(patch[-2:] if isinstance(patch, list | tuple) else (patch, patch))
        for what, key in (("takes", "in_channels"), ("gives", "out_channels")):
            channels = config.get(key)
            if channels is not None and int(channels) not in (3, folded):
                raise VtbenchError(
                    f"{where} holds a model that {what} images of {channels} channels, and pictures here have 3 (RGB): "
                    "use a model of 3, or one of your own around it that converts (path/to/file.py@name)"
                )

    def parameter_count(self) -> int | None:
        return None if self.model is None else sum(p.numel() for p in self.model.parameters())

    def _scaling(self) -> tuple[Any, Any]:
        """(shift, scale), float32 numbers or (1, C, 1, 1): counted = (z - shift) * scale."""
        import torch

        config = self.model.config
        if self.kind.own_scaling:
            return 0.0, 1.0
        if self.kind.packed:
            statistics = self.model.bn
            spread = torch.sqrt(statistics.running_var.float() + config["batch_norm_eps"])
            return statistics.running_mean.float()[None, :, None, None], 1 / spread[None, :, None, None]
        scale = float(config.get("scaling_factor") or 1.0)
        if config.get("latents_mean") is not None and config.get("latents_std") is not None:
            # Cosmos states them per channel and frame; the one frame of an image is the first.
            channels = self.card.latent_channels or 1
            first = [
                torch.as_tensor(config[n], dtype=torch.float32, device=self.device).view(channels, -1)[:, 0]
                for n in ("latents_mean", "latents_std")
            ]
            mean, spread = (t[None, :, None, None] for t in first)
            return mean, scale / spread
        return float(config.get("shift_factor") or 0.0), scale

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        import torch

        size = (int(images.shape[2]), int(images.shape[3]))
        x = images if self.kind.unit_range else images * 2 - 1
        x = x.to(device=self.device, dtype=getattr(torch, self.dtype))
        with torch.inference_mode():
            encoded = self.model.encode(x[:, :, None] if self.kind.frames else x)
            book = self._codebook()
            if book:
                return self._codes(encoded, size, book)
            z = self._latent(encoded, seeds)
            z = z[:, :, 0] if self.kind.frames else z
            if z.ndim == 3:
                raise VtbenchError("this model's latents are a sequence; only maps (reshape_to_2d) are supported")
            z = z.float()
            shift, scale = self._scaling()
            z = unpack((pack(z) - shift) * scale) if self.kind.packed else (z - shift) * scale
        return Latents(z.to(getattr(torch, str(self.options["latent_dtype"]))).cpu(), size)

    def _latent(self, encoded: Any, seeds: Sequence[int]) -> torch.Tensor:
        import torch

        dist = getattr(encoded, "latent_dist", None)
        if dist is None:
            return encoded["latent"] if "latent" in encoded else encoded["latents"]  # type: ignore[no-any-return]
        if self.options["posterior"] == "mode":
            return dist.mode()  # type: ignore[no-any-return]
        # The noise of one image alone, so that a batch of four equals four of one.
        noise = [torch.randn(dist.mean.shape[1:], generator=torch.Generator().manual_seed(s)) for s in seeds]
        return dist.mean + dist.std * torch.stack(noise).to(dist.mean)  # type: ignore[no-any-return]

    def _codes(self, encoded: Any, size: tuple[int, int], book: int) -> Codes:
        indices = encoded[1] if isinstance(encoded, tuple) else self.model.quantize(encoded.latents)[2][2]
        factor = int(self.card.downsample or 1)
        grid = (size[0] // factor, size[1] // factor)
        return Codes(indices.reshape(-1, grid[0] * grid[1]).long().cpu(), (book,), size, (grid,))

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        import torch

        dtype = getattr(torch, self.dtype)
        with torch.inference_mode():
            if isinstance(tokens, Codes):
                out = self._decode_codes(tokens)
            elif isinstance(tokens, Latents):
                z = tokens.on(self.device, torch.float32)
                shift, scale = self._scaling()
                z = unpack(pack(z) / scale + shift) if self.kind.packed else z / scale + shift
                z = z.to(dtype)
                if self.kind.noisy:
                    # From every image's own seed, one image at a time: the library draws once a batch.
                    drawing = [torch.Generator().manual_seed(seed) for seed in seeds]
                    pairs = zip(z, drawing, strict=True)
                    out = torch.cat([self.model.decode(one[None], generator=g).sample for one, g in pairs])
                else:
                    out = self.model.decode(z[:, :, None] if self.kind.frames else z)
            else:
                raise VtbenchError(f"{self.card.name} decodes codes or latents, not {type(tokens).__name__}")
            out = getattr(out, "sample", out)
            out = out[:, :, 0] if out.ndim == 5 else out
        images: torch.Tensor = out.float()
        return images if self.kind.unit_range else (images + 1) / 2

    def _decode_codes(self, tokens: Codes) -> Any:
        """Through the codebook; the grid is that of `tokens.grids`."""
        model = self.model
        height, width = tokens.grids[0]
        indices = tokens.indices[..., 0].to(self.device).view(-1, height, width)
        if self.kind.frames:
            return model.decode(indices[:, None], decode_from_indices=True)
        shape = (len(tokens), height, width, int(self.card.latent_channels or 0))
        if model.config["lookup_from_codebook"]:
            return model.decode(indices, force_not_quantize=True, shape=shape)
        return model.decode(model.quantize.get_codebook_entry(indices, shape), force_not_quantize=True)
