"""Labels beside nnU-Net's loss: the scores learn in training, tokens are counted in validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("nnunetv2")

from nnunetv2.training.loss.compound_losses import DC_and_CE_loss

from scd_plugin import SCDUNETR
from scd_plugin.measure.audit import Audit
from scd_plugin.networks.guidance import TARGETS, StageWatch, guidance_loss
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo, watched_loss
from scd_plugin.nnunet.trainers.watched_loss import WatchedLoss
from scd_plugin.ops.token_labels import token_labels


class Mean(nn.Module):
    """Stands for nnU-Net's loss."""

    def forward(self, output: Any, target: Any) -> torch.Tensor:  # noqa: ARG002
        first = output[0] if isinstance(output, list) else output
        return first.mean()


def labels(*, regions: bool = False, ignore: int | None = None) -> Any:
    return SimpleNamespace(has_regions=regions, has_ignore_label=ignore is not None, ignore_label=ignore)


def image_and_target() -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.zeros(2, 1, 32, 32, 32)
    target[:, :, 4:12] = 1
    return torch.randn(2, 2, 32, 32, 32), target


class TestTraining:
    def test_the_scores_learn(self, small: Callable[..., SCDUNETR]) -> None:
        net = small()
        image, target = image_and_target()
        torch.manual_seed(1)
        plain = WatchedLoss(Mean(), net, labels())(net(image), target)
        guided = WatchedLoss(Mean(), net, labels(), guide=0.5)
        torch.manual_seed(1)
        loss = guided(net(image), target)
        # cross-entropies of scores that know nothing, half of it
        assert 0.2 < (loss - plain).item() < 1
        net.zero_grad()
        (loss - plain).backward()
        learned = [
            name for name, parameter in net.named_parameters() if parameter.grad is not None and parameter.grad.any()
        ]
        assert "encoder.stages.0.score.score.weight" in learned
        assert "encoder.stages.2.score.score.weight" in learned

    @pytest.mark.parametrize("kept_for", TARGETS)
    def test_what_tokens_are_kept_for(self, small: Callable[..., SCDUNETR], kept_for: str) -> None:
        net = small()
        image, target = image_and_target()
        watch = StageWatch(net)
        torch.manual_seed(1)
        output = net(image)
        expected = guidance_loss(watch.take(), token_labels(target, net.grid_size), target=kept_for)
        guided = WatchedLoss(Mean(), net, labels(), guide=1.0, target=kept_for)
        torch.manual_seed(1)
        torch.testing.assert_close(guided(net(image), target) - output.mean(), expected)

    def test_without_guidance_labels_are_not_looked_at(self, small: Callable[..., SCDUNETR]) -> None:
        net = small()
        loss = WatchedLoss(Mean(), net, labels())
        image, _ = image_and_target()
        output = net(image)
        assert loss(output, torch.zeros(1)).item() == output.mean().item()

    @pytest.mark.parametrize("fill", [0, 3], ids=["no foreground", "all ignored"])
    def test_nothing_to_learn_from(self, small: Callable[..., SCDUNETR], fill: int) -> None:
        net = small()
        loss = WatchedLoss(Mean(), net, labels(ignore=3), guide=1.0)
        loss(net(torch.randn(2, 2, 32, 32, 32)), torch.full((2, 1, 32, 32, 32), float(fill))).backward()
        gradient = net.encoder.stages[0].score.score.bias.grad
        assert torch.isfinite(gradient).all()
        # all tokens are background, which is something to learn
        assert bool(gradient.abs().max() > 1e-4) is (fill == 0)

    def test_deep_supervision(self, small: Callable[..., SCDUNETR]) -> None:
        net = small(deep_supervision=True)
        loss = WatchedLoss(Mean(), net, labels(), guide=1.0)
        image, target = image_and_target()
        assert torch.isfinite(loss(net(image), [target, target[..., ::2, ::2, ::2]]))


class TestValidation:
    def count(self, net: SCDUNETR, label_manager: Any, target: torch.Tensor) -> Audit:
        loss = WatchedLoss(Mean(), net.eval(), label_manager)
        with torch.no_grad():
            loss(net(torch.randn(2, 2, 32, 32, 32)), target)
        audit = loss.audit
        assert loss.new_audit().tokens.tokens.sum() == 0
        return audit

    def test_classes(self, small: Callable[..., SCDUNETR]) -> None:
        _, target = image_and_target()
        audit = self.count(small(), labels(), target)
        # of 4 x 4 x 4 tokens two layers hold foreground, and each of them background too
        assert audit.tokens.tokens.sum(dim=1).tolist() == [64, 64, 64, 128]
        assert audit.tokens.shares("chance") == [0.5, 0.25, 0.125, 0.125]

    def test_components_of_the_first_batches(
        self, small: Callable[..., SCDUNETR], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watched_loss, "COMPONENT_BATCHES", 2)
        _, target = image_and_target()
        net = small().eval()
        loss = WatchedLoss(Mean(), net, labels())
        for _ in range(2):
            # each validation from anew
            audit = loss.new_audit()
            with torch.no_grad():
                for _ in range(3):
                    loss(net(torch.randn(2, 2, 32, 32, 32)), target)
            assert audit.segmentation.components[:, 1].sum() == 2 * 2
            assert audit.tokens.tokens[3].sum() == 3 * 128

    def test_ignored_voxels(self, small: Callable[..., SCDUNETR]) -> None:
        _, target = image_and_target()
        target[:, :, :, 8:] = 3
        audit = self.count(small(), labels(ignore=3), target)
        assert audit.tokens.tokens.sum(dim=1).tolist() == [16, 16, 16, 32]
        everything = self.count(small(), labels(ignore=3), torch.full_like(target, 3))
        assert everything.tokens.tokens.sum().item() == 0
        assert "nan" not in everything.in_one_line()

    @pytest.mark.parametrize("kind", [torch.float32, torch.bool])
    def test_regions_with_ignored_voxels(self, small: Callable[..., SCDUNETR], kind: torch.dtype) -> None:
        _, whole = image_and_target()
        core = torch.zeros_like(whole)
        core[:, :, 4:8, :8] = 1
        ignored = torch.zeros_like(whole)
        ignored[:, :, :, :, 16:] = 1
        target = torch.cat((whole, core, ignored), dim=1).to(kind)
        audit = self.count(small(), labels(regions=True, ignore=3), target)
        assert audit.tokens.tokens.sum(dim=1).tolist() == [32, 32, 32, 64]


