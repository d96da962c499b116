"""One reader of containers: where a network's weights lie in what trainers write, and which copy of several is read.

Every case is written here with the libraries that people use (torch, torch.optim.swa_utils, torch.compile's and FSDP's
names, safetensors, numpy) and read back; what must come out are the numbers that went in. Folders of several files
have a file of their own.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_weights import OTHER, WANTED, Small, State, read, same, under

from vtbench.models.containers import Inventory, Leaf, is_average
from vtbench.models.names import WrongNames
from vtbench.types.errors import VtbenchError


def between(segment: str, tensors: State, at: int = 1) -> State:
    """`segment` after the first names of every module, as wrapped submodules have it."""
    return {".".join([*n.split(".")[:at], segment, *n.split(".")[at:]]): t for n, t in tensors.items()}


def dotless(tensors: State) -> State:
    """What LitEma keeps: parameters only, without the dots of their names."""
    names = {n for n, _ in Small().named_parameters()}
    return {f"model_ema.{n.replace('.', '')}": t for n, t in tensors.items() if n in names}


def averaged(tensors: State) -> State:
    """torch's own AveragedModel around the network."""
    network = Small()
    network.load_state_dict(tensors)
    return dict(torch.optim.swa_utils.AveragedModel(network).state_dict())


def _module(tensors: State) -> Small:
    network = Small()
    network.load_state_dict(tensors)
    return network


ENCODER = {n: t for n, t in WANTED.items() if n.startswith("encoder.")}
REST = {n: t for n, t in WANTED.items() if n not in ENCODER}
DIFFUSION = {"model.diffusion_model.out.2.weight": torch.ones(2), "betas": torch.ones(9)}

FLAT: dict[str, State] = {
    "as they are": WANTED,
    "DataParallel": under("module.", WANTED),
    "compiled": under("_orig_mod.", WANTED),
    "compiled within DataParallel": under("module._orig_mod.", WANTED),
    "FSDP": under("_fsdp_wrapped_module.", WANTED),
    "FSDP and its parts": between("_fsdp_wrapped_module", under("_fsdp_wrapped_module.", WANTED), 2),
    "FSDP before torch 1.12": under("_fsdp_wrapped_module._fpw_module.", WANTED),
    "compiled parts": between("_orig_mod", WANTED),
    "one compiled part": {**REST, **between("_orig_mod", ENCODER)},
    "checkpointed layers": {**REST, **between("_checkpoint_wrapped_module", ENCODER, 2)},
    "a part in DataParallel, compiled": {**REST, **between("module._orig_mod", ENCODER)},
    "a whole latent diffusion model": {**under("first_stage_model.", WANTED), **DIFFUSION},
    "nested prefixes": {
        **under("module.generator._orig_mod.vqmodel.", WANTED),
        "module.discriminator.w": torch.ones(3),
    },
    "a name that nobody knows": {**under("my_tok.net.", WANTED), "head.weight": torch.ones(2)},
    "ema_pytorch alone": {**under("ema_model.", WANTED), "initted": torch.tensor(True), "step": torch.tensor(9)},
    "AveragedModel": averaged(WANTED),
    "entries without elements": {**WANTED, "empty": torch.empty(0), "wrapped.buffer": torch.empty(0, 4)},
    "training leftovers": {**WANTED, "loss.logvar": torch.ones(1), "discriminator.main.weight": torch.ones(2)},
}


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
@pytest.mark.parametrize("how", FLAT)
def test_prefixes_and_wrappers_in_safetensors_as_in_pickles(how: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind}"
    tensors = {n: t.contiguous() for n, t in FLAT[how].items()}
    if kind == "pt":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    assert same(read(path), WANTED)


