"""Learned codecs of CompressAI, through its package: the rate is what its entropy coder writes.

bmshj2018-factorized and -hyperprior (Ballé et al. 2018, https://arxiv.org/abs/1802.01436), mbt2018-mean and mbt2018
(Minnen et al. 2018, https://arxiv.org/abs/1809.02736), cheng2020-anchor and -attn (Cheng et al. 2020,
https://arxiv.org/abs/2001.01568), by InterDigitalInc/CompressAI (1.2.8; compressai/zoo/image.py at 869a9f5d), which has
a network for every quality, trained for squared error or for MS-SSIM. The networks of a file may have other widths than
the released: they are read off it.

An image is coded as upstream's `eval_model` does: padded with black on all sides to multiples of 64, and cut back. Each
is coded alone, on the CPU and in one thread of OpenMP: the decoder must compute the very probabilities that the encoder
coded with, and a convolution may sum in another order for another batch, another number of threads or on a GPU. Two
machines may differ, too: a bitstream is for the machine that wrote it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.adapters.fits.kodak import LEARNED as KODAK
from vtbench.models.checkpoint import read
from vtbench.types.adapter import Tokenizer
from vtbench.types.cards import Card, Family, Multiple, Weights, stated
from vtbench.types.errors import MissingExtra, VtbenchError
from vtbench.types.tokens import Bitstream, Tokens

if TYPE_CHECKING:
    import torch

ROOT = "https://compressai.s3.amazonaws.com/models/v1"
RELEASED: Mapping[tuple[str, str], tuple[str, str]] = {
    ("bmshj2018-factorized", "mse"): (
        "bmshj2018-factorized-prior",
        "446d5c7f 87279a02 5c6f152b 1ed4405a 866ba797 9b02ea3a 6dfd6734 5232faa3",
    ),
    ("bmshj2018-factorized", "ms-ssim"): (
        "bmshj2018-factorized-ms-ssim",
        "9781d705 4a584386 5352f123 4f91b847 b3a88897 ee028763 8c265a29 8811bd14",
    ),
    ("bmshj2018-hyperprior", "mse"): (
        "bmshj2018-hyperprior",
        "7eb97409 93677231 6d87be32 de1b779c f8b614e1 1ab9c41e 3804dcbd a583f0cf",
    ),
    ("bmshj2018-hyperprior", "ms-ssim"): (
        "bmshj2018-hyperprior-ms-ssim",
        "5cf249be 1ff60d1f 92dd7878 4377354e c34afc8d 3a6d8229 8747d3bc cc15b5f3",
    ),
    ("mbt2018-mean", "mse"): (
        "mbt2018-mean",
        "e522738d e54a039d 723404a8 6dba02a3 d504e8eb a19628ab d5d441d1 8089ae3e",
    ),
    ("mbt2018-mean", "ms-ssim"): (
        "mbt2018-mean-ms-ssim",
        "5bf9c0b6 e2a1bf3f 640ce819 12626c13 1be7f059 b83bf379 ddf9644c 0cc7b94f",
    ),
    ("mbt2018", "mse"): (
        "mbt2018",
        "3f36cd77 43b70cdd 22901978 456e2af9 b4a046dd 7052e5ea 8ba2bf82 dd0097aa",
    ),
    ("mbt2018", "ms-ssim"): (
        "mbt2018-ms-ssim",
        "2878436b c41cb208 d0dd64e8 a120e037 9b30e3b7 f8b3626f 16e6ff50 0cb49d43",
    ),
    ("cheng2020-anchor", "mse"): (
        "cheng2020-anchor",
        "dad2ebff a29008eb e49be189 98b0b468 23852949 4c052b1a",
    ),
    ("cheng2020-anchor", "ms-ssim"): (
        "cheng2020_anchor-ms-ssim",
        "20f521db c7ff5812 c23e22d5 0e658304 c0a95e77 f2dc1913",
    ),
    ("cheng2020-attn", "mse"): (
        "cheng2020_attn-mse",
        "465f2b64 e0805385 2d07bbdf f7b0ccf2 26c8920e 730501f2",
    ),
    ("cheng2020-attn", "ms-ssim"): (
        "cheng2020_attn-ms-ssim",
        "c5381d91 5dad201d 5c9be841 8b2f647e 5ca1f34c 216423ec",
    ),
}
"""By model and what it was trained for: how its files are called, and of every quality, from 1, the first digits of the
sha256 that stand in the file's name."""
WIDEST = 1024
"""Channels of a layer that are believed, of which upstream's class makes a network before it reads the numbers (its own
have 320 at most): a tensor in a small file may claim any shape."""
SYMBOLS = 2**16
"""More values of a latent than an entropy coder of 16 bits can tell apart."""


