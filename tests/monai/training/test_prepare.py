"""Going on after a stop, clipping, and learning rates that fall towards the first block."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, ValidationHandler
from monai.optimizers import WarmupCosineSchedule
from torch import nn

from scd_plugin import SCDNetwork
from scd_plugin.monai import clip_gradients, layer_decay_groups, prepare_training


def test_clipping_counts_the_norm_of_all() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    clip_gradients(optimizer, 1.0)
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0]), torch.tensor([4.0])
    optimizer.step()
    assert [p.item() for p in parameters] == pytest.approx([-0.6, -0.8], abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "small",
            {
                "encoder.patch_embed.weight": (0.5**5, 0.05),
                "encoder.pos_embed": (0.5**5, 0.0),
                "encoder.blocks.0.attn.qkv.weight": (0.5**4, 0.05),
                "encoder.blocks.3.attn.qkv.bias": (0.5, 0.0),
                "decoder.out.conv.conv.weight": (1.0, 0.05),
                "completion.layer_embed": (1.0, 0.0),
            },
        ),
        (
            "small_primus",
            {
                "down_projection.proj.weight": (0.5**5, 0.05),
                "eva.pos_embed": (0.5**5, 0.0),
                "register_tokens": (0.5**5, 0.0),
                "eva.blocks.0.attn.q_proj.weight": (0.5**4, 0.05),
                "eva.blocks.3.gamma_1": (0.5, 0.0),
                "up_projection.decode.0.0.weight": (1.0, 0.05),
                "completion.layer_embed": (1.0, 0.0),
            },
        ),
    ],
)
def test_layer_decay(kind: str, expected: dict[str, tuple[float, float]], request: pytest.FixtureRequest) -> None:
    network: SCDNetwork = request.getfixturevalue(kind)(**({"num_register_tokens": 2} if "primus" in kind else {}))
    groups = layer_decay_groups(network, lr=1.0, layer_decay=0.5, weight_decay=0.05)
    of = {id(p): group for group in groups for p in group["params"]}
    assert len(of) == sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    found = {name: of[id(network.get_parameter(name))] for name in expected}
    assert {name: (group["lr"], group["weight_decay"]) for name, group in found.items()} == expected


class Training:
    """A small training in a folder; what every step starts from is recorded."""

    def __init__(self, ckpt_dir: Path) -> None:
        self.ckpt_dir = ckpt_dir
        self.seen: list[dict[str, Any]] = []
        self.batch_size = self.outputs = 2

    def __call__(self, epochs: int, seed: int, *, resume: bool, **state: Any) -> nn.Module:
        torch.manual_seed(seed)
        network = nn.Linear(3, self.outputs)
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
        data = [{"image": torch.ones(3), "label": torch.zeros(self.outputs)} for _ in range(4)]
        trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=epochs,
            train_data_loader=DataLoader(data, batch_size=self.batch_size),
            network=network,
            optimizer=optimizer,
            loss_function=nn.MSELoss(),
        )

        @trainer.on(Events.ITERATION_STARTED)
        def _(engine: Engine) -> None:
            now = copy.deepcopy({"weights": network.state_dict(), "optimizer": optimizer.state_dict()["state"]})
            self.seen.append({"epoch": engine.state.epoch, **now})

        state |= {"network": network, "optimizer": optimizer}
        prepare_training(trainer, trainer, state, ckpt_dir=str(self.ckpt_dir), resume=resume)
        trainer.run()
        return network


def test_resumed_training_has_weights_and_optimizer(tmp_path: Path) -> None:
    train = Training(tmp_path)
    trained = train(2, 0, resume=False)
    assert len(train.seen) == 4
    train.seen.clear()
    train(3, 1, resume=True)
    assert [record["epoch"] for record in train.seen] == [3, 3]
    for name, value in trained.state_dict().items():
        assert torch.equal(train.seen[0]["weights"][name], value)
    assert [record["optimizer"][0]["step"].item() for record in train.seen] == [4, 5]
    assert train.seen[0]["optimizer"][0]["exp_avg"].abs().max() > 0


@pytest.mark.parametrize("former", [6, 3], ids=["as before", "longer"])
def test_learning_rate_follows_the_options_of_the_training_that_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, former: int
) -> None:
    def train(folder: Path, epochs: int, length: int, *, resume: bool = False) -> list[float]:
        network, rates = nn.Linear(3, 2), []
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        schedule = WarmupCosineSchedule(optimizer, warmup_steps=2, t_total=length)
        trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=epochs,
            train_data_loader=DataLoader([{"image": torch.ones(3), "label": torch.zeros(2)}]),
            network=network,
            optimizer=optimizer,
            loss_function=nn.MSELoss(),
            train_handlers=[LrScheduleHandler(schedule, print_lr=False)],
        )
        trainer.add_event_handler(Events.ITERATION_STARTED, lambda: rates.append(optimizer.param_groups[0]["lr"]))
        state = {"network": network, "optimizer": optimizer, "lr_scheduler": schedule}
        prepare_training(trainer, trainer, state, ckpt_dir=str(folder), resume=resume)
        trainer.run()
        return rates

    whole = train(tmp_path / "whole", 6, 6)
    assert whole[2] == max(whole) == 0.1
    train(tmp_path / "parts", 3, former)
    assert train(tmp_path / "parts", 6, 6, resume=True) == pytest.approx(whole[3:])
    said = "the learning rate follows other settings than before: t_total 6 in place of 3"
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ([said] if former == 3 else [])


def test_resumed_training_sees_each_case_once(tmp_path: Path) -> None:
    train = Training(tmp_path)
    train(1, 0, resume=False)
    train.seen.clear()
    train.batch_size = 1
    train(3, 1, resume=True)
    assert [record["epoch"] for record in train.seen] == [2, 2, 2, 2, 3, 3, 3, 3]
    saved = torch.load(tmp_path / "last_checkpoint_epoch=3.pt", weights_only=True)["trainer"]
    assert (saved["iteration"], saved["epoch_length"]) == (12, 4)


@pytest.mark.parametrize(
    ("epochs", "outputs", "why"),
    [
        (1, 2, "is of epoch 2, beyond --epochs 1: give as many or more, or start without --resume True"),
        (3, 5, r"holds another network than these options make \(wrong shape: weight \(2, 3\) instead of \(5, 3\), bi"),
    ],
)
def test_checkpoint_that_does_not_fit(tmp_path: Path, epochs: int, outputs: int, why: str) -> None:
    train = Training(tmp_path)
    train(2, 0, resume=False)
    train.outputs = outputs
    with pytest.raises(ValueError, match=rf"last_checkpoint_epoch=2.pt {why}"):
        train(epochs, 0, resume=True)


def test_patience_goes_on_where_it_was(tmp_path: Path) -> None:
    """The metric never rises, so a training ends at the third validation, whether it was stopped before or not."""

    def train(epochs: int, *, resume: bool) -> int:
        network, data = nn.Linear(3, 2), [{"image": torch.ones(3), "label": torch.zeros(2)}]
        shared = {"device": torch.device("cpu"), "network": network}
        evaluator = SupervisedEvaluator(val_data_loader=DataLoader(data), **shared)
        evaluator.state.key_metric_name = "dice"
        evaluator.add_event_handler(
            Events.EPOCH_COMPLETED, lambda engine: engine.state.metrics.update(dice=0.5), evaluator
        )
        trainer = SupervisedTrainer(
            max_epochs=epochs,
            train_data_loader=DataLoader(data),
            optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
            loss_function=nn.MSELoss(),
            train_handlers=[ValidationHandler(1, evaluator)],
            **shared,
        )
        state = {"network": network}
        prepare_training(trainer, evaluator, state, ckpt_dir=str(tmp_path), resume=resume, early_stopping=2)
        trainer.run()
        return int(trainer.state.epoch)

    assert train(2, resume=False) == 2
    assert train(9, resume=True) == 3


def test_resumed_training_leaves_out_a_truncated_checkpoint(tmp_path: Path) -> None:
    train = Training(tmp_path)
    train(2, 0, resume=False)
    whole = (tmp_path / "last_checkpoint_epoch=2.pt").read_bytes()
    (tmp_path / "last_checkpoint_epoch=3.pt").write_bytes(whole[:-100])
    train.seen.clear()
    train(4, 1, resume=True)
    assert [record["epoch"] for record in train.seen] == [3, 3, 4, 4]
    assert [file.name for file in tmp_path.iterdir()] == ["last_checkpoint_epoch=4.pt"]


def test_new_training_says_what_it_replaces(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = Training(tmp_path)
    train(2, 0, resume=False)
    train(3, 0, resume=True)
    assert not [message for message in caplog.messages if "--resume" in message]
    train(1, 0, resume=False)
    file = tmp_path / "last_checkpoint_epoch=3.pt"
    assert f"{file} goes when the first epoch is saved; --resume True would go on from it" in caplog.messages
    assert [file.name for file in tmp_path.iterdir()] == ["last_checkpoint_epoch=1.pt"]


@pytest.mark.parametrize(
    ("epochs", "interval", "validated"),
    [(4, 5, [4]), (7, 3, [3, 6, 7]), (6, 3, [3, 6])],
    ids=["shorter than the interval", "rest", "no rest"],
)
def test_last_epoch_is_validated_once(tmp_path: Path, epochs: int, interval: int, validated: list[int]) -> None:
    """Before the checkpoint of that epoch is written, which holds what came of it."""
    found: list[int] = []
    best = SimpleNamespace(state_dict=lambda: {"epochs": [*found]}, load_state_dict=lambda _: None)
    network = nn.Linear(3, 2)
    data = [{"image": torch.ones(3), "label": torch.zeros(2)}]
    shared = {"device": torch.device("cpu"), "network": network}
    evaluator = SupervisedEvaluator(val_data_loader=DataLoader(data), **shared)
    evaluator.add_event_handler(Events.COMPLETED, lambda engine: found.append(engine.state.epoch))
    trainer = SupervisedTrainer(
        max_epochs=epochs,
        train_data_loader=DataLoader(data),
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=nn.MSELoss(),
        train_handlers=[ValidationHandler(interval, evaluator)],
        **shared,
    )
    prepare_training(trainer, evaluator, {"network": network, "best": best}, ckpt_dir=str(tmp_path))
    trainer.run()
    assert found == validated
    saved = torch.load(tmp_path / f"last_checkpoint_epoch={epochs}.pt", weights_only=True)
    assert saved["best"] == {"epochs": validated}


class Best:
    """The best value of a training, for its checkpoints."""

    def __init__(self, value: float) -> None:
        self.value = value

    def state_dict(self) -> dict[str, float]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.value = state["value"]


def test_best_value_goes_with_the_checkpoint(tmp_path: Path) -> None:
    train = Training(tmp_path)
    train(1, 0, resume=False, best=Best(0.25))
    of_another = Best(0.75)
    train(2, 0, resume=True, best=of_another)
    assert of_another.value == 0.25


def test_checkpoint_of_an_earlier_version_holds_no_best_value(tmp_path: Path) -> None:
    train = Training(tmp_path)
    train(1, 0, resume=False)
    best = Best(0.75)
    train(2, 0, resume=True, best=best)
    assert best.value == 0.75
    assert [file.name for file in tmp_path.iterdir()] == ["last_checkpoint_epoch=2.pt"]


@pytest.mark.parametrize(("rank", "files"), [(0, ["last_checkpoint_epoch=1.pt"]), (1, [])])
def test_first_of_several_processes_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int, files: list[str]
) -> None:
    several = SimpleNamespace(is_initialized=lambda: True, get_rank=lambda: rank)
    monkeypatch.setattr("scd_plugin.monai.training.prepare.dist", several)
    Training(tmp_path)(1, 0, resume=False)
    assert [file.name for file in tmp_path.iterdir()] == files
