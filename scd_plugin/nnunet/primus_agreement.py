"""How far a Primus trained with nnU-Net can be pruned without training, on cases that nnU-Net preprocessed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from monai.transforms import ResizeWithPadOrCrop
from torch import Tensor

from scd_plugin.networks.agreement import Agreement, sweep_agreement

__all__ = ["model_agreement", "write_agreement"]


def model_agreement(
    model_folder: str | Path,
    preprocessed: str | Path,
    cases: Sequence[str],
    *,
    fold: int | str = 0,
    checkpoint: str = "checkpoint_final.pth",
    device: torch.device | str = "cpu",
    **sweep: Any,
) -> list[Agreement]:
    """Prune a trained model by every score and share of `sweep_agreement`, and compare it with itself unpruned.

    Each case gives its middle, cropped or padded to the model's patch size.

    Args:
        model_folder: of a stock Primus trainer, for example
            `nnUNet_results/Dataset004_Hippocampus/nnUNet_Primus_M_Trainer__nnUNetPlans__3d_fullres`.
        preprocessed: folder of the configuration's preprocessed cases.
        cases: their identifiers, best those that the fold was not trained on.
        fold: whose weights.
        checkpoint: file name in the fold's folder.
        device: where to predict.
        sweep: `priors`, `keep_ratios`, `prune_after`.

    Raises:
        ValueError: if the model is no Primus, or no case is given.
    """
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

    on = torch.device(device)
    predictor = nnUNetPredictor(device=on, perform_everything_on_device=on.type == "cuda", allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model_folder), (fold,), checkpoint)
    dense = predictor.network.to(on).eval()
    folder = str(preprocessed)
    dataset = infer_dataset_class(folder)(folder, list(cases))
    middle = ResizeWithPadOrCrop(tuple(predictor.configuration_manager.patch_size))
    images: list[Tensor] = []
    for case in cases:
        data = dataset.load_case(case)[0]
        images.append(torch.as_tensor(middle(torch.as_tensor(data[:]))).unsqueeze(0).float().to(on))
    return sweep_agreement(dense, images, **sweep)


def write_agreement(results: Sequence[Agreement], path: str | Path) -> None:
    """One row for each pruned network, as CSV; Dice per class in columns of their own."""
    names = [field.name for field in fields(Agreement) if field.name != "dice"]
    with Path(path).open("w", newline="") as file:
        writer = csv.writer(file)
        classes = len(results[0].dice) if results else 0
        writer.writerow([*names, *[f"dice_{number}" for number in range(1, classes + 1)]])
        writer.writerows([[*[getattr(result, name) for name in names], *result.dice] for result in results])
