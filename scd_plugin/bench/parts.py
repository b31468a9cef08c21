"""What share of a forward pass each part of a network takes, by hooks on a pass of its own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    from torch import nn

__all__ = ["OTHER", "PART_NAMES", "Parts", "part_shares", "primus", "scd", "scd_primus", "swinunetr", "unet", "unetr"]

Parts: TypeAlias = "Mapping[str, Sequence[nn.Module]]"
"""part -> modules that make it; no module inside another"""

TOKENIZER, ENCODER, BEFORE, AFTER = "tokenizer", "encoder", "before pruning", "after pruning"
COMPLETION, DECODER, OTHER = "completion", "decoder", "other"
PART_NAMES = (TOKENIZER, ENCODER, BEFORE, AFTER, COMPLETION, DECODER, OTHER)


def scd(network: nn.Module) -> Parts:
    """Ours: the encoder before and after its first pruning stage, or the whole of it where none prunes."""
    encoder: Any = network.encoder
    blocks, stages = list(encoder.blocks), list(encoder.stages)
    completion: Any = network.completion
    parts: dict[str, list[nn.Module]] = {TOKENIZER: [encoder.patch_embed]}
    if stages:
        first = stages[0].after_block
        parts |= {BEFORE: blocks[:first], AFTER: [*stages, *blocks[first:], encoder.norm], COMPLETION: [completion]}
    else:
        parts[ENCODER] = [*blocks, encoder.norm]
    decoder: Any = network.decoder
    return {**parts, DECODER: [decoder]}


def unetr(network: nn.Module) -> Parts:
    """MONAI's UNETR. Its modules named encoder1 to encoder4 belong to the decoding of tokens."""
    return {
        TOKENIZER: _named(network, r"vit\.patch_embedding"),
        ENCODER: _named(network, r"vit\.(blocks\.\d+|norm)"),
        DECODER: _named(network, r"(encoder|decoder)\d+|out"),
    }


def swinunetr(network: nn.Module) -> Parts:
    """MONAI's SwinUNETR, alike."""
    return {
        TOKENIZER: _named(network, r"swinViT\.patch_embed"),
        ENCODER: _named(network, r"swinViT\.layers\d+(c)?\.\d+"),
        DECODER: _named(network, r"(encoder|decoder)\d+|out"),
    }


def primus(network: nn.Module) -> Parts:
    """nnU-Net's Primus."""
    return {
        TOKENIZER: _named(network, "down_projection"),
        ENCODER: _named(network, "eva"),
        DECODER: _named(network, "up_projection"),
    }


def scd_primus(network: nn.Module) -> Parts:
    """Ours, on Primus; the score that is not learned is in no part."""
    eva: Any = network.eva
    blocks, stages = list(eva.blocks), list(cast("Any", network.stages))
    first = stages[0].after_block if stages else len(blocks)
    parts: dict[str, list[nn.Module]] = {
        TOKENIZER: _named(network, "down_projection"),
        BEFORE if stages else ENCODER: blocks[:first],
    }
    if stages:
        parts[AFTER] = [*stages, *blocks[first:]]
        parts[COMPLETION] = _named(network, "completion")
    return {**parts, DECODER: _named(network, "up_projection")}


def unet(network: nn.Module) -> Parts:
    """nnU-Net's U-Nets."""
    return {ENCODER: _named(network, "encoder"), DECODER: _named(network, "decoder")}


def part_shares(run: Callable[[], object], parts: Parts, *, cuda: bool, passes: int = 3) -> dict[str, float]:
    """Share of the time of `run` that is spent inside each part, and in none of them.

    Args:
        run: one forward pass of the network that the parts belong to, not compiled.
        parts: its parts.
        cuda: time by CUDA events instead of the clock.
        passes: how often to run.

    Returns:
        Part to share, `OTHER` last; they add up to 1.
    """
    marks: dict[str, list[Any]] = {part: [] for part in parts}
    whole: list[Any] = []
    now = _cuda_mark if cuda else time.perf_counter

    def stamp(name: str) -> Callable[..., None]:
        return lambda *_: marks[name].append(now())

    handles = [
        handle
        for part, modules in parts.items()
        for module in modules
        for handle in (module.register_forward_pre_hook(stamp(part)), module.register_forward_hook(stamp(part)))
    ]
    try:
        for _ in range(passes):
            whole.append(now())
            run()
            whole.append(now())
    finally:
        for handle in handles:
            handle.remove()
    total = _between(whole, cuda=cuda)
    shares = {part: _between(stamps, cuda=cuda) / total for part, stamps in marks.items()}
    return {**shares, OTHER: max(0.0, 1 - sum(shares.values()))}


def _named(network: nn.Module, pattern: str) -> list[nn.Module]:
    return [module for name, module in network.named_modules() if re.fullmatch(pattern, name)]


def _cuda_mark() -> Any:
    import torch

    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _between(marks: list[Any], *, cuda: bool) -> float:
    """Time from every mark with an even place to the one after it."""
    if cuda and marks:
        marks[-1].synchronize()
    pairs = zip(marks[::2], marks[1::2])
    return sum(start.elapsed_time(end) if cuda else end - start for start, end in pairs)