class Guided(nnUNetTrainerSCD_demo):
    scd_guide = 1.0
    scd_guide_target = "graded"


class TestTrainer:
    def batch(self) -> dict[str, Any]:
        target = torch.zeros(2, 1, 32, 32, 32)
        # tokens have edges of 4 voxels
        target[:, :, 6:14] = 1
        return {"data": torch.randn(target.shape) + 3 * target, "target": target, "keys": ["case_0", "case_1"]}

    def test_a_dense_network_has_nothing_to_watch(self, make_trainer: Callable[..., Any]) -> None:
        dense = type("Dense", (nnUNetTrainerSCD_demo,), {"scd_keep_ratio": 1.0})
        trainer = make_trainer(dense, initialize=True)
        assert type(trainer.loss) is DC_and_CE_loss
        outputs = [trainer.validation_step(self.batch())]
        trainer.on_validation_epoch_end(outputs)
        assert not (Path(trainer.output_folder) / "token_audit.csv").exists()

    def test_validation_is_audited(self, make_trainer: Callable[..., Any]) -> None:
        trainer = make_trainer(nnUNetTrainerSCD_demo, initialize=True)
        logged: list[tuple[str, float, int]] = []
        trainer.logger.loggers.append(SimpleNamespace(log=lambda *entry: logged.append(entry)))
        for trainer.current_epoch in range(2):
            trainer.on_validation_epoch_start()
            with torch.no_grad():
                outputs = [trainer.validation_step(self.batch()) for _ in range(2)]
            trainer.on_validation_epoch_end(outputs)
            # 512 tokens, of which a quarter stays at each stage
            assert "chance 75, 19, 5 %; foreground voxels in stage 1's" in Path(trainer.log_file).read_text()
        table = (Path(trainer.output_folder) / "token_audit.csv").read_text().splitlines()
        assert len(table) == 3
        assert (Path(trainer.output_folder) / "token_audit.png").is_file()
        names = {name: (value, epoch) for name, value, epoch in logged}
        assert names["tokens/chance_left_at_1"] == (0.75, 1)
        # the pictures of nnU-Net's own log go on
        trainer.logger.get_checkpoint()

    def test_guided_steps_learn_the_choice(self, make_trainer: Callable[..., Any]) -> None:
        trainer = make_trainer(Guided, initialize=True)
        assert trainer.loss.target == "graded"
        trainer.on_train_epoch_start()
        trainer.optimizer.param_groups[0]["lr"] = 3e-3
        losses = [float(trainer.train_step(self.batch())["loss"]) for _ in range(15)]
        assert all(map(torch.isfinite, torch.tensor(losses)))
        trainer.on_validation_epoch_start()
        with torch.no_grad():
            outputs = [trainer.validation_step(self.batch())]
        audit = trainer.loss.audit
        trainer.on_validation_epoch_end(outputs)
        # three of eight tokens hold foreground, and a quarter of all can stay
        assert audit.tokens.shares("foreground")[0] < 0.5
        assert audit.tokens.shares("background")[0] > 0.9

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"scd_guide": -1}, "scd_guide must be 0 or more, or None for 0.3 where tokens are chosen; got -1"),
            (
                {"scd_guide_target": "edges"},
                "scd_guide_target must be one of mixed, foreground, share, graded; got 'edges'",
            ),
        ],
        ids=str,
    )
    def test_refused(self, make_trainer: Callable[..., Any], settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            make_trainer(type("Wrong", (nnUNetTrainerSCD_demo,), settings), initialize=True)

    @pytest.mark.parametrize(("asked", "weight"), [(None, 0.3), (0, 0), (1.5, 1.5)])
    def test_labels_teach_unless_told_otherwise(
        self, make_trainer: Callable[..., Any], asked: float | None, weight: float
    ) -> None:
        trainer = make_trainer(type("Asked", (nnUNetTrainerSCD_demo,), {"scd_guide": asked}), initialize=True)
        assert trainer.loss.guide == weight
        said = f"labels teach which tokens stay, weight {weight}; scd_guide = 0 turns that off"
        assert (said in Path(trainer.log_file).read_text()) is bool(weight)

    def test_a_network_that_learns_no_choice(self, make_trainer: Callable[..., Any]) -> None:
        dense = type("Dense", (nnUNetTrainerSCD_demo,), {"scd_guide": 0.3, "scd_keep_ratio": 1.0})
        message = r"scd_guide must be 0 for this SCDUNETR, which learns no choice of tokens; got 0.3"
        with pytest.raises(ValueError, match=message):
            make_trainer(dense, initialize=True)
