"""Keep maps: the stages of the network on the grid of the image, whatever windows, batches, folds and crops."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from scd_plugin.measure.stage_colours import stage_names, write_colours
from scd_plugin.nnunet.model.trained_model import ModelFolder
from scd_plugin.nnunet.model.trained_network import build_network
from scd_plugin.nnunet.predict.keep_map import KeepMap, on_image_grid
from scd_plugin.nnunet.predict.run import predict
from scd_plugin.nnunet.predict.settings import PredictSettings

SCD = "nnUNetTrainerSCD_demo"
STAGE_FOLDERS = ("keep_maps", "keep_shares")


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def settings(**changes: Any) -> PredictSettings:
    return PredictSettings(device="cpu", keep_map=True, **changes)


def test_of_one_window_is_what_the_network_says(small: Callable[..., Any]) -> None:
    network = small().eval()
    image = torch.randn(2, *network.image_shape)
    size = network.image_shape[1:]
    keep_map = KeepMap(network)
    whole = [size[0] * 2, *size[1:]]
    keep_map.begin(whole)
    with torch.no_grad():
        network(image)
        # a mirrored pass, which does not count
        network(image.flip(-1))
    everything = [slice(None)] * (len(size) - 1)
    windows = [(slice(None), slice(first, first + size[0]), *everything) for first in (0, size[0])]
    keep_map.add(windows)
    found, percent = keep_map.take(whole, size)
    tokens = [edge // count for edge, count in zip(size, network.grid_size)]
    with torch.no_grad():
        expected = torch.cat(list(network.exit_stages(image) + 1)).to(torch.uint8)
    for axis, edge in enumerate(tokens):
        expected = expected.repeat_interleave(edge, dim=axis)
    assert torch.equal(found, expected)
    assert torch.equal(percent == 100, found == keep_map.num_stages + 1)
    assert set(percent.unique().tolist()) == {0, 100}
    assert set(found.unique().tolist()) == set(range(1, keep_map.num_stages + 2))


def test_latest_stage_counts_where_windows_overlap(small: Callable[..., Any]) -> None:
    network = small().eval()
    size = network.image_shape[1:]
    keep_map, place = KeepMap(network), (slice(None), *(slice(0, edge) for edge in size))
    images = [torch.randn(1, *network.image_shape) for _ in range(2)]
    maps = []
    for image in images:
        keep_map.begin(size)
        with torch.no_grad():
            network(image)
        keep_map.add([place])
        maps.append(keep_map.take(size, size).latest)
    for image in images:
        keep_map.begin(size)
        with torch.no_grad():
            network(image)
        keep_map.add([place])
    found, percent = keep_map.take(size, size)
    assert torch.equal(found, torch.maximum(*maps))
    kept = [one == keep_map.num_stages + 1 for one in maps]
    assert torch.equal(percent, (50 * (kept[0].int() + kept[1].int())).to(torch.uint8))
    assert 50 in percent


def test_a_pass_that_failed_leaves_nothing(small: Callable[..., Any]) -> None:
    network = small().eval()
    size = network.image_shape[1:]
    keep_map = KeepMap(network)
    keep_map.begin([2 * edge for edge in size])
    keep_map.forget()
    keep_map.begin(size)
    assert [part.shape for part in keep_map.take(size, size)] == [tuple(size)] * 2


def test_networks_that_prune_nothing(small: Callable[..., Any]) -> None:
    for network in (small(keep_ratio=1), torch.nn.Conv3d(1, 2, 3)):
        with pytest.raises(ValueError, match="a keep map is for networks that prune tokens, and this one prunes none"):
            KeepMap(network)
    with pytest.raises(ValueError, match="keep-map and skip-empty exclude each other"):
        settings(skip_empty=True)
    with pytest.raises(ValueError, match="keep-shares and skip-empty exclude each other"):
        PredictSettings(device="cpu", keep_shares=True, skip_empty=True)


def test_colours_of_3d_slicer(tmp_path: Path) -> None:
    lines = write_colours(tmp_path, 2).read_text().splitlines()
    assert lines[0] == "# Color table file keep_map.ctbl"
    assert [line.split()[:2] for line in lines[1:]] == [
        [str(number), name.replace(" ", "_")] for number, name in enumerate(stage_names(2))
    ]
    assert all(re.fullmatch(r"\d \w+( \d{1,3}){4}", line) for line in lines[1:])


@pytest.mark.parametrize("configuration", ["3d_fullres", pytest.param("2d", marks=pytest.mark.slow)])
def test_beside_the_label_maps(
    make_model: Callable[..., Path], make_images: Callable[..., Path], tmp_path: Path, configuration: str
) -> None:
    model = make_model(trainer=SCD, configuration=configuration, folds=("0", "1"), mirror_axes=(0,))
    images = make_images()
    times = predict(images, tmp_path / "out", model, settings())
    assert [one.error for one in times] == [None, None]
    network = build_network(ModelFolder.read(model, (), "checkpoint_final.pth"))
    latest = len(network.pruning_stages()) + 1
    for name in ("a", "b"):
        image = sitk.ReadImage(str(images / f"{name}_0000.nii.gz"))
        file = tmp_path / "out" / "keep_maps" / f"{name}.nii.gz"
        found = sitk.ReadImage(str(file))
        assert found.GetSize() == image.GetSize()
        assert found.GetOrigin() == pytest.approx(image.GetOrigin())
        assert found.GetDirection() == pytest.approx(image.GetDirection())
        values = voxels(file)
        # nnU-Net cuts borders of zeros away, and looks at all the rest
        nonzero = voxels(images / f"{name}_0000.nii.gz") != 0
        box = tuple(slice(places.min(), places.max() + 1) for places in np.nonzero(nonzero))
        assert (values[box] > 0).all()
        assert values.sum() == values[box].sum()
        assert set(np.unique(values[box])) <= set(range(1, latest + 1))
        assert len(np.unique(values[box])) > 1
    assert (tmp_path / "out" / "keep_maps" / "keep_map.ctbl").is_file()
    assert not (tmp_path / "out" / "keep_shares").exists()
    # without mirroring and in batches the unmirrored passes are the same
    predict(images, tmp_path / "batches", model, settings(batch=3, mirroring=False, keep_shares=True))
    for name in ("a", "b"):
        stages, percent = (voxels(tmp_path / "batches" / folder / f"{name}.nii.gz") for folder in STAGE_FOLDERS)
        assert ((percent > 0) == (stages == latest)).all()
        assert 0 < percent.max() <= 100
        ours = [voxels(tmp_path / folder / "keep_maps" / f"{name}.nii.gz") for folder in ("out", "batches")]
        assert (ours[0] == ours[1]).mean() > 0.99


def test_a_model_that_prunes_nothing(
    make_model: Callable[..., Path], make_images: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="a keep map is for networks that prune tokens"):
        predict(make_images(), tmp_path / "out", make_model(), settings())
    assert not (tmp_path / "out").exists()


def test_resampled_by_the_nearest_voxel(recipe: Any) -> None:
    known = {
        "shape_after_cropping_and_before_resampling": (2, 4, 2),
        "shape_before_cropping": (3, 4, 2),
        "bbox_used_for_cropping": [[1, 3], [0, 4], [0, 2]],
    }
    values = torch.tensor([1, 2], dtype=torch.uint8).view(1, 2, 1).expand(2, 2, 2)
    found = on_image_grid(values, recipe, known)
    turned = found.transpose(np.argsort(recipe.plans.transpose_backward))
    assert turned.shape == (3, 4, 2)
    assert not turned[0].any()
    assert turned[1, :, 0].tolist() == [1, 1, 2, 2]
