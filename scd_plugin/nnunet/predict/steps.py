"""The three steps of a case: prepare, network, finish. Each times its stages; each may run in a thread of its own."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import save_pickle
from torch import Tensor

from scd_plugin.nnunet.model.recipe import Array, NnunetRecipe
from scd_plugin.nnunet.predict.clock import CaseTimes
from scd_plugin.nnunet.predict.jobs import Case
from scd_plugin.nnunet.predict.windows import WindowPredictor

__all__ = ["Steps", "non_finite_channels"]


def non_finite_channels(data: Tensor) -> list[int]:
    """Channels of (C, D, H, W) that hold NaN or infinite voxels.

    Normalisation spreads a single one over the whole image, and the label map of NaN logits is background everywhere.
    """
    return [channel for channel, image in enumerate(data) if not torch.isfinite(image).all()]


@dataclass(frozen=True)
class Steps:
    """A model's way with a case, by nnU-Net's own functions."""

    recipe: NnunetRecipe
    predictor: WindowPredictor
    save_probabilities: bool = False

    def prepare(self, case: Case, times: CaseTimes) -> tuple[Tensor, dict[str, Any]]:
        """Read and preprocess.

        Returns:
            (C, D, H, W) for the network, and what `finish` needs to know of the image.

        Raises:
            ValueError: if a file is missing or channels are wrong, or if voxels are NaN or infinite.
        """
        with times.stage("read"):
            case.check_files()
            image, properties = self.recipe.read([str(path) for path in case.images])
            previous = None if case.previous is None else self.recipe.read_label_map(str(case.previous))
        with times.stage("preprocess"):
            array, known = self.recipe.preprocess(image, properties, previous)
            data = torch.from_numpy(array).to(dtype=torch.float32, memory_format=torch.contiguous_format)
            if bad := non_finite_channels(data):
                names = list(self.recipe.channel_names.values())
                msg = (
                    f"channel {', '.join(names[channel] for channel in bad)} holds NaN or infinite voxels, so a label "
                    "map would mean nothing; replace these voxels in the image and predict it again"
                )
                raise ValueError(msg)
        return data, known

    def network(self, prepared: tuple[Tensor, dict[str, Any]], times: CaseTimes) -> tuple[Array, dict[str, Any]]:
        """Run the network, over all windows and folds.

        Args:
            prepared: from `prepare`.
            times: of the case.

        Returns:
            Logits (classes or regions, D, H, W), float16 as nnU-Net has them, and what `finish` needs to know.

        Raises:
            ValueError: if they are NaN.
        """
        data, known = prepared
        with times.stage("network"):
            logits: Tensor = self.predictor.predict_logits_from_preprocessed_data(data)
            times.windows, times.windows_computed = self.predictor.num_windows, self.predictor.num_computed
            # the last layer mixes all features, so NaN shows in each class
            if torch.isnan(logits[0]).any():
                msg = "the network's output is NaN for this image, so a label map would mean nothing"
                raise ValueError(msg)
        return logits.numpy(), known

    def finish(self, case: Case, predicted: tuple[Array, dict[str, Any]], times: CaseTimes) -> None:
        """Resample to the image's grid and write; files appear whole, the label map last."""
        (logits, known), probabilities = predicted, None
        with times.stage("resample"):
            if self.save_probabilities:
                segmentation, probabilities = self.recipe.restore_with_probabilities(logits, known)
            else:
                segmentation = self.recipe.restore(logits, known)
        with (
            times.stage("write"),
            tempfile.TemporaryDirectory(dir=case.output.parent, prefix=".scd_predict_") as partial,
        ):
            output, folder = case.output, Path(partial)
            self.recipe.write(segmentation, str(folder / output.name), known)
            if probabilities is not None:
                np.savez_compressed(folder / case.probabilities.name, probabilities=probabilities)
                save_pickle(known, str(folder / case.probabilities.with_suffix(".pkl").name))
            # a writer may write more than it is asked to, as nnU-Net's for TIFF does
            for file in sorted(folder.iterdir(), key=lambda file: file.name == output.name):
                file.replace(output.parent / file.name)
