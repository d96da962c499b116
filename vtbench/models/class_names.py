"""The classes of a tower: those of its classifier or, for CLIP and its like, the names that the pictures' folders have,
each in the words of a named set of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.images.classes import class_of, classes_in
from vtbench.types.errors import RAISED, VtbenchError, near
from vtbench.types.foreign import cause
from vtbench.types.item import Item

if TYPE_CHECKING:
    import torch

PROMPTS: Mapping[str, tuple[str, ...]] = {
    "name": ("{}",),
    "photo": ("a photo of a {}.",),
    # The subset that OpenAI's notebook found to be best: openai/CLIP, notebooks/Prompt_Engineering_for_ImageNet.ipynb.
    "openai-7": (
        "itap of a {}.",
        "a bad photo of the {}.",
        "a origami {}.",
        "a photo of the large {}.",
        "a {} in a video game.",
        "art of the {}.",
        "a photo of the small {}.",
    ),
}
"""Named sets of prompts; the features of a class are the mean of its prompts', each of length 1."""
TOKENIZERS = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")
"""Files of which a tokenizer has one."""
UNNAMED = "LABEL_"
"""How transformers calls the classes of a classifier that states no names."""


class Classes:
    """What a tower can call a picture, once `check` has seen the pictures.

    stated: names of the classifier's outputs, in order; None without a classifier. texts: its text model and the folder
    of its tokenizer.
    """

    def __init__(self, stated: Sequence[str] | None, texts: tuple[Any, Path] | None, prompts: str) -> None:
        self.stated, self._model, self.prompts = stated, texts, prompts
        self._numbers: dict[str, int] = {}
        self._features: torch.Tensor | None = None
        self.names: list[str] = []
        """Classes of the pictures, sorted; empty where folders are none."""
        self.why: str | None = None
        """Why there are no logits."""

    @property
    def zero_shot(self) -> bool:
        """Whether classes are known by their names' texts."""
        return self._features is not None

    def check(self, items: Sequence[Item], *, folders: bool) -> None:
        """Takes the pictures' classes; refuses those that the classifier does not have."""
        self.names = classes_in(items) if folders else []
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self._features = None
        self.why = None
        if self.stated is not None:
            self._numbers = self._of_classifier(self.stated)
        elif self._model is None:
            self.why = "the tower has no classifier"
        elif not self.names:
            self.why = "classes are known by the names of the pictures' folders, and these lie in none"
        else:
            self._features = self._texts(*self._model)

    def label(self, item: Item) -> int | None:
        """The item's class as logits count it; None where nothing says which it is."""
        return self._numbers.get(class_of(item) or "") if self.names else None

    def name(self, item: Item) -> str | None:
        return class_of(item) if self.names else None

    def _of_classifier(self, stated: Sequence[str]) -> dict[str, int]:
        """Each folder's number in the classifier: its name, one of its names between commas, or the number itself where
        the classifier states no names."""
        known: dict[str, int] = {}
        for number, name in enumerate(stated):
            for word in (name, *name.split(",")):
                known.setdefault(_plain(word), number)
            if name.startswith(UNNAMED):
                known.setdefault(str(number), number)
        absent = [name for name in self.names if _plain(name) not in known]
        if absent:
            raise VtbenchError(
                f"the folder {absent[0]} is none of the {len(stated)} classes of the tower{near(absent[0], stated)}: "
                "rename it, or give --option labels=none where folders are no classes"
            )
        return {name: known[_plain(name)] for name in self.names}

    def _texts(self, network: Any, folder: Path) -> torch.Tensor:
        """(classes, C'), each of length 1."""
        import torch
        from torch.nn.functional import normalize
        from transformers import AutoTokenizer

        advice = "and classes are known by their names' texts: copy tokenizer.json there, or give --option labels=none"
        if not any((folder / name).is_file() for name in TOKENIZERS):
            # transformers would make one of no words, which spells everything in letters.
            raise VtbenchError(f"{folder} holds no tokenizer, {advice}")
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        except RAISED as bad:
            raise VtbenchError(f"{folder} holds no tokenizer that can be read ({cause(bad)}), {advice}") from bad
        longest = int(network.config.text_config.max_position_embeddings)
        padded = "max_length" if network.config.model_type.startswith("siglip") else True
        out = []
        with torch.inference_mode():
            for name in self.names:
                words = [prompt.format(name.replace("_", " ")) for prompt in PROMPTS[self.prompts]]
                tokens = tokenizer(words, padding=padded, truncation=True, max_length=longest, return_tensors="pt")
                tokens = {k: v.to(network.device) for k, v in tokens.items() if k in ("input_ids", "attention_mask")}
                features = normalize(network.get_text_features(**tokens).pooler_output, dim=-1)
                out.append(normalize(features.mean(dim=0), dim=-1))
            return torch.stack(out)

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """(B, classes) of pooled image features (B, C'): scaled cosines, as the model itself scales them."""
        from torch.nn.functional import normalize

        assert self._features is not None
        assert self._model is not None
        network = self._model[0]
        out: torch.Tensor = normalize(features, dim=-1) @ self._features.T * network.logit_scale.exp()
        return out + network.logit_bias if hasattr(network, "logit_bias") else out


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")
