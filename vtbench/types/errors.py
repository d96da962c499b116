"""The one exception that a user is meant to read, and the search for near names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from vtbench.types.readable import one_line, readable


class VtbenchError(Exception):
    """What was found, what was wanted and what to do, in one sentence.

    `code` is the exit code of the command line: 2 for a wrong question (bad input, nothing done),
    1 for a part that failed while the rest went on, 130 for an interruption.
    """

    def __init__(self, message: str, *, code: int = 2) -> None:
        super().__init__(one_line(readable(message)))
        self.code = code


class ImageFailed(VtbenchError):
    """One image that a model cannot take, as a codec whose format is of limited size: its row says why, and the others
    go on. An adapter raises it from `encode`, `decode` or `reconstruct`; every image is then asked for alone."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=1)


RAISED = (Exception, SystemExit)
"""What somebody else's code may raise: one that calls `sys.exit` must not end the command that only lists it."""


ALONE: Mapping[str, str] = {"compressai": "compressai>=1.2.8"}
"""By extra: a package that it cannot bring, since what the package asks for (numpy below 2) and vtbench exclude each
other, though it runs with what is here."""


def how_to_install(extra: str) -> str:
    """The command that installs an extra. It names the checkout: vtbench is on no package index yet, where another's
    package could have its name."""
    alone = f" && pip install --no-deps '{ALONE[extra]}'" if extra in ALONE else ""
    return f"pip install '.[{extra}]'{alone} in the checkout of vtbench"


class MissingExtra(VtbenchError):
    """A package of an extra is not installed."""

    def __init__(self, package: str, extra: str, what: str) -> None:
        super().__init__(f"{what} needs the package {package}, which is not installed: {how_to_install(extra)}")


class Unavailable(VtbenchError):
    """Something true and wanted that cannot be had here (weights, network); the message is the reason of a null."""


def near(name: str, names: Iterable[str], *, count: int = 3) -> str:
    """A clause that offers the nearest of `names`, in any case, or the empty string."""
    # Neither case nor _ for - tells two of our names apart; of several spellings the first is offered.
    spelt: dict[str, str] = {}
    for one in names:
        spelt.setdefault(_plain(one), one)
    best = [spelt[b] for b in difflib.get_close_matches(_plain(name), list(spelt), n=count, cutoff=0.5)]
    return f" (did you mean {', '.join(best)}?)" if best else ""


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
