"""Names and shapes of parameters against each other, on cases small enough to be counted by hand."""

from __future__ import annotations

import pytest
import torch

from vtbench.models.names import (
    UPSTREAM,
    WrongNames,
    check_names,
    compare_names,
    differences,
    is_optional,
    manifest_of,
    needed,
)
from vtbench.types.errors import VtbenchError


def test_an_optional_entry_is_a_name_or_a_prefix_that_ends_in_a_dot() -> None:
    assert is_optional("loss.weight", ("loss.",))
    assert is_optional("steps", ("steps",))
    assert not is_optional("steps.weight", ("steps",))
    assert not is_optional("lossless.weight", ("loss.",))


def test_the_three_ways_to_differ_and_how_many_names_are_shown() -> None:
    present = {"a": (1,), "b": (2, 2), "extra": (3,), "loss.x": (9,)}
    wanted = {"a": (1,), "b": (2, 3), **{f"c{i}": (1,) for i in range(5)}, "step": ()}
    differ = differences(present, wanted, ("loss.",), may_lack=("step",))
    assert differ.missing == tuple(f"c{i}" for i in range(5))
    assert differ.unexpected == ("extra",)
    assert dict(differ.misshapen) == {"b": ((2, 2), (2, 3))}
    assert differ.sentences() == [
        "5 missing: c0, c1, c2 and 2 more",
        "1 unexpected: extra",
        "1 of another shape: b is [2, 2], wanted [2, 3]",
    ]
    assert differ.sentences(UPSTREAM)[0].startswith("5 not in our network")
    assert not differences(wanted, wanted)


def test_what_may_be_lacking_must_fit_where_it_is() -> None:
    assert not differences({}, {"step": ()}, may_lack=("step",))
    assert differences({"step": (2,)}, {"step": ()}, may_lack=("step",))


def test_ours_against_upstream() -> None:
    assert compare_names({"a": [1]}, {"a": [1], "head.w": [3]}, ("head.",)) == []
    assert compare_names({"a": [1], "b": [2]}, {"a": [2]}, ()) == [
        "1 not upstream: b",
        "1 of another shape: a is [1], upstream has [2]",
    ]


class Counted(torch.nn.Module):
    """One layer, one integer buffer, one entry that inference does not need, one that files hold beside."""

    optional = ("head.",)
    int_buffers = ("mask",)

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 3)
        self.head = torch.nn.Linear(1, 1)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))


def test_integers_and_optional_entries_need_not_be_in_a_file_and_weights_must() -> None:
    network = Counted()
    whole = network.state_dict()
    assert dict(needed(network).shapes) == {"layer.weight": (3, 2), "layer.bias": (3,)}
    least = {n: whole[n] for n in ("layer.weight", "layer.bias")}
    check_names(network, least, "x.pt")
    beside = {"mask": torch.ones(4), "epoch": torch.ones((), dtype=torch.int64), "loss.w": torch.ones(1)}
    check_names(network, {**whole, **beside}, "x.pt")
    for broken in ({**least, "stray": torch.ones(1)}, {**least, "layer.bias": torch.ones(4)}):
        with pytest.raises(WrongNames, match=r"x\.pt does not fit"):
            check_names(network, broken, "x.pt")
    with pytest.raises(WrongNames, match=r"1 missing: layer\.bias") as wrong:
        check_names(network, {"layer.weight": whole["layer.weight"]}, "x.pt")
    # One of the five entries of the state dict.
    assert wrong.value.lacking == pytest.approx(1 / 5)
    with pytest.raises(WrongNames):
        check_names(network, {**whole, "step": torch.zeros(2, dtype=torch.int64)}, "x.pt")


def test_a_manifest_of_a_model_without_a_network_of_ours_is_refused() -> None:
    with pytest.raises(VtbenchError, match="has no native network"):
        manifest_of("jpeg")
