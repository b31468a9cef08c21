"""Trainers of the study in ../primus_hippocampus.py: a small Primus, the same pruned, and what else was tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from dynamic_network_architectures.architectures.primus import Primus

from scd_plugin import SCDPrimus
from scd_plugin.nnunet.trainers.base import PruningTrainer

# about half the width of Primus S, and tokens of 4 voxels, of which the hippocampus crop has 1400
WIDTH, DEPTH, HEADS, PATCH = 192, 12, 4, 4
STEPS_PER_EPOCH = 30
# of the first SCDPrimus: a quarter, half and three quarters of the depth
THREE_STAGES = (3, 6, 9)


class _Study(PruningTrainer):
    """Primus's optimiser and schedule, cut short for a CPU."""

    scd_num_epochs = 24
    about = ""
    """What the tables call it."""
    ablation = False
    """Whether it answers a question on the side: the study's main networks stand above it."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.configuration_manager.configuration["batch_size"] = 2
        self.num_iterations_per_epoch = STEPS_PER_EPOCH
        self.num_val_iterations_per_epoch = 10
        # 3e-4 is for a thousand epochs of 250 steps
        self.initial_lr = 1e-3

    def _log_network(self) -> None:
        """No preset has it."""
        self.print_to_log_file(f"network: {self.about}")


class nnUNetTrainerStudyPrimus(_Study):
    """Stock Primus."""

    about = "stock Primus"
    depth = DEPTH

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> Primus:
        """As nnU-Net's own Primus trainers build it."""
        return Primus(
            num_input_channels,
            WIDTH,
            (PATCH,) * 3,
            num_output_channels,
            cls.depth,
            HEADS,
            tuple(configuration_manager.patch_size),
            drop_path_rate=0.2,
            scale_attn_inner=True,
            init_values=0.1,
        )


class nnUNetTrainerStudyKeep50(_Study):
    """SCD-Primus that keeps half of the tokens."""

    about = "SCD-Primus, keep 0.5"
    scd_keep_ratio = 0.5
    prune_after: Sequence[int] | None = None
    prior = "entropy"
    sampling = "topk"
    completion = "assembly"
    completion_hidden_size: int | None = None

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> SCDPrimus:
        """The same with pruning."""
        return SCDPrimus(
            num_input_channels,
            num_output_channels,
            configuration_manager.patch_size,
            patch_size=PATCH,
            hidden_size=WIDTH,
            num_layers=DEPTH,
            num_heads=HEADS,
            keep_ratio=cls.scd_keep_ratio,
            prune_after=cls.prune_after,
            prior=cls.prior,
            sampling=cls.sampling,
            completion=cls.completion,
            completion_hidden_size=cls.completion_hidden_size,
            drop_path_rate=0.2,
        )


class nnUNetTrainerStudyKeep25(nnUNetTrainerStudyKeep50):
    """A quarter."""

    about = "SCD-Primus, keep 0.25"
    scd_keep_ratio = 0.25


class nnUNetTrainerStudyMask25(nnUNetTrainerStudyKeep25):
    """The paper's negative control: a learned token takes the place of the pruned ones."""

    about = "mask tokens, keep 0.25"
    completion = "mask_token"


class nnUNetTrainerStudyNarrow25(nnUNetTrainerStudyKeep25):
    """The faster completion: pruned tokens attend to kept ones, with half the channels."""

    about = "completion from kept tokens, half as wide, keep 0.25"
    ablation = True
    completion = "assembly_to_kept"
    completion_hidden_size = WIDTH // 2


class nnUNetTrainerStudyKeep25Long(nnUNetTrainerStudyKeep25):
    """Whether the distance to stock Primus shrinks with more steps."""

    about = "SCD-Primus, keep 0.25, schedule of 36 epochs"
    ablation = True
    scd_num_epochs = 36


class nnUNetTrainerStudyPrior25(nnUNetTrainerStudyKeep25):
    """Nothing that Primus has not: entropy alone chooses, and tokens come back as they left."""

    about = "no learned score, no MTA, keep 0.25"
    ablation = True
    sampling = "prior"
    completion = "restore"


class nnUNetTrainerStudyThreeNoise50(nnUNetTrainerStudyKeep50):
    """As the first SCDPrimus was: tokens leave three times, by attention and a learned score with Gumbel noise."""

    about = "three stages, attention with noise, keep 0.5"
    ablation = True
    prune_after = THREE_STAGES
    prior = "attention"
    sampling = "soft_topk"


class nnUNetTrainerStudyThreeNoise25(nnUNetTrainerStudyThreeNoise50):
    """A quarter at each stage."""

    about = "three stages, attention with noise, keep 0.25"
    scd_keep_ratio = 0.25


class nnUNetTrainerStudyThreeMask25(nnUNetTrainerStudyThreeNoise25):
    """Its control."""

    about = "three stages, attention with noise, mask tokens, keep 0.25"
    completion = "mask_token"


class nnUNetTrainerStudyThreeAttention50(nnUNetTrainerStudyThreeNoise50):
    """Without noise."""

    about = "three stages, attention, keep 0.5"
    sampling = "topk"


class nnUNetTrainerStudyThreeAttention25(nnUNetTrainerStudyThreeAttention50):
    """A quarter at each stage."""

    about = "three stages, attention, keep 0.25"
    scd_keep_ratio = 0.25


class nnUNetTrainerStudyThreeEntropy50(nnUNetTrainerStudyThreeAttention50):
    """By entropy."""

    about = "three stages, entropy, keep 0.5"
    prior = "entropy"


class nnUNetTrainerStudyThreeEntropy25(nnUNetTrainerStudyThreeEntropy50):
    """A quarter at each stage."""

    about = "three stages, entropy, keep 0.25"
    scd_keep_ratio = 0.25


class nnUNetTrainerStudyPrimusFour(nnUNetTrainerStudyPrimus):
    """As many as a token passes on average with three stages of a quarter."""

    about = "stock Primus of four blocks"
    ablation = True
    depth = 4


class nnUNetTrainerStudyPrimusShort(nnUNetTrainerStudyPrimus):
    """A whole schedule, low rates at its end included, in about the time that keep 0.25 takes for its own."""

    about = "stock Primus, schedule of 12 epochs"
    ablation = True
    scd_num_epochs = 12


class nnUNetTrainerStudyPrimusLong(nnUNetTrainerStudyPrimus):
    """What keep 0.25 with as long a schedule compares with."""

    about = "stock Primus, schedule of 36 epochs"
    ablation = True
    scd_num_epochs = 36


PREFIX = "nnUNetTrainerStudy"
TRAINERS: dict[str, type[_Study]] = {
    name.removeprefix(PREFIX): trainer for name, trainer in list(globals().items()) if name.startswith(PREFIX)
}
"""All of them, by the end of their names, main networks first."""
