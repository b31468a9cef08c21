"""The checkpoint to go on from, whatever happens while one is written."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from scd_plugin.monai import last_checkpoint
from scd_plugin.monai.training.last_checkpoint import checkpoints_by_epoch, last_checkpoint_saver


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def train(folder: Path, epochs: int, *, before: int = 0) -> nn.Linear:
    """A training whose weight is the epoch."""
    network = nn.Linear(1, 1, bias=False)
    engine = Engine(lambda *_: None)
    engine.state.epoch = before

    @engine.on(Events.EPOCH_STARTED)
    def _(engine: Engine) -> None:
        network.weight.data.fill_(engine.state.epoch)

    engine.add_event_handler(
        Events.EPOCH_COMPLETED, last_checkpoint_saver({"network": network, "engine": engine}, str(folder))
    )
    engine.load_state_dict({"epoch": before, "max_epochs": epochs, "epoch_length": 1})
    engine.run([0], max_epochs=epochs)
    return network


def weight(file: str | Path) -> float:
    value: float = torch.load(file, weights_only=True)["network"]["weight"].item()
    return value


def checkpoint(folder: Path, epoch: int) -> Path:
    file = folder / f"last_checkpoint_epoch={epoch}.pt"
    torch.save({"network": {"weight": torch.tensor(float(epoch))}}, file)
    return file


class TestSaver:
    def test_only_the_last_one_stays(self, tmp_path: Path) -> None:
        train(tmp_path / "models", 3)
        assert names(tmp_path / "models") == ["last_checkpoint_epoch=3.pt"]
        assert weight(tmp_path / "models" / "last_checkpoint_epoch=3.pt") == 3

    def test_leftovers_go_and_files_of_others_stay(self, tmp_path: Path) -> None:
        checkpoint(tmp_path, 7)
        mine = ["best.json", "last_checkpoint_epoch=7.pt.bak", "last_good.pt", "model.pt", "model.pt.partial"]
        for name in ("last_checkpoint_epoch=8.pt.partial", *mine):
            (tmp_path / name).touch()
        train(tmp_path, 1)
        assert names(tmp_path) == sorted([*mine, "last_checkpoint_epoch=1.pt"])

    def test_the_one_before_goes_only_when_the_new_one_is_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[list[str]] = []
        save = torch.save

        def watched(state: object, stream: BinaryIO) -> None:
            save(state, stream)
            seen.append(names(tmp_path))

        monkeypatch.setattr(torch, "save", watched)
        train(tmp_path, 2)
        assert seen == [
            ["last_checkpoint_epoch=1.pt.partial"],
            ["last_checkpoint_epoch=1.pt", "last_checkpoint_epoch=2.pt.partial"],
        ]

    def test_full_disk_ends_the_training_and_leaves_the_one_before(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        train(tmp_path, 9)

        def full(_: object, stream: BinaryIO) -> None:
            stream.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(torch, "save", full)
        with pytest.raises(
            OSError, match=r"epoch=10\.pt can't be written \(No space left on device\); what was there is kept"
        ):
            train(tmp_path, 12, before=9)
        assert names(tmp_path) == ["last_checkpoint_epoch=9.pt"]
        assert weight(last_checkpoint(str(tmp_path))) == 9


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


class TestLastCheckpoint:
    def test_latest_by_epoch_not_by_time_or_spelling(self, tmp_path: Path) -> None:
        for epoch in (10, 9):
            os.utime(checkpoint(tmp_path, epoch), (1e9 - epoch, 1e9 - epoch))
        for name in ("last_checkpoint_epoch=11.pt.partial", "last_good.pt"):
            torch.save({}, tmp_path / name)
        assert [file.name for file in checkpoints_by_epoch(str(tmp_path))] == [
            "last_checkpoint_epoch=10.pt",
            "last_checkpoint_epoch=9.pt",
        ]
        assert weight(last_checkpoint(str(tmp_path))) == 10

    @pytest.mark.parametrize(
        "damage",
        [
            truncated,
            lambda file: file.write_bytes(b""),
            lambda file: file.write_text("no checkpoint"),
            lambda file: file.write_bytes(bytes(5000)),
        ],
        ids=["truncated", "empty", "text", "zeros"],
    )
    def test_damaged_one_is_left_out(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object]
    ) -> None:
        for epoch in (9, 10):
            checkpoint(tmp_path, epoch)
        damage(tmp_path / "last_checkpoint_epoch=10.pt")
        with caplog.at_level(logging.WARNING):
            assert weight(last_checkpoint(str(tmp_path))) == 9
        damaged = tmp_path / "last_checkpoint_epoch=10.pt"
        assert caplog.messages == [f"{damaged} can't be read and is left out: it is truncated, or no checkpoint"]

    def test_nothing_to_resume_from(self, tmp_path: Path) -> None:
        with pytest.raises(
            ValueError, match=r"^there is no checkpoint to resume from in .*: start without --resume True$"
        ):
            last_checkpoint(str(tmp_path))
        with pytest.raises(ValueError, match=r"^there is no checkpoint to resume from in .*none: start without"):
            last_checkpoint(str(tmp_path / "none"))

    def test_nothing_readable(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        for epoch in (9, 10):
            truncated(checkpoint(tmp_path, epoch))
        sentence = (
            r"^none of last_checkpoint_epoch=10.pt, last_checkpoint_epoch=9.pt can be read to resume from in .*: start"
        )
        with pytest.raises(ValueError, match=sentence):
            last_checkpoint(str(tmp_path))
        assert len(caplog.messages) == 2
