"""The contestants by name. Each is a function from the task and the size to a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, NamedTuple, TypeVar

import torch
from default_unet import DefaultUNet
from memories import with_memory
from probes import TokenProbes
from stems import with_stem
from tasks import Task

from scd_plugin import SCDUNETR, SCDNetwork, SCDPrimus
from scd_plugin.measure.cost import multiply_accumulates

SIZES: dict[str, dict[str, int]] = {
    # for a CPU of two cores
    "small": {"hidden_size": 192, "mlp_dim": 768, "num_heads": 6, "num_layers": 8, "feature_size": 8},
    # the published one, for a GPU
    "base": {"hidden_size": 768, "mlp_dim": 3072, "num_heads": 12, "num_layers": 12, "feature_size": 16},
}
KEEP_RATIO = 0.25
GRADUAL = (0.6, 0.65, 0.65)
"""Shares of the tokens that stay at each of three stages; a quarter stays to the end."""


class Guide(NamedTuple):
    """How labels teach the scores: weight of their loss, and what a token should be kept for."""

    weight: float
    target: str
    fades: bool = False
    """whether the weight falls to zero until the end of the training"""

    def at(self, share: float) -> float:
        """Weight when a share of the training is done."""
        return self.weight * (1 - share) if self.fades else self.weight


Network = TypeVar("Network", bound=SCDNetwork)
Contestant = SCDNetwork | DefaultUNet
Builder = Callable[[Task, dict[str, int]], Contestant]


def gmacs(network: Contestant) -> float:
    """Billions of multiply-accumulates for one crop."""
    return multiply_accumulates(network, torch.zeros(1, *network.image_shape)) / 1e9


def blocks(network: Contestant) -> int:
    """Count the transformer blocks of the encoder, or the resolutions of a U-Net."""
    if isinstance(network, DefaultUNet):
        return len(network.unet.encoder.stages)
    return len(network.encoder.blocks if isinstance(network, SCDUNETR) else network.eva.blocks)


def build(name: str, task: Task, size: str) -> Contestant:
    """Build a contestant of `NETWORKS` in a size of `SIZES`."""
    return NETWORKS[name](task, SIZES[size])


def _network(task: Task, size: dict[str, int], **arguments: Any) -> SCDUNETR:
    # as in the presets: without a learned scale small classes are learned far later
    norm = ("instance", {"affine": True})
    common = {"img_size": task.crop, "patch_size": task.patch, "norm_name": norm, **size}
    return SCDUNETR(in_channels=1, out_channels=task.num_classes, **{**common, **arguments})


def dense(task: Task, size: dict[str, int], **arguments: Any) -> SCDUNETR:
    """Build the dense twin: all blocks see all tokens."""
    return _network(task, size, keep_ratio=1, prune_after=(1,), **arguments)


def published(task: Task, size: dict[str, int], **arguments: Any) -> SCDUNETR:
    """Build the published network: a quarter stays after a quarter, half and three quarters of the blocks."""
    stages = [size["num_layers"] * i // 4 for i in (1, 2, 3)]
    return _network(task, size, **{"keep_ratio": KEEP_RATIO, "prune_after": stages, **arguments})


def shallow(task: Task, size: dict[str, int], **arguments: Any) -> SCDUNETR:
    """Build the dense network with fewer blocks whose cost is nearest to that of the published one."""
    return _as_cheap_as(published(task, size, **arguments), size, lambda fewer: dense(task, fewer, **arguments))


def primus(task: Task, size: dict[str, int], keep_ratio: Sequence[float] | float = 1.0, **arguments: Any) -> SCDPrimus:
    """Build Primus, whose decoder sees nothing but tokens, or one that prunes as SCD-Primus does."""
    width, layers = size["hidden_size"], size["num_layers"]
    # rotary positions on three axes want heads of a multiple of six channels
    shape = {"hidden_size": width, "num_layers": layers, "num_heads": width // 48, "patch_size": task.patch}
    return SCDPrimus(1, task.num_classes, task.crop, keep_ratio=keep_ratio, **shape, **arguments)


def primus_deep(task: Task, size: dict[str, int]) -> SCDPrimus:
    """Build SCD-Primus that keeps a half, with as many blocks after its stage as Primus's cost pays for."""
    with torch.device("meta"):
        target = gmacs(primus(task, size))
    (stage,) = primus(task, size, 0.5).pruning_stages()

    def deeper(more: int) -> SCDPrimus:
        longer = {**size, "num_layers": size["num_layers"] + more}
        return primus(task, longer, 0.5, prune_after=[stage.after_block])

    return _deepest(target, deeper)


