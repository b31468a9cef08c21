import os
from pathlib import Path

import numpy as np
import pytest
import torch

from scd_plugin.nnunet.checkpoint import read_checkpoint, trusted_checkpoint_types


class Harmful:
    pass


class RunsCode:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("false",)


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


class TestRead:
    def test_entries(self, tmp_path: Path) -> None:
        torch.save({"network_weights": {"a": torch.ones(1)}, "current_epoch": 3}, tmp_path / "c.pth")
        assert read_checkpoint(str(tmp_path / "c.pth"), needs=["network_weights"])["current_epoch"] == 3

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
    def test_truncated(self, tmp_path: Path, share: float) -> None:
        torch.save({"network_weights": torch.randn(10_000)}, tmp_path / "whole.pth")
        whole = (tmp_path / "whole.pth").read_bytes()
        (tmp_path / "c.pth").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ValueError, match=r"checkpoint .*c.pth .*truncated"):
            read_checkpoint(str(tmp_path / "c.pth"), needs=["network_weights"])

    def test_foreign(self, tmp_path: Path) -> None:
        torch.save({"state_dict": {}}, tmp_path / "c.pth")
        with pytest.raises(ValueError, match=r"c.pth is not an nnU-Net checkpoint: it has no network_weights, logging"):
            read_checkpoint(str(tmp_path / "c.pth"), needs=["network_weights", "logging"])

    @pytest.mark.parametrize(
        ("entry", "reason"),
        [
            (Harmful(), r"Unsupported global: GLOBAL tests\.nnunet\.test_checkpoint\.Harmful"),
            (RunsCode(), r"unsupported GLOBAL \w+\.system"),
        ],
        ids=["class", "code"],
    )
    def test_code_is_not_run(self, tmp_path: Path, entry: object, reason: str) -> None:
        torch.save({"network_weights": entry}, tmp_path / "c.pth")
        with pytest.raises(ValueError, match=f"which is not unpickled: {reason}$"):
            read_checkpoint(str(tmp_path / "c.pth"), needs=["network_weights"])
