"""The bundles, small: copied, trained for two epochs on small volumes through MONAI's own command."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run

from scd_plugin import SCDNetwork

BUNDLES = Path(__file__).parents[2] / "bundles"
SMALL: dict[str, Any] = {"size": "tiny", "keep_ratio": 0.5, "num_workers": 0, "epochs": 2, "val_interval": 1}
# two to validate, one for each of two processes
NUM_CASES = 6
# the published windows are larger than small volumes
SMALL_WINDOW: dict[str, Any] = {"img_size": [16, 16, 16], "patch_size": [4, 4, 4], "spacing": [1.0, 1.0, 1.0]}


@dataclass
class TrainedBundle:
    """A bundle's folder after a training, and the data that it was trained on."""

    root: Path
    data: Path
    overrides: dict[str, Any]

    @property
    def configs(self) -> Path:
        return self.root / "configs"

    def config(self, *names: str) -> Any:
        files = [str(self.configs / f"{name}.json") for name in names]
        return files[0] if len(files) == 1 else files

    def run(self, *names: str, **overrides: Any) -> None:
        """`python -m monai.bundle run`, in this process."""
        run(config_file=self.config(*names), bundle_root=str(self.root), dataset_dir=str(self.data), **overrides)


def brain_folder(volumes: Any, root: Path) -> Path:
    """Four sequences in one four-dimensional file, as in the Decathlon's task 1."""
    rng = np.random.default_rng(0)
    for i in range(NUM_CASES):
        image, label = volumes.case(rng, (1, 2, 3))
        volumes.write(root / "images" / f"case_{i}.nii.gz", np.stack([image + c for c in range(4)]))
        volumes.write(root / "labels" / f"case_{i}.nii.gz", label)
    return root


@pytest.fixture
def network_of_training() -> Callable[..., SCDNetwork]:
    """What a bundle's train.json builds with options of the command line; without data, and without weights."""

    def build(bundle: str, **options: Any) -> SCDNetwork:
        parser = ConfigParser()
        parser.read_config(BUNDLES / bundle / "configs" / "train.json")
        parser.read_meta(BUNDLES / bundle / "configs" / "metadata.json")
        # which of two sizes is the default hangs on the device
        size = {"size": "base"} if str(parser["size"]).startswith("$") else {}
        parser.update({"dataset_dir": "no folder", **size, **options})
        with torch.device("meta"):
            return parser.get_parsed_content("network_def")

    return build


@pytest.fixture
def untrained(tmp_path: Path) -> Callable[[Path], TrainedBundle]:
    """The general bundle for a folder of data, to be trained for an epoch."""

    def build(data: Path) -> TrainedBundle:
        root = shutil.copytree(BUNDLES / "scd_unetr_segmentation", tmp_path / "bundle")
        return TrainedBundle(Path(root), data, {**SMALL, "epochs": 1})

    return build


@pytest.fixture(scope="session")
def of_fold_1(tmp_path_factory: pytest.TempPathFactory, volumes: Any) -> TrainedBundle:
    """The general bundle after one epoch, of which the interval of validations is five, with checkpoints elsewhere."""
    folder = tmp_path_factory.mktemp("fold_1")
    root = Path(shutil.copytree(BUNDLES / "scd_unetr_segmentation", folder / "bundle"))
    data = volumes.plain(folder / "data", num_cases=NUM_CASES)
    options = {**SMALL, "epochs": 1, "val_interval": 5, "fold": 1, "spacing": [1.0, 1.0, 2.0]}
    bundle = TrainedBundle(root, data, {**options, "ckpt_dir": str(folder / "checkpoints")})
    bundle.run("train", **bundle.overrides)
    return bundle


# tests for some of them name the first ones, in this order, or each would be trained more than once
@pytest.fixture(
    scope="session", params=["scd_unetr_segmentation", "scd_unetr_brats_segmentation", "scd_unetr_btcv_segmentation"]
)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, volumes: Any) -> TrainedBundle:
    folder = tmp_path_factory.mktemp("bundles")
    root = Path(shutil.copytree(BUNDLES / request.param, folder / request.param))
    data = folder / "Daten für Änne"
    overrides = dict(SMALL)
    if request.param == "scd_unetr_brats_segmentation":
        brain_folder(volumes, data)
    else:
        volumes.plain(data, num_cases=NUM_CASES)
    if request.param != "scd_unetr_segmentation":
        overrides |= SMALL_WINDOW
    bundle = TrainedBundle(root, data, overrides)
    bundle.run("train", **overrides)
    return bundle