NESTED: dict[str, Any] = {
    "two levels": {"state_dict": {"model": WANTED, "discriminator": {"main.0.weight": torch.ones(3, 3)}}, "epoch": 1},
    "three levels": {"trainer": {"modules": {"tok": under("module.", WANTED)}}, "args": {"lr": 0.1}},
    "parts": {"encoder": {"0.weight": WANTED["encoder.0.weight"]}, **{"rest": {}}},
    "a whole module": {"model": _module(WANTED), "epoch": 3},
    "modules in a list": {"models": [under("vqmodel.", WANTED)], "steps": 3},
    "a list without names hides nothing": {
        "model": WANTED,
        "ema": {"decay": 0.99, "shadow_params": list(OTHER.values())},
    },
    "diffusers EMAModel beside it": {
        "vae": WANTED,
        "ema_vae": {"optimization_step": 9, "shadow_params": list(OTHER.values())},
    },
    "an optimizer beside it": {
        "net": WANTED,
        "optim": {"state": {0: {"exp_avg": torch.ones(4), "step": torch.tensor(3.0)}}},
    },
}
NESTED["parts"] = {
    part: {n.removeprefix(f"{part}."): t for n, t in WANTED.items() if n.startswith(f"{part}.")}
    for part in ("encoder", "quantize", "decoder")
} | {"optimizer": {"exp_avg": torch.ones(3)}}


@pytest.mark.parametrize("how", NESTED)
def test_containers_at_any_depth(how: str, tmp_path: Path) -> None:
    torch.save(NESTED[how], tmp_path / "x.pt")
    assert same(read(tmp_path / "x.pt"), WANTED)


def test_numpy_dictionaries(tmp_path: Path) -> None:
    """As JAX users keep them: in torch's file, in a pickle of either protocol, in .npz, in .npy."""
    arrays = {n: t.numpy() for n, t in WANTED.items()}
    torch.save({"params": arrays}, tmp_path / "torch.pt")
    for protocol in (2, 4, 5):
        (tmp_path / f"{protocol}.pkl").write_bytes(pickle.dumps({"params": arrays}, protocol=protocol))
    (tmp_path / "tensors.pkl").write_bytes(pickle.dumps({"state_dict": WANTED}))
    np.savez(tmp_path / "x.npz", **arrays)
    np.save(tmp_path / "x.npy", np.array({"model": arrays}, dtype=object), allow_pickle=True)
    (tmp_path / "order.pkl").write_bytes(
        pickle.dumps({n: np.array(a, dtype=a.dtype.newbyteorder(">"), order="F") for n, a in arrays.items()})
    )
    files = sorted(tmp_path.iterdir())
    assert len(files) == 8
    for path in files:
        assert same(read(path), WANTED), path.name


def test_hostile_numpy_files_are_refused_and_run_nothing(tmp_path: Path) -> None:
    import zipfile

    class Bomb:
        def __reduce__(self) -> Any:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    np.save(tmp_path / "bomb.npy", np.array({"w": Bomb()}, dtype=object), allow_pickle=True)
    np.savez(tmp_path / "bomb.npz", w=np.array([Bomb()], dtype=object))
    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps({"w": Bomb(), "x": "no array"}))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    (tmp_path / "header.npy").write_bytes(header.getvalue())
    with zipfile.ZipFile(tmp_path / "zeros.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", header.getvalue() + bytes(1 << 20))
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(VtbenchError) as caught:
            read(path)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


# -- several copies --------------------------------------------------------------------------------------------------

SEVERAL: dict[str, tuple[Any, dict[str, Any], bool]] = {
    "BasicSR": ({"params": WANTED, "params_ema": OTHER}, {}, False),
    "BasicSR, of a card that wants averages": ({"params": OTHER, "params_ema": WANTED}, {"ema": True}, True),
    "the card's containers in their order": ({"model": OTHER, "ema": WANTED}, {"key": ("ema", "model")}, True),
    "its first container is averaged": ({"params": OTHER, "params_ema": WANTED}, {"key": ("ema", "model")}, True),
    "ema_pytorch with its online model": ({**under("online_model.", WANTED), **under("ema_model.", OTHER)}, {}, False),
    "ema_pytorch, of a card that wants averages": (
        {**under("online_model.", OTHER), **under("ema_model.", WANTED)},
        {"ema": True},
        True,
    ),
    "raw at the root": ({**WANTED, **under("ema.", OTHER)}, {}, False),
    "Lightning's weight averaging": (
        {"state_dict": WANTED, "current_model_state": OTHER, "averaging_state": {"n_averaged": torch.tensor(3)}},
        {},
        False,
    ),
    "n_averaged tells": ({"net": WANTED, "swa": averaged(OTHER)}, {}, False),
    "LitEma": ({"state_dict": {**WANTED, **dotless(OTHER)}}, {"ema": False}, False),
    "LitEma, of a card that wants averages": ({"state_dict": {**OTHER, **dotless(WANTED)}}, {"ema": True}, True),
    "LitEma of a model within": (
        {**under("model.", WANTED), **dotless(OTHER), "model_ema.decay": torch.tensor(0.9)},
        {},
        False,
    ),
    "LitEma, of a model within, of a card that wants averages": (
        {**under("model.", OTHER), **dotless(WANTED)},
        {"ema": True},
        True,
    ),
    "LitEma, of the whole module around it": (
        {**under("vae.", OTHER), **{n.replace("model_ema.", "model_ema.vae"): t for n, t in dotless(WANTED).items()}},
        {"ema": True},
        True,
    ),
    "a GAN": (
        {"generator": WANTED, "generator_ema": OTHER, "discriminator": {"main.0.weight": torch.ones(3)}},
        {},
        False,
    ),
    "an average of three names": (
        {**WANTED, **under("ema.ema_model.", OTHER), "ema.initted": torch.tensor(True)},
        {},
        False,
    ),
    "the outermost": ({**WANTED, **under("teacher.", OTHER)}, {}, False),
    "the usual name before another": ({"vqmodel": WANTED, "teacher": OTHER}, {}, False),
}