def _weights(name: str) -> Iterator[Weights]:
    for (model, metric), (stem, digits) in RELEASED.items():
        for quality, begins in enumerate(digits.split() if model == name else (), 1):
            file = f"{stem}-{quality}-{begins}.pth.tar"
            yield Weights(
                file=file,
                url=f"{ROOT}/{file}",
                key=("state_dict", "network", "model_state_dict"),
                sha256_begins=begins,
                licence="BSD-3-Clause-Clear",
                when={"metric": metric, "quality": quality},
            )


def _card(name: str, title: str, paper: str, note: str = "") -> Card:
    weights = tuple(_weights(name))
    qualities = tuple(dict.fromkeys(w.when["quality"] for w in weights))
    return Card(
        name=name,
        family="learned-codecs",
        kind="codec",
        title=title,
        sizes=Multiple(1),
        licence="BSD-3-Clause-Clear",
        paper=paper,
        code="https://github.com/InterDigitalInc/CompressAI",
        sources=stated(
            "InterDigitalInc/CompressAI@869a9f5",
            licence="Readme.md:147",
            trained_on="docs/source/zoo.rst:38-40",
            arch="compressai/models, compressai/zoo/image.py",
            weights="compressai/zoo/image.py",
        ),
        weights=weights,
        trained_on=("Vimeo-90k",),
        options={"quality": 4, "metric": "mse"},
        knob="quality",
        knob_values=qualities,
        extra="compressai",
        curves=(KODAK[name],),
        note=f"a network a quality, 1 to {qualities[-1]}, for metric mse or ms-ssim; padded to multiples of 64{note}",
    )


_BALLE, _MINNEN = "https://arxiv.org/abs/1802.01436", "https://arxiv.org/abs/1809.02736"
_CHENG = "https://arxiv.org/abs/2001.01568"
_TWO = "; one or two bytes say where the second of two strings begins, which upstream's rate leaves out"
_SLOW = _TWO + "; coded position by position: 15 s and more for half a megapixel, there and back on a CPU"
CARDS = (
    _card("bmshj2018-factorized", "Factorized prior (Ballé et al. 2018)", _BALLE),
    _card("bmshj2018-hyperprior", "Scale hyperprior (Ballé et al. 2018)", _BALLE, _TWO),
    _card("mbt2018-mean", "Mean and scale hyperprior (Minnen et al. 2018)", _MINNEN, _TWO),
    _card("mbt2018", "Joint autoregressive and hierarchical prior (Minnen et al. 2018)", _MINNEN, _SLOW),
    _card("cheng2020-anchor", "Cheng et al. 2020, without attention", _CHENG, _SLOW),
    _card("cheng2020-attn", "Cheng et al. 2020, with attention", _CHENG, _SLOW),
)


