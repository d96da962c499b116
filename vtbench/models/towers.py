"""An image tower with its weights in it: CLIP, SigLIP, DINOv2 or ViT, from a folder or a hub id.

The next stage of an image tower is what pools or classifies its output.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vtbench.models.attach import ARCHITECTURES, DEFAULT, PATCH_READERS, Architecture, Blocks, part
from vtbench.models.class_names import PROMPTS, Classes
from vtbench.models.cutting import Sight, at_hand, whole
from vtbench.models.devices import check_device
from vtbench.models.tower_files import ModelFiles, build, configuration, library
from vtbench.models.tower_pixels import preparation
from vtbench.types.errors import VtbenchError, near
from vtbench.types.reduction import Needs, TowerView

if TYPE_CHECKING:
    from torch import Tensor

OPTIONS: Mapping[str, Any] = {"attention": "eager", "pool": "model", "prompts": "photo", "labels": "folders"}
"""How a tower is read: its attention's implementation; what is compared, as the model pools it or the mean of the
patches that go on; the words around a class's name; whether folders are classes ("none": they are not)."""
VALUES = {"attention": ("eager", "sdpa"), "pool": ("model", "mean"), "labels": ("folders", "none")}


@dataclass(frozen=True)
class Whole:
    """A batch through the whole tower: its output (B, L, C), what was seen, the pictures' grid of patches."""

    output: Tensor
    seen: Sequence[Sight]
    grid: tuple[int, int]