@pytest.mark.parametrize("how", SEVERAL)
def test_of_several_copies_the_stated_rule_takes_one_and_the_record_names_the_others(how: str, tmp_path: Path) -> None:
    content, facts, average = SEVERAL[how]
    torch.save(content, tmp_path / "x.pt")
    network = read(tmp_path / "x.pt", **facts)
    # LitEma keeps no statistics: those are the raw model's.
    wanted = {n: (OTHER if "running" in n else WANTED)[n] for n in WANTED} if "LitEma, of" in how else WANTED
    assert same(network, wanted)
    (copy,) = network.read_from  # type: ignore[misc, union-attr]
    assert copy["averaged"] is average
    assert len(copy["beside"]) == 1
    assert "beside: " in copy["note"]


def test_prefix_chooses_among_copies(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"state_dict": {"params": OTHER, "params_ema": under("module.", WANTED)}, "teacher": OTHER}, path)
    for prefix in ("params_ema", "params_ema.", "state_dict.params_ema", "state_dict/params_ema", "params_ema.module."):
        network = read(path, prefix)
        assert same(network, WANTED), prefix
        (copy,) = network.read_from  # type: ignore[misc, union-attr]
        assert (copy["key"], copy["prefix"], copy["by"]) == ("state_dict/params_ema", "module.", "--prefix")
    with pytest.raises(VtbenchError, match=r"no weights of this model under --prefix 'nothing'; it has them under "):
        read(path, "nothing")
    torch.save({**WANTED, **under("ema_model.", OTHER)}, path)
    assert same(read(path, "", ema=True), WANTED)
    assert same(read(path, "ema_model."), OTHER)
    torch.save({**OTHER, **dotless(WANTED)}, path)
    assert torch.equal(read(path, "model_ema").encoder[0].weight, WANTED["encoder.0.weight"])


def test_two_copies_that_no_rule_tells_apart_are_refused_unless_they_are_one(tmp_path: Path) -> None:
    torch.save({"student": WANTED, "teacher": OTHER}, tmp_path / "x.pt")
    with pytest.raises(VtbenchError, match=r"twice, with other numbers: under 'student\.' and under 'teacher\.'"):
        read(tmp_path / "x.pt")
    assert same(read(tmp_path / "x.pt", "teacher"), OTHER)
    torch.save({"student": WANTED, "teacher": {n: t.clone() for n, t in WANTED.items()}}, tmp_path / "x.pt")
    assert same(read(tmp_path / "x.pt"), WANTED)
    torch.save({**WANTED, "encoder._orig_mod.0.weight": OTHER["encoder.0.weight"]}, tmp_path / "x.pt")
    with pytest.raises(VtbenchError, match="which are one name"):
        read(tmp_path / "x.pt")


