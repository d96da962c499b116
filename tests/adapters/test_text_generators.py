"""Text-conditional native generators, with a tiny random T5 saved to disk."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import GENERATOR_FIXTURES

from vtbench import registry
from vtbench.models.native_generator import text_features
from vtbench.models.network import build_network
from vtbench.proving import parity_generators
from vtbench.types.adapter import Prompt
from vtbench.types.cards import Fixed
from vtbench.types.errors import VtbenchError

WORDS = ("a", "photo", "of", "red", "cat", "two", "dogs", "on", "the", "grass")
PROMPTS = [
    Prompt("0", text="a photo of a cat"),
    Prompt("1", text="two dogs"),
    Prompt("2", text="red"),
    Prompt("3", text="two dogs on the grass on the grass"),
]


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """width -> the folder of a T5 encoder of that width, with a tokenizer of ten words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    def make(width: int) -> Path:
        folder = tmp_path_factory.mktemp(f"t5-{width}")
        words = {w: k for k, w in enumerate(("<pad>", "</s>", "<unk>", *WORDS))}
        split = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        split.pre_tokenizer = pre_tokenizers.Whitespace()
        split.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
        PreTrainedTokenizerFast(
            tokenizer_object=split, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
        ).save_pretrained(folder)
        torch.manual_seed(0)
        config = T5Config(vocab_size=len(words), d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
        T5EncoderModel(config).save_pretrained(folder)
        return folder

    return make


def _generator(name: str, model: str, folder: Path, tmp_path: Path, size: int, **options: Any) -> Any:
    entry = registry.model(model)
    config = json.loads((GENERATOR_FIXTURES / f"{name}.json").read_text())["config"]
    card = dataclasses.replace(entry.card, arch=config, sizes=Fixed(size))
    network = parity_generators.fill(build_network(entry.family, config), {})
    torch.save(network.state_dict(), tmp_path / "model.pt")
    generator = entry.family.build(card, {"text_encoder": str(folder), **options})
    generator.load({"model": tmp_path / "model.pt"})
    return generator


class _Tokenizer:
    """Shows the tokens as grey levels, so that images tell tokens apart."""

    card = dataclasses.replace(registry.model("llamagen-vq-ds16-t2i").card, alphabets=(128,))

    def decode(self, tokens: Any, seeds: Any) -> torch.Tensor:
        return (tokens.indices[..., 0].float() / 128).reshape(len(seeds), 1, 4, 4).expand(-1, 3, -1, -1)


@pytest.mark.parametrize(
    ("name", "model"), [("llamagen-gpt__t2i", "llamagen-t2i-xl-stage1-256"), ("nar__t2i", "nar-t2i-xl-stage1-256")]
)
def test_captions_steer_and_a_batch_is_its_images(name: str, model: str, t5: Any, tmp_path: Path) -> None:
    generator = _generator(name, model, t5(24), tmp_path, 64)
    generator.attach(_Tokenizer())
    together = generator.generate(PROMPTS, [1, 2, 3, 4])
    alone = torch.cat([generator.generate([p], [k + 1]) for k, p in enumerate(PROMPTS)])
    assert torch.equal(together, alone)
    kept = generator.text_encoder
    other = generator.generate([PROMPTS[1]], [1])
    assert generator.text_encoder is kept, "three billion parameters are read once"
    assert not torch.equal(other[0], together[0]), "another caption, the same seed"
    with pytest.raises(VtbenchError, match="the prompt x has no text"):
        generator.generate([Prompt("x", label=1)], [1])


def test_features_are_padded_on_the_left_as_upstream_does(t5: Any, tmp_path: Path) -> None:
    """sample_t2i.py:92-106 by hand: the padding's features first, the caption's last, the mask turned round."""
    generator = _generator("llamagen-gpt__t2i", "llamagen-t2i-xl-stage1-256", t5(24), tmp_path, 64)
    right, mask = text_features(generator, PROMPTS, length=120, left=False)
    left, turned = text_features(generator, PROMPTS, length=120, left=True)
    for k in range(len(PROMPTS)):
        count = int(mask[k].sum())
        assert count == len(PROMPTS[k].text.split()) + 1  # type: ignore[union-attr]
        assert torch.equal(left[k], torch.cat([right[k, count:], right[k, :count]]))
        assert turned[k].tolist() == [0] * (120 - count) + [1] * count


def test_pixelflow_with_text(t5: Any, tmp_path: Path) -> None:
    generator = _generator("pixelflow__t2i-two-stages", "pixelflow-xl-t2i", t5(24), tmp_path, 32, num_inference_steps=1)
    together = generator.generate(PROMPTS[:2], [1, 2])
    alone = torch.cat([generator.generate([p], [k + 1]) for k, p in enumerate(PROMPTS[:2])])
    # float32 sums in another order, through two evaluations.
    assert float((together - alone).abs().max()) < 1e-4
    assert not torch.allclose(generator.generate([PROMPTS[1]], [1]), together[:1], atol=1e-4)


def test_a_missing_encoder_is_said(tmp_path: Path) -> None:
    generator = _generator("llamagen-gpt__t2i", "llamagen-t2i-xl-stage1-256", tmp_path / "none", tmp_path, 64)
    generator.attach(_Tokenizer())
    with pytest.raises(VtbenchError, match=r"the text encoder .* cannot be loaded"):
        generator.generate(PROMPTS[:1], [1])
