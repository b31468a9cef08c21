"""Which images are predicted, and where their label maps go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scd_plugin.channel_files import channel_files, in_order
from scd_plugin.folders import check_output, check_output_file, find_folds, read_json

if TYPE_CHECKING:
    from scd_plugin.nnunet.model.recipe import NnunetRecipe

__all__ = ["TIMES", "Case", "check_cascade", "check_paths", "find_cases", "find_images", "left_to_do"]

TIMES = "the file for the times"


@dataclass(frozen=True)
class Case:
    """An image to predict: which files are read and written for it."""

    name: str
    images: tuple[Path, ...]
    """A file for each channel, or the folder of a DICOM series."""
    output: Path
    """The label map."""
    file_ending: str
    """Of images and label map."""
    previous: Path | None = None
    """The label map of a cascade's first stage."""

    @property
    def probabilities(self) -> Path:
        """The file in which nnU-Net's ensembling looks for probabilities."""
        return self.output.with_name(self.output.name.removesuffix(self.file_ending) + ".npz")

    @property
    def is_series(self) -> bool:
        """Whether the image is a DICOM series."""
        return self.images[0].is_dir()

    def check_files(self) -> None:
        """Raise ValueError if a channel or the previous stage is missing."""
        files = [path.name for path in self.images]
        if not self.is_series and not in_order(self.name, files, self.file_ending, len(files)):
            first = f"{self.name}_0000{self.file_ending}"
            msg = f"channels must be the files {first}, _0001, ...; there are {', '.join(files)}"
            raise ValueError(msg)
        if self.previous is not None and not self.previous.is_file():
            msg = f"the previous stage has no label map of it: {self.previous} is missing"
            raise ValueError(msg)


def check_paths(
    images: Path,
    output: Path,
    model_folder: Path,
    *,
    folds: Sequence[str] | None,
    checkpoint: str,
    times: Path | None = None,
    **_settings: object,
) -> None:
    """Refuse paths of `scd predict` by what is there, before anything is imported that takes seconds.

    Raises:
        ValueError: as `find_folds`, `find_images`, `check_output` and `check_output_file`.
    """
    find_folds(model_folder, folds or (), checkpoint)
    description = read_json(model_folder.expanduser() / "dataset.json")
    # what is wrong with it is said where it is read
    if isinstance(description, dict) and description.keys() >= {"labels", "file_ending"}:
        find_images(images.expanduser(), str(description["file_ending"]))
    check_output(output)
    if times is not None:
        check_output_file(times, TIMES)


def find_images(images: Path, file_ending: str) -> dict[str, list[str]]:
    """Find the files of each case in a folder, or of the one case that a file is of, by their names in the folder.

    Where a folder holds no such file, each DICOM series in it is a case, as deep as it lies.

    Raises:
        ValueError: if there is nothing to predict, or two series would have one result.
    """
    folder = images.parent if images.is_file() else images
    if not folder.is_dir():
        msg = f"input must be a folder of images or an image; there is no {images}"
        raise ValueError(msg)
    found = channel_files([path.name for path in folder.iterdir() if path.is_file()], file_ending)
    if images.is_file():
        found = _of_file(images, found, file_ending)
    found = found or _series(folder)
    if not found:
        msg = (
            f"{folder} holds no image: names must end in {file_ending}, as in the data set of the training, with the "
            f"channel's number before (NAME_0000{file_ending}, ...); nor is there a DICOM series"
        )
        raise ValueError(msg)
    return found


def _series(folder: Path) -> dict[str, list[str]]:
    """Find DICOM series by the names of their folders."""
    # ITK takes a moment to load
    from scd_plugin.dicom_series import series_folders

    found: dict[str, list[str]] = {}
    for place in series_folders(folder):
        # "." has no name, and links keep their own
        name, where = place.absolute().name, str(place.relative_to(folder))
        if name in found:
            msg = f"the label maps of the series {found[name][0]} and {where} in {folder} would be one file: rename one"
            raise ValueError(msg)
        found[name] = [where]
    return found


