"""`vtbench leaderboard submit` and `add`: a run as one file, and that file in a maintainers' repository."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vtbench.publishing.archive import MEMBER, pack, unpack
from vtbench.publishing.scrub import Scrubber
from vtbench.publishing.verify import Verification, verify
from vtbench.reporting import runs as facts
from vtbench.reporting.reading import read_runs
from vtbench.results.files import disk_error, dumps, loads, plain
from vtbench.results.folder import FEATURES, INFO, ROWS, SCORES, TOKENS
from vtbench.results.holding import Held, sweep
from vtbench.results.record import Run, read_run
from vtbench.results.sums import files_below, read_sums, sum_of
from vtbench.types.errors import VtbenchError
from vtbench.types.readable import bytes_in_words

RECORDS = (INFO, ROWS, SCORES)
SUFFIX = ".zip"
ADDING = ".adding-"
"""How the folder begins that a submission is unfolded in, beside the runs."""
PATIENCE = 30.0
"""Seconds that `add` waits for another that adds to the same folder."""


@dataclass(frozen=True)
class Submission:
    """The file, its sha256 and bytes; `left_out`: files of the run that are not in it, by what they are, counted;
    `unchecked`: what could not be checked of the run, and why."""

    path: Path
    sha256: str
    bytes: int
    files: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    unchecked: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}

    def text(self) -> str:
        """What the command prints."""
        lines = [f"{self.path}: {self.files} files in {bytes_in_words(self.bytes)}, sha256 {self.sha256}"]
        if self.left_out:
            what = ", ".join(f"{kind} ({n})" if n > 1 else kind for kind, n in sorted(self.left_out.items()))
            lines.append(f"left out: {what}")
        return "\n".join([*lines, *(f"could not be checked, because {why}" for why in self.unchecked)])


@dataclass(frozen=True)
class Added:
    """The run's new folder, and what its verification said."""

    path: Path
    verification: Verification
    ranked: bool
    why_not_ranked: str | None

    def text(self) -> str:
        """What the command prints."""
        standing = "ranked" if self.ranked else f"not ranked: {self.why_not_ranked}"
        return f"{self.verification.text()}\n  added, {standing}"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path), "verification": self.verification.as_dict()}


def folder_name(run: Run) -> str:
    """What a run's folder is called in a repository, whatever it was called before: model, task, digits of the id."""
    words = (facts.model_name(run) or "model", facts.task_name(run) or "task", facts.identity(run)[:12])
    return "--".join("".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in w)[:60] for w in words)


def submit(path: Path, out: Path | None = None, *, small: bool = False) -> Submission:
    """Packs the run in folder `path` into one file: `out`, or NAME.zip where one stands. small: without tokens and
    features, so that fewer of its scores can be computed again.

    Raises VtbenchError for a run that is not finished, is a shard, or is not what it was finished with, and where a
    fact of its question holds an absolute path or a key.
    """
    verification = verify(path)
    if verification.wrong:
        raise VtbenchError(f"{path} is not as it was written ({verification.wrong[0]}): evaluate again")
    run = read_run(path)
    if not run.info.finished:
        raise VtbenchError(f"{path} is {run.info.status}: run the same command again until it is finished")
    if run.info.shard is not None:
        raise VtbenchError(
            f"{path} is shard {run.info.shard[0]} of {run.info.shard[1]}: submit what merge makes of all"
        )
    target = out or Path(f"{folder_name(run)}{SUFFIX}")
    if target.is_dir():
        target = target / f"{folder_name(run)}{SUFFIX}"
    files, left_out = _files(path, small)
    pack(files, target)
    _check_own(target)
    return Submission(target, sum_of(target), target.stat().st_size, len(files), left_out, verification.unchecked)


