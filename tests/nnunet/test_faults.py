"""What can break in and between trainings: checkpoints cut off or of another network, and batches that do not fit."""

from __future__ import annotations

import os
import re
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
from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import AbstractPrimus

from scd_plugin.nnunet import trainers
from scd_plugin.nnunet.trainers.nonfinite import MAX_IN_A_ROW

MakeTrainer = Callable[..., Any]
Demo = trainers.nnUNetTrainerSCD_demo


class DenseDemo(Demo):
    scd_keep_ratio = 1.0


class SmallDemo(Demo):
    scd_size = "small"


class DeepDemo(Demo):
    scd_deep_supervision = True


class LongDemo(Demo):
    """Its warm-up takes 5 epochs."""

    scd_num_epochs = 100


def batch(edge: int = 32, fill: float | None = None) -> dict[str, Any]:
    data = torch.randn(2, 1, edge, edge, edge)
    if fill is not None:
        data[1, 0, 3, 3, 3] = fill
    return {"data": data, "target": torch.randint(0, 3, data.shape).float(), "keys": ["case_7", "case_8"]}


class TestCheckpoints:
    @pytest.mark.parametrize(
        ("epoch", "stage", "rate"),
        [(2, "warmup_all", 0.01 * 4 / 5), (4, "train", 0.01), (7, "train", 0.01 * (1 - 3 / 95) ** 0.9)],
        ids=["inside the warm-up", "at its end", "after it"],
    )
    def test_round_trip_keeps_weights_and_schedule(
        self, make_trainer: MakeTrainer, tmp_path: Path, epoch: int, stage: str, rate: float
    ) -> None:
        def learn(trainer: Any) -> None:
            torch.manual_seed(1)
            trainer.train_step(batch(16))

        trainer = make_trainer(LongDemo, edge=16, initialize=True)
        for trainer.current_epoch in range(epoch + 1):
            trainer.on_train_epoch_start()
        learn(trainer)
        trainer.save_checkpoint(str(tmp_path / "c.pth"))
        other = make_trainer(LongDemo, edge=16, initialize=True)
        other.load_checkpoint(str(tmp_path / "c.pth"))
        assert other.current_epoch == epoch + 1
        # both go on, and stay the same
        trainer.current_epoch += 1
        for one in (trainer, other):
            one.on_train_epoch_start()
            learn(one)
            assert one.training_stage == stage
            assert one.optimizer.param_groups[0]["lr"] == pytest.approx(rate)
        for name, value in trainer.network.state_dict().items():
            assert torch.equal(other.network.state_dict()[name], value), name
        moments, others = (one.optimizer.state_dict()["state"] for one in (trainer, other))
        assert moments.keys() == others.keys()
        for number, values in moments.items():
            assert values["step"] == others[number]["step"] == 2
            assert torch.equal(values["exp_avg"], others[number]["exp_avg"])
            assert torch.equal(values["exp_avg_sq"], others[number]["exp_avg_sq"])

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

    @pytest.mark.parametrize("setting", [{"disable_checkpointing": True}, {"local_rank": 1}], ids=str)
    def test_files_of_others_are_left_alone(
        self, make_trainer: MakeTrainer, tmp_path: Path, setting: dict[str, Any]
    ) -> None:
        trainer = make_trainer(Demo, initialize=True)
        vars(trainer).update(setting)
        trainer.save_checkpoint(str(tmp_path / "c.pth"))
        assert list(tmp_path.glob("c.pth*")) == []
        (tmp_path / "c.pth").write_text("whole")
        # what a process leaves that is killed, or what another one is writing
        (tmp_path / "c.pth.partial").write_text("who")
        trainer.save_checkpoint(str(tmp_path / "c.pth"))
        assert (tmp_path / "c.pth").read_text() == "whole"
        assert (tmp_path / "c.pth.partial").read_text() == "who"

    def test_a_file_is_what_can_be_loaded(self, make_trainer: MakeTrainer) -> None:
        with pytest.raises(ValueError, match=r"must be a file name.*; got a dict\. Write it with torch\.save"):
            make_trainer(Demo).load_checkpoint({"network_weights": {}})

    def test_same_shapes_of_another_trainer(self, make_trainer: MakeTrainer, tmp_path: Path) -> None:
        make_trainer(LongDemo, initialize=True).save_checkpoint(str(tmp_path / "c.pth"))
        trainer = make_trainer(Demo, initialize=True)
        trainer.load_checkpoint(str(tmp_path / "c.pth"))
        line = "c.pth was written by LongDemo, nnUNetTrainerSCD_demo goes on with it"
        assert Path(trainer.log_file).read_text().count(line) == 1

    def test_without_the_optimizer(self, make_trainer: MakeTrainer, tmp_path: Path) -> None:
        trainer = make_trainer(Demo, initialize=True)
        trainer.save_checkpoint(str(tmp_path / "c.pth"))
        checkpoint = torch.load(tmp_path / "c.pth", weights_only=False)
        torch.save({**checkpoint, "optimizer_state": {}}, tmp_path / "c.pth")
        with pytest.raises(ValueError, match="it has no state in optimizer_state, param_groups in optimizer_state"):
            trainer.load_checkpoint(str(tmp_path / "c.pth"))

    @pytest.mark.parametrize(
        ("written_by", "settings", "difference"),
        [
            (DenseDemo, {}, "missing: completion"),
            (SmallDemo, {}, "wrong shape: encoder.cls_token (1, 1, 384) instead of (1, 1, 96)"),
            (DeepDemo, {}, "unknown: decoder.heads.0.conv.conv.bias"),
            (Demo, {"edge": 40}, "wrong shape: encoder.pos_embed (1, 1001, 96) instead of (1, 513, 96)"),
            (Demo, {"num_channels": 2}, "wrong shape: encoder.patch_embed"),
            (Demo, {"num_classes": 4}, "wrong shape: decoder.out.conv.conv.weight"),
        ],
        ids=["dense twin", "another size", "deep supervision", "another patch size", "channels", "classes"],
    )
    def test_of_another_network(
        self, make_trainer: MakeTrainer, tmp_path: Path, written_by: type, settings: dict[str, int], difference: str
    ) -> None:
        make_trainer(written_by, initialize=True, **settings).save_checkpoint(str(tmp_path / "c.pth"))
        trainer = make_trainer(Demo, initialize=True)
        with pytest.raises(
            ValueError, match=rf"c.pth of {written_by.__name__} does not fit nnUNetTrainerSCD_demo"
        ) as e:
            trainer.load_checkpoint(str(tmp_path / "c.pth"))
        assert difference in str(e.value)
        assert "Go on with the trainer, the plans and the data set that it was written with" in str(e.value)
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

    def test_log_says_so_too(self, make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        make_trainer(Demo, edge=40, initialize=True).save_checkpoint(str(tmp_path / "c.pth"))
        trainer = make_trainer(Demo, initialize=True)
        run_training.load_pretrained_weights(trainer.network, str(tmp_path / "c.pth"))
        monkeypatch.setattr(AbstractPrimus, "on_train_start", lambda _: None)
        trainer.on_train_start()
        log = Path(trainer.log_file).read_text()
        assert log.count("c.pth; adapted: positions interpolated from (10, 10, 10) to (8, 8, 8) tokens") == 1

    def test_without_plans_the_grid_must_be_the_same(self, make_trainer: MakeTrainer, tmp_path: Path) -> None:
        trainer = make_trainer(Demo, initialize=True)
        weights, init_args = trainer.network.state_dict(), {"configuration": "3d_fullres", "fold": 0}
        torch.save({"network_weights": weights, "init_args": init_args}, tmp_path / "c.pth")
        run_training.load_pretrained_weights(trainer.network, str(tmp_path / "c.pth"))
        with pytest.raises(ValueError, match=r"do not fit this network: wrong shape: encoder.pos_embed \(1, 513, 96\)"):
            run_training.load_pretrained_weights(
                make_trainer(Demo, edge=40, initialize=True).network, str(tmp_path / "c.pth")
            )

    def test_other_channels_are_refused(self, make_trainer: MakeTrainer, tmp_path: Path) -> None:
        make_trainer(Demo, num_channels=2, initialize=True).save_checkpoint(str(tmp_path / "c.pth"))
        with pytest.raises(ValueError, match=r"wrong shape: encoder.patch_embed.*as many input channels, and plans"):
            run_training.load_pretrained_weights(make_trainer(Demo, initialize=True).network, str(tmp_path / "c.pth"))

    def test_dense_weights_are_refused(self, make_trainer: MakeTrainer, tmp_path: Path) -> None:
        make_trainer(DenseDemo, initialize=True).save_checkpoint(str(tmp_path / "c.pth"))
        with pytest.raises(ValueError, match=r"of trainer DenseDemo do not fit this network: missing: completion"):
            run_training.load_pretrained_weights(make_trainer(Demo, initialize=True).network, str(tmp_path / "c.pth"))

    def test_other_networks_go_to_nnunet(self, tmp_path: Path) -> None:
        torch.save({"network_weights": {"weight": torch.ones(1, 1), "bias": torch.ones(1)}}, tmp_path / "c.pth")
        network = torch.nn.Linear(1, 1)
        run_training.load_pretrained_weights(network, str(tmp_path / "c.pth"))
        assert network.weight.item() == 1.0


class TestUnknownLabels:
    @pytest.mark.parametrize("trainer", [Demo, DeepDemo])
    @pytest.mark.parametrize("step", ["train_step", "validation_step"])
    def test_cases_are_named(self, make_trainer: MakeTrainer, trainer: type, step: str) -> None:
        made = make_trainer(trainer, edge=16, initialize=True)
        bad = batch(16)
        bad["target"][1, 0, 3, 3, 3] = 9
        if trainer is DeepDemo:
            scales = made._get_deep_supervision_scales()
            bad["target"] = [bad["target"][(..., *(slice(None, None, round(1 / s)) for s in axes))] for axes in scales]
        with pytest.raises(ValueError, match=r"labels of dataset.json, 0, 1, 2; got case_8: 9\. Correct label maps"):
            getattr(made, step)(bad)

    def test_other_errors_pass(self, make_trainer: MakeTrainer) -> None:
        trainer = make_trainer(Demo, edge=16, initialize=True)
        with pytest.raises(RuntimeError, match="Expected target size"):
            trainer.train_step({**batch(16), "target": torch.zeros(2, 1, 8, 16, 16)})


class TestNonFinite:
    def test_validation_says_so_and_goes_on(self, make_trainer: MakeTrainer) -> None:
        trainer = make_trainer(Demo, edge=16, initialize=True)
        trainer.validation_step(batch(16, fill=np.nan))
        assert "validation loss not finite (nan); cases: case_7, case_8" in Path(trainer.log_file).read_text()
        assert trainer.non_finite.in_a_row == 0

    def test_bad_gradients_of_a_finite_loss_are_told(self, make_trainer: MakeTrainer) -> None:
        trainer = make_trainer(Demo, edge=16, initialize=True)
        trainer.on_train_epoch_start()
        trainer.network.encoder.norm.weight.register_hook(lambda gradient: gradient * np.inf)
        trainer.train_step(batch(16))
        log = Path(trainer.log_file).read_text()
        assert re.search(r"gradients not finite \(loss [\d.-]+\), step skipped; cases: case_7, case_8", log)

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
