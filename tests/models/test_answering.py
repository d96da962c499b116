"""Vision-language models as subjects: how a batch is read, what is recorded, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from seen_by_reducers import Fixed, item, made, method, opened, picture

from vtbench.models.answering import VisionLanguage, divergence
from vtbench.models.picture_tokens import reduced, row_of, whole
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.reading import Point
from vtbench.types.reduction import Needs


@pytest.mark.parametrize("kind", ["llava", "llava-next", "qwen2", "qwen2.5"])
def test_the_tiny_models_are_the_same_in_every_process(folders: dict[str, Path], kind: str, tmp_path: Path) -> None:
    """Whatever was drawn before: one parameter that is not, and a tie falls otherwise once in fifty times."""
    torch.manual_seed(7)
    one, other = (next(root.rglob("*.safetensors")) for root in (folders[kind], made(tmp_path)[kind]))
    assert one.read_bytes() == other.read_bytes()


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_batch_is_its_parts_and_all_tokens_are_the_model_itself(subjects: dict[str, VisionLanguage]) -> None:
    subject = subjects["llava"]
    images = torch.stack([picture(k) for k in range(3)])
    items = [item("what ?", "a"), item(name="b"), item("red ?", "c")]
    together = subject.read(images, Point(method("fastv"), 12, "llm"), [0, 1, 2], items)
    for k in range(3):
        alone = subject.read(images[k : k + 1], Point(method("fastv"), 12, "llm"), [k], items[k : k + 1])
        one, other = alone.answers[0], together.answers[k]
        assert (one.text, one.full, one.by_layer, one.prompt) == (other.text, other.full, other.by_layer, other.prompt)
        assert one.kl == pytest.approx(other.kl, abs=1e-9)
        assert alone.rates[0] == together.rates[k]
    assert any(a.kl > 1e-3 for a in together.answers)
    assert together.rates[0].by_layer == (36, 36, 12, 12)
    # Half of the layers hold 24 tokens fewer: 2 key heads of 8, keys and values, 8 bytes each.
    assert alone.answers[0].full_cache - alone.answers[0].cache == 2 * 24 * 2 * 8 * 2 * 8
    whole_model = subject.read(images, Point(method("fastv"), None, "llm"), [0, 1, 2], items)
    assert [(a.text, a.kl) for a in whole_model.answers] == [(a.full, 0.0) for a in together.answers]


@pytest.mark.parametrize("kind", ["llava", "qwen2", "qwen2.5"])
def test_a_smaller_picture_is_a_baseline(folders: dict[str, Path], kind: str) -> None:
    """Qwen reads it as any other picture, LLaVA with interpolated positions; at full size it is the model itself."""
    subject = opened(folders[kind])
    count, small = (36, 9) if kind == "llava" else (20, 4)
    less = subject.read(picture()[None], Point(method("resize"), small, "input"), [0], [item()])
    assert (less.rates[0].tokens, less.rates[0].of) == (small, count)
    assert less.answers[0].by_layer == (small,) * 4
    # Nine words around it, and two marks of Qwen's.
    assert less.answers[0].prompt == 9 + small + 2 * (kind != "llava")
    assert less.answers[0].kl > 1e-3
    same = subject.read(picture()[None], Point(method("resize"), None, "input"), [0], [item()])
    assert same.answers[0].kl == pytest.approx(0.0, abs=1e-12)
    assert same.answers[0].text == same.answers[0].full


def test_llava_next_is_not_resized(folders: dict[str, Path]) -> None:
    subject = opened(folders["llava-next"])
    with pytest.raises(VtbenchError, match="resize acts at input"):
        subject.check(Point(method("resize"), 9, "input"), [item()])


def test_divergence_is_scipys() -> None:
    from scipy.special import rel_entr, softmax

    one, two = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0)) * 4
    wanted = rel_entr(softmax(one.double().numpy(), -1), softmax(two.double().numpy(), -1)).sum(-1)
    assert divergence(one, two) == pytest.approx(wanted.tolist(), abs=1e-12)


def test_positions_are_an_option_that_is_recorded(folders: dict[str, Path]) -> None:
    kl = {}
    for way in ("original", "renumbered"):
        subject = opened(folders["qwen2"], positions=way)
        assert (subject.facts["positions"], subject.identity["options"]["positions"]) == (way, way)
        point = Point(Fixed(positions="original"), 10, "tower")
        kl[way] = subject.read(picture()[None], point, [0], [item()]).answers[0].kl
    assert abs(kl["original"] - kl["renumbered"]) > 1e-4
    # A method that numbers anew slices positions of three numbers; what it merges has none.
    subject = opened(folders["qwen2"])
    point = Point(Fixed(positions="renumbered"), 10, "tower")
    assert subject.read(picture()[None], point, [0], [item()]).answers[0].kl == pytest.approx(kl["original"], abs=1e-9)
    assert "positions of three numbers" in subject.facts["notes"][0]


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_questions_and_prompts_that_cannot_be_asked(folders: dict[str, Path], tmp_path: Path) -> None:
    subject = opened(folders["llava"])
    with pytest.raises(VtbenchError, match="question q holds <image>"):
        subject.inputs(picture(), item("what is <image> ?"))
    with pytest.raises(VtbenchError, match=r"take 5.. tokens, and llava reads 512"):
        subject.inputs(picture(), item("cat " * 490))
    with pytest.raises(VtbenchError, match=r"has none: give --images QUESTIONS.jsonl"):
        subject.check(Point(Fixed(), 3), [Item("a", "a.png")])
    for prompt, says in (
        ("USER : {question}", "holds the mark of a picture, <image>, 0 times"),
        ("<image> <image> {question}", "holds the mark of a picture, <image>, 2 times"),
        ("<image> what ?", r"holds \{question\} 0 times"),
    ):
        with pytest.raises(VtbenchError, match=says):
            opened(folders["llava"], prompt=prompt)
    asked = opened(folders["llava"], prompt="<image>\\n{question}")
    assert asked.template == "<image>\n{question}"
    assert asked.identity != subject.identity


def test_models_and_options_that_cannot_be_read(folders: dict[str, Path]) -> None:
    subject = opened(folders["llava"], attention="sdpa")
    with pytest.raises(VtbenchError, match="attention map, which sdpa does not give: give --option attention=eager"):
        subject.check(Point(Fixed(needs=Needs(received=(-2,))), 3), [item()])
    with pytest.raises(VtbenchError, match="acts at nowhere, and llava is a language model that sees"):
        subject.check(Point(Fixed(), 3, "nowhere"), [item()])  # type: ignore[arg-type]
    with pytest.raises(VtbenchError, match="reads layer 8, and the tower has 3"):
        subject.check(Point(Fixed(needs=Needs(rows=(8,))), 3), [item()])
    with pytest.raises(VtbenchError, match="--keep 0: give 1 or more"):
        subject.check(Point(Fixed(), 0), [item()])
    for stage in ("tower", "llm"):
        with pytest.raises(VtbenchError, match="--keep 37: the picture has 36 tokens"):
            subject.read(picture()[None], Point(Fixed(), 37, stage), [0], [item()])
    qwen = opened(folders["qwen2"])
    for needs, says in ((Needs(cls=True), "a CLS token"), (Needs(keys=(-1,)), "keys")):
        with pytest.raises(VtbenchError, match=f"reads {says} of the tower, and Qwen's"):
            qwen.read(picture()[None], Point(Fixed(needs=needs), 3), [0], [item()])
    for option, says in (
        ({"attention": "flash_attention_2"}, "give eager or sdpa"),
        ({"positions": "none"}, "give method, original or renumbered"),
        ({"answer_tokens": 0}, "give 1 to 4096"),
        ({"pool": "mean"}, "no option 'pool'"),
    ):
        with pytest.raises(VtbenchError, match=says):
            opened(folders["llava"], **option)
    with pytest.raises(VtbenchError, match="cuts before layer 16, counted from 0, and the language model has 4"):
        subject.read(picture()[None], Point(Fixed(layer=16), 3, "llm"), [0], [item()])
    with pytest.raises(VtbenchError, match=r"positions from 0 to 99 for 36 tokens|gave positions from 99"):
        subject.read(picture()[None], Point(Fixed(torch.tensor([0, 99])), 3), [0], [item()])


def test_a_processor_that_does_not_fit_its_model(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """More placeholders than features, and none at all."""
    subject = opened(folders["llava"])
    monkeypatch.setattr(subject.processor, "num_additional_image_tokens", 3)
    with pytest.raises(VtbenchError, match="holds 38 places for the picture's tokens and the tower gives 36"):
        subject.read(picture()[None], Point(Fixed(), 3), [0], [item()])
    inputs = dict(subject.inputs(picture(), item()))
    inputs["input_ids"] = inputs["input_ids"].clone().fill_(5)
    with pytest.raises(VtbenchError, match="holds 0 places"):
        row_of(subject.attached, inputs, whole(subject.attached, inputs, 0), 0)


def test_a_folder_without_a_processor_or_template(folders: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    bare = Path(shutil.copytree(folders["llava"], tmp_path / "bare"))
    (bare / "chat_template.jinja").unlink()
    stated = bare / "tokenizer_config.json"
    stated.write_text(stated.read_text().replace("chat_template", "x"))
    with pytest.raises(VtbenchError, match="no chat template: give --option 'prompt=USER: <image>"):
        opened(bare)
    (bare / "processor_config.json").unlink()
    (bare / "tokenizer.json").unlink()
    with pytest.raises(VtbenchError, match="holds no processor that can be read"):
        opened(bare)


def test_reduced_refuses_more_than_there_is(subjects: dict[str, VisionLanguage]) -> None:
    subject = subjects["qwen2"]
    inputs = subject.inputs(picture(), item())
    with torch.inference_mode(), pytest.raises(VtbenchError, match="--keep 21: the picture has 20 tokens"):
        reduced(subject.attached, inputs, Fixed(), keep=21, projected=False, policy=None, seed=0)
