"""Training steps that are replayed: same weights, losses a step late. A stand-in takes the place of the CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

pytest.importorskip("nnunetv2")

from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import AbstractPrimus

from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo, recorded_steps, recorded_training
from scd_plugin.nnunet.trainers.recorded_steps import MAX_GRAPHS, WARM_UP, RecordedSteps, why_not_recorded
from scd_plugin.nnunet.trainers.step_graph import StepGraph


class StandIn:
    """Computes what a graph replays, into the same tensors each time, without a CUDA device."""

    made: ClassVar[list[StandIn]] = []
    fails: ClassVar[Exception | None] = None

    def __init__(
        self, compute: Any, data: Tensor, target: Any, parameters: Sequence[Any], beside: StandIn | None = None
    ) -> None:
        if self.fails is not None:
            raise self.fails
        self.compute, self.data, self.parameters, self.beside = compute, data.clone(), parameters, beside
        self.targets = [one.clone() for one in target] if isinstance(target, list) else [target.clone()]
        self.loss, self.gradients, self.replays = torch.zeros(()), [torch.zeros_like(one) for one in parameters], 0
        self.made.append(self)

    def __call__(self, data: Tensor, target: Any) -> Tensor:
        self.replays += 1
        self.data.copy_(data)
        for own, new in zip(self.targets, target if isinstance(target, list) else [target]):
            own.copy_(new)
        for parameter in self.parameters:
            parameter.grad = None
        self.loss.copy_(self.compute(self.data, self.targets if isinstance(target, list) else self.targets[0]))
        for parameter, gradient in zip(self.parameters, self.gradients):
            # a head whose loss counts nothing has none
            if parameter.grad is not None:
                parameter.grad = gradient.copy_(parameter.grad)
        return self.loss


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    """From now on steps on a CPU are recorded."""
    monkeypatch.setattr(recorded_steps, "StepGraph", StandIn)
    monkeypatch.setattr(recorded_training, "why_not_recorded", lambda *_, **__: None)
    monkeypatch.setattr(StandIn, "made", [])
    monkeypatch.setattr(StandIn, "fails", None)
    return StandIn


class Graphed(nnUNetTrainerSCD_demo):
    scd_cuda_graph = True


class Guided(nnUNetTrainerSCD_demo):
    scd_guide = 0.3
    scd_deep_supervision = True
    scd_keep_ratios = (0.5, 1.0)


class GuidedGraphed(Guided):
    scd_cuda_graph = True


def batches(number: int, *, levels: int = 1) -> list[dict[str, Any]]:
    torch.manual_seed(1)
    made = []
    for index in range(number):
        data = torch.randn(2, 1, 32, 32, 32)
        targets = [(data[..., :: 2**level, :: 2**level, :: 2**level] > 0.5).float() for level in range(levels)]
        made.append({"data": data, "target": targets if levels > 1 else targets[0], "keys": [f"{index}a", f"{index}b"]})
    return made


def trained(make_trainer: Callable[..., Any], kind: type, steps: list[dict[str, Any]]) -> tuple[Any, list[float]]:
    """A trainer after one epoch of these steps, and the losses that its steps returned."""
    torch.manual_seed(0)
    trainer = make_trainer(kind, initialize=True)
    trainer.on_train_epoch_start()
    torch.manual_seed(2)
    results = [trainer.train_step(batch) for batch in steps]
    trainer.on_train_epoch_end(results)
    return trainer, [float(result["loss"]) for result in results]


def log_of(trainer: Any) -> str:
    return Path(trainer.log_file).read_text(encoding="utf-8")


def assert_same_training(one: Any, other: Any) -> None:
    for (name, ours), theirs in zip(one.network.state_dict().items(), other.network.state_dict().values()):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, msg=name)
    assert one.logger.get_value("train_losses", None) == pytest.approx(other.logger.get_value("train_losses", None))


def test_same_weights_and_losses(make_trainer: Callable[..., Any], recorded: type[StandIn]) -> None:
    steps = batches(WARM_UP + 3)
    expected, losses = trained(make_trainer, nnUNetTrainerSCD_demo, steps)
    found, late = trained(make_trainer, Graphed, steps)
    assert [graph.replays for graph in recorded.made] == [3]
    assert_same_training(found, expected)
    assert late == pytest.approx([*losses[:WARM_UP], *losses[WARM_UP - 1 : -1]])
    assert "forward pass, loss and backward pass are replayed from now on" in log_of(found)


def test_with_a_scaler_over_epochs(make_trainer: Callable[..., Any], recorded: type[StandIn]) -> None:
    """Scaled gradients, a step that overflows and is left out, the optimizer after the warm-up, its learning rate."""
    steps = batches(WARM_UP + 4)
    steps[WARM_UP + 1]["data"][:] = torch.inf
    found = []
    for kind in (nnUNetTrainerSCD_demo, Graphed):
        torch.manual_seed(0)
        trainer = make_trainer(kind, initialize=True)
        trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
        rates = []
        torch.manual_seed(2)
        for epoch in (0, 1, 5):
            trainer.current_epoch = epoch
            trainer.on_train_epoch_start()
            rates.append(trainer.optimizer.param_groups[0]["lr"])
            trainer.on_train_epoch_end([trainer.train_step(batch) for batch in steps])
            trainer.network.eval()
            with torch.no_grad():
                trainer.validation_step(steps[0])
        assert rates[0] == rates[1] > rates[2]
        # halved in each epoch
        assert trainer.grad_scaler.get_scale() == 2.0**5
        found.append(trainer)
    # in the first step of all the scaler has no scale yet
    assert [graph.replays for graph in recorded.made] == [3 * len(steps) - WARM_UP - 1]
    for ours, theirs in zip(*(trainer.network.state_dict().values() for trainer in found)):
        assert torch.isfinite(ours).all()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_training_that_goes_on_goes_on_alike(
    make_trainer: Callable[..., Any], recorded: type[StandIn], tmp_path: Path
) -> None:
    """As `nnUNetv2_train --c` does, in the middle of it, with what the optimizer knows."""
    steps, found = batches(WARM_UP + 2), []
    for kind in (nnUNetTrainerSCD_demo, Graphed):
        first, _ = trained(make_trainer, kind, steps)
        file = tmp_path / f"{kind.__name__}.pth"
        first.save_checkpoint(str(file))
        torch.manual_seed(3)
        again = make_trainer(kind, initialize=True)
        again.load_checkpoint(str(file))
        again.on_train_epoch_start()
        torch.manual_seed(4)
        again.on_train_epoch_end([again.train_step(batch) for batch in steps])
        found.append(again)
    assert [graph.replays for graph in recorded.made] == [2, 2]
    assert_same_training(*found)


def test_each_keep_ratio_has_a_graph(make_trainer: Callable[..., Any], recorded: type[StandIn]) -> None:
    """With the scores' own loss and deep supervision, whose targets are a list."""
    levels = len(make_trainer(Guided, initialize=True)._get_deep_supervision_scales())
    steps = batches(4 * WARM_UP, levels=levels)
    expected, _ = trained(make_trainer, Guided, steps)
    found, _ = trained(make_trainer, GuidedGraphed, steps)
    first, second = recorded.made
    assert first.replays + second.replays == len(steps) - 2 * WARM_UP
    assert (first.beside, second.beside) == (None, first)
    assert_same_training(found, expected)


