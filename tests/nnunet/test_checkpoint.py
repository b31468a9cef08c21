from pathlib import Path

import numpy as np
import pytest
import torch

from scd_plugin.nnunet.checkpoint import trusted_checkpoint_types


class Harmful:
    pass


def test_numpy_scalars_of_the_log_are_read(tmp_path: Path) -> None:
    log = {"losses": [np.float32(0.5), np.float64(0.25)], "epoch": np.int64(3), "done": np.bool_(True)}
    torch.save(log, tmp_path / "checkpoint.pth")
    with trusted_checkpoint_types():
        read = torch.load(tmp_path / "checkpoint.pth", weights_only=True)
    assert read == log


def test_nothing_else_is(tmp_path: Path) -> None:
    torch.save({"log": Harmful()}, tmp_path / "checkpoint.pth")
    with trusted_checkpoint_types(), pytest.raises(Exception, match="Harmful"):
        torch.load(tmp_path / "checkpoint.pth", weights_only=True)
