"""What all tests share: a fixed seed, a small network, and the folder with real data and golden figures."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scd_plugin import SCDUNETR

REPOSITORY = Path(__file__).parents[1]
SHARED = Path(os.environ.get("SCD_SHARED", REPOSITORY.parent / "shared"))

SMALL: dict[str, Any] = {
    "in_channels": 2,
    "out_channels": 3,
    "img_size": 32,
    "feature_size": 4,
    "hidden_size": 48,
    "mlp_dim": 96,
    "num_heads": 4,
    "num_layers": 4,
    "prune_after": (1, 2, 3),
    "keep_ratio": 0.5,
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def small() -> Callable[..., SCDUNETR]:
    """Builds a small network; arguments change the defaults in `SMALL`."""

    def build(**changes: Any) -> SCDUNETR:
        return SCDUNETR(**{**SMALL, **changes})

    return build


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Path inside the shared data; skips the test where it is absent."""

    def find(relative: str) -> Path:
        path = SHARED / relative
        if not path.exists():
            pytest.skip(f"{relative} is not in the shared data folder; set SCD_SHARED to where it is")
        return path

    return find
