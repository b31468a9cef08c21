"""What can break between two trainings: checkpoints cut off, of another network, and batches that are not finite."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("nnunetv2")

from nnunetv2.run import run_training

from scd_plugin.nnunet import trainers
from scd_plugin.nnunet.nonfinite import MAX_IN_A_ROW

MakeTrainer = Callable[..., Any]
Demo = trainers.nnUNetTrainerSCD_demo


class DenseDemo(Demo):
    scd_keep_ratio = 1.0


class SmallDemo(Demo):
    scd_size = "small"


def batch(edge: int = 32, fill: float | None = None) -> dict[str, Any]:
    data = torch.randn(2, 1, edge, edge, edge)
    if fill is not None:
        data[1, 0, 3, 3, 3] = fill
    return {"data": data, "target": torch.randint(0, 3, data.shape).float(), "keys": ["case_7", "case_8"]}


class TestCheckpoints:
    def test_round_trip_keeps_weights_and_schedule(self, make_trainer: MakeTrainer, tmp_path: Path) -> None:
        trainer = make_trainer(Demo, initialize=True)
        trainer.on_train_epoch_start()
        trainer.train_step(batch())
        trainer.current_epoch = 7
        trainer.save_checkpoint(str(tmp_path / "c.pth"))
        other = make_trainer(Demo, initialize=True)
        other.load_checkpoint(str(tmp_path / "c.pth"))
        assert other.current_epoch == 8
        assert other.training_stage == "train"
        for name, value in trainer.network.state_dict().items():
            assert torch.equal(other.network.state_dict()[name], value), name

    def test_killed_while_writing_leaves_the_one_before(
        self, make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trainer = make_trainer(Demo, initialize=True)
        trainer.save_checkpoint(str(tmp_path / "c.pth"))
        before = (tmp_path / "c.pth").read_bytes()

        def die(_: object, filename: str) -> None:
            Path(filename).write_bytes(before[:1000])
            raise KeyboardInterrupt

        monkeypatch.setattr(torch, "save", die)
        with pytest.raises(KeyboardInterrupt):
            trainer.save_checkpoint(str(tmp_path / "c.pth"))
        assert (tmp_path / "c.pth").read_bytes() == before

    def test_sigkill_while_writing_leaves_the_one_before(self, make_trainer: MakeTrainer, tmp_path: Path) -> None:
        trainer = make_trainer(Demo, initialize=True)
        trainer.save_checkpoint(str(tmp_path / "c.pth"))
        partial = tmp_path / "c.pth.partial"
        killed_while_writing = 0
        for _ in range(20):
            child = os.fork()
            if child == 0:
                while True:
                    trainer.save_checkpoint(str(tmp_path / "c.pth"))
            deadline = time.monotonic() + 30
            while not (partial.exists() and partial.stat().st_size) and time.monotonic() < deadline:
                pass
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            killed_while_writing += partial.exists()
            make_trainer(Demo, initialize=True).load_checkpoint(str(tmp_path / "c.pth"))
            partial.unlink(missing_ok=True)
            if killed_while_writing == 3:
                break
        assert killed_while_writing

    def test_no_file_where_checkpointing_is_disabled(self, make_trainer: MakeTrainer, tmp_path: Path) -> None:
        trainer = make_trainer(Demo, initialize=True)
        trainer.disable_checkpointing = True
        trainer.save_checkpoint(str(tmp_path / "c.pth"))
        assert list(tmp_path.glob("c.pth*")) == []

    @pytest.mark.parametrize(
        ("written_by", "edge", "difference"),
        [
            (DenseDemo, 32, "missing: completion"),
            (SmallDemo, 32, "wrong shape: encoder.cls_token (1, 1, 384) instead of (1, 1, 96)"),
            (Demo, 40, "wrong shape: encoder.pos_embed (1, 1001, 96) instead of (1, 513, 96)"),
        ],
        ids=["dense twin", "another size", "another patch size"],
    )
    def test_of_another_network(
        self, make_trainer: MakeTrainer, tmp_path: Path, written_by: type, edge: int, difference: str
    ) -> None:
        make_trainer(written_by, edge=edge, initialize=True).save_checkpoint(str(tmp_path / "c.pth"))
        trainer = make_trainer(Demo, initialize=True)
        with pytest.raises(
            ValueError, match=rf"c.pth of {written_by.__name__} does not fit nnUNetTrainerSCD_demo"
        ) as e:
            trainer.load_checkpoint(str(tmp_path / "c.pth"))
        assert difference in str(e.value)
        assert "\n" not in str(e.value)


class TestPretrained:
    """Through nnU-Net's own function, which the door has put ours in place of."""

    def test_other_patch_size_and_classes(
        self, make_trainer: MakeTrainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source = make_trainer(Demo, edge=40, num_classes=4, initialize=True)
        source.save_checkpoint(str(tmp_path / "c.pth"))
        target = make_trainer(Demo, initialize=True)
        own_output = target.network.state_dict()["decoder.out.conv.conv.weight"].clone()
        capsys.readouterr()
        run_training.load_pretrained_weights(target.network, str(tmp_path / "c.pth"))
        line = capsys.readouterr().out
        assert line.count("\n") == 1
        assert "positions interpolated from (10, 10, 10) to (8, 8, 8) tokens, output layers start anew" in line
        ours, theirs = target.network.state_dict(), source.network.state_dict()
        assert torch.equal(ours["encoder.blocks.0.attn.qkv.weight"], theirs["encoder.blocks.0.attn.qkv.weight"])
        assert torch.equal(ours["decoder.out.conv.conv.weight"], own_output)
        torch.testing.assert_close(ours["encoder.pos_embed"][:, 0], theirs["encoder.pos_embed"][:, 0])

    def test_same_network_needs_nothing(
        self, make_trainer: MakeTrainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        make_trainer(Demo, initialize=True).save_checkpoint(str(tmp_path / "c.pth"))
        run_training.load_pretrained_weights(make_trainer(Demo, initialize=True).network, str(tmp_path / "c.pth"))
        assert "adapted: nothing" in capsys.readouterr().out

    def test_dense_weights_are_refused(self, make_trainer: MakeTrainer, tmp_path: Path) -> None:
        make_trainer(DenseDemo, initialize=True).save_checkpoint(str(tmp_path / "c.pth"))
        with pytest.raises(ValueError, match=r"of trainer DenseDemo do not fit this network: missing: completion"):
            run_training.load_pretrained_weights(make_trainer(Demo, initialize=True).network, str(tmp_path / "c.pth"))

    def test_other_networks_go_to_nnunet(self, tmp_path: Path) -> None:
        torch.save({"network_weights": {"weight": torch.ones(1, 1), "bias": torch.ones(1)}}, tmp_path / "c.pth")
        network = torch.nn.Linear(1, 1)
        run_training.load_pretrained_weights(network, str(tmp_path / "c.pth"))
        assert network.weight.item() == 1.0


class TestNonFinite:
    @pytest.mark.parametrize("fill", [np.nan, np.inf])
    def test_step_is_skipped_and_cases_are_named(self, make_trainer: MakeTrainer, fill: float) -> None:
        trainer = make_trainer(Demo, edge=16, initialize=True)
        trainer.on_train_epoch_start()
        before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
        trainer.train_step(batch(16, fill=fill))
        for name, value in trainer.network.state_dict().items():
            assert torch.equal(value, before[name]), name
        log = Path(trainer.log_file).read_text()
        assert "step skipped; cases: case_7, case_8" in log
        trainer.train_step(batch(16))
        assert not torch.equal(trainer.network.state_dict()["encoder.norm.weight"], before["encoder.norm.weight"])

    def test_training_stops_when_nothing_else_comes(self, make_trainer: MakeTrainer) -> None:
        trainer = make_trainer(Demo, edge=16, initialize=True)
        trainer.on_train_epoch_start()
        for _ in range(MAX_IN_A_ROW - 1):
            trainer.train_step(batch(16, fill=np.nan))
        with pytest.raises(RuntimeError, match="not finite in 10 steps in a row, last with case_7, case_8"):
            trainer.train_step(batch(16, fill=np.nan))
