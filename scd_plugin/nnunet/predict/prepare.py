"""The first step of a case: read and preprocess it. It needs no network, and may run in a thread of its own."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from scd_plugin.dicom_series import series_to_file
from scd_plugin.nnunet.model.recipe import Array, NnunetRecipe
from scd_plugin.nnunet.model.trained_model import ModelFolder
from scd_plugin.nnunet.predict.bars import PredictionProgress
from scd_plugin.nnunet.predict.clock import CaseTimes
from scd_plugin.nnunet.predict.jobs import Case
from scd_plugin.nnunet.predict.plausible import doubts

__all__ = ["Preparation", "non_finite_channels", "read_case"]


def non_finite_channels(data: Tensor) -> list[int]:
    """Find the channels of an image (C, D, H, W) that hold NaN or infinite voxels.

    Normalisation spreads a single one over the whole image, and the label map of NaN logits is background everywhere.
    """
    return [channel for channel, image in enumerate(data) if not torch.isfinite(image).all()]


def read_case(case: Case, recipe: NnunetRecipe) -> tuple[Array, dict[str, Any]]:
    """Read a case's image with the plans' reader: (C, Z, Y, X), and its properties.

    Raises:
        ValueError: as `NnunetRecipe.read`; for a DICOM series, as `series_to_file`.
    """
    if not case.is_series:
        return recipe.read([str(path) for path in case.images])
    # no reader of nnU-Net's takes a series
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"{case.name}{case.file_ending}"
        series_to_file(case.images[0], file)
        try:
            return recipe.read([str(file)])
        except ValueError as error:
            # that file is nobody's
            raise ValueError(str(error).replace(str(file), str(case.images[0]))) from None


@dataclass(frozen=True)
class Preparation:
    """Reads and preprocesses cases by nnU-Net's own functions."""

    model: ModelFolder
    mirror_axes: tuple[int, ...]
    """Those over which the prediction mirrors."""
    progress: PredictionProgress
    times: dict[str, CaseTimes] = field(default_factory=dict)
    """Those of each case that was started, by its name."""

    def __post_init__(self) -> None:
        """Have nnU-Net import what it does the first time that it is asked for.

        Beside the first case MONAI is imported, and of two imports at once one may see what the other has half made.
        """
        configuration = self.model.recipe.configuration
        # where there is no such thing, each case says so
        with suppress(Exception):
            _ = configuration.preprocessor_class, configuration.resampling_fn_data, configuration.resampling_fn_seg

    def __call__(self, case: Case) -> tuple[Tensor, dict[str, Any]]:
        """Read a case's images and preprocess them to (C, D, H, W); beside it, what `finish` needs to know of them.

        Raises:
            ValueError: if a file is missing or channels are wrong, or if voxels are NaN or infinite.
        """
        recipe = self.model.recipe
        times = self.times[case.name] = CaseTimes(case.name, self.model.folds, 2 ** len(self.mirror_axes))
        with times.stage("read"):
            case.check_files()
            image, properties = read_case(case, recipe)
            for doubt in doubts(image, properties["spacing"], recipe):
                self.progress.say(f"note: {case.name}: {doubt}")
            previous = None if case.previous is None else recipe.read_label_map(str(case.previous))
        with times.stage("preprocess"):
            array, known = recipe.preprocess(image, properties, previous)
            data = torch.from_numpy(array).to(dtype=torch.float32, memory_format=torch.contiguous_format)
            if bad := non_finite_channels(data):
                names = list(recipe.channel_names.values())
                msg = (
                    f"channel {', '.join(names[channel] for channel in bad)} holds NaN or infinite voxels, so a label "
                    "map would mean nothing; replace these voxels in the image and predict it again"
                )
                raise ValueError(msg)
        return data, known
