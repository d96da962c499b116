"""A vision-language model's files: its weights, its processor, the words around a question. Offline first.

As `tower_files` has it for towers: the configuration is read as JSON, weights by vtbench's own reader, and only classes
that `attach_language` names are built; the processor is transformers' own, without anybody's code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from vtbench.models.attach_language import FAMILIES
from vtbench.models.attached import Attached
from vtbench.models.tower_files import ModelFiles, build, library
from vtbench.types.errors import RAISED, VtbenchError
from vtbench.types.foreign import cause
from vtbench.types.questions import EVALUATORS

OPTIONS: Mapping[str, Any] = {
    "attention": "eager",
    "prompt": "",
    "positions": "method",
    "answer_tokens": 16,
    "evaluator": "",
}
"""attention: eager or sdpa. prompt: the words around {question}, with the model's placeholder of a picture; empty: the
chat template beside the model. positions: of the tokens that go on, "method" (as the method has it), "original" or
"renumbered". answer_tokens: how long an answer may be. evaluator: who scores the answers, instead of the one that the
questions name."""
BESIDE = (
    *("processor_config.json", "chat_template.jinja", "chat_template.json", "generation_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "tokenizer.model"),
)
"""Files beside a model that decide what it is asked and when it ends, beyond those that a tower has."""
QUESTION = "{question}"
MOST_ANSWER = 4096


def options_of(options: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise VtbenchError(f"a language model has no option {unknown[0]!r}: give {', '.join(OPTIONS)}")
    if options["attention"] not in ("eager", "sdpa"):
        raise VtbenchError(f"--option attention={options['attention']}: give eager or sdpa")
    if options["positions"] not in ("method", "original", "renumbered"):
        raise VtbenchError(f"--option positions={options['positions']}: give method, original or renumbered")
    if options["evaluator"] and options["evaluator"] not in EVALUATORS:
        raise VtbenchError(f"--option evaluator={options['evaluator']}: give {', '.join(EVALUATORS)}")
    most = options["answer_tokens"]
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MOST_ANSWER:
        raise VtbenchError(f"--option answer_tokens={most}: give 1 to {MOST_ANSWER}")
    return dict(options)


def image_token(processor: Any) -> str:
    """The model's mark of a picture in a prompt."""
    return str(processor.image_token)


def template_of(processor: Any, prompt: str, files: ModelFiles) -> str:
    """The words around a question, {question} and the picture's mark in them once each: those asked for, or the chat
    template beside the model."""
    mark = image_token(processor)
    if not prompt:
        if not getattr(processor, "chat_template", None):
            raise VtbenchError(
                f"{files.folder} holds no chat template: give --option 'prompt=USER: {mark}\\n{QUESTION} ASSISTANT:', "
                "or the words that the model was trained with"
            )
        content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
        try:
            prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        except RAISED as bad:
            raise VtbenchError(f"the chat template of {files.folder} cannot be applied ({cause(bad)})") from bad
    else:
        prompt = prompt.replace("\\n", "\n")
    if prompt.count(mark) != 1:
        raise VtbenchError(
            f"the prompt holds the mark of a picture, {mark}, {prompt.count(mark)} times: it must stand there once"
        )
    if prompt.count(QUESTION) != 1:
        raise VtbenchError(f"the prompt holds {QUESTION} {prompt.count(QUESTION)} times: it must stand there once")
    return prompt


def loaded(files: ModelFiles, device: str, dtype: str, attention: str) -> tuple[Attached, Any, list[str]]:
    """(the model, its processor, names of weights that it does not read)."""
    transformers = library()
    kind = str(files.config.get("model_type"))
    if kind not in FAMILIES:
        raise VtbenchError(f"{files.folder} is a {kind}: language models that see are {', '.join(FAMILIES)}")
    name, attach = FAMILIES[kind]
    cls = getattr(transformers, name)
    config = cls.config_class.from_dict(dict(files.config))
    network, unexpected = build(files, cls, config, dtype, attention)
    try:
        processor = transformers.AutoProcessor.from_pretrained(str(files.folder), local_files_only=True)
    except RAISED as bad:
        raise VtbenchError(
            f"{files.folder} holds no processor that can be read ({cause(bad)}): give the folder as it is on the hub, "
            "with its tokenizer and preprocessor_config.json"
        ) from bad
    # Without that file the configuration's own end of text stands.
    with contextlib.suppress(OSError):
        stated = transformers.GenerationConfig.from_pretrained(str(files.folder), local_files_only=True)
        network.generation_config = stated
    return attach(network.to(device)), processor, unexpected
