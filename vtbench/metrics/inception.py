"""Inception 2015-12-05 as the FID family uses it: network, resizes, extractors.

The network is the TensorFlow graph `inception-2015-12-05` as ported by torch-fidelity (0.4,
torch_fidelity/feature_extractor_inceptionv3.py): torchvision's InceptionV3 with average pools that leave the padding
out of the mean and a max pool in the last block. We compose its blocks and load the tensors ourselves: torch-fidelity
would unpickle a path that it is given.

What differs between published FIDs is the resize to 299 x 299 and the value range; each has a name here:

tf1       TF 1.x bilinear, no antialias, legacy corners; (x - 128) / 128  TTUR, ADM, torch-fidelity, torchmetrics < 1.8
clean     Pillow bicubic on float channels, clipped to [0, 255], (x - 128) / 128    clean-fid `clean`, resize.py
bilinear  F.interpolate bilinear, align_corners=False, x / 255 * 2 - 1              pytorch-fid, inception.py

Outputs: `pool3` (2048), `spatial` (7 x 17 x 17: the first 7 channels of the tensor `mixed_6/conv:0`, of which ADM
makes sFID; torch-fidelity's utils/util_convert_inception_weights.py maps it to Mixed_6d.branch1x1; laid out H, W, C as
in ADM's batches, so that `mu_s` and `sigma_s` can be compared), `logits` (1008, without the bias, as ADM and
torch-fidelity take them for the Inception Score).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from vtbench.metrics import weights
from vtbench.metrics._precision import full_float32
from vtbench.types.errors import VtbenchError
from vtbench.types.metric import Extractor

Resize = Literal["tf1", "clean", "bilinear"]
Output = Literal["pool3", "spatial", "logits"]

WEIGHTS = "inception-2015-12-05"
SIZE = 299
SPATIAL_CHANNELS = 7
DIMS: dict[Output, int] = {"pool3": 2048, "spatial": SPATIAL_CHANNELS * 17 * 17, "logits": 1008}


def network() -> Any:
    """The network without values (meta device), in evaluation mode; its parameter names are the released file's."""
    import torch
    from torch import nn
    from torch.nn import functional
    from torch_fidelity import feature_extractor_inceptionv3 as blocks

    class Inception(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            conv = blocks.BasicConv2d
            self.Conv2d_1a_3x3 = conv(3, 32, kernel_size=3, stride=2)
            self.Conv2d_2a_3x3 = conv(32, 32, kernel_size=3)
            self.Conv2d_2b_3x3 = conv(32, 64, kernel_size=3, padding=1)
            self.Conv2d_3b_1x1 = conv(64, 80, kernel_size=1)
            self.Conv2d_4a_3x3 = conv(80, 192, kernel_size=3)
            self.Mixed_5b = blocks.InceptionA(192, pool_features=32)
            self.Mixed_5c = blocks.InceptionA(256, pool_features=64)
            self.Mixed_5d = blocks.InceptionA(288, pool_features=64)
            self.Mixed_6a = blocks.InceptionB(288)
            self.Mixed_6b = blocks.InceptionC(768, channels_7x7=128)
            self.Mixed_6c = blocks.InceptionC(768, channels_7x7=160)
            self.Mixed_6d = blocks.InceptionC(768, channels_7x7=160)
            self.Mixed_6e = blocks.InceptionC(768, channels_7x7=192)
            self.Mixed_7a = blocks.InceptionD(768)
            self.Mixed_7b = blocks.InceptionE_1(1280)
            self.Mixed_7c = blocks.InceptionE_2(2048)
            self.fc = nn.Linear(2048, 1008)

        def forward(self, x: torch.Tensor, spatial: bool = False) -> dict[str, torch.Tensor]:
            """x float32 (B, 3, 299, 299), scaled; gives pool3, logits and, on request, spatial."""
            out = {}
            x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
            x = functional.max_pool2d(x, kernel_size=3, stride=2)
            x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
            x = functional.max_pool2d(x, kernel_size=3, stride=2)
            x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
            x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))
            if spatial:
                branch = self.Mixed_6d.branch1x1(x)[:, :SPATIAL_CHANNELS]
                out["spatial"] = branch.permute(0, 2, 3, 1).flatten(1)
            x = self.Mixed_6e(self.Mixed_6d(x))
            x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
            out["pool3"] = x.mean(dim=(2, 3))
            out["logits"] = out["pool3"] @ self.fc.weight.T
            return out

    with torch.device("meta"):
        net = Inception()
    return net.requires_grad_(False).eval()


