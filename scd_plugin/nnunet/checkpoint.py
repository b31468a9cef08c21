"""Reading nnU-Net's checkpoints without unpickling arbitrary code."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

__all__ = ["trusted_checkpoint_types"]


def trusted_checkpoint_types() -> AbstractContextManager[None]:
    """Context in which `torch.load(weights_only=True)` accepts what nnU-Net 2.8 writes besides tensors.

    These are NumPy scalars of its log (losses, Dice, learning rates), by name, and nothing else.
    """
    # a NumPy scalar is pickled as a call of a private function, whose module was renamed in NumPy 2
    rebuild: Any = np.float64(0).__reduce__()[0]
    numbers = (np.float16, np.float32, np.float64, np.int32, np.int64, np.bool_)
    return torch.serialization.safe_globals([rebuild, np.dtype, *(type(np.dtype(number)) for number in numbers)])
