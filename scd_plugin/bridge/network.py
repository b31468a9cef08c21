"""Which network a trainer builds from plans, as arguments of `SCDUNETR`; and what keeps another from being that one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from scd_plugin.networks import SCDUNETR
from scd_plugin.networks.scd_unetr import MAX_POOLED_DEPTH
from scd_plugin.nnunet.model.trained_network import find_any_trainer
from scd_plugin.nnunet.planning.token_sizes import network_arguments
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD
from scd_plugin.nnunet.trainers.primus import SCDPrimusTrainer
from scd_plugin.ops.grid import per_axis, stage_strides

__all__ = ["choose_trainer", "difference", "find_trainer", "full_arguments", "trainer_arguments"]

# change training alone, or are fixed
_WITHOUT_EFFECT = ("drop_path_rate", "dropout_rate", "tau", "deep_supervision", "proj_type", "save_attn")
# of the pruning, so without effect in the dense twin
_OF_PRUNING = (
    "prune_after",
    "sampling",
    "completion",
    "completion_hidden_size",
    "completion_num_layers",
    "completion_num_heads",
)
# one of each size and keep ratio; the first that fits is taken
_TRAINERS = (
    "nnUNetTrainerSCD",
    "nnUNetTrainerSCD_dense",
    "nnUNetTrainerSCD_early",
    "nnUNetTrainerSCD_fast",
    "nnUNetTrainerSCD_small",
    "nnUNetTrainerSCD_small_fast",
    "nnUNetTrainerSCD_large",
    "nnUNetTrainerSCD_demo",
)
_LEARNED_INSTANCE = ("instance", {"affine": True})


def find_trainer(name: str) -> type[nnUNetTrainerSCD]:
    """An SCD trainer by its name, as nnU-Net finds it.

    Raises:
        ValueError: if there is none, if it trains no SCDUNETR, or if it builds its network in a way of its own.
    """
    trainer = find_any_trainer(name)
    if issubclass(trainer, SCDPrimusTrainer):
        msg = (
            f"trainer {name} trains SCD-Primus, which is not moved between nnU-Net and MONAI yet; only models of "
            "nnUNetTrainerSCD and its subclasses can be moved"
        )
        raise ValueError(msg)
    if not issubclass(trainer, nnUNetTrainerSCD):
        msg = (
            f"trainer {name} is none of SCD's, so its network is no SCDUNETR; only models of nnUNetTrainerSCD and its "
            "subclasses can be moved"
        )
        raise ValueError(msg)
    builder = next(one for one in trainer.__mro__ if "build_network_architecture" in vars(one))
    if builder is not nnUNetTrainerSCD:
        msg = (
            f"trainer {name} has a build_network_architecture of its own, so its network is not known from its "
            "settings; only trainers that change scd_size and scd_keep_ratio can be moved"
        )
        raise ValueError(msg)
    return trainer


def trainer_arguments(
    trainer: type[nnUNetTrainerSCD], configuration: Mapping[str, Any], *, in_channels: int, out_channels: int
) -> dict[str, Any]:
    """What a trainer passes to `SCDUNETR` at prediction, without its effectless arguments.

    Args:
        trainer: gives size and keep ratio.
        configuration: of the plans, inheritance resolved.
        in_channels: image channels.
        out_channels: classes or regions.
    """
    return {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "keep_ratio": trainer.scd_keep_ratio,
        **network_arguments(configuration, size=trainer.scd_size),
    }


def choose_trainer(
    network: Mapping[str, Any], configuration: Mapping[str, Any], name: str | None
) -> tuple[str, dict[str, Any]]:
    """The trainer that builds a network from plans, and the arguments with which it does.

    Args:
        network: as returned by `full_arguments`.
        configuration: of the plans, inheritance resolved.
        name: the only trainer to consider; None for those of the plug-in.

    Raises:
        ValueError: if none builds it, naming the arguments that differ from the nearest.
    """
    found = []
    for candidate in _TRAINERS if name is None else (name,):
        arguments = trainer_arguments(
            find_trainer(candidate),
            configuration,
            in_channels=network["in_channels"],
            out_channels=network["out_channels"],
        )
        built = full_arguments(arguments)
        differing = difference(network, built)
        if not differing:
            return candidate, arguments
        found.append((len(differing), candidate, differing, built))
    _, nearest, differing, built = min(found, key=lambda entry: entry[0])
    values = "; ".join(f"{name} is {network.get(name)}, not {built.get(name)}" for name in differing[:3])
    msg = f"no trainer builds this network: compared with {nearest}, {values}. {_remedy(differing)}"
    raise ValueError(msg)


def _remedy(differing: Sequence[str]) -> str:
    if set(differing) == {"keep_ratio"}:
        return (
            "Write a trainer of your own with that scd_keep_ratio (three lines, see docs/how-to/own-settings.md) and "
            "name it with --trainer"
        )
    return "A trainer has a size (scd_size) and one keep ratio (scd_keep_ratio); the rest follows from the plans"


def full_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Every argument of `SCDUNETR`, defaults filled in and in one form, so that two networks can be compared.

    Args:
        arguments: keyword arguments.

    Raises:
        ValueError: if `SCDUNETR` takes no argument of that name, or needs one that is missing.
    """
    try:
        bound = inspect.signature(SCDUNETR).bind(**arguments)
    except TypeError as error:
        msg = f"network_def does not fit SCDUNETR: {error}"
        raise ValueError(msg) from None
    bound.apply_defaults()
    full = dict(bound.arguments)
    dims = full["spatial_dims"]
    for name in ("img_size", "patch_size"):
        full[name] = per_axis(_frozen(full[name]), dims, name=name)
    full["prune_after"] = _frozen(full["prune_after"])
    full["strides"] = _frozen(full["strides"] or stage_strides(full["patch_size"]))
    if full["pool_stride"] is None and len(full["strides"]) <= MAX_POOLED_DEPTH:
        full["pool_stride"] = (2,) * dims
    full["pool_stride"] = _frozen(full["pool_stride"])
    ratio = full["keep_ratio"]
    full["keep_ratio"] = _frozen(ratio) if isinstance(ratio, Sequence) else (float(ratio),) * len(full["prune_after"])
    full["completion_hidden_size"] = full["completion_hidden_size"] or full["hidden_size"]
    full["completion_num_heads"] = full["completion_num_heads"] or full["num_heads"]
    # without noise they are the same choice
    full["sampling"] = "soft_topk" if full["sampling"] == "topk" else full["sampling"]
    # a scale of 1 and a shift of 0, see `with_learned_norms`
    full["norm_name"] = _LEARNED_INSTANCE if _is_plain_instance(full["norm_name"]) else _norm(full["norm_name"])
    skipped = [*_WITHOUT_EFFECT, *(_OF_PRUNING if all(share == 1 for share in full["keep_ratio"]) else ())]
    if all(share == 1 for share in full["keep_ratio"]):
        full["keep_ratio"] = (1.0,)
    return {name: value for name, value in full.items() if name not in skipped}


def difference(wanted: Mapping[str, Any], built: Mapping[str, Any]) -> list[str]:
    """Names of the arguments in which two networks differ, each as returned by `full_arguments`."""
    return [name for name in {**wanted, **built} if wanted.get(name) != built.get(name)]


def _is_plain_instance(norm: Any) -> bool:
    name, options = _norm(norm)
    return name == "instance" and not {**options, "affine": False}["affine"] and set(options) <= {"affine"}


def _norm(norm: Any) -> tuple[str, dict[str, Any]]:
    name, options = (norm, {}) if isinstance(norm, str) else norm
    return str(name).lower(), dict(options)


def _frozen(value: Any) -> Any:
    """Lists as tuples, all the way down."""
    return tuple(_frozen(part) for part in value) if isinstance(value, (list, tuple)) else value
