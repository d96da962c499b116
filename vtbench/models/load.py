"""THE way from a spec to something that can be measured, and to a finished run's system again.

A spec is a registered name or alias, `file.py@name`, `family:NAME` (an own configuration), a wrapper over another
(`tokenbridge:NAME`), `folder:DIR`, or a tokenizer object from a training loop.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vtbench import registry
from vtbench.images.suite import Suite
from vtbench.models.adapter_files import AdapterFiles, files_of, reason
from vtbench.models.build import Built, build
from vtbench.models.devices import check_device, dtype_of
from vtbench.models.fill import read_from
from vtbench.models.isolation import isolated
from vtbench.models.named_code import note_choice
from vtbench.models.objects import asking, of_object
from vtbench.models.pictures import SavedPictures
from vtbench.models.system import GeneratorSystem, ModelSystem, System
from vtbench.types.adapter import Generator, Tokenizer
from vtbench.types.errors import RAISED, VtbenchError


@dataclass(frozen=True, repr=False)
class Loaded:
    """A system ready to be asked, and what identifies it."""

    system: System
    identity: Mapping[str, Any]
    """What results depend on, part of a run's question: name, options, sha256 of weights and adapter."""
    weights: Mapping[str, Any]
    """For the record: status, files with their sha256, why they are unverified."""
    reasons: tuple[str, ...] = ()
    """Why runs of it are not ranked, beyond the status of its weights."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For the record, and for `again`: the spec and the checkpoint that were asked for."""
    tokenizer: Tokenizer | None = None
    """A generator's own, where it is one of vtbench's."""
    sources: tuple[Path, ...] = ()
    """Files where the code begins that makes its output; what they import decides it too."""
    suite: Suite | None = None
    """From `again`: the run's originals, which are what they were."""
    drawn: Path | None = None
    """From `again`, of a generation run: the folder that `vtbench generate` could have written. The system are its
    pictures, which stand for prompts and have no originals."""
    device: str = "cpu"
    """Where it computes, and dtype: what it computes in: an object's are its own, whatever was asked for."""
    dtype: str = "float32"
    files: AdapterFiles = field(default_factory=AdapterFiles)
    """What decides its numbers beside its weights, and weight_files: those, of a generator its tokenizer's too."""
    weight_files: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v}" for k, v in dict(self.identity.get("options", {})).items())
        return f"<Loaded {self.identity['name']}{f' ({options})' if options else ''}, weights {self.weights['status']}>"

    @property
    def model(self) -> Any:
        """The loaded Tokenizer, ClosedSystem or Generator; refused for saved pictures, which have none."""
        if isinstance(self.system, GeneratorSystem):
            return self.system.generator
        if isinstance(self.system, ModelSystem):
            return self.system.model
        raise VtbenchError(f"{self.system.card.name} are saved pictures: there is no model behind them to ask")

    @property
    def generator(self) -> Generator:
        """The loaded generator; refused for everything else."""
        if not isinstance(self.system, GeneratorSystem):
            raise VtbenchError(f"{self.system.card.name} is no generator: `vtbench list models` shows the kinds")
        return self.system.generator

    def read_at_work(self) -> list[Path]:
        """Files that its code opened since it was loaded, and that nothing in its identity speaks of."""
        return self.files.since(self.system.opened, self.weight_files)

    def card_facts(self) -> dict[str, Any]:
        """The card for a record, without its native network's configuration, which stands in the adapter's file."""
        facts = dataclasses.asdict(self.system.card)
        facts.pop("arch", None)
        return facts


@isolated()
def load(
    spec: Any,
    options: Mapping[str, str] | None = None,
    *,
    checkpoint: Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
    fit: str = "resize",
    generator: bool | None = None,
    tokenizer_checkpoint: Path | None = None,
    identity: str | None = None,
    prefix: str | None = None,
) -> Loaded:
    """Finds, verifies, builds and loads what a spec names.

    options: texts as on the command line. device, dtype: None is cpu and float32, of an object its own. fit: how a
    model is served whose size does not fit (`System.served` gives another). generator: True or False refuses the other
    kind before anything is loaded. tokenizer_checkpoint: the file of the tokenizer that a generator is attached to.
    identity: of an object, the name under which the caller vouches that it is the same as last time. prefix: the copy
    of the weights that is read, where a file holds several.
    Raises VtbenchError with what is wrong; Unavailable where weights are not here and the network is refused.
    """
    options = dict(options or {})
    dtype = None if dtype is None else dtype_of(dtype)
    if not isinstance(spec, str):
        if checkpoint or tokenizer_checkpoint or prefix is not None:
            raise VtbenchError(f"{_class_name(spec)} is loaded already: it takes no --checkpoint and no --prefix")
        with asking(spec):
            return _of_object(spec, options, device, dtype, identity, fit)
    if identity is not None:
        raise VtbenchError(f"identity={identity!r} is for objects: {spec} is known by its files; leave it out")
    device, dtype = device or "cpu", dtype or "float32"
    if spec.startswith("folder:"):
        if options or checkpoint or prefix is not None:
            raise VtbenchError(f"{spec} is a folder of images: it takes no --option, --checkpoint or --prefix")
        check_device(device, dtype)
        return replace(_of_folder(spec), device=device, dtype=dtype)
    code = note_choice(spec)
    _refuse_other_kind(spec, generator, tokenizer_checkpoint)
    try:
        built = build(spec, options, checkpoint, device, dtype, tokenizer_checkpoint, prefix)
    except VtbenchError:
        raise
    except RAISED as bad:
        # Somebody's adapter may raise anything; the other models go on.
        raise VtbenchError(f"{spec} cannot be loaded: it raised {type(bad).__name__}: {bad}", code=1) from bad
    asked = {"spec": spec, "checkpoint": checkpoint, **({} if prefix is None else {"prefix": prefix})}
    loaded = _of_built(built, fit, asked)
    # What ran is the code as it was before it was imported.
    facts = {**loaded.facts, "code": code} if code else loaded.facts
    return replace(loaded, device=device, dtype=dtype, facts=facts)


