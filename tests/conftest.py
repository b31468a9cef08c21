"""What all tests share: a fixed seed, a small network, small labelled folders, and the folder with real data."""

from __future__ import annotations

import json
import locale
import os

# Before torch starts its threads: workers share the cores, and threads that wait must not keep them busy.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from scd_plugin import SCDUNETR, SCDPrimus

REPOSITORY = Path(__file__).parents[1]
SHARED = Path(os.environ.get("SCD_SHARED", REPOSITORY.parent / "shared"))

SMALL: dict[str, Any] = {
    "in_channels": 2,
    "out_channels": 3,
    "img_size": 32,
    "feature_size": 4,
    "hidden_size": 48,
    "mlp_dim": 96,
    "num_heads": 4,
    "num_layers": 4,
    "prune_after": (1, 2, 3),
    "keep_ratio": 0.5,
}

SMALL_PRIMUS: dict[str, Any] = {
    "in_channels": 2,
    "out_channels": 3,
    "img_size": 32,
    "hidden_size": 48,
    "num_heads": 4,
    "num_layers": 4,
    "prune_after": (1, 2, 3),
    "keep_ratio": 0.5,
}


# Files whose tests share something that takes long to make.
TOGETHER = ("tests/e2e/", "tests/bundles/", "tests/monai/test_export.py")


