"""Files of fits that several adapters read: name and hash stand once."""

from __future__ import annotations

from vtbench.types.cards import Weights

KMEANS_VQ = Weights(
    file="kmeans_vq.safetensors",
    package="vtbench.adapters.fits:kmeans_vq.safetensors",
    sha256="b3d1b107d06261364eee2e7ebf20111fd4beecbe5fad93e02d3451d6caf266de",
)
