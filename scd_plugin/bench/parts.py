"""What share of a forward pass each part of a network takes, by hooks on a pass of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from scd_plugin.bench.timed_steps import mark, seconds_between

if TYPE_CHECKING:
    from torch import nn

    from scd_plugin.networks.family import SCDNetwork

__all__ = ["OTHER", "PART_NAMES", "Parts", "monai", "part_shares", "primus", "scd", "unet"]

Parts: TypeAlias = "Mapping[str, Sequence[nn.Module]]"
"""part -> modules that make it; no module inside another"""

TOKENIZER, ENCODER, BEFORE, AFTER = "tokenizer", "encoder", "before pruning", "after pruning"
COMPLETION, DECODER, OTHER = "completion", "decoder", "other"
PART_NAMES = (TOKENIZER, ENCODER, BEFORE, AFTER, COMPLETION, DECODER, OTHER)


def scd(network: SCDNetwork) -> Parts:
    """Ours: the encoder before and after its first pruning stage, or the whole of it where none prunes."""
    blocks, stages = _named(network, r"(encoder|eva)\.blocks\.\d+"), network.pruning_stages()
    last = _named(network, r"encoder\.norm")
    parts = {TOKENIZER: _named(network, r"encoder\.patch_embed|down_projection")}
    if stages:
        first = stages[0].after_block
        parts |= {BEFORE: blocks[:first], AFTER: [*stages, *blocks[first:], *last]}
        parts[COMPLETION] = _named(network, "completion")
    else:
        parts[ENCODER] = [*blocks, *last]
    return {**parts, DECODER: _named(network, "decoder|up_projection")}


def _by_name(patterns: Mapping[str, str], network: nn.Module) -> Parts:
    return {part: _named(network, pattern) for part, pattern in patterns.items()}


# its modules named encoder1 and so on belong to the decoding of tokens
_MONAI = {
    TOKENIZER: r"vit\.patch_embedding|swinViT\.patch_embed",
    ENCODER: r"vit\.(blocks\.\d+|norm)|swinViT\.layers\d+c?\.\d+",
    DECODER: r"(encoder|decoder)\d+|out",
}
monai = partial(_by_name, _MONAI)
primus = partial(_by_name, {TOKENIZER: "down_projection", ENCODER: "eva", DECODER: "up_projection"})
unet = partial(_by_name, {ENCODER: "encoder", DECODER: "decoder"})


def part_shares(run: Callable[[], object], parts: Parts, *, cuda: bool, passes: int = 3) -> dict[str, float]:
    """Share of the time of `run` inside each part, and in none of them (`OTHER`, last).

    Args:
        run: one forward pass of the network that the parts belong to, not compiled.
        parts: its parts.
        cuda: time by the GPU's clock.
        passes: how often to run.
    """
    marks: dict[str, list[Any]] = {part: [] for part in parts}
    whole: list[Any] = []

    def stamp(name: str) -> Callable[..., None]:
        return lambda *_: marks[name].append(mark(cuda=cuda))

    handles = [
        handle
        for part, modules in parts.items()
        for module in modules
        for handle in (module.register_forward_pre_hook(stamp(part)), module.register_forward_hook(stamp(part)))
    ]
    try:
        for _ in range(passes):
            whole.append(mark(cuda=cuda))
            run()
            whole.append(mark(cuda=cuda))
    finally:
        for handle in handles:
            handle.remove()
    total = seconds_between(whole, cuda=cuda)
    shares = {part: seconds_between(stamps, cuda=cuda) / total for part, stamps in marks.items()}
    return {**shares, OTHER: max(0.0, 1 - sum(shares.values()))}


def _named(network: nn.Module, pattern: str) -> list[nn.Module]:
    return [module for name, module in network.named_modules() if re.fullmatch(pattern, name)]
