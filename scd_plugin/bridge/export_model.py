"""Export of an nnU-Net model for deployment: it becomes a bundle for as long as that takes."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from scd_plugin.bridge.to_monai import to_monai
from scd_plugin.folders import CHECKPOINT, model_export_path
from scd_plugin.monai.export.exporter import Exported, export_bundle

__all__ = ["export_model"]


def export_model(
    model_folder: str | Path,
    *,
    format: str,  # noqa: A002
    fold: str | None = None,
    checkpoint: str = CHECKPOINT,
    output: str | Path | None = None,
    tolerance: float | None = None,
    trust: bool = False,
) -> Exported:
    """Write the network of one fold in another format, as `export_bundle` does.

    Args:
        model_folder: TRAINER__PLANS__CONFIGURATION of nnU-Net's results.
        format: one of `EXPORTS` of `scd_plugin.folders`.
        fold: which to export; None for the only one that is trained.
        checkpoint: name of the file in the fold.
        output: the file to write; None for the format's usual name in the fold.
        tolerance: as in `export_bundle`.
        trust: whether plans may name code of any package.

    Raises:
        ValueError: as `model_export_path`, `to_monai` and `export_bundle`.
        ParityError: as `export_bundle`.
    """
    path, fold = model_export_path(model_folder, format, output, fold=fold, checkpoint=checkpoint)
    with TemporaryDirectory() as folder:
        bundle = to_monai(model_folder, Path(folder) / "bundle", [fold], checkpoint, trust=trust)
        weights = Path(model_folder).expanduser().resolve() / f"fold_{fold}" / checkpoint
        return export_bundle(bundle, format=format, output=path, tolerance=tolerance, weights=weights)
