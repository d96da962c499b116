"""Generators of the diffusers library: any pipeline that makes one image from a text or a class label.

A pipeline is a folder in diffusers' own format (model_index.json), from disk or the hub; weights are safetensors, and
no code of a repository ever runs. What a pipeline's call takes is read from its signature, so that no model is known by
name. Every image is drawn alone from its own seed: a batch of four equals four of one.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.adapters.networks.diffusers_folders import weights_of_pipeline
from vtbench.types.adapter import Generator, Prompt
from vtbench.types.cards import Card, Family, Multiple, Weights
from vtbench.types.errors import MissingExtra, VtbenchError
from vtbench.types.foreign import read_object

if TYPE_CHECKING:
    import torch

OPTIONS: Mapping[str, Any] = {"steps": 0, "guidance": -1.0, "size": 0, "negative_prompt": ""}
"""0, -1 and "" leave a pipeline's own default; size in pixels (square)."""
NULL_CLASS = 1000
"""The label that diffusers' class-conditional pipeline gives for no class, whatever the model (pipeline_dit.py). The
model's own is the one behind its classes, and is given to it instead."""


def _card(name: str, title: str, hub: str | None, licence: str | None, conditioning: Any, **more: Any) -> Card:
    weights = Weights(file="model_index.json", role="folder", hub=hub, licence=licence)
    place = hub or "the folder that is given"
    sources = {
        "licence": f"{place}, model card",
        "arch": f"{place}, the configurations of its parts",
        "weights": place,
        "options": "the pipeline's own defaults",
        "tokenizer": "the folder holds its own autoencoder",
        **more.pop("sources", {}),
    }
    return Card(
        name=name,
        family="diffusers-pipeline",
        kind="generator",
        title=title,
        sizes=Multiple(8, 8),
        licence=licence,
        weights=(weights,),
        options=OPTIONS,
        conditioning=conditioning,
        stochastic=True,
        extra="hub",
        sources=sources,
        **more,
    )


CARDS = (
    _card(
        "diffusers-pipeline",
        "a diffusers pipeline of yours",
        hub=None,
        licence=None,
        conditioning=None,
        sources={"trained_on": "the folder that is given"},
        note="give its folder with --checkpoint; conditioned by text or class as its call takes them",
    ),
    _card(
        "dit-xl-2-256",
        "DiT-XL/2, 256",
        "facebook/DiT-XL-2-256",
        "CC-BY-NC-4.0",
        "class",
        paper="https://arxiv.org/abs/2212.09748",
        trained_on=("ImageNet-1k",),
        sources={"trained_on": "arXiv:2212.09748"},
    ),
    _card(
        "pixart-sigma-1024",
        "PixArt-Sigma-XL 1024",
        "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
        "OpenRAIL++",
        "text",
        paper="https://arxiv.org/abs/2403.04692",
    ),
    _card(
        "sd-xl-base",
        "Stable Diffusion XL base 1.0",
        "stabilityai/stable-diffusion-xl-base-1.0",
        "CreativeML OpenRAIL++-M",
        "text",
        paper="https://arxiv.org/abs/2307.01952",
    ),
)