class LearnedCodec(Tokenizer):
    """Bitstream: the strings of CompressAI's coder; z before y where there are two, and the length of z before both."""

    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        if dtype != "float32":
            raise VtbenchError(
                f"{self.card.name} in {dtype} would decode other probabilities than it coded with: give --dtype float32"
            )
        architectures, renamed = _library(self.card.title)
        state = renamed(read(files["model"], self.card.weights[0].key))
        widest = max((t.shape[0] for name, t in state.items() if name.startswith("g_a.") and t.ndim == 4), default=0)
        if widest > WIDEST:
            raise VtbenchError(f"{files['model'].name} states {widest} channels, and {WIDEST} are read at most")
        try:
            network = architectures[self.card.name].from_state_dict(state).eval()
        except (KeyError, RuntimeError, ValueError, AttributeError, IndexError) as bad:
            first = (str(bad).strip().splitlines() or [""])[0][:200]
            raise VtbenchError(
                f"{files['model'].name} holds no {self.card.name} of CompressAI ({type(bad).__name__}: {first}): give "
                "a state_dict of its class"
            ) from bad
        self._make_tables(network, files["model"].name)
        self.network = network
        if device != "cpu":
            self.notes = (f"{self.card.name} is computed on the CPU in one thread, not on {device}",)

    def _make_tables(self, network: Any, name: str) -> None:
        """The coder's tables, from the parameters as upstream's `eval_model` makes them: those of a checkpoint's file
        may be older than its parameters, and the coder believes a table whatever it holds."""
        quantiles = network.entropy_bottleneck.quantiles.detach()
        widest = float((quantiles[..., 2] - quantiles[..., 0]).max())
        if not all(bool(p.isfinite().all()) for p in network.parameters()) or widest > SYMBOLS:
            raise VtbenchError(
                f"{name} has parameters that are not finite, or a latent of {widest:g} values where {SYMBOLS} can be "
                "coded: give the weights of a trained model"
            )
        network.update(force=True)

    def parameter_count(self) -> int | None:
        return sum(p.numel() for p in self.network.parameters())

    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        from torch.nn.functional import pad

        around, _ = _padding(images.shape[2], images.shape[3])
        data = []
        with _one_thread():
            for image in images.cpu().split(1):
                strings = self.network.compress(pad(image, around))["strings"]
                data.append(_joined([string for (string,) in strings]))
        return Bitstream(data, (int(images.shape[2]), int(images.shape[3])))

    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        import torch
        from torch.nn.functional import pad

        assert isinstance(tokens, Bitstream)
        height, width = tokens.size
        around, back = _padding(height, width)
        factor = self.network.downsampling_factor
        shape = (height + around[2] + around[3]) // factor, (width + around[0] + around[1]) // factor
        count = 2 if hasattr(self.network, "gaussian_conditional") else 1
        images = []
        with _one_thread():
            for data in tokens.data:
                strings = [[string] for string in _split(data, count)]
                images.append(pad(self.network.decompress(strings, shape)["x_hat"], back))
        return torch.cat(images)


def _library(what: str) -> tuple[Mapping[str, Any], Any]:
    """CompressAI's classes by model, and what gives the names of older releases their present form."""
    try:
        with warnings.catch_warnings():
            # Of torch.jit, which one of its requirements still uses.
            warnings.simplefilter("ignore")
            from compressai.zoo.image import model_architectures
            from compressai.zoo.pretrained import load_pretrained
    except ImportError as absent:
        raise MissingExtra(absent.name or "compressai", "compressai", what) from absent
    return model_architectures, load_pretrained


def _padding(height: int, width: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(left, right, top, bottom) to add, and the same to take off: as compressai.ops.compute_padding, to 64."""
    tall, wide = -height % 64, -width % 64
    around = (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2)
    return around, tuple(-n for n in around)


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="openmp"), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _joined(strings: Sequence[bytes]) -> bytes:
    """One string of (y, z), whose second has whole words of 4 bytes: how many of them in base 128, then z, then y."""
    y, *rest = strings
    for z in rest:
        words, head = len(z) // 4, bytearray()
        while words >= 128:
            head.append(words % 128 + 128)
            words //= 128
        head.append(words)
        return bytes(head) + z + y
    return y


def _split(data: bytes, count: int) -> list[bytes]:
    """The inverse of `_joined`; raises VtbenchError where the strings are no whole words."""
    strings = [data]
    if count == 2:
        words = at = 0
        while at < min(len(data), 5):
            words += data[at] % 128 * 128**at
            at += 1
            if data[at - 1] < 128:
                break
        end = at + 4 * words
        strings = [data[end:], data[at:end]]
    if any(not string or len(string) % 4 for string in strings):
        raise VtbenchError(f"a bitstream of {len(data)} bytes does not hold {count} strings of CompressAI's coder")
    return strings


FAMILY = Family("learned-codecs", "Learned codecs (CompressAI)", CARDS, LearnedCodec)
