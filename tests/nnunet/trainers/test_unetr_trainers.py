"""What nnU-Net asks of a trainer class; the numbers of its schedule."""

from __future__ import annotations

import inspect
import pickle
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scd_plugin import SCDUNETR

pytest.importorskip("nnunetv2")

from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import AbstractPrimus
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from scd_plugin.nnunet import trainers
from scd_plugin.nnunet.trainers import base as trainer_base
from scd_plugin.nnunet.trainers.epoch_progress import EpochProgress

TRAINERS = [getattr(trainers, name) for name in trainers.__all__]
UNETR_TRAINERS = [trainer for trainer in TRAINERS if issubclass(trainer, trainers.nnUNetTrainerSCD)]

MakeTrainer = Callable[..., nnUNetTrainer]

PLANS = {
    "dataset_name": "Dataset901_Test",
    "plans_name": "nnUNetPlans",
    "configurations": {
        "3d_fullres": {
            "patch_size": [32, 32, 32],
            "architecture": {"arch_kwargs": {"strides": [[1, 1, 1], *[[2, 2, 2]] * 3]}},
        }
    },
}


def build(trainer: type[nnUNetTrainer], **settings: Any) -> SCDUNETR:
    plans = PlansManager(PLANS)
    with torch.device("meta"):
        return trainer.build_network_architecture(plans, plans.get_configuration("3d_fullres"), 1, 3, **settings)


class TestContract:
    @pytest.mark.parametrize("trainer", TRAINERS)
    def test_signatures_are_those_of_the_base_class(self, trainer: type[nnUNetTrainer]) -> None:
        for method in ("__init__", "build_network_architecture"):
            ours = inspect.signature(getattr(trainer, method))
            base = inspect.signature(getattr(nnUNetTrainer, method))
            assert list(ours.parameters) == list(base.parameters)

    @pytest.mark.parametrize("trainer", TRAINERS)
    def test_can_be_pickled(self, trainer: type[nnUNetTrainer]) -> None:
        assert pickle.loads(pickle.dumps(trainer)) is trainer  # noqa: S301

    @pytest.mark.parametrize("trainer", UNETR_TRAINERS)
    def test_builds_without_a_trainer_object(self, trainer: type[nnUNetTrainer]) -> None:
        net = build(trainer, enable_deep_supervision=False)
        assert net.image_shape == [1, 32, 32, 32]
        assert hasattr(net.decoder, "deep_supervision")

    def test_the_list_for_the_variable_is_complete(self) -> None:
        found = runpy.run_path(str(Path(__file__).parents[3] / "nnunet_trainers" / "scd_trainers.py"))
        assert {name: found[name] for name in trainers.__all__} == trainers.TRAINERS


