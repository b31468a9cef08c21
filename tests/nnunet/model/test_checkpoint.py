import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from scd_plugin.nnunet.model.checkpoint import read_checkpoint, trusted_checkpoint_types


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


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_numbers_of_either_numpy_are_read(tmp_path: Path, module: bytes) -> None:
    """Trained with NumPy 2, read beside MONAI Label, which needs NumPy 1; or the other way."""
    log = {"losses": [np.float32(0.5)], "epoch": np.int64(3)}
    path = tmp_path / "checkpoint.pth"
    # the older format holds names as they are
    torch.save(log, path, _use_new_zipfile_serialization=False)
    written = path.read_bytes()
    path.write_bytes(re.sub(rb"numpy\._?core\.multiarray", module, written))
    with trusted_checkpoint_types():
        assert torch.load(path, weights_only=True) == log


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
        "content",
        [b"hello this is text\n", b"epoch 3\n", b"[1, 2]", b"\x8c\x05\xff\xfe\xfd\xfc\xfb"],
        ids=["KeyError", "IndexError", "text", "UnicodeDecodeError"],
    )
    def test_any_file(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "c.pth").write_bytes(content)
        with pytest.raises(ValueError, match=r"^checkpoint .*c.pth .*truncated, .*: \S") as error:
            read_checkpoint(str(tmp_path / "c.pth"), needs=["network_weights"])
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("entry", "lacks"),
        [
            ({"network_weights": [1.0]}, "network_weights that is a dict"),
            ({"network_weights": {"a": {"b": 1}}}, "network_weights of nothing but tensors"),
            ({"optimizer_state": {}}, "state in optimizer_state, param_groups in optimizer_state"),
            ({"optimizer_state": None}, "optimizer_state that is a dict"),
            ({"init_args": {}}, "configuration in init_args"),
        ],
    )
    def test_entries_that_are_not_what_they_should_be(
        self, tmp_path: Path, entry: dict[str, object], lacks: str
    ) -> None:
        torch.save(entry, tmp_path / "c.pth")
        with pytest.raises(ValueError, match=f"c.pth is not an nnU-Net checkpoint: it has no {lacks}$"):
            read_checkpoint(str(tmp_path / "c.pth"), needs=list(entry))

    @pytest.mark.parametrize(
        ("entry", "reason"),
        [
            (Harmful(), r"Unsupported global: GLOBAL tests\.nnunet\.model\.test_checkpoint\.Harmful"),
            (RunsCode(), r"unsupported GLOBAL \w+\.system"),
        ],
        ids=["class", "code"],
    )
    def test_code_is_not_run(self, tmp_path: Path, entry: object, reason: str) -> None:
        torch.save({"network_weights": entry}, tmp_path / "c.pth")
        with pytest.raises(ValueError, match=f"which is not unpickled: {reason}$"):
            read_checkpoint(str(tmp_path / "c.pth"), needs=["network_weights"])