def _files(path: Path, small: bool) -> tuple[dict[str, bytes], dict[str, int]]:
    """What goes into the submission, and how many of the run's other files there are of each kind."""
    files: dict[str, bytes] = {}
    left_out: dict[str, int] = {}
    for name in files_below(path):
        kind = name.partition("/")[0]
        is_store = name in TOKENS or kind == FEATURES
        if (path / name).is_symlink() or not MEMBER.fullmatch(name) or (small and is_store):
            left_out[kind] = left_out.get(kind, 0) + 1
        else:
            files[name] = (path / name).read_bytes()
    texts = {name: data.decode() for name, data in files.items() if name in RECORDS}
    scrubber = Scrubber(texts.values())
    for name, text in texts.items():
        files[name] = (_info(text, scrubber) if name == INFO else _lines(text, name, scrubber)).encode()
    return files, left_out


def _info(text: str, scrubber: Scrubber) -> str:
    info = loads(text)
    scrubber.unmoved(info.get("question", {}), INFO, "question")
    clean = {**scrubber.record({k: v for k, v in info.items() if k != "question"}, INFO)}
    clean = {name: info[name] if name == "question" else clean[name] for name in info}
    if clean == info:
        return text
    return json.dumps(plain(clean), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _lines(text: str, name: str, scrubber: Scrubber) -> str:
    """Lines that hold nothing of the machine stay as they are."""

    def clean(line: str) -> str:
        value = loads(line)
        scrubbed = scrubber.record(value, name)
        return line if scrubbed == value else dumps(scrubbed)

    return "\n".join(clean(line) if line else "" for line in text.split("\n"))


def _check_own(file: Path) -> None:
    """What was just written is taken by whoever adds it; else it is removed."""
    with tempfile.TemporaryDirectory(prefix="vtbench-") as scratch:
        try:
            unpack(file, Path(scratch))
            read_run(Path(scratch))
        except VtbenchError:
            file.unlink(missing_ok=True)
            raise


def add(file: Path, runs: Path) -> Added:
    """Puts the run of a submission into a folder of its own below `runs`, where `build` finds it, or refuses it with
    the reason and leaves `runs` as it was. Nothing is written elsewhere, and none of its code or names is imported.

    Raises VtbenchError for what is no whole submission, does not add up, or is there already.
    """
    try:
        runs.mkdir(parents=True, exist_ok=True)
    except OSError as bad:
        raise disk_error(bad, runs) from bad
    with Held(runs / ".lock", runs, PATIENCE):
        sweep(runs, (ADDING,))
        known = read_runs([runs], {}) if next(runs.glob("**/run.json"), None) else []
        scratch = Path(tempfile.mkdtemp(dir=runs, prefix=ADDING))
        try:
            return _add(file, runs, scratch, known)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _add(file: Path, runs: Path, scratch: Path, known: Sequence[Run]) -> Added:
    inside = scratch / "run"
    inside.mkdir()
    sums = unpack(file, inside)
    verification = verify(inside)
    if verification.wrong:
        why = verification.wrong[0].replace(f"{inside}{os.sep}", "")
        raise VtbenchError(f"{file} does not add up ({why}): it is not added")
    run = read_run(inside)
    if not run.info.finished:
        raise VtbenchError(f"{file} is of a run that is {run.info.status}: it is not added")
    _refuse_duplicate(run, sums, known, file)
    target = runs / folder_name(run)
    if os.path.lexists(target):
        raise VtbenchError(f"{target} is there already, and is no run of this id: move it away")
    inside.chmod(0o755)
    try:
        inside.rename(target)
    except OSError as bad:
        raise disk_error(bad, target) from bad
    moved = Verification(**{**vars(verification), "path": target})
    return Added(target, moved, facts.is_ranked(run), facts.why_not_ranked(run))


def _refuse_duplicate(run: Run, sums: Mapping[str, str], known: Sequence[Run], file: Path) -> None:
    """Refuses a run that is there: its id, or its rows under another id."""
    for other in known:
        if facts.identity(other) == facts.identity(run):
            same = all((read_sums(other.path) or {}).get(name) == value for name, value in sums.items())
            said = "it is there already" if same else "another answer to the same question is there"
            raise VtbenchError(f"{file}: {said}, in {other.path}" + ("" if same else ": remove that first, or keep it"))
        if sum_of(other.path / ROWS) == sums[ROWS]:
            raise VtbenchError(f"{file} holds the rows of {other.path} under another id: one of the two is a copy")