def test_a_failed_recording_changes_nothing(make_trainer: Callable[..., Any], recorded: type[StandIn]) -> None:
    recorded.fails = RuntimeError("out of memory\nand more")
    steps = batches(WARM_UP + 2)
    expected, losses = trained(make_trainer, nnUNetTrainerSCD_demo, steps)
    found, same = trained(make_trainer, Graphed, steps)
    assert same == losses
    assert_same_training(found, expected)
    log = log_of(found)
    assert log.count("a recording failed (RuntimeError: out of memory); results are the same, only slower") == 1


def test_a_loss_that_is_not_finite_names_its_own_cases(
    make_trainer: Callable[..., Any], recorded: type[StandIn]
) -> None:
    steps = batches(WARM_UP + 3)
    steps[WARM_UP + 1]["data"][:] = torch.nan
    trainer, _ = trained(make_trainer, Graphed, steps)
    assert recorded.made[0].replays == 3
    assert f"cases: {WARM_UP + 1}a, {WARM_UP + 1}b" in log_of(trainer)
    assert all(torch.isfinite(one).all() for one in trainer.network.state_dict().values())


@pytest.mark.usefixtures("recorded")
def test_unknown_labels_are_looked_for_in_the_batch_before(make_trainer: Callable[..., Any]) -> None:
    """On CUDA a label that the data set lacks is noticed when the loss is read, a step late."""
    trainer, _ = trained(make_trainer, Graphed, batches(WARM_UP + 1))
    bad, good = batches(2)
    bad["target"][0, 0, 0, 0, 0] = 7
    trainer.late_losses.put(torch.zeros(()), bad)

    def failed(_: Any) -> Any:
        raise RuntimeError("device-side assert")

    with pytest.raises(ValueError, match="got 0a: 7"):
        trainer._run_step(failed, good)


def test_weights_are_cast_anew_in_each_step(make_trainer: Callable[..., Any], recorded: type[StandIn]) -> None:
    """A graph that found them in autocast's cache would train on the weights of the day it was recorded."""
    trainer = make_trainer(Graphed, initialize=True)
    loss, caches = trainer.loss, []

    def watched(*arguments: Any) -> Any:
        caches.append(torch.is_autocast_cache_enabled())
        # not within another, at whose end alone PyTorch would empty the cache
        assert not torch.is_autocast_enabled("cpu")
        return loss(*arguments)

    trainer.loss = watched
    for batch in batches(WARM_UP + 2):
        trainer.train_step(batch)
    assert recorded.made[0].replays == 2
    # nnU-Net's own steps first
    assert caches == [True] * WARM_UP + [False] * 2