class Tower:
    """The network, and what of it is asked for. options: those of OPTIONS."""

    def __init__(self, files: ModelFiles, device: str, dtype: str, options: Mapping[str, Any]) -> None:
        """Raises VtbenchError where the files are no tower of ours."""
        check_device(device, dtype)
        self.options = checked_options({**OPTIONS, **options})
        self.device, self.dtype, self.files, self.name = device, dtype, files, files.name
        transformers = library()
        self.class_name, self.architecture = _architecture(files)
        config = configuration(files, getattr(transformers, self.architecture.config))
        cls, more = getattr(transformers, self.class_name), self.architecture.build
        self.network, self.unread = build(files, cls, config, dtype, str(self.options["attention"]), **more)
        self.network.to(device)
        self.family = self.architecture.family
        self.vision: Any = part(self.network, self.architecture.vision)
        seen = getattr(config, "vision_config", config)
        self.blocks = Blocks(self.vision, self.family, int(seen.num_attention_heads))
        self.patch, self.side = _side(seen.patch_size, "patch_size"), _side(seen.image_size, "image_size")
        self.width = int(seen.hidden_size)
        self.prefix = int(self.family.cls) + int(getattr(seen, "num_register_tokens", 0) or 0)
        self.preparation, self.note = preparation(files.folder, self.family.prepared, self.side)
        self.size = self.preparation.output or (self.side, self.side)
        self.preparation = replace(self.preparation, crop=self.preparation.crop or self.size)
        self.grid = self.size[0] // self.patch, self.size[1] // self.patch
        if not self.tokens:
            raise VtbenchError(f"{files.folder} wants pictures of {self.size}, smaller than one patch of {self.patch}")
        self.classes = self._classes(config)

    @property
    def tokens(self) -> int:
        """Patches of a picture."""
        return self.grid[0] * self.grid[1]

    @property
    def dim(self) -> int:
        """Width of what is pooled."""
        projection = None if self.options["pool"] == "mean" else getattr(self.network, "visual_projection", None)
        return self.width if projection is None else int(projection.out_features)

    def _classes(self, config: Any) -> Classes:
        stated = None
        if self.architecture.classifies is not None:
            count = int(self.network.classifier.out_features)
            stated = [str(config.id2label.get(number, f"LABEL_{number}")) for number in range(count)]
        texts = (self.network, self.files.folder) if self.architecture.texts else None
        return Classes(stated, texts, str(self.options["prompts"]))

    def facts(self) -> dict[str, Any]:
        """For a run's record."""
        unread = [f"its weights hold {n}, which {self.class_name} does not read" for n in self.unread[:1]]
        return {
            "name": self.name,
            "spec": self.files.spec,
            "class": self.class_name,
            "layers": len(self.blocks),
            "width": self.width,
            "grid": list(self.grid),
            "tokens": self.tokens,
            "tokens_before": self.prefix,
            "size": list(self.size),
            "sha256": self.files.sha256,
            "library": f"transformers {library().__version__}",
            "preparation": dataclasses.asdict(self.preparation),
            "notes": [text for text in (self.note, *unread) if text],
            **self.options,
        }

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.vision.parameters())

    def pictures(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, h, w): what the tower sees of float32 (B, 3, H, W) in [0, 1]."""
        return self.preparation.pictures(images)

    def pixels(self, pictures: Tensor) -> Tensor:
        """The same, normalised, where and in what the network computes."""
        import torch

        return self.preparation.normalised(pictures, getattr(torch, self.dtype), self.device)

    def embedded(self, pixels: Tensor) -> Tensor:
        """(B, L, C) in front of the first block."""
        return self.blocks.embedded(pixels, tuple(pixels.shape[2:]) == (self.side, self.side))

    def whole(self, pixels: Tensor, needs: Needs | None = None) -> Whole:
        """The unreduced tower; what is looked at on the way changes nothing of it."""
        grid = int(pixels.shape[2]) // self.patch, int(pixels.shape[3]) // self.patch
        x, seen = whole(self.blocks, self.embedded(pixels), needs or Needs())
        return Whole(self.blocks.finished(x), seen, grid)

    def head(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """(features (B, C'), logits (B, K) or None) of the tower's output (B, L, C): the next stage."""
        prefix, classifies = self.prefix, self.architecture.classifies
        pooled = self.architecture.pool(self.network, self.vision, output, prefix)
        features = output[:, prefix:].mean(dim=1) if self.options["pool"] == "mean" else pooled
        if classifies is not None:
            return features, self.network.classifier(classifies(self.network, self.vision, output, prefix))
        return features, self.classes.logits(pooled) if self.classes.zero_shot else None

    @property
    def pools_patches(self) -> bool:
        """Whether what is pooled reads the patches of the output, not the CLS token alone."""
        return self.options["pool"] == "mean" or self.architecture.pool in PATCH_READERS

    @property
    def classifies_patches(self) -> bool:
        """The same of what its classes are read from."""
        return (self.architecture.classifies or self.architecture.pool) in PATCH_READERS

    def views(self, done: Whole, needs: Needs, seeds: Sequence[int], pictures: Tensor) -> list[TowerView]:
        """What a reducer at the tower's output sees of every image."""
        return [
            TowerView(
                at_hand(one[self.prefix :]),
                done.grid,
                self.prefix,
                lead=at_hand(one[: self.prefix]),
                pixels=picture.float() / 255 if needs.pixels else None,
                heads=self.blocks.heads,
                seed=seed,
                **sight.fields(),
            )
            for one, sight, seed, picture in zip(done.output, done.seen, seeds, pictures, strict=True)
        ]


def _architecture(files: ModelFiles) -> tuple[str, Architecture]:
    """The class that a configuration names, where it is one of ours; else that of its kind of model."""
    kind, stated = files.config.get("model_type"), files.config.get("architectures")
    if kind not in DEFAULT:
        raise VtbenchError(
            f"{files.folder} is a model of the kind {kind!r}, to which no reducer is attached: give one of "
            f"{', '.join(DEFAULT)}"
        )
    family = ARCHITECTURES[DEFAULT[kind]].family
    for name in stated if isinstance(stated, list) else ():
        if isinstance(name, str) and name in ARCHITECTURES and ARCHITECTURES[name].family is family:
            return name, ARCHITECTURES[name]
    return DEFAULT[kind], ARCHITECTURES[DEFAULT[kind]]


def checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a tower, unless one has a value that means nothing."""
    if options.get("prompts") not in PROMPTS:
        name = options.get("prompts")
        raise VtbenchError(f"--option prompts={name}{near(str(name), PROMPTS)}: give one of {', '.join(PROMPTS)}")
    for name, value in options.items():
        values = VALUES.get(name)
        if values is not None and value not in values:
            raise VtbenchError(f"--option {name}={value}{near(str(value), values)}: give {' or '.join(values)}")
    return dict(options)


def _side(value: Any, name: str) -> int:
    """A side of a square, which may be stated as one number or as two alike."""
    sides = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(sides) != 2 or sides[0] != sides[1] or isinstance(sides[0], bool) or not isinstance(sides[0], int):
        raise VtbenchError(f"the configuration of the tower states {name} {value!r}: only squares are known")
    if sides[0] < 1:
        raise VtbenchError(f"the configuration of the tower states {name} {value!r}: wanted 1 or more")
    return int(sides[0])
