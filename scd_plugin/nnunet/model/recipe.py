"""Reads, preprocesses, restores and writes images around a network, by nnU-Net's own functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from acvl_utils.cropping_and_padding.bounding_boxes import insert_crop_into_image
from nibabel.filebasedimages import ImageFileError
from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot, determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from scd_plugin.complete_files import check_complete
from scd_plugin.folders import read_json
from scd_plugin.nnunet.model.named_code import check_named_code
from scd_plugin.reader_errors import reading_error
from scd_plugin.voxel_values import check_stored_values, wrong_values
from scd_plugin.whole_files import moved_into_place

__all__ = ["NnunetRecipe", "read_recipe"]

Array = npt.NDArray[Any]
_TAKE_THOSE = "take plans.json and dataset.json of the training"
# what plans must have beside configurations; nnU-Net itself fails at each with a KeyError
_INTENSITIES = "foreground_intensity_properties_per_channel"
_VOLUME = 3
_FLAT = 999
# in which nnU-Net's writers keep labels
_LARGEST_LABEL = 2**16 - 1
_PLANS_NEED = ("image_reader_writer", "transpose_forward", "transpose_backward", _INTENSITIES)


class NnunetRecipe:
    """Plans, data set description and configuration, bound together.

    With `trust` the plans may name code of any package, which nnU-Net then runs.

    Raises:
        ValueError: if the plans have no such configuration, if either lacks what nnU-Net needs at prediction, or if
            the plans name code that needs trust, see `check_named_code`.
    """

    def __init__(
        self, plans: dict[str, Any], dataset: dict[str, Any], configuration: str, *, trust: bool = False
    ) -> None:
        _check_plans(plans, configuration)
        _check_dataset(dataset)
        self.dataset = dataset
        self.trust = trust
        self.plans = PlansManager(plans)
        try:
            self.configuration = self.plans.get_configuration(configuration)
        except KeyError as error:
            msg = f"configuration {configuration} of plans.json has no {error}, which nnU-Net needs; {_TAKE_THOSE}"
            raise ValueError(msg) from None
        if not trust:
            check_named_code(plans, self.configuration.configuration)
        try:
            self.labels = self.plans.get_label_manager(dataset)
        except (AssertionError, RuntimeError) as error:
            msg = f"nnU-Net does not take the labels of dataset.json, {dataset['labels']}: {error}"
            raise ValueError(msg) from None
        self.num_channels: int = determine_num_input_channels(self.plans, self.configuration, dataset)
        """Channels of the network; in a cascade's second stage more than the images have."""

    @property
    def file_ending(self) -> str:
        """File ending of images and label maps, with its dot."""
        return str(self.dataset["file_ending"])

    @property
    def channel_names(self) -> dict[str, str]:
        """Names of an image's channels by number; old data sets call them modalities."""
        return dict(self.dataset.get("channel_names") or self.dataset["modality"])

    def read(self, files: Sequence[str]) -> tuple[Array, dict[str, Any]]:
        """Read an image (C, Z, Y, X) with the plans' reader, and its properties, which hold the geometry.

        Raises:
            ValueError: if a file was cut off, if there are other channels than the network takes, if the image is flat
                and the network takes volumes, or if voxels are complex, not finite, or too large for float32.
        """
        for file in map(Path, files):
            check_complete(file)
            check_stored_values(file)
        try:
            image, properties = self.plans.image_reader_writer_class().read_images(list(files))
        except (RuntimeError, ImageFileError) as error:
            # nnU-Net's own have no text: it prints what is wrong
            if not str(error):
                raise
            raise ValueError(reading_error(files, error)) from None
        what = f"image {', '.join(files)}"
        # no label map could be written for it
        if len(properties.get("sitk_stuff", {}).get("spacing", ())) > _VOLUME:
            msg = f"{what} has more than three axes: write each channel to a file of its own, NAME_0000, NAME_0001, ..."
            raise ValueError(msg)
        if len(image) != len(self.channel_names):
            msg = (
                f"{what} has {len(image)} channels where the network takes "
                f"{len(self.channel_names)}: {', '.join(self.channel_names.values())}"
            )
            if len(files) == 1 < len(image):
                msg += " (colours are taken for channels)"
            raise ValueError(msg)
        first, *others = properties["spacing"]
        # nnU-Net's readers have no third spacing then, and take a number that makes a thousand slices of one
        if len(self.configuration.patch_size) == _VOLUME and image.shape[1] == 1 and first >= _FLAT * max(others):
            msg = f"{what} is flat where the network takes volumes: give it a third axis, and a spacing for it"
            raise ValueError(msg)
        for channel, name in zip(image, self.channel_names.values()):
            if problem := wrong_values(channel):
                msg = (
                    f"channel {name} holds {problem}, so a label map would mean nothing; replace these voxels in the "
                    "image and predict it again"
                )
                raise ValueError(msg)
        return np.asarray(image), properties

    def read_label_map(self, file: str) -> Array:
        """Read a label map (1, Z, Y, X) with the plans' reader; ValueError if it is none, cut off or not finite."""
        check_complete(Path(file))
        check_stored_values(Path(file))
        try:
            return np.asarray(self.plans.image_reader_writer_class().read_seg(file)[0])
        except (RuntimeError, ImageFileError) as error:
            raise ValueError(reading_error([file], error)) from None

    def preprocess(
        self, image: Array, properties: dict[str, Any], previous: Array | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Transpose, crop to what is not zero, normalise, resample.

        Args:
            image: (C, Z, Y, X); not changed.
            properties: those from `read`, or at least a `spacing` in z, y, x.
            previous: (1, Z, Y, X), the label map of the first stage, for a cascade's second stage.

        Returns:
            The input of the network, in the axis order of the plans, and the properties that `restore` needs.

        Raises:
            ValueError: if image and label map differ in shape.
        """
        if previous is not None and previous.shape[1:] != image.shape[1:]:
            msg = (
                f"the label map of the previous stage has the shape {previous.shape[1:]} where the image has "
                f"{image.shape[1:]}; predict the previous stage on these images"
            )
            raise ValueError(msg)
        data, labels, known = self._preprocess(image, previous, properties)
        if previous is not None:
            data = np.vstack((data, convert_labelmap_to_one_hot(labels[0], self.labels.foreground_labels, data.dtype)))
        return np.asarray(data, dtype=np.float32), known

    def preprocess_labelled(self, image: Array, label: Array, properties: dict[str, Any]) -> tuple[Array, Array]:
        """Transpose, crop, normalise and resample an image (C, Z, Y, X) and its label map (1, Z, Y, X).

        Returns:
            Both on the grid that the network sees, the image in float32; the label is -1 outside of what is not zero.

        Raises:
            ValueError: if they differ in shape.
        """
        if label.shape[1:] != image.shape[1:]:
            msg = f"the label map has the shape {label.shape[1:]} where its image has {image.shape[1:]}"
            raise ValueError(msg)
        data, labels, _ = self._preprocess(image, label, properties)
        return np.asarray(data, dtype=np.float32), np.asarray(labels)

    def _preprocess(self, image: Array, labels: Array | None, properties: dict[str, Any]) -> Any:
        preprocessor = self.configuration.preprocessor_class(verbose=False)
        return preprocessor.run_case_npy(image, labels, dict(properties), self.plans, self.configuration, self.dataset)

    def restore(self, logits: Array, properties: dict[str, Any]) -> Array:
        """Turn logits (classes or regions, *size) into a label map (Z, Y, X), uint8 or uint16, on the image's grid."""
        return np.asarray(self._restore(logits, properties, probabilities=False))

    def restore_with_probabilities(self, logits: Array, properties: dict[str, Any]) -> tuple[Array, Array]:
        """Return what `restore` does, and probabilities (classes or regions, Z, Y, X)."""
        segmentation, probabilities = self._restore(logits, properties, probabilities=True)
        return np.asarray(segmentation), np.asarray(probabilities)

    def _restore(self, logits: Array, properties: dict[str, Any], *, probabilities: bool) -> Any:
        known = (self.plans, self.configuration, self.labels, properties)
        return convert_predicted_logits_to_segmentation_with_correct_shape(
            logits, *known, return_probabilities=probabilities, num_threads_torch=default_num_processes
        )

    @property
    def label_type(self) -> type[np.uint8 | np.uint16]:
        """In which nnU-Net keeps label maps."""
        return np.uint8 if len(self.labels.foreground_labels) < 255 else np.uint16

    def uncropped(self, values: Array, properties: dict[str, Any]) -> Array:
        """Put values on the image's grid, cropped and in the plans' order of axes, into the whole image (Z, Y, X).

        What was cut away is 0.
        """
        whole = np.zeros(properties["shape_before_cropping"], dtype=values.dtype)
        whole = insert_crop_into_image(whole, values, properties["bbox_used_for_cropping"])
        return np.ascontiguousarray(whole.transpose(self.plans.transpose_backward))

    def write(self, segmentation: Array, file: str | Path, properties: dict[str, Any]) -> None:
        """Write a label map (Z, Y, X) with the plans' writer; it appears whole or not at all.

        Raises:
            OSError: as `moved_into_place`; also where it can't be read back as it was written: on a full disk ITK's
                writers leave half a file, or an empty one, and say nothing.
        """
        with moved_into_place(Path(file)) as partial:
            self.plans.image_reader_writer_class().write_seg(segmentation, str(partial), properties)
            if not self._was_written(partial, segmentation):
                msg = "it could not be read back as it was written; is the disk full?"
                raise OSError(msg)

    def _was_written(self, file: Path, segmentation: Array) -> bool:
        try:
            return np.array_equal(self.read_label_map(str(file))[0], segmentation)
        except Exception:  # noqa: BLE001  (readers raise what their libraries do)
            return False


def _check_plans(plans: Any, configuration: str) -> None:
    known = _object(plans, "plans.json").get("configurations", {})
    if not isinstance(known, dict):
        msg = f"configurations of plans.json must be an object with a name for each, not {_kind(known)}; {_TAKE_THOSE}"
        raise ValueError(msg)
    if configuration not in known:
        msg = f"the plans have no configuration {configuration!r}; they have {', '.join(known) or 'none'}"
        raise ValueError(msg)
    if missing := [name for name in _PLANS_NEED if name not in plans]:
        msg = f"plans.json has no {', '.join(missing)}, which nnU-Net needs at prediction; {_TAKE_THOSE}"
        raise ValueError(msg)


def _check_dataset(dataset: Any) -> None:
    has = _object(dataset, "dataset.json").keys()
    missing = [name for name in ("labels", "file_ending") if name not in has]
    if not has & {"channel_names", "modality"}:
        missing.insert(0, "channel_names")
    if missing:
        msg = f"dataset.json has no {', '.join(missing)}, which nnU-Net needs at prediction; {_TAKE_THOSE}"
        raise ValueError(msg)
    for name, value in _object(dataset["labels"], "labels of dataset.json").items():
        if not all(isinstance(one, int) for one in (value if isinstance(value, list | tuple) else [value])):
            msg = f"label {name} of dataset.json must be a whole number, or a list of them for a region; got {value!r}"
            raise ValueError(msg)
    _object(dataset.get("channel_names") or dataset.get("modality", {}), "channel_names of dataset.json")
    written = dataset.get("regions_class_order") or []
    if too_large := [value for value in written if value > _LARGEST_LABEL]:
        msg = (
            f"regions_class_order of dataset.json has {too_large[0]}; nnU-Net writes label maps in 16 bits, so up to "
            f"{_LARGEST_LABEL}"
        )
        raise ValueError(msg)


def _object(content: Any, what: str) -> dict[str, Any]:
    if isinstance(content, dict):
        return content
    msg = f"{what} must be an object, {{...}}, as nnU-Net writes it, not {_kind(content)}; {_TAKE_THOSE}"
    raise ValueError(msg)


def _kind(content: Any) -> str:
    return {list: "a list", str: "a string", type(None): "null"}.get(type(content), f"the value {content}")


def read_recipe(folder: str | Path, configuration: str, *, trust: bool = False) -> NnunetRecipe:
    """Read a recipe from a folder with nnU-Net's `plans.json` and `dataset.json`; for trust see `NnunetRecipe`.

    Raises:
        ValueError: if a file is missing or no JSON, or as `NnunetRecipe` does.
    """
    root = Path(folder)
    plans, dataset = read_json(root / "plans.json"), read_json(root / "dataset.json")
    try:
        return NnunetRecipe(plans, dataset, configuration, trust=trust)
    except ValueError as error:
        msg = f"{root}: {error}"
        raise ValueError(msg) from None
