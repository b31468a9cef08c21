"""Training steps a second of nnU-Net's trainers and ours, with steps computed one by one and as CUDA graphs.

One batch on the device is trained on again and again, so neither loading nor augmentation is in the time; what
nnU-Net's own step waits for, the loss, is.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from nnunet_there import NO_NNUNET, nnunet_runs
from whole_case import CLASSES, CONFIGURATION, variables, write_data_set

from scd_plugin.bench.worker import reason

SHAPE = [244, 202, 224]
"""voxels of a case that nnU-Net plans for"""
# trainer, graphs, compiled by nnU-Net; by what a reader wants to know first
RUNS = tuple(
    (trainer, graph, compiled)
    for compiled in (False, True)
    for trainer in ("nnUNetTrainerSCD", "nnUNetTrainerSCD_fast", "nnUNetTrainerSCD_dense", "nnUNetTrainer")
    for graph in (False, True)
    if not (graph and trainer == "nnUNetTrainer")
)
DRY = (("nnUNetTrainerSCD_demo", False, False), ("nnUNetTrainerSCD_demo", True, False))
FIRST = 6
"""steps before the clock starts: graphs are recorded in the fifth, since the scaler has no scale in the first"""
Row = dict[str, Any]


def trainer_steps(where: Any) -> Iterator[Row]:
    """Measure each of `RUNS`, as a step of the GPU run, as long as its time lasts."""
    if not nnunet_runs():
        yield {"skipped": NO_NNUNET}
        return
    longest = 0.0
    with TemporaryDirectory() as folder:
        # before nnU-Net is imported, which reads them then
        os.environ.update(variables(Path(folder)))
        from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

        data_set = write_data_set(Path(folder), [32] * 3 if where.dry else SHAPE)
        ExperimentPlanner(data_set.name).plan_experiment()
        device = torch.device("cuda" if where.cuda else "cpu")
        for name, graph, compiled in DRY if where.dry else RUNS:
            begin = time.monotonic()
            facts = {"what": "training steps", "trainer": name, "cuda_graph": graph, "compiled": compiled}
            if where.left() < max(longest, 1):
                yield {"skipped": f"{name}: time is short"}
                continue
            os.environ["nnUNet_compile"] = str(compiled)  # noqa: SIM112  (its name)
            yield {**facts, **_measured(data_set, name, device, graph=graph, steps=3 if where.dry else 50)}
            longest = max(longest, time.monotonic() - begin)


def _measured(data_set: Path, name: str, device: torch.device, *, graph: bool, steps: int) -> Row:
    try:
        trainer = made_trainer(data_set, name, device, graph=graph)
        shape = (trainer.batch_size, 1, *trainer.configuration_manager.patch_size)
        torch.manual_seed(0)
        data = torch.randn(shape, device=device)
        target = torch.randint(CLASSES, shape, device=device).float()
        scales = trainer._get_deep_supervision_scales() or []  # noqa: SLF001  (as nnU-Net asks)
        targets = [target[(..., *(slice(None, None, round(1 / one)) for one in scale))] for scale in scales]
        batch = {"data": data, "target": targets or target, "keys": ["a", "b"]}
        trainer.on_train_epoch_start()
        for _ in range(FIRST):
            trainer.train_step(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(steps):
            trainer.train_step(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begin
    except Exception as error:  # noqa: BLE001  (a trainer that fails is a result)
        return {"error": reason(error)}
    return {"crop": "x".join(map(str, shape[2:])), "load": os.getloadavg()[0], "steps_per_second": steps / seconds}


def made_trainer(data_set: Path, name: str, device: torch.device, *, graph: bool) -> Any:
    """Make a trainer for the plans of a data set that has no cases.

    Args:
        data_set: of `write_data_set`, planned.
        name: of the trainer.
        device: where it trains.
        graph: `scd_cuda_graph`, which nnU-Net's own do not look at.
    """
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    kind = type(name, (recursive_find_trainer_class_by_name(name),), {"scd_cuda_graph": graph})
    plans, dataset = (json.loads((data_set / file).read_text()) for file in ("nnUNetPlans.json", "dataset.json"))
    # as nnU-Net's command says it
    trainer: Any = kind({**plans, "continue_training": False}, CONFIGURATION, 0, dataset, device)
    # nnU-Net looks at the files' ending
    cases = Path(trainer.preprocessed_dataset_folder)
    cases.mkdir(parents=True, exist_ok=True)
    (cases / "case_0.b2nd").touch()
    trainer.initialize()
    return trainer
