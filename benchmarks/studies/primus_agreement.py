"""How far a Primus trained with nnU-Net can be pruned without training, on cases that nnU-Net preprocessed.

python benchmarks/studies/primus_agreement.py MODEL_FOLDER PREPROCESSED CASE CASE --output agreement.csv
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from monai.transforms import ResizeWithPadOrCrop
from pruned_agreement import Agreement, sweep_agreement
from torch import Tensor, nn

from scd_plugin.networks.priors import PRIORS

__all__ = ["middle_crops", "model_agreement", "trained_network", "write_agreement"]

_COLUMNS = ("prior", "keep_ratio", "voxels", "logit_error", "operations", "seconds", "dense_seconds")


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
        device: where to predict; the seconds are its own.
        sweep: `priors`, `keep_ratios`, `prune_after`.

    Raises:
        ValueError: if the model is no Primus, or no case is given.
    """
    dense, crop = trained_network(model_folder, fold=fold, checkpoint=checkpoint, device=device)
    images = [image.to(device) for image, _ in middle_crops(preprocessed, cases, crop)]
    return sweep_agreement(dense, images, **sweep)


def trained_network(
    model_folder: str | Path,
    *,
    fold: int | str = 0,
    checkpoint: str = "checkpoint_final.pth",
    device: torch.device | str = "cpu",
) -> tuple[nn.Module, tuple[int, ...]]:
    """A trained network of nnU-Net in evaluation mode, and the crop that it takes, in voxels per axis.

    Args:
        model_folder: as in `model_agreement`, of any trainer.
        fold: whose weights.
        checkpoint: file name in the fold's folder.
        device: where to put it.
    """
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    on = torch.device(device)
    predictor = nnUNetPredictor(device=on, perform_everything_on_device=on.type == "cuda", allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model_folder), (fold,), checkpoint)
    return predictor.network.to(on).eval(), tuple(predictor.configuration_manager.patch_size)


def middle_crops(
    preprocessed: str | Path, cases: Sequence[str], crop: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The middle of each case, cropped or padded with zeros: (1, channels, *crop) image and (1, *crop) label.

    Args:
        preprocessed: folder of the configuration's preprocessed cases.
        cases: their identifiers.
        crop: voxels per axis.
    """
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

    folder = str(preprocessed)
    dataset = infer_dataset_class(folder)(folder, list(cases))
    middle = ResizeWithPadOrCrop(tuple(crop))
    for case in cases:
        image, label = (torch.as_tensor(middle(torch.as_tensor(part[:]))) for part in dataset.load_case(case)[:2])
        yield image.unsqueeze(0).float(), label.long()


def write_agreement(results: Sequence[Agreement], path: str | Path) -> None:
    """One row for each pruned network, as CSV; Dice per class in columns of their own."""
    with Path(path).open("w", newline="") as file:
        writer = csv.writer(file)
        classes = len(results[0].dice) if results else 0
        writer.writerow([*_COLUMNS, *[f"dice_{number}" for number in range(1, classes + 1)]])
        writer.writerows([[*[getattr(result, name) for name in _COLUMNS], *result.dice] for result in results])


def main(
    model_folder: Annotated[Path, typer.Argument(help="Of a stock Primus trainer: TRAINER__PLANS__CONFIGURATION.")],
    preprocessed: Annotated[Path, typer.Argument(help="Folder of the configuration's preprocessed cases.")],
    cases: Annotated[list[str], typer.Argument(help="Their identifiers; best those that the fold was not trained on.")],
    output: Annotated[Path, typer.Option(help="CSV file to write.")] = Path("agreement.csv"),
    fold: Annotated[str, typer.Option(help="Whose weights.")] = "0",
    device: Annotated[str, typer.Option(help="Where to predict; the seconds are its own.")] = "cpu",
    priors: Annotated[list[str] | None, typer.Option("--prior", help="A score, or random; all scores without.")] = None,
) -> None:
    """Prune a trained Primus by every score and share without training, and compare it with itself unpruned."""
    try:
        results = model_agreement(model_folder, preprocessed, cases, fold=fold, device=device, priors=priors or PRIORS)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    write_agreement(results, output)
    typer.echo(str(output))


if __name__ == "__main__":
    typer.run(main)
