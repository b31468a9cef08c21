"""What comes after a case is prepared: network, finish. Each times its stages; each may run in a thread of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import save_pickle
from torch import Tensor

from scd_plugin.freed_memory import give_freed_memory_back
from scd_plugin.measure.stage_colours import FOLDER, SHARES, write_colours
from scd_plugin.nnunet.model.recipe import Array
from scd_plugin.nnunet.model.trained_model import ModelFolder
from scd_plugin.nnunet.predict.bars import PredictionProgress
from scd_plugin.nnunet.predict.class_by_class import can_go_class_by_class, label_map
from scd_plugin.nnunet.predict.clock import CaseTimes
from scd_plugin.nnunet.predict.jobs import Case
from scd_plugin.nnunet.predict.keep_map import WholeImage, on_image_grid
from scd_plugin.nnunet.predict.prepare import read_case
from scd_plugin.nnunet.predict.statistics import case_statistics, class_values
from scd_plugin.nnunet.predict.windows import WindowPredictor
from scd_plugin.whole_files import moved_into_place

__all__ = ["Predicted", "Steps"]


class Predicted(NamedTuple):
    """What the network said of a case."""

    known: dict[str, Any]
    """What `NnunetRecipe.preprocess` says of the image."""
    logits: Tensor | None = None
    """(classes or regions, D, H, W), float16 as nnU-Net has them, on the CPU; or there is a label map already."""
    segmentation: Array | None = None
    """(Z, Y, X), on the image's grid."""


@dataclass(frozen=True)
class Steps:
    """The steps that `run_pipeline` takes each case through, made of nnU-Net's own functions."""

    model: ModelFolder
    predictor: WindowPredictor
    progress: PredictionProgress
    times: dict[str, CaseTimes]
    """Those of each case that was prepared, by its name."""
    finished: list[CaseTimes]
    """The times of cases that are written or have failed are added to it."""
    keeps_freed_memory: bool = False
    """Whether this process keeps what it frees; it is given back after the windows of each case then."""
    statistics: list[dict[str, Any]] | None = None
    """A row for each class of a case that is written is added to it, if there is such a list."""
    keep_maps: dict[str, WholeImage] = field(default_factory=dict)
    """Those of cases that went through the network and are not written yet, by their names."""

    def network(self, case: Case, prepared: tuple[Tensor, dict[str, Any]]) -> Predicted:
        """Run the network over all windows and folds; ValueError where its output is NaN."""
        (data, known), times = prepared, self.times[case.name]
        self.progress.case(case.name)
        with times.stage("network"):
            keep_map = self.predictor.keep_map
            if keep_map is not None:
                keep_map.forget()
            logits: Tensor = self.predictor.predict_logits_from_preprocessed_data(data)
            if keep_map is not None:
                window = self.model.recipe.configuration.patch_size
                self.keep_maps[case.name] = keep_map.take(data.shape[1:], window)
            times.windows, times.windows_computed = self.predictor.num_windows, self.predictor.num_computed
            # the last layer mixes all features, so NaN shows in each class
            if torch.isnan(logits[0]).any():
                msg = "the network's output is NaN for this image, so a label map would mean nothing"
                raise ValueError(msg)
        if self.keeps_freed_memory:
            # what the windows left is not needed before the next case, and resampling wants larger pieces
            give_freed_memory_back()
        if self.predictor.device.type == "cuda" and self._goes_class_by_class():
            # here and not beside the next case, which needs the device's memory
            with times.stage("resample"):
                segmentation = label_map(logits, self.model.recipe, known, self.predictor.device)
            return Predicted(known, segmentation=segmentation)
        return Predicted(known, logits=logits)

    def _goes_class_by_class(self) -> bool:
        how = self.predictor.settings
        return how.resampling == "torch" and not how.save_probabilities and can_go_class_by_class(self.model.recipe)

    def _restored(self, logits: Tensor, known: dict[str, Any]) -> tuple[Array, Array | None]:
        """Label map on the image's grid, and probabilities if they are asked for."""
        recipe = self.model.recipe
        if self.predictor.settings.save_probabilities:
            return recipe.restore_with_probabilities(logits.numpy(), known)
        if self._goes_class_by_class():
            return label_map(logits, recipe, known, torch.device("cpu")), None
        return recipe.restore(logits.numpy(), known), None

    def finish(self, case: Case, predicted: Predicted) -> None:
        """Resample to the image's grid and write; files appear whole, the label map last."""
        known, logits, segmentation = predicted
        recipe, times = self.model.recipe, self.times[case.name]
        probabilities: Array | None = None
        if segmentation is None:
            with times.stage("resample"):
                segmentation, probabilities = self._restored(cast("Tensor", logits), known)
        # the label map last, which tells `--continue` that nothing is left to do
        with times.stage("write"):
            if probabilities is not None:
                with moved_into_place(case.probabilities) as partial:
                    np.savez_compressed(partial, probabilities=probabilities)
                    save_pickle(known, str(partial.with_suffix(".pkl")))
            if (keep_map := self.keep_maps.pop(case.name, None)) is not None:
                self._write_keep_map(case, keep_map, known)
            rows = [] if self.statistics is None else self._statistics(case, segmentation)
            recipe.write(segmentation, case.output, known)
            if self.statistics is not None:
                self.statistics.extend(rows)

    def _write_keep_map(self, case: Case, keep_map: WholeImage, known: dict[str, Any]) -> None:
        recipe, settings = self.model.recipe, self.predictor.settings
        wanted = {FOLDER: keep_map.latest} if settings.keep_map else {}
        wanted |= {SHARES: keep_map.kept_percent} if settings.keep_shares else {}
        for name, values in wanted.items():
            folder = case.output.parent / name
            folder.mkdir(exist_ok=True)
            recipe.write(on_image_grid(values, recipe, known), folder / case.output.name, known)
        if settings.keep_map and self.predictor.keep_map is not None:
            write_colours(case.output.parent / FOLDER, self.predictor.keep_map.num_stages)

    def count_written(self, case: Case) -> None:
        """Add the statistics of a label map that an earlier run wrote, or say why there are none."""
        try:
            rows = self._statistics(case, self.model.recipe.read_label_map(str(case.output))[0])
        except IndexError:
            self.progress.say(f"note: no statistics of {case.name}: {case.output} is not on the grid of its image")
            return
        except (OSError, RuntimeError, ValueError) as error:
            self.progress.say(f"note: no statistics of {case.name}: {error}")
            return
        cast("list[dict[str, Any]]", self.statistics).extend(rows)

    def _statistics(self, case: Case, segmentation: Array) -> list[dict[str, Any]]:
        recipe = self.model.recipe
        order = recipe.labels.regions_class_order if recipe.labels.has_regions else None
        image, properties = read_case(case, recipe)
        channels = list(recipe.channel_names.values())
        classes = class_values(recipe.dataset["labels"], order)
        rows = case_statistics(segmentation, image, classes, channels, properties)
        return [{"case": case.name, **row} for row in rows]

    def done(self, case: Case, error: BaseException | None) -> None:
        """Note that a case is written, or say why it is not."""
        times = self.times[case.name]
        if error is not None:
            times.error = times.error or f"{type(error).__name__}: {error}"
            self.progress.say(f"failed: {case.name}: {times.error}")
        self.finished.append(times)
        self.progress.case_done()
