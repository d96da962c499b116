"""Autoencoders of the diffusers library: one wrapper for every class that takes one image and gives it back.

A model comes as a folder in diffusers' own format (`config.json` with `_class_name`, weights as safetensors), from the
hub or from disk. The library's own class computes; here are ranges, latent scaling, seeds and tokens.

Counted latents are those that generators see: `(z - shift) * scale` with `shift_factor`, `scaling_factor`,
`latents_mean` and `latents_std` of the model's config, as diffusers' pipelines apply them (pipelines/flux, qwenimage,
cosmos: `(z - mean) * scaling_factor / std`; pipelines/flux2: the running statistics of `bn` on 2 x 2 packed channels).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Card, Family, Fixed, Multiple, Published, Weights
from vtbench.types.errors import MissingExtra, VtbenchError, near
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
    "AutoencoderKLWan": Kind(frames=True),
    "AutoencoderRAE": Kind(posterior=False, unit_range=True, own_scaling=True),
    "AutoencoderTiny": Kind(posterior=False),
    "AutoencoderVidTok": Kind(frames=True),
    "ConsistencyDecoderVAE": Kind(noisy=True),
    "VQModel": Kind(posterior=False),
}
"""The only classes that a config may name."""


def find_folder(folder: Path, inner: str) -> Path:
    """The folder with config.json: `folder` itself, the card's place in a pipeline, or a pipeline's usual ones."""
    for place in (folder, (folder / inner).parent, folder / "vae", folder / "vqvae", folder / "movq"):
        if (place / "config.json").is_file():
            return place
    raise VtbenchError(f"{folder} holds no config.json: give a folder that a library's save_pretrained wrote")


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as a dictionary."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except ValueError as bad:
        raise VtbenchError(f"{folder / 'config.json'} is no JSON ({bad}): fetch the folder again") from bad
    if not isinstance(config, dict):
        raise VtbenchError(f"{folder / 'config.json'} holds a {type(config).__name__}; wanted an object")
    return config


def load_model(folder: Path, dtype: str) -> tuple[Any, str]:
    """(the library's model in eval mode on the CPU, the name of its class); strict, safetensors only."""
    import torch

    name = str(read_config(folder).get("_class_name"))
    if name not in CLASSES:
        raise VtbenchError(
            f"{folder / 'config.json'} names the class {name!r}{near(name, CLASSES)}; "
            f"known are {', '.join(sorted(CLASSES))}"
        )
    try:
        import diffusers
    except ImportError:
        raise MissingExtra("diffusers", "hub", name) from None
    made = getattr(diffusers, name, None)
    if made is None:
        raise VtbenchError(f"diffusers {diffusers.__version__} has no {name}: pip install -U diffusers")
    if not any(folder.glob("*.safetensors")):
        raise VtbenchError(f"{folder} holds no .safetensors file: convert the weights, pickled files are not opened")
    try:
        model, said = made.from_pretrained(
            str(folder),
            torch_dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except Exception as bad:
        text = " ".join(str(bad).split())[:300]
        raise VtbenchError(f"{name} in {folder} could not be loaded ({type(bad).__name__}: {text})") from bad
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        found = said.get(what) or []
        if found:
            raise VtbenchError(
                f"the weights in {folder} do not fit its config: {len(found)} {what.replace('_', ' ')}, "
                f"such as {', '.join(str(f) for f in list(found)[:3])}; fetch the folder again"
            )
    broken = [n for n, t in model.state_dict().items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if broken:
        raise VtbenchError(f"{len(broken)} weights in {folder} hold NaN or infinity ({broken[0]}): fetch it again")
    return model.eval().requires_grad_(False), name


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
        self.model, name = load_model(folder, dtype)
        self.kind = CLASSES[name]
        if self.options.get("posterior") == "sample" and not self._has_posterior():
            raise VtbenchError(f"{name} has no posterior to sample from: leave out posterior=sample")
        if name == "AutoencoderVidTok" and not self.model.is_causal:
            raise VtbenchError("this AutoencoderVidTok is not causal, so it takes no single image: use a causal one")
        self.model.to(device)
        self.device, self.dtype = device, dtype
        self._agree(folder)

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

    def _agree(self, folder: Path) -> None:
        """Sizes by the model's own config; an error where a named card says otherwise."""
        config, factor = self.model.config, self._factor()
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
                    f"{folder} holds a model with {what} {has}; {self.card.name} has {says}: another model"
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
            made = self.model.encode(x[:, :, None] if self.kind.frames else x)
            book = self._codebook()
            if book:
                return self._codes(made, size, book)
            z = self._latent(made, seeds)
            z = z[:, :, 0] if self.kind.frames else z
            if z.ndim == 3:
                raise VtbenchError("this model's latents are a sequence; only maps (reshape_to_2d) are supported")
            z = z.float()
            shift, scale = self._scaling()
            z = unpack((pack(z) - shift) * scale) if self.kind.packed else (z - shift) * scale
        return Latents(z.to(getattr(torch, str(self.options["latent_dtype"]))).cpu(), size)

    def _latent(self, made: Any, seeds: Sequence[int]) -> torch.Tensor:
        import torch

        dist = getattr(made, "latent_dist", None)
        if dist is None:
            return made["latent"] if "latent" in made else made["latents"]  # type: ignore[no-any-return]
        if self.options["posterior"] == "mode":
            return dist.mode()  # type: ignore[no-any-return]
        # The noise of one image alone, so that a batch of four equals four of one.
        noise = [torch.randn(dist.mean.shape[1:], generator=torch.Generator().manual_seed(s)) for s in seeds]
        return dist.mean + dist.std * torch.stack(noise).to(dist.mean)  # type: ignore[no-any-return]

    def _codes(self, made: Any, size: tuple[int, int], book: int) -> Codes:
        indices = made[1] if isinstance(made, tuple) else self.model.quantize(made.latents)[2][2]
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
                z = tokens.values.to(device=self.device, dtype=torch.float32)
                shift, scale = self._scaling()
                z = unpack(pack(z) / scale + shift) if self.kind.packed else z / scale + shift
                z = z.to(dtype)
                if self.kind.noisy:
                    out = torch.cat(
                        [
                            self.model.decode(one[None], generator=torch.Generator().manual_seed(seed)).sample
                            for one, seed in zip(z, seeds, strict=True)
                        ]
                    )
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


_DIFFUSERS = "https://github.com/huggingface/diffusers"
_OPTIONS = {"posterior": "mode", "latent_dtype": "float16"}
_PLAIN = {"latent_dtype": "float16"}
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_GPS = "README of xtudbxk/GPSToken"
_VGT = "VGT README (secondary)"
_FT = "https://huggingface.co/stabilityai/sd-vae-ft-mse (COCO 2017 val, 5000 images)"


def _published(
    source: str, protocol: str | None = None, note: str | None = None, **values: float
) -> tuple[Published, ...]:
    return tuple(Published(m, v, source, protocol, note) for m, v in values.items())


def _card(
    name: str,
    title: str,
    hub: str,
    channels: int,
    factor: int,
    licence: str,
    *,
    sub: str = "",
    packed: bool = False,
    options: Mapping[str, Any] = _OPTIONS,
    published: tuple[Published, ...] = (),
    code: str = _DIFFUSERS,
    **more: Any,
) -> Card:
    """A released model: `sub` is its folder inside the repository `hub`."""
    of = factor * 2 if packed else factor
    return Card(
        name=name,
        family="diffusers",
        kind="continuous",
        title=title,
        sizes=more.pop("sizes", Multiple(of=of, at_least=of)),
        licence=licence,
        code=code,
        weights=(Weights(file=f"{sub}/{_WEIGHTS}" if sub else _WEIGHTS, role="folder", hub=hub, licence=licence),),
        tokens_at_256=None if factor > 256 else math.ceil(256 / factor) ** 2,
        latent_channels=channels,
        downsample=factor,
        value_range=more.pop("value_range", (-1.0, 1.0)),
        options=options,
        extra="hub",
        published=published,
        **more,
    )


def _vq(name: str, title: str, hub: str, channels: int, factor: int, book: int, licence: str, **more: Any) -> Card:
    return replace(
        _card(name, title, hub, channels, factor, licence, options=_PLAIN, **more), kind="discrete", alphabets=(book,)
    )


def _dc(kind: str, of: int, channels: int, published: tuple[Published, ...] = ()) -> Card:
    name = f"dc-ae-f{of}c{channels}-{kind}"
    return _card(
        name,
        f"DC-AE f{of}c{channels} ({kind})",
        f"mit-han-lab/{name}-diffusers",
        channels,
        of,
        "not stated beside the weights; code Apache-2.0",
        options=_PLAIN,
        code="https://github.com/mit-han-lab/efficientvit",
        paper="https://arxiv.org/abs/2410.10733",
        published=published,
    )


def _rae(name: str, repository: str, encoder: str, channels: int, published: tuple[Published, ...] = ()) -> Card:
    side = 256
    return _card(
        name,
        f"RAE on {encoder}, {side} px",
        f"nyu-visionx/{repository}",
        channels,
        16,
        "MIT",
        options=_PLAIN,
        code="https://github.com/bytetriper/RAE",
        paper="https://arxiv.org/abs/2510.11690",
        sizes=Fixed(side),
        value_range=(0.0, 1.0),
        published=published,
        note=f"256 positions of {channels} numbers for an image of 196608: its rate says so.",
    )


_OPENRAIL, _STABILITY = "CreativeML OpenRAIL-M", "Stability AI Community License (gated)"

CARDS = (
    _card(
        "sd15-vae",
        "Stable Diffusion 1.5 VAE (kl-f8)",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        4,
        8,
        _OPENRAIL,
        sub="vae",
        paper="https://arxiv.org/abs/2112.10752",
        published=_published(_FT, note="row 'original'", rfid=4.99, psnr=23.4, ssim=0.69),
    ),
    _card(
        "sd-vae-ft-mse",
        "Stable Diffusion VAE, decoder tuned for MSE",
        "stabilityai/sd-vae-ft-mse",
        4,
        8,
        "MIT",
        published=(
            *_published(_FT, rfid=4.70, psnr=24.5, ssim=0.71),
            *_published(
                "Vision-Tokenizer-Analysis README",
                "COCO, 1000 images, 256 px",
                "rFID by clean-fid",
                rfid=12.45,
                psnr=24.92,
                ssim=0.6953,
                lpips=0.083,
            ),
        ),
    ),
    _card(
        "sd-vae-ft-ema",
        "Stable Diffusion VAE, decoder tuned (EMA)",
        "stabilityai/sd-vae-ft-ema",
        4,
        8,
        "MIT",
        published=_published(_FT, rfid=4.42, psnr=23.8, ssim=0.69),
    ),
    _card(
        "sdxl-vae",
        "SDXL VAE",
        "stabilityai/sdxl-vae",
        4,
        8,
        "OpenRAIL++-M",
        paper="https://arxiv.org/abs/2307.01952",
        published=(
            *_published(
                "README of zhaoyue-zephyrus/bsq-vit",
                "ImageNet val, 256 px",
                rfid=0.72,
                psnr=25.38,
                ssim=0.7276,
                lpips=0.0666,
            ),
            *_published(_GPS, "ImageNet val, 256 px", rfid=0.73, psnr=25.55, ssim=0.727, lpips=0.066),
            *_published(_GPS, "ImageNet val, 512 px", rfid=0.271, psnr=28.42, ssim=0.817, lpips=0.059),
            *_published(_GPS, "ImageNet val, 1024 px", rfid=0.113, psnr=33.27, ssim=0.909, lpips=0.057),
        ),
    ),
    _card("sdxl-vae-fp16-fix", "SDXL VAE that stands float16", "madebyollin/sdxl-vae-fp16-fix", 4, 8, "MIT"),
    _card(
        "sd35-vae", "Stable Diffusion 3.5 VAE", "stabilityai/stable-diffusion-3.5-medium", 16, 8, _STABILITY, sub="vae"
    ),
    _card("flux1-vae", "FLUX.1 VAE", "black-forest-labs/FLUX.1-schnell", 16, 8, "Apache-2.0", sub="vae"),
    _card(
        "flux2-vae",
        "FLUX.2 VAE",
        "black-forest-labs/FLUX.2-dev",
        32,
        8,
        "Apache-2.0",
        sub="vae",
        packed=True,
        note="Latents normalised by the running statistics of its bn on 2 x 2 packed channels, counted unpacked.",
    ),
    _card(
        "qwen-image-vae",
        "Qwen-Image VAE (one frame)",
        "Qwen/Qwen-Image",
        16,
        8,
        "Apache-2.0",
        sub="vae",
        paper="https://arxiv.org/abs/2508.02324",
    ),
    _card(
        "wan21-vae",
        "Wan 2.1 VAE (one frame)",
        "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        16,
        8,
        "Apache-2.0",
        sub="vae",
        paper="https://arxiv.org/abs/2503.20314",
    ),
    _card(
        "hunyuanimage21-vae",
        "HunyuanImage 2.1 VAE",
        "hunyuanvideo-community/HunyuanImage-2.1-Diffusers",
        64,
        32,
        "Tencent Hunyuan Community License",
        sub="vae",
    ),
    _card(
        "cosmos-cv8x8x8-vae",
        "Cosmos 1.0 CV8x8x8 (one frame)",
        "nvidia/Cosmos-1.0-Diffusion-7B-Text2World",
        16,
        8,
        "NVIDIA Open Model License",
        sub="vae",
        options=_PLAIN,
        paper="https://arxiv.org/abs/2501.03575",
    ),
    _card(
        "mar-kl16-vae-diffusers",
        "KL-16 of MAR, converted to diffusers",
        "xwen99/mar-vae-kl16",
        16,
        16,
        "MIT",
        code="https://github.com/LTH14/mar",
        paper="https://arxiv.org/abs/2406.11838",
    ),
    _dc(
        "in-1.0",
        32,
        32,
        (
            *_published(
                _GPS, "ImageNet val, 256 px", "variant not stated", rfid=0.98, psnr=23.62, ssim=0.644, lpips=0.092
            ),
            *_published(_VGT, "ImageNet val, 256 px", "variant not stated", rfid=0.69, psnr=23.85, ssim=0.66),
        ),
    ),
    _dc("in-1.0", 64, 128),
    _dc("in-1.0", 128, 512),
    _dc("mix-1.0", 32, 32),
    _dc("mix-1.0", 64, 128),
    _dc("mix-1.0", 128, 512),
    _dc("sana-1.0", 32, 32),
    _dc("sana-1.1", 32, 32),
    _rae(
        "rae-dinov2-b",
        "RAE-dinov2-wReg-base-ViTXL-n08",
        "DINOv2-B",
        768,
        _published(_VGT, "ImageNet val, 256 px", rfid=0.49, psnr=19.23, ssim=0.62),
    ),
    _rae("rae-dinov2-s", "RAE-dinov2-wReg-small-ViTXL-n08", "DINOv2-S", 384),
    _rae("rae-dinov2-l", "RAE-dinov2-wReg-large-ViTXL-n08", "DINOv2-L", 1024),
    _rae("rae-siglip2-b", "RAE-siglip2-base-p16-i256-ViTXL-n08", "SigLIP2-B", 768),
    _rae("rae-mae-b", "RAE-mae-base-p16-ViTXL-n08", "MAE-B", 768),
    _card(
        "consistency-decoder",
        "Consistency decoder for Stable Diffusion 1 latents",
        "openai/consistency-decoder",
        4,
        8,
        "MIT",
        code="https://github.com/openai/consistencydecoder",
        stochastic=True,
    ),
    _card("taesd-diffusers", "TAESD in diffusers' format", "madebyollin/taesd", 4, 8, "MIT", options=_PLAIN),
    _card("taesdxl-diffusers", "TAESDXL in diffusers' format", "madebyollin/taesdxl", 4, 8, "MIT", options=_PLAIN),
    _card("taesd3-diffusers", "TAESD3 in diffusers' format", "madebyollin/taesd3", 16, 8, "MIT", options=_PLAIN),
    _card("taef1-diffusers", "TAEF1 in diffusers' format", "madebyollin/taef1", 16, 8, "MIT", options=_PLAIN),
    _vq(
        "amused-vq",
        "aMUSEd VQ-GAN",
        "amused/amused-256",
        64,
        16,
        8192,
        "OpenRAIL++-M",
        sub="vqvae",
        paper="https://arxiv.org/abs/2401.01808",
    ),
    _vq(
        "kandinsky22-movq",
        "MoVQ of Kandinsky 2.2",
        "kandinsky-community/kandinsky-2-2-decoder",
        4,
        8,
        16384,
        "Apache-2.0",
        sub="movq",
        paper="https://arxiv.org/abs/2209.09002",
    ),
    Card(
        name="diffusers-vae",
        family="diffusers",
        kind="continuous",
        title="Any autoencoder in diffusers' format (--checkpoint FOLDER)",
        licence="as stated beside the given weights",
        code=_DIFFUSERS,
        weights=(Weights(file=_WEIGHTS, role="folder"),),
        value_range=(-1.0, 1.0),
        options=_OPTIONS,
        extra="hub",
        note="Sizes, channels and codebook come from the folder's config.json.",
    ),
)

FAMILY = Family("diffusers", "Autoencoders of the diffusers library", CARDS, DiffusersVAE)
