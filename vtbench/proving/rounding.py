"""How far may a right network be from upstream's recorded arrays? As far as float32's rounding takes it, no further.

Upstream's arrays are float32, and so is what our network gives; how far apart two right float32 results lie depends on
the processor and on how much the network amplifies a rounding (a sampler of many steps does). float64 tells a rounding
from a real deviation, on every processor alike:

1. our network runs in float64 as well, with the same weights: the *exact* result;
2. upstream's recorded array and our float32 result must each lie within the plain limit of the exact result;
3. where one does not, the float64 run is repeated with a random error put on the result of every operation (Monte Carlo
   arithmetic: Parker, UCLA CSD-970002, 1997), and what that moves the result by says what float32 may. A greater move
   than a hundredth of the array's spread, or an integer that changes at all, is no noise but a decision at a tie: there
   an element may be that of one of the outcomes instead, within the same limit.

So no limit depends on the processor, and a network that is wrong by more than rounding explains fails on all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vtbench.models.macs import dispatch_mode

if TYPE_CHECKING:
    import torch

RUNS = 6
"""Runs with random errors at most, as many as it takes: pairs with every error's sign turned, since of two opposite
errors that outweigh a tie's margin one turns the decision. How far one pair moves a sampler that amplifies rounding
varies tenfold with the pair, so that three are drawn."""
BITS_LOST = 4
"""An error is at most the unit of a float32 whose mantissa is so many bits shorter: sixteen times float32's own."""
FACTOR = 0.5
"""Allowed is so much of the greatest change that a run with errors makes, that of eight roundings an operation. One is
what float32 makes; sums take many inside one operation, and networks hand errors on. Measured on the fixtures of 20
families, upstream's and our float32 are off by 0.01 to 0.3 of that change."""
JUMP = 0.01
"""A greater change, as a share of the array's spread, is no noise but a decision that fell otherwise. Also the most
that noise can be taken for."""
HOPELESS = 20.0
"""An array that is off by more than so many times what is allowed after two runs with errors will not come right."""
EXACT = frozenset(
    operation
    for line in (
        "_to_copy abs alias amax amin argmax argmin cat ceil clamp clamp_max clamp_min clone constant_pad_nd copy_",
        "embedding fill_ flip floor gather index index_put_ index_select masked_fill masked_fill_ max maximum min",
        "minimum neg relu repeat roll round scatter scatter_ sign sort stack topk tril triu where",
    )
    for operation in line.split()
)
"""Operations that round nothing: they move, choose or compare numbers."""

Evaluate = Callable[["torch.dtype", AbstractContextManager[Any]], Mapping[str, "torch.Tensor"]]
"""(dtype, context in which the network's calls run) -> the arrays by name."""


