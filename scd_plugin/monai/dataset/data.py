"""From a data set's folder to what a bundle's training needs. Bundles call these functions by name."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import psutil
from monai.bundle import ConfigParser

from scd_plugin.monai.dataset.checks import num_channels, read_header, usable_cases
from scd_plugin.monai.dataset.describe import describe_cases, label_values, named_labels
from scd_plugin.monai.dataset.labelled_folders import Case, read_dataset
from scd_plugin.monai.dataset.splits import find_splits_file, split_names
from scd_plugin.monai.dataset.trained_on import only_unseen
from scd_plugin.monai.path_option import path_option

__all__ = ["cache_rate", "data_lists", "describe", "from_config"]

# of the memory that is free when a training starts
SHARE_OF_MEMORY = 0.5
BYTES_PER_VOXEL = 4

_LOGGER = logging.getLogger(__name__)


def _examined(folder: Path, skip_bad: bool, expected: tuple[int, tuple[int, ...]] | None) -> Any:
    """Open every case once, however many of the functions here a config calls, until a file changes."""
    places = [folder, *(place for place in folder.glob("*") if place.is_dir())]
    files = sorted(file for place in places for file in place.glob("*") if file.is_file())
    states = tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    return _examined_once(str(folder), skip_bad, expected, states)


@lru_cache(maxsize=4)
def _examined_once(
    dataset_dir: str, skip_bad: bool, expected: tuple[int, tuple[int, ...]] | None, _: tuple[tuple[str, int, int], ...]
) -> Any:
    dataset = read_dataset(dataset_dir)
    if dataset.ignore_label is not None:
        msg = (
            f"{dataset.root} has an ignore label, {dataset.ignore_label}, which this bundle's loss does not know: "
            "train it with nnU-Net (nnUNetv2_train ... -tr nnUNetTrainerSCD)"
        )
        raise ValueError(msg)
    if expected is not None:
        cases = usable_cases(dataset, channels=expected[0], labels=expected[1], skip_bad=skip_bad)
        return dataset, cases, None
    labels = named_labels(dataset)
    channels = len(dataset.channel_names) or _commonest_channels(dataset.cases)
    cases = usable_cases(dataset, channels=channels, labels=label_values(labels), skip_bad=skip_bad)
    return dataset, cases, describe_cases(dataset, labels, cases)


def describe(dataset_dir: str, recorded: Mapping[str, Any] | None = None, *, skip_bad: bool = False) -> dict[str, Any]:
    """Check all cases of a labelled folder, and find its channels, classes, spacing, window and intensities.

    Args:
        dataset_dir: see `read_dataset`.
        recorded: what an earlier training found; taken where `dataset_dir` does not exist, so that a network can be
            built without its data.
        skip_bad: leave damaged cases out instead of refusing the data set.

    Returns:
        See `describe_cases`.

    Raises:
        ValueError: if the folder is no data set, or a case is damaged.
    """
    folder = path_option(dataset_dir)
    if recorded is not None and not folder.exists():
        return dict(recorded)
    return dict(_examined(folder, skip_bad, None)[2])


def data_lists(
    dataset_dir: str,
    *,
    fold: int = 0,
    seed: int = 0,
    skip_bad: bool = False,
    channels: int | None = None,
    labels: Sequence[int] | None = None,
    trained_on: Mapping[str, Any] | None = None,
    skip_trained: bool = False,
) -> dict[str, list[dict[str, Any]]]:
    """Check all cases of a labelled folder, and list those for training and those for validation.

    Where `trained_on` names cases and none of them is here, in a folder without splits, all are for validation.

    Args:
        dataset_dir: see `read_dataset`.
        fold: see `split_names`; nnU-Net's splits_final.json is used where there is one.
        seed: see `split_names`.
        skip_bad: leave damaged cases out instead of refusing the data set.
        channels: how many the network takes; None for as many as the folder says.
        labels: values that it knows, background among them; None for those that the folder says.
        trained_on: what the network's weights were trained on, of which nothing may validate; None for nothing.
        skip_trained: see `only_unseen`.

    Returns:
        The lists `training` and `validation`; a case is a dict of `image`, a path or several, `label`, a path, and
        `case`, its name.

    Raises:
        ValueError: if the folder is no data set, a case is damaged, the split is impossible, or a case to validate was
            trained on.
    """
    expected = None if channels is None or labels is None else (channels, tuple(labels))
    dataset, cases, _ = _examined(path_option(dataset_dir), skip_bad, expected)
    by_name: dict[str, Case] = {case.name: case for case in cases}
    splits_file = find_splits_file(dataset.root)
    # cases that are left out keep their place, so that the others stay in their folds
    names = sorted({*(case.name for case in dataset.cases), *dataset.problems})
    trained = set(trained_on["training"]) if trained_on is not None else set()
    if trained and splits_file is None and trained.isdisjoint(names):
        training: Sequence[str] = ()
        validation: Sequence[str] = names
        _LOGGER.info("none of the %d cases of %s was trained on: all are scored", len(names), dataset.root)
    else:
        training, validation = split_names(names, fold=fold, seed=seed, splits_file=splits_file)
    lists = {
        "training": [_entry(by_name[name]) for name in training if name in by_name],
        "validation": [_entry(by_name[name]) for name in validation if name in by_name],
    }
    if trained_on is not None:
        lists["validation"] = only_unseen(
            lists["validation"], trained_on, fold=fold, seed=seed, skip_trained=skip_trained
        )
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    # an evaluation needs no case to train on
    for part in ("training", "validation") if trained_on is None else ("validation",):
        entries = lists[part]
        if not entries:
            msg = (
                f"no case is left for {part} in fold {fold} of {dataset.root}: choose another --fold or mend the cases"
            )
            raise ValueError(msg)
        if len(entries) < processes:
            msg = (
                f"{processes} processes need at least {processes} cases for {part}; fold {fold} of {dataset.root} has "
                f"{len(entries)}: start fewer processes, or add cases"
            )
            raise ValueError(msg)
    return lists


def cache_rate(
    entries: Sequence[Mapping[str, Any]], *, copies: int | None = None, spacing: Sequence[float] | None = None
) -> float:
    """Find the share of the cases that memory holds after preprocessing.

    Args:
        entries: a data list.
        copies: processes on this machine that each hold their own; None for as many as torchrun has started.
        spacing: mm per axis after resampling; None to count the files' own voxels.

    Returns:
        0 to 1; 1 where all fit into half of the free memory.
    """
    if not entries:
        return 0.0
    copies = copies or int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    budget = SHARE_OF_MEMORY * psutil.virtual_memory().available / copies
    sample = entries[:: max(1, len(entries) // 10)]
    per_case = sum(_bytes(entry, spacing) for entry in sample) / len(sample)
    return min(1.0, budget / (per_case * len(entries)))


def from_config(config: Mapping[str, Any] | Any) -> Any:
    """Build the object that a MONAI config describes.

    Args:
        config: with `_target_`, as in a bundle's JSON; anything else is built already, and returned.
    """
    if not isinstance(config, Mapping):
        return config
    return ConfigParser({"it": dict(config)}).get_parsed_content("it")


def _commonest_channels(cases: Sequence[Case]) -> int:
    """Channels that most cases have, where the folder does not say: one odd file must not be taken for the rule."""
    counts = []
    for case in cases:
        # files that can't be read are reported with the other damaged ones
        with suppress(ValueError):
            counts.append(num_channels(case))
    return max(set(counts), key=counts.count) if counts else 1


def _entry(case: Case) -> dict[str, Any]:
    images = [str(path) for path in case.images]
    return {"image": images[0] if len(images) == 1 else images, "label": str(case.label), "case": case.name}


def _bytes(entry: Mapping[str, Any], spacing: Sequence[float] | None) -> float:
    """Count the bytes of image and label as float32."""
    files = [entry["image"]] if isinstance(entry["image"], (str, os.PathLike)) else entry["image"]
    headers = [read_header(Path(file)) for file in files]
    voxels = float(prod(headers[0].size))
    if spacing is not None:
        voxels *= prod(headers[0].spacing) / prod(spacing)
    return BYTES_PER_VOXEL * voxels * (sum(header.channels for header in headers) + 1)
