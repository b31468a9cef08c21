"""Guided choice: labels teach the scores which tokens to keep. The network and its forward pass stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from scd_plugin.blocks.pruning import PrunedTokens
from scd_plugin.networks.family import SCDNetwork
from scd_plugin.ops.token_labels import TokenLabels

__all__ = ["GUIDE", "TARGET", "TARGETS", "SeenStage", "StageWatch", "guidance_loss", "guide_weight"]

GUIDE = 0.3
"""Weight of `guidance_loss` in a training that does not say otherwise; see docs/studies/choice-of-tokens.md."""


# of the rarer kind of token: beyond it a handful of them would drown all others
MAX_WEIGHT = 10.0

TARGETS: dict[str, Callable[[TokenLabels], Tensor]] = {
    "mixed": lambda labels: labels.mixed.float(),
    "foreground": lambda labels: labels.foreground.float(),
    "share": lambda labels: labels.share,
    "graded": lambda labels: (labels.mixed.float() + labels.foreground.float()) / 2,
}
"""What a token should be kept for, by name; more than one class, any foreground, its share of foreground, or graded, 1
for more than one class and 0.5 for other foreground, so that boundaries stay first where room is scarce."""
TARGET = "foreground"
"""The one of a training that does not say otherwise; see docs/studies/choice-of-tokens.md."""


class SeenStage(NamedTuple):
    """What one pruning stage did in one forward pass."""

    scores: Tensor | None
    """(B, N), logits of being worth keeping, a prior included; None where nothing is learned."""
    grid_idx: Tensor
    """(B, N), int64, places of the tokens that came to the stage."""
    left_idx: Tensor
    """(B, M), int64, places of those that left."""
    kept_idx: Tensor
    """(B, K), int64, places of those that stayed."""


class StageWatch:
    """Listens to a network's pruning stages, by hooks; the network and its forward pass stay as they are.

    The network has no wrappers of DDP and `torch.compile`. It may be compiled already, but not have run. As long as
    somebody listens, its passes on a GPU are computed, not replayed.
    """

    def __init__(self, network: SCDNetwork) -> None:
        self.seen: list[SeenStage] = []
        self._scores: list[Tensor] = []
        self._network = network
        self._hooks = self._listen()

    def __deepcopy__(self, memo: dict[int, Any]) -> StageWatch:
        """Copied with its network, as for a moving average, it has seen nothing: what it saw has gradients."""
        copied = object.__new__(type(self))
        memo[id(self)] = copied
        kept = {name: value for name, value in vars(self).items() if name not in ("seen", "_scores")}
        vars(copied).update(deepcopy(kept, memo), seen=[], _scores=[])
        return copied

    def _listen(self) -> list[RemovableHandle]:
        hooks = []
        for number, stage in enumerate(self._network.pruning_stages()):
            if stage.score is not None:
                hooks.append(stage.score.register_forward_hook(self._keep_scores))
            hooks.append(stage.register_forward_hook(partial(self._keep_stage, number), with_kwargs=True))
        return hooks

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Around passes that nobody asks about: do not listen, so that they may be replayed.

        A network that is compiled is not heard again afterwards: its graphs hold the hooks that there were.
        """
        listening = bool(self._hooks)
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        try:
            yield
        finally:
            # the inner one of two leaves that to the outer one
            if listening:
                self._hooks = self._listen()

    def take(self) -> list[SeenStage]:
        """The stages of the last forward pass, in their order; they are forgotten then."""
        seen, self.seen = self.seen, []
        return seen

    def _keep_scores(self, _: nn.Module, __: Any, scores: Tensor) -> None:
        self._scores.append(scores)

    def _keep_stage(
        self, number: int, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], pruned: PrunedTokens
    ) -> None:
        if number == 0:
            # of passes that nobody asked about
            self.seen = []
        grid_idx = args[1] if len(args) > 1 else kwargs["grid_idx"]
        prior = args[3] if len(args) > 3 else kwargs.get("prior")
        scores = self._scores.pop() if self._scores else None
        # those of passes that an error ended before their stage, and with them all that these passes computed
        self._scores.clear()
        if scores is not None and prior is not None:
            scores = scores + prior
        self.seen.append(SeenStage(scores, grid_idx, pruned.left_idx, pruned.kept_idx))


def guide_weight(network: nn.Module, guide: float | None, *, name: str = "guide") -> float:
    """Decide how much labels teach a network's scores.

    Args:
        network: to be trained.
        guide: weight of `guidance_loss` that is asked for, 0 for none; None for `GUIDE` if there are scores to teach.
        name: what the option is called, for errors.

    Raises:
        ValueError: if the weight is negative, or more than 0 for a network that learns no choice of tokens.
    """
    learns = isinstance(network, SCDNetwork) and any(stage.score is not None for stage in network.pruning_stages())
    if guide is None:
        return GUIDE if learns else 0.0
    # True would count as 1, and so would an option without a value
    if isinstance(guide, bool) or not isinstance(guide, Real) or not guide >= 0:
        msg = f"{name} must be 0 or more, or None for {GUIDE} where tokens are chosen; got {guide!r}"
        raise ValueError(msg)
    if guide and not learns:
        msg = f"{name} must be 0 for this {type(network).__name__}, which learns no choice of tokens; got {guide}"
        raise ValueError(msg)
    return guide


def guidance_loss(
    seen: list[SeenStage], labels: TokenLabels, *, target: str = TARGET, pos_weight: float | None = None
) -> Tensor:
    """Binary cross-entropy of each stage's scores with what its tokens hold, averaged over the stages.

    Args:
        seen: of one forward pass; at least one stage with scores.
        labels: of the same images.
        target: a key of `TARGETS`.
        pos_weight: factor of tokens that are to be kept; None for 1 to 10, the more the rarer they are in the batch.

    Returns:
        A scalar, 0 where no token is labelled.
    """
    wanted = TARGETS[target](labels)
    losses = []
    for scores, grid_idx, *_ in seen:
        if scores is None:
            continue
        aim, counts = wanted.gather(1, grid_idx), labels.labelled.gather(1, grid_idx).float()
        if pos_weight is None:
            positive = (aim * counts).sum()
            weight = ((counts.sum() - positive) / positive.clamp(min=1)).clamp(1, MAX_WEIGHT)
        else:
            weight = torch.as_tensor(pos_weight, device=scores.device)
        loss = F.binary_cross_entropy_with_logits(
            scores.float(), aim, weight=counts, pos_weight=weight, reduction="sum"
        )
        losses.append(loss / counts.sum().clamp(min=1))
    return torch.stack(losses).mean()