# -- what only looks like weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.bool])
def test_integers_are_no_weights(dtype: torch.dtype, tmp_path: Path) -> None:
    save_file({n: (t * 10).to(dtype) for n, t in WANTED.items()}, tmp_path / "x.safetensors")
    with pytest.raises(VtbenchError, match=f"are {str(dtype)[6:]}, quantized or packed"):
        read(tmp_path / "x.safetensors")
    one = {**WANTED, "decoder.0.weight": (WANTED["decoder.0.weight"] * 10).to(dtype)}
    torch.save({"state_dict": one}, tmp_path / "x.pt")
    with pytest.raises(VtbenchError, match=r"the weights decoder\.0\.weight are"):
        read(tmp_path / "x.pt")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_float8_is_widened_and_said_and_scaled_float8_is_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    small = {n: t.to(dtype) if t.is_floating_point() else t for n, t in WANTED.items()}
    save_file(small, tmp_path / "x.safetensors")
    network = read(tmp_path / "x.safetensors")
    assert same(network, small)
    assert network.stored_as == str(dtype)[6:]
    save_file({**small, "decoder.0.weight_scale": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(WrongNames, match=r"1 unexpected: decoder\.0\.weight_scale"):
        read(tmp_path / "x.safetensors")
    small["decoder.0.weight"] = torch.full((3, 2, 1, 1), float("nan")).to(dtype)
    save_file(small, tmp_path / "x.safetensors")
    with pytest.raises(VtbenchError, match="hold NaN"):
        read(tmp_path / "x.safetensors")


def test_strict_within_the_copy_whatever_lies_beside_it(tmp_path: Path) -> None:
    torch.save({"vqmodel": {**WANTED, "extra.weight": torch.ones(2)}, "other": {"x": torch.ones(3)}}, tmp_path / "x.pt")
    with pytest.raises(WrongNames, match=r"1 unexpected: extra\.weight"):
        read(tmp_path / "x.pt")
    lacking = {n: t for n, t in WANTED.items() if n != "decoder.0.bias"}
    save_file(under("first_stage_model.", lacking), tmp_path / "x.safetensors")
    with pytest.raises(WrongNames, match=r"1 missing: decoder\.0\.bias"):
        read(tmp_path / "x.safetensors")


def test_lists_of_tensors_alone_have_no_names(tmp_path: Path) -> None:
    torch.save({"shadow_params": list(WANTED.values()), "num_updates": 3}, tmp_path / "x.pt")
    with pytest.raises(VtbenchError, match=r"tensors without names, in lists \(shadow_params of 12\)"):
        read(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("segment", "average"),
    [
        *(
            (word, True)
            for word in ("ema", "params_ema", "ModelEMA", "netG_ema", "swa_model", "shadow_params", "g_ema2")
        ),
        *((word, False) for word in ("schema", "lemma", "quantize", "model", "exponential")),
    ],
)
def test_names_of_averages(segment: str, average: bool) -> None:
    assert is_average(segment) is average


def test_a_file_of_many_roots_is_read_in_time() -> None:
    """Hostile: every tensor under a prefix of its own."""
    from vtbench.models.names import needed

    leaves = [Leaf((), f"p{i}.{n}", tuple(t.shape)) for i in range(400) for n, t in WANTED.items()]
    copies = Inventory(leaves).copies(needed(Small()))
    assert 1 <= len(copies) <= 130


def test_a_list_without_names_is_read_when_asked_for_in_the_order_of_the_raw_copy(tmp_path: Path) -> None:
    """As torch_ema and diffusers' EMAModel keep averages: parameters in their order, no buffers."""
    parameters = [n for n, _ in Small().named_parameters()]
    shadow = [OTHER[n] for n in parameters]
    torch.save({"model": under("module.", WANTED), "ema": {"decay": 0.9, "shadow_params": shadow}}, tmp_path / "x.pt")
    assert same(read(tmp_path / "x.pt", ema=True), WANTED)
    network = read(tmp_path / "x.pt", "ema.shadow_params")
    assert same(network, {n: (OTHER if n in parameters else WANTED)[n] for n in WANTED})
    (copy,) = network.read_from  # type: ignore[misc, union-attr]
    assert (copy["key"], copy["averaged"], copy["by"]) == ("ema/shadow_params", True, "--prefix")
    assert copy["beside"] == ["model.module. (raw)"]
    torch.save({"model": WANTED, "ema": {"shadow_params": shadow[1:]}}, tmp_path / "x.pt")
    with pytest.raises(VtbenchError, match="0 copies with names that say its order"):
        read(tmp_path / "x.pt", "shadow_params")