def test_graphs_are_freed_before_the_final_validation(
    make_trainer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, recorded: type[StandIn]
) -> None:
    trainer, _ = trained(make_trainer, Graphed, batches(WARM_UP + 1))
    assert recorded.made
    assert any(one.grad is not None for one in trainer.network.parameters())
    monkeypatch.setattr(AbstractPrimus, "on_train_end", lambda _: None)
    trainer.on_train_end()
    assert trainer.recorded is None
    assert all(one.grad is None for one in trainer.network.parameters())


def test_other_kinds_of_steps_are_computed(recorded: type[StandIn]) -> None:
    layer = torch.nn.Linear(1, 1)

    def compute(data: Tensor, _: Any) -> Tensor:
        loss: Tensor = layer(data).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    log: list[str] = []
    steps = RecordedSteps(compute, list(layer.parameters()), log.append)
    target = torch.zeros(1)
    for kind in range(MAX_GRAPHS + 1):
        found = [steps(torch.ones(kind + 1, 1), target, kind) is None for _ in range(WARM_UP + 1)]
        assert found == [True] * WARM_UP + [kind == MAX_GRAPHS]
    assert len(recorded.made) == MAX_GRAPHS
    assert log == ["scd_cuda_graph: forward pass, loss and backward pass are replayed from now on"]
    # a recorded step reads the weights where they lay
    layer.weight.data = torch.ones(1, 1)
    assert steps(torch.ones(1, 1), target, 0) is None


@pytest.mark.parametrize(
    ("device", "settings", "reason"),
    [
        ("cpu", {}, "the device is cpu, not cuda"),
        ("cuda", {"distributed": True}, "gradients are gathered from several processes"),
        ("cuda", {"ignore_label": True}, "the data set has an ignore label"),
        ("cuda", {}, None),
    ],
)
def test_where_steps_are_computed(device: str, settings: dict[str, bool], reason: str | None) -> None:
    found = why_not_recorded(torch.device(device), **{"distributed": False, "ignore_label": False, **settings})
    assert found == reason


def test_a_cpu_is_said_in_the_log(make_trainer: Callable[..., Any]) -> None:
    trainer, _ = trained(make_trainer, Graphed, batches(1))
    assert "scd_cuda_graph: steps are computed one by one, since the device is cpu, not cuda" in log_of(trainer)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gradients_of_a_graph_on_cuda() -> None:
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3), torch.nn.GELU(), torch.nn.Conv3d(4, 2, 1)).cuda()
    scaler = torch.amp.GradScaler("cuda")

    def compute(data: Tensor, target: Any) -> Tensor:
        with torch.autocast("cuda", cache_enabled=False):
            loss = torch.nn.functional.mse_loss(network(data), target)
        scaler.scale(loss).backward()
        return loss.detach()

    examples = [(torch.randn(2, 1, 8, 8, 8).cuda(), torch.randn(2, 2, 6, 6, 6).cuda()) for _ in range(3)]
    parameters = list(network.parameters())
    # whatever autocast is open around it, a graph casts the weights anew
    with torch.autocast("cpu", enabled=False):
        graph = StepGraph(compute, *examples[0], parameters)
    for example in examples:
        network.zero_grad(set_to_none=True)
        loss, gradients = compute(*example), [one.grad.clone() for one in parameters if one.grad is not None]
        torch.testing.assert_close(graph(*example), loss, rtol=1e-3, atol=1e-5)
        for one, gradient in zip(parameters, gradients):
            torch.testing.assert_close(one.grad, gradient, rtol=1e-2, atol=1e-2 * float(gradient.abs().max()))
        with torch.no_grad():
            for one in parameters:
                one.add_(0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kinds", [(nnUNetTrainerSCD_demo, Graphed), (Guided, GuidedGraphed)], ids=["", "guided"])
def test_a_training_on_cuda(
    make_trainer: Callable[..., Any], kinds: tuple[type, type], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses of a training whose steps are replayed are nearly those of one whose steps are computed."""
    monkeypatch.setenv("nnUNet_compile", "False")
    losses = []
    for kind in kinds:
        torch.manual_seed(0)
        trainer = make_trainer(kind, initialize=True, device="cuda")
        levels = trainer._get_deep_supervision_scales() or [1]
        trainer.on_train_epoch_start()
        steps = batches(4 * WARM_UP, levels=len(levels))
        # recording draws random numbers of its own
        torch.manual_seed(2)
        trainer.on_train_epoch_end([trainer.train_step(batch) for batch in steps])
        losses.append(trainer._losses_of_epoch)
    assert "replayed from now on" in log_of(trainer)
    assert losses[1] == pytest.approx(losses[0], rel=0.02, abs=0.02)
