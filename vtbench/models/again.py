"""A finished run's system again: the pictures or tokens that it kept, or its model, with its originals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vtbench import registry
from vtbench.images.opening import open_again, open_suite
from vtbench.images.suite import Suite
from vtbench.models.build import arch_options
from vtbench.models.load import Loaded, load
from vtbench.models.named_code import code_of_run, refuse_addresses
from vtbench.models.pictures import SavedPictures
from vtbench.models.saved_tokens import SavedTokens
from vtbench.models.system import ModelSystem
from vtbench.results.files import own_files
from vtbench.results.record import IDENTITY_RULE, Run
from vtbench.results.stores import TokenFile
from vtbench.types.errors import VtbenchError


def originals(run: Run, spec: str | None = None) -> Suite:
    """The images that a run was made from, at their own address or at `spec`; refused if they are others by now."""
    address = spec or run.info.suite.spec
    if not address:
        raise VtbenchError(f"{run.path} does not say where its images lie: give --images")
    suite = open_suite(spec) if spec else open_again(address, run.info.suite.hash)
    _check_originals(run, suite)
    return suite


def _check_originals(run: Run, suite: Suite) -> None:
    if run.info.identity_rule != IDENTITY_RULE:
        raise VtbenchError(
            f"{run.path} tells images apart by rule {run.info.identity_rule} and this vtbench by rule {IDENTITY_RULE}, "
            "so nothing can be added to it: run evaluate again"
        )
    if suite.hash != run.info.suite.hash:
        raise VtbenchError(f"{suite.name} is no longer what {run.path} was made from: run evaluate again")


def again(
    run: Run,
    *,
    device: str = "cpu",
    suite: Suite | None = None,
    from_model: bool = False,
    from_tokens: bool = False,
    code: str | None = None,
) -> Loaded:
    """A finished run's system again, with its originals in `suite`: one rule for rescoring and explaining.

    In this order: the pictures that the run kept, or that a generation run drew; the tokens that it kept, decoded by
    its model. from_model: the model itself, whatever was kept, for another view of the originals. from_tokens: its
    tokens before its pictures, where it kept both, for what is counted on tokens. suite: the originals as `originals`
    gave them; None opens them. code: the spec by which the user names the code of its model himself.
    Raises VtbenchError if the originals, the model's weights or its code are no longer those of the run, if it kept
    nothing to go by, or if its model is gone.
    """
    if suite is None:
        suite = originals(run)
    else:
        _check_originals(run, suite)
    tokens = TokenFile(run.path).exists()
    pictures = None if from_model or (from_tokens and tokens) else _pictures_of(run)
    if pictures is not None:
        return replace(pictures, suite=suite)
    if not from_model and not tokens:
        raise VtbenchError(f"{run.path} kept neither images nor tokens: run evaluate with --save images")
    loaded = replace(_model_again(run, device, code), suite=suite)
    return loaded if from_model else replace(loaded, system=SavedTokens(run, _model_system(loaded)))


def _pictures_of(run: Run) -> Loaded | None:
    """The pictures that a run kept or drew, in place of its model; None if it holds none."""
    drawn = run.path / "generated" if run.info.prompts is not None else None
    own_files(run.path, ("generated",))
    folder = (drawn or run.path) / "images"
    if not folder.is_dir():
        return None
    model = run.info.model
    return Loaded(
        SavedPictures(folder, partial=True, within=run.path),
        {"name": run.name, "options": model.options},
        model.weights.as_dict(),
        facts={"spec": model.spec, "checkpoint": model.checkpoint},
        drawn=drawn,
    )


def _model_again(run: Run, device: str, code: str | None) -> Loaded:
    model = run.info.model
    if not model.spec:
        raise VtbenchError(f"{run.path} was made by an object that is gone: run evaluate with --save images")
    spec = code_of_run(run, code)
    if not spec.startswith("folder:"):
        refuse_addresses(registry.model(spec).card, model.options, run.path)
    loaded = load(
        spec,
        # A default of None has no text of its own.
        {k: str(v) for k, v in model.options.items() if v is not None} | arch_options(run.name),
        checkpoint=Path(model.checkpoint) if model.checkpoint else None,
        device=device,
        dtype=run.info.dtype or "float32",
        fit=run.info.task.fit or "resize",
        generator=False,
        prefix=model.prefix,
    )
    _model_system(loaded)
    if [f["sha256"] for f in loaded.weights.get("files", ())] != [f.sha256 for f in model.weights.files]:
        raise VtbenchError(f"the weights of {run.name} are not those of {run.path}: give the same files")
    if loaded.identity["adapter"] != model.adapter_sha256:
        raise VtbenchError(
            f"the adapter of {run.name}, or a network that it uses, is no longer what made {run.path}: run evaluate "
            "again"
        )
    return loaded


def _model_system(loaded: Loaded) -> ModelSystem:
    if not isinstance(loaded.system, ModelSystem):
        raise VtbenchError(f"{loaded.system.card.name}: saved pictures exist at one view: another needs the model")
    return loaded.system