def _fold(net: Any) -> None:
    """Batch normalisation into the convolution before it: a tenth less time, 5e-7 of the largest feature."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval
    from torch_fidelity.feature_extractor_inceptionv3 import BasicConv2d

    for name, child in list(net.named_children()):
        if isinstance(child, BasicConv2d):
            setattr(net, name, nn.Sequential(fuse_conv_bn_eval(child.conv, child.bn), nn.ReLU(inplace=True)))
        else:
            _fold(child)


def random_state(seed: int = 0) -> dict[str, Any]:
    """Seeded random tensors under the released file's names: an Inception for tests, whose numbers mean nothing.

    Convolutions keep the scale of what passes (He initialisation), so that features differ from image to image.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in network().state_dict().items():
        if name.endswith("running_var"):
            state[name] = torch.ones(tensor.shape)
        elif tensor.ndim == 4:
            fan = tensor[0].numel()
            state[name] = torch.randn(tensor.shape, generator=generator) * (2 / fan) ** 0.5
        elif tensor.ndim == 2:
            state[name] = torch.randn(tensor.shape, generator=generator) * 0.02
        elif name.endswith("bn.weight"):
            state[name] = torch.ones(tensor.shape)
        else:
            state[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
    return state


def tf1_bilinear(x: Any, size: int) -> Any:
    """(B, C, H, W) -> float32 (B, C, size, size) as TensorFlow 1.x resizes: corners at i * H / size, no antialias.

    tensorflow/core/kernels/resize_bilinear_op.cc; equal bit for bit to torch-fidelity's function of the same purpose.
    Each source row is interpolated once, and along the slowest axis in memory, where taking rows is copying: a quarter
    of the time of the plain form. The result's memory is channels last.
    """
    import torch

    # (B, W, H, C), then (B, H, W, C).
    x = x.permute(0, 3, 2, 1).to(torch.float32).contiguous()
    for turn in (True, False):
        length = x.shape[1]
        there = torch.arange(size, dtype=torch.float32, device=x.device) * (length / size)
        low = there.floor().long()
        part = (there - low)[:, None, None]
        near = x.index_select(1, low)
        x = x.index_select(1, (low + 1).clamp(max=length - 1)).sub_(near).mul_(part).add_(near)
        if turn:
            x = x.transpose(1, 2).contiguous()
    return x.permute(0, 3, 1, 2)


def prepare(images: Any, resize: Resize) -> Any:
    """uint8 RGB (B, 3, H, W) -> float32 (B, 3, 299, 299) in the range that `resize` prescribes."""
    import numpy as np
    import torch

    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise VtbenchError(f"Inception takes uint8 (B, 3, H, W), not {images.dtype} {tuple(images.shape)}", code=1)
    if resize == "tf1":
        return tf1_bilinear(images, SIZE).sub_(128).div_(128)
    if resize == "bilinear":
        unit = images.float() / 255
        unit = torch.nn.functional.interpolate(unit, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        return unit * 2 - 1
    from PIL import Image

    bicubic = Image.Resampling.BICUBIC
    planes = [
        np.asarray(Image.fromarray(plane).resize((SIZE, SIZE), bicubic))
        for image in images.cpu().float().numpy()
        for plane in image
    ]
    pixels = np.stack(planes).clip(0, 255).reshape(len(images), 3, SIZE, SIZE)
    return (torch.from_numpy(pixels).to(images.device) - 128) / 128


class _Shared:
    """One loaded network for all extractors that differ only in their output; keeps its last batch's outputs."""

    def __init__(self, path: Path, device: str) -> None:
        import torch

        state = weights.load_state(WEIGHTS, path)
        net = network().to_empty(device="cpu")
        # The counters of batch normalisation play no part in evaluation.
        state = {k: v for k, v in dict(state).items() if not k.endswith("num_batches_tracked")}
        wanted = {k: v.shape for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
        bad = [
            *(f"{k} is missing" for k in wanted if k not in state),
            *(f"{k} is unknown" for k in state if k not in wanted),
            *(f"{k} has shape {tuple(v.shape)}" for k, v in state.items() if k in wanted and v.shape != wanted[k]),
        ]
        if bad:
            raise VtbenchError(
                f"{path.name} is not a state dict of Inception 2015-12-05: {bad[0]} ({len(bad)} such names)"
            )
        net.load_state_dict(state, strict=False)
        _fold(net)
        self.net = net.to(device, memory_format=torch.channels_last)
        self.device = device
        self._last: tuple[Any, int, Resize, bool, dict[str, Any]] | None = None

    def run(self, images: Any, resize: Resize, spatial: bool) -> dict[str, Any]:
        import torch

        last = self._last
        # The version counter sees a tensor that was overwritten in place.
        key = (images._version, resize)
        if last is not None and last[0] is images and last[1:3] == key and (last[3] or not spatial):
            return last[4]
        with torch.inference_mode(), full_float32():
            x = prepare(images.to(self.device), resize).contiguous(memory_format=torch.channels_last)
            out = {k: v.float().cpu().numpy() for k, v in self.net(x, spatial).items()}
        self._last = (images, images._version, resize, spatial, out)
        return out


_loaded: dict[tuple[str, str, str], _Shared] = {}


class InceptionFeatures(Extractor):
    """uint8 RGB (B, 3, H, W) -> float32 (B, dim) of one output of Inception 2015-12-05.

    The released weights are looked for and verified by sha256 (vtbench.metrics.weights). A file given as `path`, or in
    VTBENCH_METRIC_WEIGHTS, is accepted whatever it holds, and numbers made with it are marked unverified.
    """

    def __init__(self, output: Output = "pool3", resize: Resize = "tf1", path: Path | None = None) -> None:
        self.output, self.resize = output, resize
        self.dim = DIMS[output]
        self.path = path
        self._shared: _Shared | None = None

    @property
    def id(self) -> str:  # type: ignore[override]
        """Names network, weights, resize and output: what a cached feature depends on."""
        own = weights.unverified_mark(WEIGHTS, self.path)
        return f"{WEIGHTS}{own}/{self.resize}/{self.output}"

    def unverified(self) -> str | None:
        """The sentence that marks numbers made with a file that is not the released one; None if all is well."""
        return weights.unverified(WEIGHTS, self.path)

    def load(self, device: str = "cpu") -> None:
        path = weights.find(WEIGHTS, self.path)
        key = (str(path), weights.sha256(path), device)
        if key not in _loaded:
            _loaded[key] = _Shared(path, device)
        self._shared = _loaded[key]

    def extract(self, images: Any) -> Any:
        if self._shared is None:
            self.load()
        assert self._shared is not None
        return self._shared.run(images, self.resize, self.output == "spatial")[self.output]
