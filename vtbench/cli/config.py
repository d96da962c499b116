"""`evaluate --config`: a file's options as the command's defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from vtbench.results.config import read_config
from vtbench.types.errors import VtbenchError, near

OTHERS = ("config", "help", "as_json", "json_file")
"""What says how the answer is given, not what is asked."""


def from_file(ctx: typer.Context, path: Path | None) -> Path | None:
    """Makes the file's options the defaults of this command: what is typed beside --config comes before them."""
    if path is None:
        return None
    params = {p.name: p for p in ctx.command.params if p.name not in OTHERS}
    defaults: dict[str, Any] = {}
    for name, value in read_config(path).items():
        param = params.get(name)
        if param is None:
            known = [other for other in params if other]
            raise VtbenchError(f"{path} has the key {name!r}, which is no option of evaluate{near(name, known)}")
        if value is not None:
            several = getattr(param, "multiple", False) or param.nargs == -1
            defaults[name] = _value(path, name, value, several=several)
    ctx.default_map = {**(ctx.default_map or {}), **defaults}
    return path


def _value(path: Path, name: str, value: Any, *, several: bool) -> Any:
    """A value as it would be typed."""
    if name == "option" and isinstance(value, dict):
        return [f"{k}={_joined(path, name, v)}" for k, v in value.items()]
    if several:
        values = value if isinstance(value, list) else [value]
        return [_text(path, name, v) for v in values]
    return _joined(path, name, value) if name in ("save", "metrics") else _text(path, name, value)


def _joined(path: Path, name: str, value: Any) -> str:
    return ",".join(_text(path, name, v) for v in (value if isinstance(value, list) else [value]))


def _text(path: Path, name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise VtbenchError(f"{path}: {name} is {value!r}; wanted a text or a number")
    return str(value)


def refuse_code_of(ctx: typer.Context, path: Path | None) -> None:
    """Refuses to run code that only a run's record names, and to send a secret where only a record says: what is typed
    beside --config is the user's own word, and so is a file of options that is no run's."""
    run = None if path is None else path if path.is_dir() else path.parent
    if run is None or not (run / "run.json").is_file():
        return
    from vtbench import registry
    from vtbench.models.named_code import refuse_addresses, refuse_other, refuse_unnamed
    from vtbench.results.record import read_info

    def stated(name: str) -> list[str]:
        source = ctx.get_parameter_source(name)
        return list(ctx.params[name] or ()) if source is not None and source.name == "DEFAULT_MAP" else []

    for spec in stated("task"):
        refuse_unnamed(spec, run, "--task")
    for spec in stated("models"):
        refuse_unnamed(spec, run, "evaluate")
        refuse_other(spec, read_info(run / "run.json").model.code, run)
    options = dict(text.partition("=")[::2] for text in stated("option"))
    for spec in ctx.params["models"] if options else ():
        if not spec.startswith("folder:"):
            refuse_addresses(registry.model(spec).card, options, run)
