"""The base of SCD's nnU-Net trainers, whatever network they train.

At prediction nnU-Net finds the trainer's class by the name in the checkpoint, and has it build the network from the
plans, with no trainer object. So every setting is a class attribute, and a setting of your own a subclass of three
lines (see docs/how-to/own-settings.md). Where plans name a network of SCD, as those of `nnUNetPlannerSCD` do, that
network is built, and a setting that says otherwise is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import wraps
from math import isfinite
from pathlib import Path
from typing import Any, cast

import torch
from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import AbstractPrimus
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from scd_plugin.freed_memory import keep_freed_memory
from scd_plugin.measure.audit_files import draw_audit, write_audit
from scd_plugin.networks.builder import NETWORKS, changes_in_words, network_arguments
from scd_plugin.networks.checkpoints import mismatch
from scd_plugin.networks.drawn_keep_ratio import DrawnKeepRatio
from scd_plugin.networks.family import SCDNetwork
from scd_plugin.networks.guidance import TARGET, TARGETS, guide_weight
from scd_plugin.nnunet.augmentation.device_batches import DeviceAugmenter
from scd_plugin.nnunet.augmentation.device_loaders import loaders_on_device
from scd_plugin.nnunet.model.checkpoint import PRETRAINED_NOTE, read_checkpoint, trusted_checkpoint_types
from scd_plugin.nnunet.planning.planned_network import TRAINED_BY, planned_network
from scd_plugin.nnunet.planning.token_sizes import token_geometry
from scd_plugin.nnunet.trainers.contradictions import explicit_settings, refuse_contradiction
from scd_plugin.nnunet.trainers.epoch_progress import EpochProgress
from scd_plugin.nnunet.trainers.float32_logits import logits_in_float32
from scd_plugin.nnunet.trainers.inner_network import unwrapped
from scd_plugin.nnunet.trainers.nonfinite import NonFiniteWatch
from scd_plugin.nnunet.trainers.recorded_training import RecordedTraining
from scd_plugin.nnunet.trainers.trained_plans import as_trained, trained_plans, with_other_folds
from scd_plugin.nnunet.trainers.unknown_labels import explain_unknown_labels
from scd_plugin.nnunet.trainers.watched_loss import WatchedLoss
from scd_plugin.processor import slow_bfloat16_note
from scd_plugin.stopping import children_end_with_us, say_when_stopped

__all__ = ["PruningTrainer"]

# as they are called, installed and by python -m
_COMMANDS = ("nnUNetv2_train", "run_training")
_CPU_DTYPES = ("float32", "bfloat16")
_AUGMENT_ON = ("cpu", "device")
_OF_TRAINING = ("current_epoch", "logging", "_best_ema", "grad_scaler_state")
_CHECKPOINT_ENTRIES = ("network_weights", "optimizer_state", "init_args", *_OF_TRAINING)


class PruningTrainer(RecordedTraining):
    """Trains as nnU-Net trains its own transformers. Builds the network that the plans name, or that of a preset.

    AdamW (3e-4, weight decay 0.05), linear warm-up, polynomial decay and gradient clipping at 1 come from nnU-Net's
    Primus trainers; loss, augmentation, sampling and everything else from nnU-Net's default trainer.
    """

    scd_settings_are_defaults = True
    scd_keep_ratio: float | Sequence[float] | None = None
    """Share of tokens kept at each stage, one number or one per stage; 1 for the dense twin, None for the preset's."""
    scd_keep_ratios: Sequence[float] = ()
    """Shares of which each training step draws one, so that the model serves any; validation has `scd_keep_ratio`."""
    scd_num_epochs = 1000
    """Epochs of the schedule."""
    scd_iterations_per_epoch = 250
    """Training steps of an epoch, nnU-Net's number."""
    scd_val_iterations_per_epoch = 50
    """Validation steps of an epoch, nnU-Net's number."""
    scd_initial_lr = 3e-4
    """Learning rate after the warm-up, that of nnU-Net's own transformers."""
    scd_deep_supervision = False
    """Off, as in the paper and in nnU-Net's own transformers; see docs/explanation/training.md for the measurement."""
    scd_guide: float | None = None
    """Weight of the loss by which labels teach the scores; 0 for the paper's training, None for `guide_weight`'s."""
    scd_guide_target = TARGET
    """What a token should be kept for, one of `scd_plugin.networks.guidance.TARGETS`."""
    scd_cpu_dtype = "float32"
    """Precision inside the network on a CPU; "bfloat16" is for processors that have it. CUDA is as in nnU-Net."""
    scd_augment_on = "cpu"
    """Place of augmentation, "cpu" for nnU-Net's processes, or "device" for that of the training, in its process."""

    dataloader_train: Any
    plans_manager: PlansManager
    my_init_kwargs: dict[str, Any]

    # nnU-Net looks up its own arguments by the names in our signature
    @wraps(AbstractPrimus.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if self.scd_cpu_dtype not in _CPU_DTYPES:
            msg = f"scd_cpu_dtype must be one of {', '.join(_CPU_DTYPES)}; got {self.scd_cpu_dtype!r}"
            raise ValueError(msg)
        if self.scd_augment_on not in _AUGMENT_ON:
            where = '"cpu", in nnU-Net\'s processes, or "device", on that of the training'
            msg = f"scd_augment_on must be {where}; got {self.scd_augment_on!r}"
            raise ValueError(msg)
        if self.scd_guide_target not in TARGETS:
            msg = f"scd_guide_target must be one of {', '.join(TARGETS)}; got {self.scd_guide_target!r}"
            raise ValueError(msg)
        for name in ("scd_num_epochs", "scd_iterations_per_epoch", "scd_val_iterations_per_epoch"):
            if not (isinstance(count := getattr(self, name), int) and count >= 1):
                msg = f"{name} must be a whole number of at least 1; got {count!r}"
                raise ValueError(msg)
        if not self.scd_initial_lr > 0:
            msg = f"scd_initial_lr must be more than 0; got {self.scd_initial_lr!r}"
            raise ValueError(msg)
        super().__init__(*args, **kwargs)
        # in plans of a model; a training builds what they say unless its settings say otherwise
        self.configuration_manager.configuration.get("architecture", {}).pop(TRAINED_BY, None)
        self.num_epochs, self.initial_lr = self.scd_num_epochs, self.scd_initial_lr
        self.num_iterations_per_epoch = self.scd_iterations_per_epoch
        self.num_val_iterations_per_epoch = self.scd_val_iterations_per_epoch
        self.enable_deep_supervision = self.scd_deep_supervision
        self.computes_in_bfloat16 = self.scd_cpu_dtype == "bfloat16" and self.device.type == "cpu"
        """Where nnU-Net turns autocast off, and has no setting for it; CUDA stays its affair."""
        self.progress = EpochProgress(enabled=self.local_rank == 0)
        self.non_finite = NonFiniteWatch()
        self.step_of_training = 0
        """Number of the next training step, from 0."""

    @classmethod
    def scd_preset(cls) -> str:
        """Name of the preset that the settings ask for; see `scd_plugin.networks.presets`."""
        raise NotImplementedError

    @classmethod
    def scd_changes(cls) -> dict[str, Any]:
        """Arguments of the network that the settings change in the preset."""
        return {} if cls.scd_keep_ratio is None else {"keep_ratio": cls.scd_keep_ratio}

    @classmethod
    def scd_geometry(cls, configuration: Mapping[str, Any]) -> dict[str, Any]:
        """Crop and token size of the network; see `token_geometry`."""
        return token_geometry(configuration)

    @classmethod
    def build_network_architecture(  # a class method, so that subclasses are nothing but settings
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> SCDNetwork:
        """Build the network for a configuration of the plans; nnU-Net calls this at training and at prediction.

        Raises:
            ValueError: if the plans fit no network of SCD, or name another than the trainer's settings do.
        """
        kind, arguments = cls._network(configuration_manager.configuration)
        if kind == "SCDUNETR":
            arguments["deep_supervision"] = enable_deep_supervision
        elif cls.scd_deep_supervision:
            msg = f"scd_deep_supervision must be False for {kind}, whose decoder has one output; got True"
            raise ValueError(msg)
        return NETWORKS[kind](in_channels=num_input_channels, out_channels=num_output_channels, **arguments)

    @classmethod
    def _network(cls, configuration: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Class and arguments of the network for a configuration, without channels and classes."""
        changes, planned = cls.scd_changes(), planned_network(configuration)
        if planned is not None and configuration["architecture"].get(TRAINED_BY) == cls.__name__:
            return planned
        if planned is None:
            return network_arguments(cls.scd_preset(), **{**cls.scd_geometry(configuration), **changes})
        stated = explicit_settings(cls, ("scd_size", "scd_version"))
        refuse_contradiction(cls.__name__, planned, preset=cls.scd_preset() if stated else None, changes=changes)
        return planned

    def initialize(self) -> None:
        super().initialize()
        network = unwrapped(self.network)
        if isinstance(network, SCDNetwork):
            network.set_regions(self.label_manager.has_regions)
        self._log_network()
        self.drawn = DrawnKeepRatio(cast("SCDNetwork", network), self.scd_keep_ratios)
        if self.computes_in_bfloat16:
            network.register_forward_hook(logits_in_float32)

    def _log_network(self) -> None:
        """Log where the network comes from, and how it differs from its preset."""
        if planned_network(self.configuration_manager.configuration) is not None:
            self.print_to_log_file("network: as the plans say", also_print_to_console=False)
            return
        preset, network = self.scd_preset(), cast("SCDNetwork", unwrapped(self.network))
        if type(network) not in NETWORKS.values():
            self.print_to_log_file(f"network: {type(network).__name__}, of this trainer's own")
            return
        changes = changes_in_words(preset, network.arguments)
        self.print_to_log_file(f"network: {preset}{f' with changes: {changes}' if changes else ''}")

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Switch deep supervision as nnU-Net's default trainer does, in networks that have it."""
        decoder: Any = getattr(unwrapped(self.network), "decoder", None)
        if hasattr(decoder, "deep_supervision"):
            # nnU-Net switches it on again behind a validation, also where there is none
            decoder.deep_supervision = enabled and self.enable_deep_supervision

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        """Scales of the decoder's levels; nnU-Net's go down to a bottleneck that tokens may not reach, or pass."""
        if not self.enable_deep_supervision:
            return None
        network: Any = unwrapped(self.network)
        scales: list[list[float]] = network.output_scales()
        if len(scales) < 2:
            size = tuple(network.token_size())
            msg = (
                f"deep supervision needs a decoder of two levels or more; with tokens of {size} voxels this one has a "
                "single level. Set scd_deep_supervision to False"
            )
            raise ValueError(msg)
        return scales

    def _build_loss(self) -> Any:
        """nnU-Net's loss; beside it labels teach the scores, and count the tokens that leave in validation."""
        loss, network = super()._build_loss(), unwrapped(self.network)
        if not isinstance(network, SCDNetwork):
            return loss
        guide = guide_weight(network, self.scd_guide, name="scd_guide")
        if not network.pruning_stages():
            return loss
        if guide:
            self.print_to_log_file(f"labels teach which tokens stay, weight {guide}; scd_guide = 0 turns that off")
        return WatchedLoss(loss, network, self.label_manager, guide=guide, target=self.scd_guide_target)

    def configure_optimizers(self, stage: str = "warmup_all") -> tuple[Any, Any]:
        """AdamW and the schedule of Primus, the warm-up cut to 5 % of the epochs (Primus: 50 of 1000)."""
        self.warmup_duration_whole_net = max(1, self.num_epochs // 20)
        if self.num_epochs <= self.warmup_duration_whole_net:
            # a single epoch has no second stage; nnU-Net 2.8.1's scheduler for it divides by zero
            stage = "warmup_all"
        before = self.optimizer
        optimizer, schedule = super().configure_optimizers(stage)
        # on CUDA nnU-Net's gradient scaler does this
        if optimizer is not before and self.grad_scaler is None:
            optimizer.register_step_pre_hook(self.non_finite.before_step)
        return optimizer, schedule

    def get_dataloaders(self) -> tuple[Any, Any]:
        make = super().get_dataloaders
        return make() if self.scd_augment_on == "cpu" else loaders_on_device(self, make)

    def on_train_end(self) -> None:
        # nnU-Net ends the processes of loaders that are its own
        if isinstance(self.dataloader_train, DeviceAugmenter):
            self.dataloader_train = self.dataloader_train.crops
        super().on_train_end()

    def save_checkpoint(self, filename: str) -> None:
        """As in nnU-Net, but a process killed while it writes leaves the checkpoint before."""
        # nnU-Net 2.8.1 writes over the checkpoint in place
        partial = Path(f"{filename}.partial")
        super().save_checkpoint(str(partial))
        # else it wrote nothing, and a file lying there is another process's
        if self.local_rank == 0 and not self.disable_checkpointing:
            partial.replace(filename)

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """Load a checkpoint, or say in one sentence why it does not fit.

        nnU-Net 2.8.1's warm-up trainers cannot read its own checkpoints back: they call `torch.load` with its default
        `weights_only=True`, which refuses the NumPy scalars of the log; and they cannot take a dict.

        Raises:
            ValueError: if the checkpoint is no file, damaged, foreign, or of another network.
        """
        if isinstance(filename_or_checkpoint, dict):
            msg = (
                "filename_or_checkpoint must be a file name, which is all that nnU-Net's warm-up trainers read; got a "
                "dict. Write it with torch.save and name that file"
            )
            raise ValueError(msg)
        if not self.was_initialized:
            self.initialize()
        source = str(filename_or_checkpoint)
        checkpoint = read_checkpoint(source, needs=_CHECKPOINT_ENTRIES)
        writer, reader = checkpoint.get("trainer_name"), type(self).__name__
        own = unwrapped(self.network).state_dict()
        # heads count: the optimizer's state has a part for each
        if problems := mismatch(own, checkpoint["network_weights"], at_most=3, drop_heads=False):
            msg = (
                f"checkpoint {source} of {writer} does not fit {reader} with these plans: {problems}. Go on with the "
                "trainer, the plans and the data set that it was written with, or start a new training"
            )
            raise ValueError(msg)
        if writer != reader:
            self.print_to_log_file(f"checkpoint {source} was written by {writer}, {reader} goes on with it")
        plans, name = checkpoint["init_args"].get("plans"), self.configuration_name
        if line := as_trained(unwrapped(self.network), plans, name, f"checkpoint {source}"):
            self.print_to_log_file(line)
        with trusted_checkpoint_types():
            super().load_checkpoint(source)

    def on_train_start(self) -> None:
        # before the processes of augmentation are there, which would outlive a training that is killed
        self._end_well("--c goes on from the last checkpoint, which is whole")
        if not self.was_initialized:
            self.initialize()
        self._name_network_in_plans()
        super().on_train_start()
        # processes of augmentation are there by now, and stay as they are
        keep_freed_memory(self.device)
        # -pretrained_weights is printed before nnU-Net has anything to log
        if note := getattr(unwrapped(self.network), PRETRAINED_NOTE, None):
            self.print_to_log_file(note, also_print_to_console=False)
        if self.computes_in_bfloat16 and (slow := slow_bfloat16_note()):
            self.print_to_log_file(f"note: {slow}")

    def _name_network_in_plans(self) -> None:
        """Let the plans that nnU-Net keeps with the model and in checkpoints name what is trained."""
        network, name = unwrapped(self.network), self.configuration_name
        if line := with_other_folds(Path(self.output_folder), name, network):
            self.print_to_log_file(line)
        plans = trained_plans(self.plans_manager.plans, name, network, type(self).__name__)
        self.plans_manager = PlansManager(plans)
        self.my_init_kwargs = {**self.my_init_kwargs, "plans": plans}

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.step_of_training = self.current_epoch * self.num_iterations_per_epoch
        self.progress.start(f"epoch {self.current_epoch} train", self.num_iterations_per_epoch)

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Train on a batch and return its loss; where steps are recorded, that of the step before."""
        with self.drawn.at(self.step_of_training):
            result = self._run_step(super().train_step, batch)
        self.step_of_training += 1
        return result

    def see_loss(self, loss: float, batch: dict[str, Any]) -> None:
        super().see_loss(loss, batch)
        self.progress.step(loss=loss)
        if line := self.non_finite.see(loss, batch.get("keys", ())):
            self.print_to_log_file(line)

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self.progress.start(f"epoch {self.current_epoch} validate", self.num_val_iterations_per_epoch)

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        result = self._run_step(super().validation_step, batch)
        loss = float(result["loss"])
        self.progress.step(loss=loss)
        if not isfinite(loss):
            self.print_to_log_file(f"validation loss not finite ({loss}); cases: {', '.join(batch.get('keys', ()))}")
        return result

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """As in nnU-Net; the audit goes to the log, a table with a picture, and loggers such as Weights and Biases."""
        super().on_validation_epoch_end(val_outputs)
        if not isinstance(self.loss, WatchedLoss):
            return
        audit = self.loss.audit.of_all_processes()
        self.loss.new_audit()
        if self.local_rank != 0:
            return
        self.print_to_log_file(audit.in_one_line())
        write_audit(Path(self.output_folder), self.current_epoch, audit)
        draw_audit(Path(self.output_folder))
        for logger in self.logger.loggers:
            for name, share in audit.row().items():
                logger.log(f"tokens/{name}", share, self.current_epoch)

    def _run_step(self, step: Callable[[dict[str, Any]], dict[str, Any]], batch: dict[str, Any]) -> dict[str, Any]:
        """Run a step in its precision; where it fails at labels that dataset.json lacks, say so and in which cases."""
        try:
            with torch.autocast("cpu", torch.bfloat16) if self.computes_in_bfloat16 else nullcontext():
                return step(batch)
        except (IndexError, RuntimeError):
            # batches stay on the CPU, so nothing is asked of a CUDA device that has failed
            for one in (*self.late_losses.batches(), batch):
                if problem := explain_unknown_labels(one, self.label_manager):
                    raise ValueError(problem) from None
            raise

    def _end_well(self, go_on: str) -> None:
        """When nnU-Net's command is killed or stopped, leave no process behind; in one process say how to go on."""
        # in a program of the user's, signals and children are its own affair
        if Path(sys.argv[0]).stem in _COMMANDS:
            children_end_with_us()
            if not self.is_ddp:
                say_when_stopped(f"nnUNetv2_train ... {go_on}")

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        self._end_well("--val starts the validation over")
        # --val comes without a training before it
        keep_freed_memory(self.device)
        with self.loss.unwatched() if isinstance(self.loss, WatchedLoss) else nullcontext():
            super().perform_actual_validation(save_probabilities)

    def on_epoch_end(self) -> None:
        self.progress.close()
        super().on_epoch_end()