class TestVariants:
    def test_names_that_users_expect(self) -> None:
        suffixes = {name.removeprefix("nnUNetTrainerSCD") for name in trainers.__all__}
        assert suffixes >= {"", "_dense", "_small", "_large", "_5epochs", "_50epochs", "_100epochs", "_250epochs"}

    def test_dense_twin_differs_in_nothing_but_pruning(self) -> None:
        dense, sparse = build(trainers.nnUNetTrainerSCD_dense), build(trainers.nnUNetTrainerSCD)
        assert len(dense.encoder.stages) == 0
        assert len(sparse.encoder.stages) == 3
        for part in ("encoder.blocks", "decoder"):
            names = [[n for n, _ in net.named_parameters() if n.startswith(part)] for net in (dense, sparse)]
            assert names[0] == names[1]

    @pytest.mark.parametrize(
        ("trainer", "width"),
        [
            (trainers.nnUNetTrainerSCD, 768),
            (trainers.nnUNetTrainerSCD_small, 384),
            (trainers.nnUNetTrainerSCD_large, 1024),
            (trainers.nnUNetTrainerSCD_demo, 96),
            (trainers.nnUNetTrainerSCD_early, 768),
            (trainers.nnUNetTrainerSCD_fast, 768),
            (trainers.nnUNetTrainerSCD_small_fast, 384),
            (trainers.nnUNetTrainerSCD_subvoxel, 768),
            (trainers.nnUNetTrainerSCD_small_subvoxel, 384),
        ],
    )
    def test_sizes(self, trainer: type[nnUNetTrainer], width: int) -> None:
        assert build(trainer).encoder.cls_token.shape[-1] == width

    # as the table in docs/how-to/train-with-nnunet.md says
    @pytest.mark.parametrize(
        ("trainer", "millions"),
        [
            (trainers.nnUNetTrainerSCD, 106),
            (trainers.nnUNetTrainerSCD_fast, 95),
            (trainers.nnUNetTrainerSCD_early, 101),
            (trainers.nnUNetTrainerSCD_small, 30),
            (trainers.nnUNetTrainerSCD_small_fast, 25),
            (trainers.nnUNetTrainerSCD_subvoxel, 95),
            (trainers.nnUNetTrainerSCD_small_subvoxel, 25),
            (trainers.nnUNetTrainerSCD_large, 348),
            (trainers.nnUNetTrainerSCD_dense, 93),
        ],
    )
    def test_parameters(self, trainer: type[nnUNetTrainer], millions: int) -> None:
        configuration = {
            "patch_size": [96, 96, 96],
            "architecture": {"arch_kwargs": {"strides": [[1, 1, 1], *[[2, 2, 2]] * 4]}},
        }
        plans = PlansManager({**PLANS, "configurations": {"3d_fullres": configuration}})
        with torch.device("meta"):
            net = trainer.build_network_architecture(plans, plans.get_configuration("3d_fullres"), 1, 14, False)
        assert round(sum(parameter.numel() for parameter in net.parameters()) / 1e6) == millions

    def test_fast(self) -> None:
        net = build(trainers.nnUNetTrainerSCD_fast)
        assert [stage.after_block for stage in net.encoder.stages] == [1, 3, 6, 9]
        assert [stage.keep_ratio for stage in net.encoder.stages] == [0.4, 0.25, 0.25, 0.25]
        assert type(net.decoder).__name__ == "LightDecoder"
        assert net.completion.refine.project.in_features == 384

    def test_small_fast_is_fast_and_small(self) -> None:
        net = build(trainers.nnUNetTrainerSCD_small_fast)
        assert [stage.keep_ratio for stage in net.encoder.stages] == [0.4, 0.25, 0.25, 0.25]
        assert type(net.decoder).__name__ == "LightDecoder"

    @pytest.mark.parametrize("size", ["", "small_"])
    def test_subvoxel_is_fast_with_another_decoder(self, size: str) -> None:
        net, fast = (build(getattr(trainers, f"nnUNetTrainerSCD_{size}{kind}")) for kind in ("subvoxel", "fast"))
        assert type(net.decoder).__name__ == "SubvoxelDecoder"
        assert {**net.arguments, "decoder": "light"} == fast.arguments

    def test_early_is_fast_with_the_published_decoder(self) -> None:
        net = build(trainers.nnUNetTrainerSCD_early)
        assert [stage.keep_ratio for stage in net.encoder.stages] == [0.4, 0.25, 0.25, 0.25]
        assert type(net.decoder).__name__ == "UNETRDecoder"

    @pytest.mark.parametrize("epochs", [5, 50, 100, 250])
    def test_schedules(self, make_trainer: MakeTrainer, epochs: int) -> None:
        assert make_trainer(getattr(trainers, f"nnUNetTrainerSCD_{epochs}epochs")).num_epochs == epochs