class Pipeline(Generator):
    """Options: steps, guidance, size, negative_prompt."""

    def __init__(self, card: Card, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(card, options)
        if self.options["steps"] < 0 or self.options["size"] < 0:
            raise VtbenchError(f"{card.name}: steps and size are numbers from 1 on, or 0 for the pipeline's own")
        self.pipe: Any = None
        self.read_from: list[dict[str, Any]] = []
        """For the record: the file of weights of every part."""
        self.spent: dict[str, float] = {}

    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:
        import torch

        try:
            import diffusers
        except ImportError:
            raise MissingExtra("diffusers", "hub", self.card.name) from None
        folder = files["folder"]
        check_folder(folder)
        variant, self.read_from = weights_of_pipeline(folder)
        try:
            pipe = diffusers.DiffusionPipeline.from_pretrained(
                str(folder),
                torch_dtype=getattr(torch, dtype),
                use_safetensors=True,
                variant=variant,
                local_files_only=True,
                trust_remote_code=False,
                low_cpu_mem_usage=False,
            )
        except Exception as bad:
            text = " ".join(str(bad).split())[:300]
            raise VtbenchError(f"the pipeline in {folder} could not be loaded ({type(bad).__name__}: {text})") from bad
        self.takes = set(inspect.signature(pipe.__call__).parameters)
        if not self.takes & {"prompt", "class_labels"}:
            raise VtbenchError(
                f"{type(pipe).__name__} takes neither a prompt nor class labels: it is no generator here"
            )
        self.classes = _classes_of(pipe) if "class_labels" in self.takes else None
        if self.classes is not None and self.classes != NULL_CLASS and "guidance_scale" in self.takes:
            pipe.transformer.register_forward_pre_hook(self._own_null_class, with_kwargs=True)
            self.notes = (f"the class for none of its guidance is {self.classes}, the one behind its own classes",)
        pipe.set_progress_bar_config(disable=True)
        self.pipe = pipe.to(device)
        self.device, self.dtype = device, dtype

    def _own_null_class(self, _: Any, args: Any, call: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Of a batch that guidance doubled, the second half asks for no class: by the model's own label of it."""
        labels = call.get("class_labels")
        # Every image is drawn alone: two labels are one and its guidance's.
        if labels is not None and len(labels) == 2 and int(labels[1]) == NULL_CLASS:
            labels = labels.clone()
            labels[1] = self.classes
            call = {**call, "class_labels": labels}
        return args, call

    def parameter_count(self) -> int | None:
        if self.pipe is None:
            return None
        parts = [c for c in self.pipe.components.values() if callable(getattr(c, "parameters", None))]
        return sum(p.numel() for c in parts for p in c.parameters())

    def cost(self) -> Mapping[str, float]:
        return dict(self.spent)

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> torch.Tensor:
        import torch

        if self.pipe is None:
            raise VtbenchError(f"{self.card.name} is not loaded: call load with its folder first")
        calls = _Calls(self.pipe)
        try:
            drawn = [self._one(p, s) for p, s in zip(prompts, seeds, strict=True)]
        finally:
            calls.remove()
        self.spent = {"nfe": calls.count / len(drawn)} if calls.counted else {}
        flagged = sum(f for _, f in drawn)
        if flagged:
            self.spent["safety_blackouts"] = flagged / len(drawn)
        return torch.stack([image for image, _ in drawn])

    def _one(self, prompt: Prompt, seed: int) -> tuple[torch.Tensor, bool]:
        """(image (3, H, W) float32 in [0, 1], whether a safety checker blacked it out)."""
        import torch

        options = self.options
        # Drawn on the CPU: the same noise on every device.
        call: dict[str, Any] = {"generator": torch.Generator("cpu").manual_seed(seed), "output_type": "np"}
        if "class_labels" in self.takes:
            if prompt.label is None:
                raise VtbenchError(f"{self.card.name} is class-conditional, but the prompt {prompt.id} has no label")
            if self.classes is not None and not 0 <= prompt.label < self.classes:
                raise VtbenchError(
                    f"the class label {prompt.label} of the prompt {prompt.id} lies outside 0..{self.classes - 1}"
                )
            call["class_labels"] = [prompt.label]
        else:
            if prompt.text is None:
                raise VtbenchError(f"{self.card.name} is text-conditional, but the prompt {prompt.id} has no text")
            call["prompt"] = prompt.text
        settings = {
            "num_inference_steps": options["steps"] or None,
            "guidance_scale": None if options["guidance"] < 0 else options["guidance"],
            "height": options["size"] or None,
            "width": options["size"] or None,
            "negative_prompt": options["negative_prompt"] or None,
        }
        for name, value in settings.items():
            if value is None:
                continue
            if name not in self.takes:
                raise VtbenchError(f"{type(self.pipe).__name__} takes no {name}: leave out that --option")
            call[name] = value
        out = self.pipe(**call)
        image = torch.from_numpy(out.images[0]).permute(2, 0, 1).float()
        flags = getattr(out, "nsfw_content_detected", None)
        return image, bool(flags and flags[0])


def _classes_of(pipe: Any) -> int | None:
    """How many classes the denoiser knows, as its config says."""
    for part, key in (("transformer", "num_embeds_ada_norm"), ("unet", "num_class_embeds")):
        config = getattr(getattr(pipe, part, None), "config", {})
        if config.get(key) is not None:
            return int(config[key])
    return None


class _Calls:
    """Counts the denoiser's evaluations; a batch doubled for guidance counts once, as for the native generators."""

    def __init__(self, pipe: Any) -> None:
        net = next(
            (n for name in ("transformer", "unet", "prior") if (n := getattr(pipe, name, None)) is not None), None
        )
        self.count, self.counted = 0, net is not None
        self._hook = None if net is None else net.register_forward_pre_hook(self._seen)

    def _seen(self, *_: Any) -> None:
        self.count += 1

    def remove(self) -> None:
        if self._hook is not None:
            self._hook.remove()


def check_folder(folder: Path) -> None:
    """Refuses a folder that is no pipeline, whose index names code of its own, or whose weights are pickled."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise VtbenchError(f"{folder} holds no model_index.json: give the folder of a diffusers pipeline")
    parts = read_object(index, "fetch the folder again")
    if not isinstance(parts.get("_class_name"), str):
        raise VtbenchError(f"{index} names a class of its own code: only diffusers' own pipelines are loaded")
    for name, value in parts.items():
        if isinstance(value, list) and value and value[0] is not None and (folder / f"{value[0]}.py").exists():
            raise VtbenchError(f"{index} takes {name} from the repository's own code: that is never run")
    if not any(folder.rglob("*.safetensors")):
        raise VtbenchError(f"{folder} holds no .safetensors file: convert the weights, pickled files are not opened")


FAMILY = Family("diffusers-pipeline", "Pipelines of diffusers", CARDS, Pipeline)