def find_cases(
    images: Path, output: Path, file_ending: str, *, previous_stage: Path | None = None, endings: Sequence[str] = ()
) -> list[Case]:
    """Find the cases of a folder, or the one case that a file is of, whose other channels are looked for beside it.

    Only for a file may `output` be one; it is if it has any of the `endings` of image files.

    Raises:
        ValueError: as `find_images` and `check_output`, or if a label map would be written over an image.
    """
    found, folder = find_images(images, file_ending), images.parent if images.is_file() else images
    file = _as_file(check_output(output), images, file_ending, endings)
    cases = []
    for name, files in found.items():
        label_map = f"{name}{file_ending}"
        previous = previous_stage / label_map if previous_stage else None
        paths = tuple(folder / image for image in files)
        cases.append(Case(name, paths, file or output / label_map, file_ending, previous))
    read = {path.resolve() for case in cases for path in (*case.images, case.previous) if path}
    if clash := [case.output for case in cases if case.output.resolve() in read]:
        msg = f"the label map would be written over the image {clash[0]}; name another output"
        raise ValueError(msg)
    return cases


def check_cascade(recipe: NnunetRecipe, configuration: str, previous_stage: Path | None) -> None:
    """Raise ValueError if a previous stage is needed and not given, or given and not needed, or if it is no folder."""
    before = recipe.configuration.previous_stage_name
    if before is not None and previous_stage is None:
        msg = (
            f"configuration {configuration} is the second stage of a cascade: predict the images with {before} first, "
            "and give the folder of its label maps as previous stage (--previous-stage)"
        )
        raise ValueError(msg)
    if before is None and previous_stage is not None:
        msg = f"configuration {configuration} is no second stage of a cascade; leave out the previous stage"
        raise ValueError(msg)
    if previous_stage is not None and not previous_stage.is_dir():
        msg = f"the previous stage must be a folder of label maps; there is no {previous_stage}"
        raise ValueError(msg)


def left_to_do(cases: Sequence[Case], *, save_probabilities: bool, beside: Sequence[str] = ()) -> list[Case]:
    """Choose the cases whose output is not there yet, as nnU-Net's `--continue_prediction` does.

    Args:
        cases: all of them.
        save_probabilities: whether probabilities are part of the output.
        beside: folders beside the label maps that hold a file for each case, too.
    """

    def files(case: Case) -> list[Path]:
        maps = [case.output.parent / folder / case.output.name for folder in beside]
        return [case.output, *maps, *([case.probabilities] if save_probabilities else [])]

    return [case for case in cases if not all(file.is_file() for file in files(case))]


def _of_file(image: Path, found: dict[str, list[str]], file_ending: str) -> dict[str, list[str]]:
    if not image.name.endswith(file_ending):
        msg = f"input {image} must end in {file_ending}, as in the data set of the training"
        raise ValueError(msg)
    named = {name: files for name, files in found.items() if image.name in files}
    # without a number, in a folder of numbered ones
    return named or {image.name.removesuffix(file_ending): [image.name]}


def _as_file(output: Path, images: Path, file_ending: str, endings: Sequence[str]) -> Path | None:
    """Return the output if it is meant to be a file, None if it is a folder."""
    is_image = output.name.endswith((file_ending, *endings))
    if output.is_dir() or not (is_image or output.exists()):
        return None
    if not is_image:
        msg = f"output {output} is a file that is no image; name a folder"
        raise ValueError(msg)
    if not images.is_file():
        msg = f"output {output} is a file, so input must be one too; {images} is a folder: name a folder as output"
        raise ValueError(msg)
    if not output.name.endswith(file_ending):
        msg = f"output {output} must end in {file_ending}, as the label maps of the training, or be a folder"
        raise ValueError(msg)
    return output