class TestSchedule:
    def test_settings_of_primus(self, make_trainer: MakeTrainer) -> None:
        trainer = make_trainer(trainers.nnUNetTrainerSCD)
        assert (trainer.initial_lr, trainer.weight_decay, trainer.num_epochs) == (3e-4, 5e-2, 1000)
        assert trainer.enable_deep_supervision is False
        assert (trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch) == (250, 50)

    def test_a_short_one(self, make_trainer: MakeTrainer) -> None:
        trainer = make_trainer(trainers.nnUNetTrainerSCD_demo)
        assert (trainer.initial_lr, trainer.num_epochs) == (1e-2, 28)
        assert (trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch) == (18, 2)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("scd_num_epochs", 0, "scd_num_epochs must be a whole number of at least 1; got 0"),
            ("scd_iterations_per_epoch", 2.5, "scd_iterations_per_epoch must be a whole number of at least 1; got 2.5"),
            (
                "scd_val_iterations_per_epoch",
                -1,
                "scd_val_iterations_per_epoch must be a whole number of at least 1; g",
            ),
            ("scd_initial_lr", float("nan"), "scd_initial_lr must be more than 0; got nan"),
        ],
    )
    def test_values_that_cannot_be(self, make_trainer: MakeTrainer, name: str, value: float, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            make_trainer(type("nnUNetTrainerSCD_mine", (trainers.nnUNetTrainerSCD,), {name: value}))

    @pytest.mark.parametrize(("epochs", "warmup"), [(1000, 50), (100, 5), (5, 1), (1, 1)])
    def test_warm_up_then_decay(self, make_trainer: MakeTrainer, epochs: int, warmup: int) -> None:
        trainer = make_trainer(trainers.nnUNetTrainerSCD)
        trainer.num_epochs = epochs
        trainer.network = torch.nn.Linear(2, 2)
        rates = []
        for epoch in range(epochs):
            trainer.current_epoch = epoch
            stage = "warmup_all" if epoch < trainer.warmup_duration_whole_net and epoch < warmup else "train"
            trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers(stage)
            trainer.lr_scheduler.step(epoch)
            rates.append(trainer.optimizer.param_groups[0]["lr"])
        assert trainer.warmup_duration_whole_net == warmup
        assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
        assert max(rates) == pytest.approx(3e-4)
        assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
        if epochs > 1:
            assert rates[-1] < rates[warmup] or epochs - warmup == 1


@pytest.fixture
def training(make_trainer: MakeTrainer) -> tuple[nnUNetTrainer, dict[str, Any]]:
    """A trainer of the smallest size in its first epoch, and a batch."""
    trainer = make_trainer(trainers.nnUNetTrainerSCD_demo, initialize=True)
    trainer.network.train()
    batch = {
        "data": torch.randn(2, 1, 32, 32, 32),
        "target": torch.randint(0, 3, (2, 1, 32, 32, 32)),
        "keys": ["case_0", "case_1"],
    }
    return trainer, batch


class TestTraining:
    def test_optimizer_and_loss_of_primus(self, training: tuple[nnUNetTrainer, dict[str, Any]]) -> None:
        trainer, _ = training
        assert type(trainer.optimizer) is torch.optim.AdamW
        assert trainer.optimizer.defaults["betas"] == (0.9, 0.98)
        assert trainer.optimizer.defaults["weight_decay"] == 5e-2
        assert type(trainer.loss.loss) is DC_and_CE_loss

    @pytest.mark.parametrize("trainer", UNETR_TRAINERS)
    def test_stochastic_depth(self, trainer: type[nnUNetTrainer]) -> None:
        blocks = build(trainer).encoder.blocks
        # rises linearly from none at the first block
        assert type(blocks[0].drop_path1) is torch.nn.Identity
        assert blocks[-1].drop_path1.drop_prob == pytest.approx(0.1)

    def test_gradients_are_clipped_to_norm_1(
        self, training: tuple[nnUNetTrainer, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trainer, batch = training
        norms = []

        def before_clipping(parameters: Any, max_norm: float) -> torch.Tensor:
            before = clip(parameters := list(parameters), max_norm)
            norms.append((max_norm, float(before), len(parameters)))
            return before

        def at_the_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
            norms.append(float(torch.nn.utils.get_total_norm(gradients)))

        clip = torch.nn.utils.clip_grad_norm_
        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", before_clipping)
        trainer.optimizer.register_step_pre_hook(at_the_step)
        # a loss this steep has something to clip
        loss = trainer.loss
        trainer.loss = lambda output, target: 100 * loss(output, target)
        trainer.train_step(batch)
        (max_norm, before, number), stepped = norms
        assert (max_norm, number) == (1, len(list(trainer.network.parameters())))
        assert before > 1
        assert stepped == pytest.approx(1, abs=1e-3)

    def test_shows_its_progress(
        self, training: tuple[nnUNetTrainer, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Recorder:
            def __init__(self) -> None:
                self.calls: list[tuple[Any, ...]] = []

            def start(self, label: str, steps: int) -> None:
                self.calls.append(("start", label, steps))

            def step(self, **values: float) -> None:
                self.calls.append(("step", values))

            def close(self) -> None:
                self.calls.append(("close",))

        trainer, batch = training
        assert type(trainer.progress) is EpochProgress
        trainer.progress = Recorder()
        monkeypatch.setattr(trainer, "save_checkpoint", lambda _: None)
        monkeypatch.setattr(trainer.logger, "plot_progress_png", lambda _: None)
        trainer.on_epoch_start()
        trainer.on_train_epoch_start()
        trained = trainer.train_step(batch)
        trainer.on_train_epoch_end([trained])
        trainer.on_validation_epoch_start()
        with torch.no_grad():
            validated = trainer.validation_step(batch)
        trainer.on_validation_epoch_end([validated])
        trainer.on_epoch_end()
        assert trainer.progress.calls == [
            ("start", "epoch 0 train", 18),
            ("step", {"loss": pytest.approx(float(trained["loss"]))}),
            ("start", "epoch 0 validate", 2),
            ("step", {"loss": pytest.approx(float(validated["loss"]))}),
            ("close",),
        ]


class TestDeepSupervision:
    def test_is_set_and_unset(self, make_trainer: MakeTrainer) -> None:
        trainer = make_trainer(trainers.nnUNetTrainerSCD_deepsupervision)
        trainer.is_ddp = False
        trainer.network = torch.nn.Module()
        trainer.network.decoder = torch.nn.Module()
        trainer.network.decoder.deep_supervision = True
        trainer.set_deep_supervision_enabled(False)
        assert trainer.network.decoder.deep_supervision is False
        trainer.set_deep_supervision_enabled(True)
        assert trainer.network.decoder.deep_supervision is True

    def test_stays_off_behind_a_validation(self, make_trainer: MakeTrainer) -> None:
        trainer = make_trainer(trainers.nnUNetTrainerSCD_demo, edge=32, initialize=True)
        for enabled in (False, True):
            trainer.set_deep_supervision_enabled(enabled)
        assert trainer.network(torch.randn(2, 1, 32, 32, 32)).shape[2:] == (32, 32, 32)

    @pytest.mark.parametrize(
        "strides", [[[2, 2, 2]] * 5, [[2, 2, 2]] * 2, [[1, 2, 2], [2, 2, 2], [2, 2, 2]], [[2, 2, 2]]]
    )
    @pytest.mark.parametrize("size", ["tiny", "tiny-fast", "tiny-subvoxel"])
    def test_a_step(self, make_trainer: MakeTrainer, strides: list[list[int]], size: str) -> None:
        class Deep(trainers.nnUNetTrainerSCD_demo):
            scd_deep_supervision = True
            scd_size = size

        if size != "tiny" and len(strides) == 1:
            with pytest.raises(ValueError, match=r"tokens of \(2, 2, 2\) voxels this one has a single level"):
                make_trainer(Deep, edge=32, strides=[[1, 1, 1], *strides], initialize=True)
            return
        trainer = make_trainer(Deep, edge=32, strides=[[1, 1, 1], *strides], initialize=True)
        scales = trainer._get_deep_supervision_scales()
        targets = [torch.zeros(2, 1, *[round(32 * scale) for scale in axes]) for axes in scales]
        outputs = trainer.network(torch.randn(2, 1, 32, 32, 32))
        assert [output.shape[2:] for output in outputs] == [target.shape[2:] for target in targets]
        assert torch.isfinite(trainer.loss(outputs, targets))

    def test_as_many_scales_as_outputs(self) -> None:
        net = build(trainers.nnUNetTrainerSCD_deepsupervision, enable_deep_supervision=True)
        assert net.output_scales() == [[1.0] * 3, [0.5] * 3, [0.25] * 3]
        assert len(net.decoder.heads) == 2


@pytest.mark.parametrize("method", ["on_train_start", "perform_actual_validation"])
def test_freed_memory_is_kept(make_trainer: MakeTrainer, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(trainer_base, "keep_freed_memory", asked.append)
    monkeypatch.setattr(AbstractPrimus, method, lambda *_: None)
    trainer = make_trainer(trainers.nnUNetTrainerSCD_demo, initialize=True)
    assert asked == []
    getattr(trainer, method)()
    assert asked == [torch.device("cpu")]


def test_nobody_listens_in_the_final_validation(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network with hooks is computed, not replayed."""

    def hooks(trainer: Any, *_: Any) -> None:
        found.append(sum(len(module._forward_hooks) for module in trainer.network.modules()))

    found: list[int] = []
    monkeypatch.setattr(AbstractPrimus, "perform_actual_validation", hooks)
    trainer = make_trainer(trainers.nnUNetTrainerSCD_demo, initialize=True)
    trainer.perform_actual_validation()
    hooks(trainer)
    assert found == [0, 6]


@pytest.mark.parametrize(
    ("program", "is_ddp", "done"),
    [
        ("/env/bin/nnUNetv2_train", False, ["children", "nnUNetv2_train ... --c goes on"]),
        ("nnunetv2/run/run_training.py", False, ["children", "nnUNetv2_train ... --c goes on"]),
        ("/env/bin/nnUNetv2_train", True, ["children"]),
        ("my_program.py", False, []),
    ],
    ids=["command", "module", "several processes", "somebody's program"],
)
def test_stopped_command(monkeypatch: pytest.MonkeyPatch, program: str, is_ddp: bool, done: list[str]) -> None:
    seen: list[str] = []
    monkeypatch.setattr("sys.argv", [program, "4"])
    monkeypatch.setattr(trainer_base, "children_end_with_us", lambda: seen.append("children"))
    monkeypatch.setattr(trainer_base, "say_when_stopped", seen.append)
    trainer_base.PruningTrainer._end_well(SimpleNamespace(is_ddp=is_ddp), "--c goes on")  # type: ignore[arg-type]
    assert seen == done
