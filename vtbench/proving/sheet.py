"""What `vtbench check` writes down: one line a check, each failure with the mistake that it usually means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vtbench.proving.checks import Status, Verdict
from vtbench.types.errors import RAISED, VtbenchError


@dataclass(frozen=True)
class Check:
    """One check, and what it said."""

    name: str
    status: Status
    said: str

    def as_dict(self) -> dict[str, str]:
        return {"name": self.name, "status": self.status, "said": self.said}


@dataclass
class Sheet:
    """The checks so far."""

    say: Callable[[Check], None] | None
    checks: list[Check] = field(default_factory=list)

    def note(self, name: str, status: Status, said: str) -> None:
        self.checks.append(Check(name, status, said))
        if self.say is not None:
            self.say(self.checks[-1])

    def run(self, name: str, mistake: str, of: Callable[[], Verdict]) -> None:
        """Runs a check. `mistake`: what it usually means if the adapter raises."""
        try:
            status, said = of()
        except VtbenchError as bad:
            status, said = "failed", str(bad)
        except RAISED as bad:
            # An adapter may raise anything; the newcomer gets the sentence, the other checks go on.
            status, said = "failed", f"raised {type(bad).__name__}: {bad}; this usually means {mistake}"
        self.note(name, status, said)
