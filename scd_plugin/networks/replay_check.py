"""Whether a recorded pass answers as the computed one does, before anybody relies on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

__all__ = ["FURTHEST", "check_replay"]

FURTHEST = 0.02
"""How far apart they may be on average, as a share of the computed values' mean size.

Kernels that round otherwise, and a near tie between two tokens that falls the other way, stay far below it. A graph
that reads memory which has changed, or no new image, does not.
"""


def check_replay(replay: Callable[[Tensor], Any], network: nn.Module, image: Tensor) -> None:
    """Compare replays with computed passes, for an image and for its mirror image, which was not recorded.

    Args:
        replay: answers for an image like `image`; its next answer may lie in the same tensors.
        network: whose pass was recorded.
        image: (B, in_channels, *img_size).

    Raises:
        RuntimeError: if the two differ by more than rounding.
    """
    for one in (image, image.flip(-1)):
        answers = [part.clone() for part in pytree.tree_leaves(replay(one))]
        expected = pytree.tree_leaves(nn.Module.__call__(network, one))
        apart = max(map(_apart, answers, expected))
        if not apart <= FURTHEST:
            msg = f"a replayed pass differs from the computed one by {100 * apart:.3g} % on average"
            raise RuntimeError(msg)


def _apart(answer: Tensor, expected: Tensor) -> float:
    """Mean difference as a share of the expected values' mean size; inf where other values are finite."""
    finite = expected.isfinite()
    if not torch.equal(finite, answer.isfinite()):
        return float("inf")
    difference = (answer - expected)[finite].float().abs().sum().item()
    size = expected[finite].float().abs().sum().item()
    return 0.0 if difference == 0 else difference / size if size else float("inf")
