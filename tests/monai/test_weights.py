"""A bundle's file of weights: absent, cut off, of another network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.handlers import CheckpointLoader, StatsHandler
from torch import nn

from scd_plugin.monai import need_weights


def test_weights_are_needed(tmp_path: Path) -> None:
    network = nn.Linear(1, 1)
    handlers = [StatsHandler(), CheckpointLoader(str(tmp_path / "model.pt"), {"model": network})]
    with pytest.raises(ValueError, match=r"there are no weights in .*model.pt: train the bundle first, or copy"):
        need_weights(handlers)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    need_weights(handlers)
    need_weights(handlers[:1])


@pytest.mark.parametrize(
    "content", ["half", "", "version https://git-lfs.github.com/spec/v1"], ids=["half", "empty", "pointer"]
)
def test_weights_that_cannot_be_read(tmp_path: Path, content: str) -> None:
    """Cut off, never filled, or not fetched by Git LFS."""
    network, file = nn.Linear(1, 1), tmp_path / "model.pt"
    file.write_text(content)
    if content == "half":
        torch.save(network.state_dict(), file)
        file.write_bytes(file.read_bytes()[:-100])
    size = file.stat().st_size
    with pytest.raises(ValueError, match=rf"model.pt can't be read: the file, of {size} bytes, was cut off"):
        need_weights([CheckpointLoader(str(file), {"model": network})])


def test_weights_of_another_network(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    torch.save(nn.Linear(2, 1).state_dict(), file)
    with pytest.raises(ValueError, match=r"model.pt must be a state dict that fits network_def of .*size mismatch"):
        need_weights([CheckpointLoader(str(file), {"model": nn.Linear(1, 1)})])


def test_weights_are_loaded_behind_a_wrapper(tmp_path: Path) -> None:
    """As of several processes."""
    file, network = tmp_path / "model.pt", nn.Linear(1, 1)
    torch.save(nn.Linear(1, 1).state_dict(), file)
    need_weights([CheckpointLoader(str(file), {"model": nn.DataParallel(network)})])
    assert torch.equal(network.weight, torch.load(file, weights_only=True)["weight"])
