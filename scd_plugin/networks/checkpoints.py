"""Checkpoints of the paper authors' code, loaded into `SCDUNETR`, which itself knows nothing of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from scd_plugin.networks.scd_unetr import SCDUNETR
from scd_plugin.networks.wrappers import without_wrappers

__all__ = ["load_tokensparse_state_dict", "mismatch", "tokensparse_name"]

# buffers that `SCDUNETR` computes: the all-ones policy, and fixed sine-cosine positions
_COMPUTED = ("encoder.policy", "completion_net.completion.pos_embed")

_RENAME = (
    (r"^encoder\.patch_embed\.", "encoder.patch_embed.proj."),
    (r"^encoder\.stages\.(\d+)\.score\.norm\.", r"encoder.score_predictor_list.\1.in_mlp.0."),
    (r"^encoder\.stages\.(\d+)\.score\.project\.", r"encoder.score_predictor_list.\1.in_mlp.1."),
    (r"^encoder\.stages\.(\d+)\.score\.reduce1\.", r"encoder.score_predictor_list.\1.out_mlp.0."),
    (r"^encoder\.stages\.(\d+)\.score\.reduce2\.", r"encoder.score_predictor_list.\1.out_mlp.2."),
    (r"^encoder\.stages\.(\d+)\.score\.score\.", r"encoder.score_predictor_list.\1.out_mlp.4."),
    (r"^encoder\.stages\.(\d+)\.norm_left\.", r"encoder.mid_norm_list.\1."),
    (r"^completion\.project\.", "completion_net.pre_linear_list."),
    (r"^completion\.layer_embed\.", "completion_net.completion.layer_tokens."),
    (r"^completion\.refine\.blocks\.", "completion_net.blocks."),
    (r"^completion\.refine\.norm\.", "completion_net.out_norm."),
    (r"^completion\.refine\.project\.", "completion_net.out_linear."),
)


def tokensparse_name(name: str, *, num_ups: int) -> str:
    """The paper authors' name of a parameter of `SCDUNETR`.

    The name may also be `completion.layer_embed.i`, the i-th layer embedding. The authors count the decoder's `num_ups`
    merging steps from 2 upwards.
    """
    for pattern, replacement in _RENAME:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name)
    if match := re.match(r"^decoder\.ups\.(\d+)\.block\.(.*)", name):
        return f"decoder.decoder{num_ups + 1 - int(match[1])}.{match[2]}"
    if match := re.match(r"^decoder\.skips\.(\d+)\.(\d+)\.(.*)", name):
        level, layer, rest = int(match[1]) + 1, int(match[2]), match[3]
        if layer == 0:
            return f"decoder.encoder{level}.transp_conv_init.{rest}"
        return f"decoder.encoder{level}.blocks.{(layer - 1) // 2}.{(layer - 1) % 2}.{rest}"
    if match := re.match(r"^decoder\.skips\.(\d+)\.(.*)", name):
        return f"decoder.encoder{int(match[1]) + 1}.{match[2]}"
    return name


def load_tokensparse_state_dict(net: SCDUNETR, state_dict: Mapping[str, Tensor]) -> None:
    """Load a checkpoint written by the paper authors' code (TokenSparse-for-MedSeg).

    Args:
        net: a network of the checkpoint's settings, with `completion="assembly"` or `keep_ratio=1`.
        state_dict: the authors' parameter names to tensors, with or without the prefix `module.`; not changed.

    Raises:
        ValueError: if keys are missing or unknown, or shapes differ: all of them are named in this one error, and
            the network is left as it was. Also if a value is no tensor.
    """
    for name, value in state_dict.items():
        if not isinstance(value, Tensor):
            whole = (
                f"; this looks like a whole checkpoint, pass its entry {name!r}" if isinstance(value, Mapping) else ""
            )
            msg = f"state_dict must map names of parameters to tensors; {name!r} holds a {type(value).__name__}{whole}"
            raise ValueError(msg)
    theirs = without_wrappers(state_dict)
    ours = _split_layer_embed(net.state_dict())
    ups: Any = net.decoder.ups
    names = {name: tokensparse_name(name, num_ups=len(ups)) for name in ours}
    wanted = {foreign: ours[name] for name, foreign in names.items()}
    found = {name: value for name, value in theirs.items() if name not in _COMPUTED}
    if problems := mismatch(wanted, found):
        msg = f"the checkpoint does not fit this {type(net).__name__}; {problems}"
        raise ValueError(msg)
    net.load_state_dict(_join_layer_embed({name: theirs[foreign] for name, foreign in names.items()}))


def mismatch(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], *, at_most: int | None = None, drop_heads: bool = True
) -> str:
    """Say what keeps one state dict from being loaded in place of another; empty if nothing does.

    Args:
        wanted: the network's state dict.
        found: the checkpoint's.
        at_most: how many names to list of each kind; None for all.
        drop_heads: whether deep-supervision heads that the network lacks are no mismatch, as they serve training alone.
    """
    if drop_heads:
        found = {key: value for key, value in found.items() if key in wanted or not key.startswith("decoder.heads.")}
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    kinds = {
        "missing": sorted(set(wanted) - set(found)),
        "unknown": sorted(set(found) - set(wanted)),
        "wrong shape": shapes,
    }
    problems = []
    for kind, names in kinds.items():
        left_out = len(names) - len(names[:at_most])
        if names:
            problems.append(f"{kind}: {', '.join(names[:at_most])}{f' and {left_out} more' if left_out else ''}")
    return "; ".join(problems)


_EMBED = "completion.layer_embed"


def _split_layer_embed(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One entry per layer embedding, as the authors' checkpoints have it."""
    split = dict(state_dict)
    if _EMBED in split:
        split.update({f"{_EMBED}.{i}": value for i, value in enumerate(split.pop(_EMBED))})
    return split


def _join_layer_embed(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `_split_layer_embed`."""
    joined = {name: value for name, value in state_dict.items() if not name.startswith(f"{_EMBED}.")}
    parts = [state_dict[f"{_EMBED}.{i}"] for i in range(len(state_dict) - len(joined))]
    if parts:
        joined[_EMBED] = torch.stack(parts)
    return joined