def primus_gradual(task: Task, size: dict[str, int]) -> SCDPrimus:
    """Build SCD-Primus that comes to a quarter of the tokens step by step, after an eighth, a quarter and a half."""
    return primus(task, size, GRADUAL, prune_after=[size["num_layers"] // part for part in (8, 4, 2)])


def primus_shallow(task: Task, size: dict[str, int], pruned: Callable[..., SCDPrimus]) -> SCDPrimus:
    """Build Primus with fewer blocks, whose cost is nearest to that of an SCD-Primus."""
    return _as_cheap_as(pruned(task, size), size, lambda fewer: primus(task, fewer))


def primus_memory(task: Task, size: dict[str, int]) -> SCDPrimus:
    """Build SCD-Primus that keeps a half, which goes on seeing the other half."""
    return with_memory(primus(task, size, 0.5))


def primus_larger(task: Task, size: dict[str, int]) -> SCDPrimus:
    """Build the control of `primus_memory`: SCD-Primus that keeps as much more as the memory costs."""
    with torch.device("meta"):
        target = gmacs(primus_memory(task, size))
    return _nearest(target, 0.5, 1.0, lambda ratio: primus(task, size, ratio))


def _as_cheap_as(pruned: Network, size: dict[str, int], make: Callable[[dict[str, int]], Network]) -> Network:
    target = gmacs(pruned)
    fewer = [make({**size, "num_layers": layers}) for layers in range(2, size["num_layers"])]
    return min(fewer, key=lambda network: abs(gmacs(network) - target))


def one_stage(task: Task, size: dict[str, int], **arguments: Any) -> SCDUNETR:
    """Build the published network with its first stage alone: a quarter of the tokens sees all further blocks."""
    return published(task, size, prune_after=[size["num_layers"] // 4], **arguments)


def taught(network: SCDUNETR, size: dict[str, int]) -> SCDUNETR:
    """Let a dense network's tokens learn from labels where the published network has stages, as far as it is deep."""
    after = [size["num_layers"] * i // 4 for i in (1, 2, 3)]
    TokenProbes(network, [block for block in after if block < blocks(network)])
    return network


def primus_taught(task: Task, size: dict[str, int]) -> SCDPrimus:
    """Build Primus whose tokens learn from labels where SCD-Primus has its stage."""
    network = primus(task, size)
    TokenProbes(network, [stage.after_block for stage in primus(task, size, KEEP_RATIO).pruning_stages()])
    return network


def larger(task: Task, size: dict[str, int]) -> SCDUNETR:
    """Build the control of memory: the published network that keeps as much more as `memory="tokens"` costs."""
    with torch.device("meta"):
        target = gmacs(published(task, size, memory="tokens"))
    return _nearest(target, KEEP_RATIO, 1.0, lambda ratio: published(task, size, keep_ratio=ratio))


def deep(task: Task, size: dict[str, int]) -> SCDUNETR:
    """Build the published network with as many blocks after the first stage as the dense twin's cost pays for."""
    with torch.device("meta"):
        target = gmacs(dense(task, size))
    first, second, third = (size["num_layers"] * i // 4 for i in (1, 2, 3))

    def deeper(more: int) -> SCDUNETR:
        stages = [first, second + more, third + more]
        return published(task, {**size, "num_layers": size["num_layers"] + more}, prune_after=stages)

    return _deepest(target, deeper)


def _deepest(target: float, make: Callable[[int], Network]) -> Network:
    """Add blocks as long as the cost is no more than the target."""
    with torch.device("meta"):
        more = next(more for more in count() if gmacs(make(more + 1)) > target)
    return make(more)


def _nearest(target: float, low: float, high: float, make: Callable[[float], Network]) -> Network:
    """Halve the interval of a setting that raises the cost until the cost is nearest to the target, from below."""
    for _ in range(10):
        middle = (low + high) / 2
        # no weights, no random numbers drawn
        with torch.device("meta"):
            fits = gmacs(make(middle)) <= target
        low, high = (middle, high) if fits else (low, middle)
    return make(low)


NETWORKS: dict[str, Builder] = {
    "dense": dense,
    "shallow": shallow,
    "published": published,
    "random": lambda task, size: published(task, size, sampling="random"),
    "mask_token": lambda task, size: published(task, size, completion="mask_token"),
    "guided": published,
    "guided-foreground": published,
    # the same labels, without pruning
    "dense-taught": lambda task, size: taught(dense(task, size), size),
    "shallow-taught": lambda task, size: taught(shallow(task, size), size),
    # harder teaching, better sight, one stage
    "guided-heavy": published,
    "dense-stem": lambda task, size: with_stem(dense(task, size)),
    "shallow-stem": lambda task, size: with_stem(shallow(task, size)),
    "guided-stem": lambda task, size: with_stem(published(task, size)),
    "guided-one": one_stage,
    "keep-50": lambda task, size: published(task, size, keep_ratio=0.5),
    "keep-75": lambda task, size: published(task, size, keep_ratio=0.75),
    "drawn": published,
    # what left stays visible, and two other ways to spend operations
    **{
        f"{start}-{memory}": partial(published, memory=memory)
        for start in ("published", "guided")
        for memory in ("tokens", "pooled")
    },
    # the published transformer with other decoders
    **{decoder: partial(published, decoder=decoder) for decoder in ("light", "subvoxel")},
    # decoders that see the image less, or not at all, lean on the transformer
    **{
        f"{decoder}-{kind}": partial(make, decoder=decoder)
        for decoder in ("light", "subvoxel")
        for kind, make in (("dense", dense), ("shallow", shallow), ("guided", published))
    },
    "primus": primus,
    "primus-shallow": partial(primus_shallow, pruned=partial(primus, keep_ratio=KEEP_RATIO)),
    "primus-taught": primus_taught,
    "primus-pruned": partial(primus, keep_ratio=KEEP_RATIO),
    "primus-pruned-half": partial(primus, keep_ratio=0.5),
    "primus-guided": partial(primus, keep_ratio=KEEP_RATIO),
    # a quarter is less than the tokens with more than one class in some tasks
    "primus-guided-half": partial(primus, keep_ratio=0.5),
    "primus-guided-drawn": partial(primus, keep_ratio=0.5),
    "primus-shallow-half": partial(primus_shallow, pruned=partial(primus, keep_ratio=0.5)),
    "primus-guided-half-deep-foreground": primus_deep,
    "primus-guided-half-late": partial(primus, keep_ratio=0.5),
    "primus-guided-half-again": partial(primus, keep_ratio=0.5),
    "primus-guided-half-foreground": partial(primus, keep_ratio=0.5),
    "primus-guided-half-graded": partial(primus, keep_ratio=0.5),
    "primus-guided-foreground": partial(primus, keep_ratio=KEEP_RATIO),
    "primus-guided-half-heavy": partial(primus, keep_ratio=0.5),
    "primus-guided-half-fading": partial(primus, keep_ratio=0.5),
    "primus-guided-half-memory": primus_memory,
    "primus-guided-larger": primus_larger,
    # the paper's controls
    "primus-guided-half-mask": partial(primus, keep_ratio=0.5, completion="mask_token"),
    "primus-random-half": partial(primus, keep_ratio=0.5, sampling="random"),
    "primus-guided-gradual": primus_gradual,
    "primus-guided-gradual-foreground": primus_gradual,
    "primus-shallow-gradual": partial(primus_shallow, pruned=primus_gradual),
    "guided-larger": larger,
    "deep": deep,
    "guided-deep": deep,
    # as large as nnU-Net plans it, whatever the size of the others
    "nnunet": lambda task, _: DefaultUNet(task),
}

GUIDES = {
    name: Guide(
        1.0 if name.endswith("-heavy") else 0.3,
        name.rpartition("-")[2] if name.endswith(("-foreground", "-graded")) else "mixed",
        fades=name.endswith("-fading"),
    )
    for name in NETWORKS
    if "guided" in name or name.endswith("-taught")
}
"""Contestants whose scores are taught by the labels."""

DRAWN = dict.fromkeys(("drawn", "primus-guided-drawn"), (0.25, 0.5, 0.75))
"""Contestants trained with a share of tokens drawn anew for each step."""

LATE = {"primus-guided-half-late": 0.4}
"""Contestants whose tokens all stay for a share of the steps, until the choice is learned."""