@pytest.hookimpl(wrapper=True)  # the names of groups must be there before xdist looks for them
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Which tests stay together when workers share the run, and the longest first, so that none is left at the end."""

    def group(item: pytest.Item) -> str:
        # a model that is trained once serves several files
        return "trained" if "trained" in getattr(item, "fixturenames", ()) else item.nodeid.split("::")[0]

    def order(item: pytest.Item) -> tuple[bool, bool]:
        return item.get_closest_marker("slow") is None, "tests/e2e/" not in item.nodeid

    items.sort(key=order)
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            if item.nodeid.startswith(TOGETHER) and "test_integration" not in item.nodeid:
                item.add_marker(pytest.mark.xdist_group(group(item)))
    return (yield)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def small() -> Callable[..., SCDUNETR]:
    """Builds a small network; arguments change the defaults in `SMALL`."""

    def build(**changes: Any) -> SCDUNETR:
        return SCDUNETR(**{**SMALL, **changes})

    return build


@pytest.fixture
def small_primus() -> Callable[..., SCDPrimus]:
    """Builds a small SCD-Primus; arguments change the defaults in `SMALL_PRIMUS`."""

    def build(**changes: Any) -> SCDPrimus:
        return SCDPrimus(**{**SMALL_PRIMUS, **changes})

    return build


@pytest.fixture
def stock_primus() -> Callable[..., torch.nn.Module]:
    """Builds the stock Primus of a version that has the sizes of `SMALL_PRIMUS`, as nnU-Net's trainers do."""
    from dynamic_network_architectures.architectures import primus

    def build(version: int = 1, **changes: Any) -> torch.nn.Module:
        kind = {1: primus.Primus, 2: primus.PrimusV2, 3: primus.PrimusV3}[version]
        settings: dict[str, Any] = {
            "input_channels": 2,
            "embed_dim": 48,
            "patch_embed_size": (8, 8, 8),
            "num_classes": 3,
            "eva_depth": 4,
            "eva_numheads": 4,
            "input_shape": (32, 32, 32),
            "drop_path_rate": 0.0,
            "scale_attn_inner": True,
            "init_values": 0.1,
        }
        return kind(**{**settings, **changes})

    return build


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Path inside the shared data; skips the test where it is absent."""

    def find(relative: str) -> Path:
        path = SHARED / relative
        if not path.exists():
            pytest.skip(f"{relative} is not in the shared data folder; set SCD_SHARED to where it is")
        return path

    return find


class Volumes:
    """Writes small image files and labelled folders of them."""

    shape = (20, 22, 24)

    def write(
        self, path: Path, voxels: np.ndarray, *, spacing: Sequence[float] = (1.0, 1.0, 1.0), channels: bool = False
    ) -> Path:
        """Voxels in (z, y, x) order, or in (z, y, x, channels)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        image = sitk.GetImageFromArray(voxels, isVector=channels)
        image.SetSpacing([*spacing, 1.0][: image.GetDimension()])
        sitk.WriteImage(image, str(path))
        return path

    def series(
        self,
        folder: Path,
        uid: str,
        slices: int = 3,
        *,
        positions: Sequence[Sequence[float]] = (),
        orientations: Sequence[Sequence[float]] = (),
        sizes: Sequence[int] = (),
        thicknesses: Sequence[float] = (),
    ) -> Path:
        """A DICOM series of 8 x 8 voxels a slice, 1 mm apart, or where and as it is said."""
        slices = len(positions) or len(orientations) or len(sizes) or len(thicknesses) or slices
        folder.mkdir(parents=True, exist_ok=True)
        kept = locale.setlocale(locale.LC_ALL)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        for i in range(slices):
            edge = sizes[i] if sizes else 8
            position = positions[i] if positions else (0.0, 0.0, float(i))
            axes = orientations[i] if orientations else (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
            image = sitk.GetImageFromArray(np.full((1, edge, edge), i, np.int16))
            image.SetOrigin(position)
            for tag, value in {
                "0008|0060": "CT",
                "0020|000e": uid,
                "0020|000d": "1.2.3",
                "0008|0018": f"{uid}.{i}",
                "0020|0032": "\\".join(map(str, position)),
                "0020|0037": "\\".join(map(str, axes)),
                "0020|0013": str(i),
                **({"0018|0050": str(thicknesses[i])} if thicknesses else {}),
            }.items():
                image.SetMetaData(tag, value)
            writer.SetFileName(str(folder / f"{uid}_{i}.dcm"))
            writer.Execute(image)
        # GDCM leaves the locale at "C", and Python's files then know no other letters than ASCII's
        locale.setlocale(locale.LC_ALL, kept)
        return folder

    def case(self, rng: np.random.Generator, values: Sequence[int] = (1, 2)) -> tuple[np.ndarray, np.ndarray]:
        """Image and label: a block for each value, brighter than the noise around it."""
        label = np.zeros(self.shape, np.uint8)
        for i, value in enumerate(values):
            start = int(rng.integers(2, 5)) + 6 * i
            label[start : start + 6, 4:14, 5:16] = value
        return (rng.normal(size=self.shape) + 2 * label).astype(np.float32), label

    def plain(self, root: Path, *, num_cases: int = 4, values: Sequence[int] = (1, 2), ending: str = ".nii.gz") -> Path:
        """The folders `images` and `labels`."""
        rng = np.random.default_rng(0)
        for i in range(num_cases):
            image, label = self.case(rng, values)
            self.write(root / "images" / f"case_{i}{ending}", image)
            self.write(root / "labels" / f"case_{i}{ending}", label)
        return root

    def nnunet(
        self,
        root: Path,
        *,
        num_cases: int = 4,
        channel_names: Sequence[str] = ("MRI",),
        labels: dict[str, Any] | None = None,
        **entries: Any,
    ) -> Path:
        """An nnU-Net raw data set with labels 1 and 2."""
        rng = np.random.default_rng(0)
        for i in range(num_cases):
            image, label = self.case(rng)
            for channel in range(len(channel_names)):
                self.write(root / "imagesTr" / f"case_{i}_{channel:04d}.nii.gz", image + channel)
            self.write(root / "labelsTr" / f"case_{i}.nii.gz", label)
        description = {
            "channel_names": {str(i): name for i, name in enumerate(channel_names)},
            "labels": labels or {"background": 0, "one": 1, "two": 2},
            "numTraining": num_cases,
            "file_ending": ".nii.gz",
            **entries,
        }
        (root / "dataset.json").write_text(json.dumps(description))
        return root


@pytest.fixture(scope="session")
def volumes() -> Volumes:
    """Writer of small image files."""
    return Volumes()


@pytest.fixture
def unplanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], tuple[Path, Path]]:
    """Makes nnU-Net's folders and a CT data set without images, by name and cases; returns its raw and preprocessed."""

    def make(name: str, num_training: int) -> tuple[Path, Path]:
        for folder in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            monkeypatch.setenv(folder, str(tmp_path / folder))
        raw, preprocessed = tmp_path / "nnUNet_raw" / name, tmp_path / "nnUNet_preprocessed" / name
        for made in (raw / "imagesTr", raw / "labelsTr", preprocessed):
            made.mkdir(parents=True)
        description = {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "a": 1, "b": 2},
            "numTraining": num_training,
            "file_ending": ".nii.gz",
            "overwrite_image_reader_writer": "SimpleITKIO",
        }
        (raw / "dataset.json").write_text(json.dumps(description))
        return raw, preprocessed

    return make
