"""Fits the built-in patch tokenizers, once, on scikit-learn's two sample photographs, which are never scored.

    python -m vtbench.adapters.fits.make_fits

Writes pca.safetensors, kmeans_vq.safetensors and residual_vq.safetensors beside this file and prints their sha256,
which stand on the cards.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.cluster import MiniBatchKMeans
from sklearn.datasets import load_sample_images

HERE = Path(__file__).resolve().parent
SIDE = 8
CODEBOOKS = (256, 1024, 4096)
DEPTH, LEVEL = 8, 256


def photographs() -> list[torch.Tensor]:
    """The two photographs at full and half size, float32 (1, 3, H, W) in [0, 1]."""
    out = []
    for image in load_sample_images().images:
        whole = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        out += [
            whole,
            torch.nn.functional.interpolate(whole, scale_factor=0.5, mode="bicubic", antialias=True).clamp(0, 1),
        ]
    return out


def patches(stride: int) -> np.ndarray:
    """(n, 192) float32: 8 x 8 patches at every `stride` pixels, as they are and mirrored."""
    rows = []
    for image in photographs():
        for turned in (image, image.flip(3)):
            rows.append(torch.nn.functional.unfold(turned, SIDE, stride=stride)[0].T)
    return torch.cat(rows).numpy()


def kmeans(rows: np.ndarray, k: int, seed: int) -> np.ndarray:
    made = MiniBatchKMeans(k, batch_size=8192, n_init=1, max_iter=60, random_state=seed, reassignment_ratio=0.01).fit(
        rows
    )
    return made.cluster_centers_.astype(np.float32)


def save(name: str, tensors: dict[str, np.ndarray]) -> None:
    path = HERE / f"{name}.safetensors"
    save_file({k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in tensors.items()}, path)
    # Some releases of safetensors write files that only their owner may read; a wheel would carry that on.
    path.chmod(0o644)
    print(name, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)


def main() -> None:
    rows = patches(4)
    mean = rows.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(np.cov(rows.T.astype(np.float64)))
    components = vectors[:, np.argsort(values)[::-1]].T
    # An eigenvector's sign is arbitrary: the largest entry is made positive, so that a new fit gives the same file.
    components *= np.sign(components[np.arange(len(components)), np.abs(components).argmax(axis=1)])[:, None]
    save("pca", {"mean": mean.astype(np.float32), "components": components[:64].astype(np.float32)})
    save("kmeans_vq", {f"codebook_{k}": kmeans(rows, k, 0).astype(np.float16) for k in CODEBOOKS})
    books, rest = [], rows - rows.mean(axis=0)
    for level in range(DEPTH):
        book = kmeans(rest, LEVEL, level)
        books.append(book)
        for part in np.array_split(np.arange(len(rest)), 32):
            distance = (book**2).sum(axis=1) - 2 * rest[part] @ book.T
            rest[part] -= book[distance.argmin(axis=1)]
    save("residual_vq", {"mean": rows.mean(axis=0).astype(np.float32), "codebooks": np.stack(books).astype(np.float16)})


if __name__ == "__main__":
    main()
