"""MONAI's nnU-Net runner with SCD's trainer: on any device, and with failures that are seen.

`SCDRunner` is used as MONAI's `nnUNetV2Runner`, from Python or as `python -m scd_plugin.monai.runner`. What it changes
are gaps in MONAI 1.6.1; tests/monai/test_runner.py tells when one is closed.
"""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from monai.apps.nnunet import nnunetv2_runner as host
from monai.bundle import ConfigParser
from monai.utils import ensure_tuple
from packaging.version import Version

from scd_plugin.monai.path_option import path_option

__all__ = ["SCDRunner"]

DEVICES = ("cuda", "cpu", "mps")
OLDEST_MONAI = "1.6"
# the cascade trains on what 3d_lowres predicts, so it comes last
ORDER = ("3d_fullres", "2d", "3d_lowres", "3d_cascade_fullres")


class SCDRunner(host.nnUNetV2Runner):
    """Converts, plans, trains, chooses and predicts; see MONAI's class for all methods and their arguments.

    Args:
        input_config: MONAI's description of the task: a dict, or a YAML or JSON file.
        trainer_class_name: any of nnU-Net's or SCD's trainers.
        work_dir: where nnU-Net's folders go, unless `input_config` names them.
        export_validation_probabilities: needed to find the best ensemble.
        device: "cuda", "cpu" or "mps"; by default CUDA where there is a GPU.

    Raises:
        ValueError: if the device, `input_config` or `work_dir` is none of these.
    """

    def __init__(
        self,
        input_config: Any,
        trainer_class_name: str = "nnUNetTrainerSCD",
        work_dir: str = "work_dir",
        export_validation_probabilities: bool = True,
        device: str | None = None,
    ) -> None:
        if Version(version("monai")) < Version(OLDEST_MONAI):
            msg = f"SCDRunner needs MONAI {OLDEST_MONAI} or newer, whose runner it is; installed is {version('monai')}"
            raise ValueError(msg)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if self.device not in DEVICES:
            msg = f"device must be one of {', '.join(DEVICES)}; got {device!r}. A GPU is chosen by gpu_id"
            raise ValueError(msg)
        # MONAI takes entries out of a dict that it is given
        config = dict(input_config) if isinstance(input_config, dict) else str(input_config)
        super().__init__(
            config, trainer_class_name, str(path_option(work_dir, "work_dir")), export_validation_probabilities
        )

    def convert_dataset(self) -> None:
        """As in MONAI, which only logs what went wrong and leaves half a data set behind.

        Raises:
            RuntimeError: if the data set was not converted.
            ValueError: if the data list names no test images, without which MONAI cannot convert.
        """
        _check_data_list(self.input_info.get("datalist"))
        with _warnings_of(host.logger) as messages:
            super().convert_dataset()
        failures = [message for message in messages if "same ID exists" not in message]
        if failures:
            reason = " ".join(failures[0].split())
            msg = (
                f"data set {self.dataset_name_or_id} was not converted: {reason}. Mend the input configuration or the "
                f"data list, remove what was begun in {self.nnunet_raw}, and convert again"
            )
            raise RuntimeError(msg)
        self._name_dataset()

    def convert_msd_dataset(self, *args: Any, **kwargs: Any) -> None:
        """As in MONAI, which forgets the name that later steps need."""
        super().convert_msd_dataset(*args, **kwargs)
        self._name_dataset()

    def train(self, configs: Sequence[str] | str | None = None, gpu_id_for_all: Any = None, **kwargs: Any) -> None:
        """As in MONAI; by default every configuration in the plans (MONAI: four, also those that were not planned).

        Raises:
            RuntimeError: at the first training that fails; on several GPUs after the others have ended.
            ValueError: if a configuration is not in the plans.
        """
        if gpu_id_for_all is None and self.device != "cuda":
            gpu_id_for_all = 0  # MONAI counts GPUs with nvidia-smi
        super().train(self._in_plans(configs, **kwargs), gpu_id_for_all, **kwargs)

    def train_single_model(self, config: Any, fold: int, gpu_id: Any = 0, **kwargs: Any) -> None:
        """As in MONAI, which does not look whether the training succeeded.

        Raises:
            RuntimeError: if it failed.
        """
        for name in {"num_gpus", "tr", "npz"} & kwargs.keys():
            host.logger.warning("%s is set by gpu_id and by the runner's own arguments; left out", name)
            kwargs.pop(name)
        command, environment = self.train_single_model_command(config, fold, gpu_id, kwargs)
        self._run(command, environment)

    def train_single_model_command(
        self, config: str, fold: int, gpu_id: Any, kwargs: dict[str, Any]
    ) -> tuple[list[str], dict[str, str]]:
        """As in MONAI, with the device: it would write `--device`, which is not nnU-Net's spelling."""
        others = {name: value for name, value in kwargs.items() if name != "device"}
        command, environment = super().train_single_model_command(config, fold, gpu_id, others)
        # nnU-Net's commands lie beside Python, also where the environment was not activated
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
        return [*command, "-device", str(kwargs.get("device", self.device))], environment

    def train_parallel(
        self, configs: Sequence[str] | str | None = None, gpu_id_for_all: Any = None, **kwargs: Any
    ) -> None:
        """As in MONAI, which does not look whether the trainings succeeded.

        Raises:
            RuntimeError: if one failed, after those on the other GPUs have ended.
        """
        stages = self.train_parallel_cmd(
            configs=self._in_plans(configs, **kwargs), gpu_id_for_all=gpu_id_for_all, **kwargs
        )

        def run_in_turn(commands: list[tuple[list[str], dict[str, str]]]) -> None:
            for command, environment in commands:
                self._run(command, environment, stdout=subprocess.DEVNULL)

        for stage in stages:
            with ThreadPoolExecutor(max_workers=len(stage)) as pool:
                list(pool.map(run_in_turn, stage.values()))

    def validate(self, configs: Sequence[str] | str | None = None, **kwargs: Any) -> None:
        """As in MONAI; by default every configuration in the plans."""
        super().validate(self._in_plans(configs, **kwargs), **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> None:
        """As in MONAI, which knows no device but CUDA."""
        with _predictor_on(self.device):
            super().predict(*args, **kwargs)

    def _name_dataset(self) -> None:
        from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

        self.dataset_name = maybe_convert_to_dataset_name(int(self.dataset_name_or_id))

    def _in_plans(self, configs: Sequence[str] | str | None, *, p: str = "nnUNetPlans", **_: Any) -> tuple[str, ...]:
        """Return the configurations wanted, or all of the plans called `p`."""
        if self.dataset_name is None:
            self._name_dataset()
        file = Path(self.nnunet_preprocessed) / str(self.dataset_name) / f"{p}.json"
        planned = ConfigParser.load_config_file(str(file))["configurations"]
        if configs is None:
            return tuple(name for name in ORDER if name in planned)
        wanted = tuple(str(name) for name in ensure_tuple(configs))
        missing = [name for name in wanted if name not in planned]
        if missing:
            msg = f"{file} has no configuration {', '.join(missing)}; it has {', '.join(planned)}"
            raise ValueError(msg)
        return wanted

    def _run(self, command: list[str], environment: dict[str, str], **options: Any) -> None:
        """Run a training, and raise if it failed."""
        from nnunetv2.utilities.file_path_utilities import get_output_folder

        status = subprocess.run(command, env=environment, **options).returncode  # noqa: S603
        config, fold = command[2:4]
        plans = command[command.index("-p") + 1] if "-p" in command else "nnUNetPlans"
        dataset = int(self.dataset_name_or_id)
        folder = Path(get_output_folder(dataset, self.trainer_class_name, plans, config, fold))
        if status == 0 and ("--disable_checkpointing" in command or (folder / "checkpoint_final.pth").exists()):
            return
        logs = sorted(folder.glob("training_log_*.txt"), key=lambda log: log.stat().st_mtime)
        where = f"Its log file is {logs[-1]}" if logs else f"It began no log file in {folder}"
        msg = (
            f"training of configuration {config}, fold {fold}, failed: {command[0]} ended with exit status "
            f"{status}{'' if status else ' and without checkpoint_final.pth'}. {where}; the error itself is in the "
            "output above"
        )
        raise RuntimeError(msg)


def _check_data_list(file: str | None) -> None:
    """Refuse a list without test images, over which MONAI 1.6.1 stumbles in words that name neither."""
    if file is None or not Path(file).is_file():
        return
    listed = ConfigParser.load_config_file(str(file))
    if "training" in listed and not (listed.get("test") or listed.get("testing")):
        msg = f"data list {file} has no test images, and MONAI needs one at least: add an entry `test` to the list"
        raise ValueError(msg)


@contextmanager
def _warnings_of(logger: logging.Logger) -> Iterator[list[str]]:
    """Collect a logger's warnings and errors."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


@contextmanager
def _predictor_on(device: str) -> Iterator[None]:
    """Put nnU-Net's predictor, which MONAI imports when it predicts, on a device."""
    module = importlib.import_module("nnunetv2.inference.predict_from_raw_data")
    predictor = module.nnUNetPredictor
    module.nnUNetPredictor = partial(predictor, device=torch.device(device))  # type: ignore[attr-defined]
    try:
        yield
    finally:
        module.nnUNetPredictor = predictor  # type: ignore[attr-defined]


if __name__ == "__main__":
    importlib.import_module("fire").Fire(SCDRunner)