def random_errors(seed: int, sign: int = 1, *, bits_lost: int = BITS_LOST) -> AbstractContextManager[Any]:
    """A context in which the result of every operation on float64 tensors gets a random error, uniform in +-one unit.

    A result that the shorter mantissa holds exactly stays as it is: masks, small integers and indices are safe. What is
    made without a float64 input, such as a constant, stays as well.
    """
    import torch

    class RandomErrors(dispatch_mode()):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            # float64 stores 52 bits of the mantissa, float32 23.
            self.generator, self.unit = torch.Generator().manual_seed(seed), 2 ** (52 - 23 + bits_lost)

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            if func.is_view or func.overloadpacket.__name__ in EXACT or not any(_is_wide(a) for a in args):
                return out
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if _is_wide(tensor) and tensor.numel():
                    # Floats are sign and magnitude: adding to the bits moves the magnitude by so many least units.
                    # What float32 has no normal number for, such as exp(-1000), is left as it is.
                    bits = tensor.view(torch.int64)
                    inexact = (bits & (self.unit - 1) != 0) & (tensor.abs() >= torch.finfo(torch.float32).tiny)
                    errors = torch.randint(-self.unit, self.unit + 1, bits.shape, generator=self.generator)
                    bits.add_(errors.mul_(inexact), alpha=sign)
            if func.overloadpacket.__name__ == "group_norm":
                self.cancel(out, args[0], args[1], args[3])
            elif func.overloadpacket.__name__ == "native_group_norm":
                self.cancel(out[0], args[0], args[6], args[2])
            return out

        def cancel(self, out: torch.Tensor, x: torch.Tensor, groups: int, bias: torch.Tensor | None) -> None:
            """Errors of a GroupNorm's variances, in place: of each, as many units as mean^2 / variance.

            torch's CPU kernel for channels-last memory, which upstream runs wherever a map was made of rows, takes the
            variance as a difference of squares; that share of the bits cancels (`conv.Norm` keeps ours from it).
            """
            parts = x.reshape(len(x), groups, -1)
            units = parts.mean(dim=2).square() / parts.var(dim=2, correction=0)
            drawn = torch.rand(units.shape, generator=self.generator, dtype=torch.float64) * 2 - 1
            shares = (sign * drawn * units * self.unit * 2.0**-52).repeat_interleave(out.shape[1] // groups, dim=1)
            beyond = [1] * (out.ndim - 2)
            above = out if bias is None else out - bias.reshape(1, -1, *beyond)
            out.add_(above * shares.nan_to_num(0.0, 0.0, 0.0).reshape(*shares.shape, *beyond))

    errors: AbstractContextManager[Any] = RandomErrors()
    return errors


def _is_wide(value: Any) -> bool:
    """A float64 tensor, or a list with one."""
    import torch

    if isinstance(value, tuple | list):
        return any(_is_wide(v) for v in value)
    return isinstance(value, torch.Tensor) and value.dtype == torch.float64


@dataclass
class Array:
    """One array of a fixture: upstream's, ours in float32, the exact one, and those of the runs with errors."""

    recorded: torch.Tensor
    plain: float
    """The limit without regard to amplification; 0 for integers."""
    ours: torch.Tensor
    exact: torch.Tensor | None = None
    outcomes: list[torch.Tensor] = field(default_factory=list)

    @property
    def spread(self) -> float:
        """Standard deviation of upstream's array; its greatest magnitude where it has none."""
        wide = self.recorded.double()
        deviation = float(wide.std()) if wide.numel() > 1 else 0.0
        return deviation or (float(wide.abs().max()) if wide.numel() else 0.0)

    @property
    def allowed(self) -> float:
        """How far from the exact array each of the two may be."""
        if not self.outcomes or not self.recorded.is_floating_point():
            return self.plain
        moves = self._moves()
        noise = moves[moves <= JUMP * self.spread]
        return max(self.plain, min(FACTOR * float(noise.max()), JUMP * self.spread) if noise.numel() else 0.0)

    def off(self, array: torch.Tensor) -> float:
        """Greatest distance of `array` from the exact one, or from upstream's where there is no exact one."""
        return greatest_difference(array, self.recorded if self.exact is None else self.exact)

    def strays(self) -> torch.Tensor:
        """bool, of the array's shape: where upstream's or our float32 array is further off than rounding explains."""
        allowed = self.allowed
        if self.exact is None:
            return ~_within(self.ours, self.recorded, allowed)
        return self._far(self.recorded, allowed) | self._far(self.ours, allowed)

    def _far(self, array: torch.Tensor, allowed: float) -> torch.Tensor:
        assert self.exact is not None
        far = ~_within(array, self.exact, allowed)
        for outcome in self.outcomes:
            far &= ~_within(array, outcome, allowed)
        return far

    def _moves(self) -> torch.Tensor:
        """float64: how far the runs with errors moved each element."""
        assert self.exact is not None
        exact, moves = self.exact.double(), None
        for outcome in self.outcomes:
            move = (outcome.double() - exact).abs()
            moves = move if moves is None else moves.maximum(move)
        assert moves is not None
        return moves

    def hopeless(self) -> bool:
        """Is a float array so far off, and so little moved by errors, that further runs cannot explain it?"""
        if not self.recorded.is_floating_point() or self.exact is None:
            return False
        strays = self.strays() & (self._moves() <= JUMP * self.spread)
        exact, limit = self.exact.double()[strays], HOPELESS * self.allowed
        return any(bool(((a.double()[strays] - exact).abs() > limit).any()) for a in (self.recorded, self.ours))


def greatest_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Greatest absolute difference, in float64; 0 of empty arrays; NaN if there is one."""
    return float((one.double() - other.double()).abs().max()) if one.numel() else 0.0


def _within(one: torch.Tensor, other: torch.Tensor, allowed: float) -> torch.Tensor:
    """bool by element; False for NaN."""
    if not one.is_floating_point():
        return one == other
    return (one.double() - other.double()).abs() <= allowed


def measure(arrays: Mapping[str, Array], evaluate: Evaluate) -> str | None:
    """Gives every array its exact form and, where something is left to explain, those of runs with errors.

    `evaluate` is asked for the arrays in float64. Returns why there are no exact ones, if the network cannot: the
    arrays are then held to upstream's by the plain limit alone.
    """
    import torch

    try:
        exact = evaluate(torch.float64, nullcontext())
        _give(arrays, exact)
    except Exception as bad:
        # Whatever a network raises: it has shown its float32 result already, which is judged.
        return f"{type(bad).__name__}: {(str(bad).splitlines() or [''])[0]}"
    for run in range(RUNS):
        left = [a for a in arrays.values() if bool(a.strays().any())]
        if not left or (run >= 2 and any(a.hopeless() for a in left)):
            break
        outcome = evaluate(torch.float64, random_errors(run // 2, 1 - 2 * (run % 2)))
        for name, array in arrays.items():
            if outcome[name].shape == array.recorded.shape:
                array.outcomes.append(outcome[name].cpu())
    return None


def _give(arrays: Mapping[str, Array], exact: Mapping[str, torch.Tensor]) -> None:
    for name, array in arrays.items():
        array.exact = exact[name].cpu().reshape(array.recorded.shape)