def _of_built(built: Built, fit: str, facts: Mapping[str, Any]) -> Loaded:
    entry, model = built.entry, built.model
    files = files_of(built.entry, built.opened, built.weight_files)
    identity: dict[str, Any] = {
        "name": entry.card.name,
        "options": built.options,
        "weights": built.files.sha256,
        "adapter": files.digest(),
        **({"prefix": facts["prefix"]} if "prefix" in facts else {}),
    }
    reasons = [reason(entry.card.name, files.read)]
    code, weights = list(files.code), list(built.weight_files)
    system: System
    tokenizer = None
    if isinstance(model, Generator):
        opened = built.opened
        identity["tokenizer"] = None
        if built.tokenizer is not None:
            inner = built.tokenizer
            tokenizer, theirs = inner.model, files_of(inner.entry, inner.opened, inner.weight_files)
            identity["tokenizer"] = _tokenizer_identity(inner, theirs)
            reasons.append(reason(inner.entry.card.name, theirs.read))
            code += theirs.code
            weights += inner.weight_files
            opened = opened or inner.opened
        system = GeneratorSystem(model, opened)
    else:
        system = ModelSystem(model, fit, opened=built.opened)
    return Loaded(
        system,
        identity,
        _record(built),
        tuple(why for why in reasons if why),
        facts=facts,
        tokenizer=tokenizer,
        sources=tuple(code),
        files=files,
        weight_files=tuple(weights),
    )


def _class_name(spec: Any) -> str:
    return spec.__name__ if isinstance(spec, type) else type(spec).__name__


def _refuse_other_kind(spec: str, generator: bool | None, tokenizer_checkpoint: Path | None) -> None:
    if generator is None and tokenizer_checkpoint is None:
        return
    is_generator = registry.model(spec).card.kind == "generator"
    if generator and not is_generator:
        raise VtbenchError(f"{spec} is a tokenizer, not a generator: `vtbench list models` shows the kinds")
    if generator is False and is_generator:
        raise VtbenchError(f"{spec} is a generator: use --task generation, or `vtbench generate {spec}`")
    if tokenizer_checkpoint is not None and not is_generator:
        raise VtbenchError(f"{spec} is no generator: leave out --tokenizer-checkpoint")


def _record(built: Built) -> dict[str, Any]:
    record: dict[str, Any] = {"status": built.files.status, "files": list(built.files.hashes), "why": built.files.why}
    stored = getattr(getattr(built.model, "network", None), "stored_as", None)
    copies = read_from(built.model)
    if built.tokenizer is not None:
        copies += [{**copy, "role": f"tokenizer: {copy['role']}"} for copy in read_from(built.tokenizer.model)]
    notes = [f"the file keeps its weights in {stored}; they were widened to float32"] if stored else []
    notes += [copy.pop("note") for copy in copies if "note" in copy]
    if copies:
        record["copies"] = copies
    if notes:
        record["note"] = "; ".join(notes)
    return record


def _tokenizer_identity(tokenizer: Built, files: AdapterFiles) -> dict[str, Any]:
    return {
        "name": tokenizer.entry.card.name,
        "weights": tokenizer.files.sha256,
        "status": tokenizer.files.status,
        "adapter": files.digest(),
    }


def _of_folder(spec: str) -> Loaded:
    system = SavedPictures(Path(spec.removeprefix("folder:")).expanduser())
    identity = {"name": system.card.name, "options": {}, "content": system.suite.hash}
    return Loaded(system, identity, {"status": "none", "files": []}, facts={"spec": spec, "checkpoint": None})


def _of_object(
    tokenizer: Any, options: Mapping[str, str], device: str | None, dtype: str | None, identity: str | None, fit: str
) -> Loaded:
    """An object. What it will compute cannot be read off it (its attributes, what they refer to, its class's code), so
    that no other call is of the same question unless the caller says so."""
    taken = of_object(tokenizer, options, device, dtype)
    model = taken.model
    files = [{"file": "tensors of the object", "role": "model", "sha256": taken.sha256}] if taken.sha256 else []
    vouched = {"identity": identity} if identity is not None else {"call": uuid.uuid4().hex}
    return Loaded(
        ModelSystem(model, fit, states_kind=taken.stated),
        {"name": model.card.name, "options": dict(model.options), "object": taken.sha256, **vouched},
        {"status": "own", "files": files, "why": None},
        () if files else ("an object without tensors: nothing identifies its weights",),
        {"spec": None, "checkpoint": None, "identity": identity},
        device=taken.device,
        dtype=taken.dtype,
    )
