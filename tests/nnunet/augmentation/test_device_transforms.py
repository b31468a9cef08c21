"""The transforms of a training on a device: nnU-Net's numbers, and no tensors that meet across devices."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("nnunetv2")

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.nnunet.remove_connected_components import (
    RemoveRandomConnectedComponentFromOneHotEncodingTransform,
)
from batchgeneratorsv2.transforms.noise.median_filter import MedianFilterTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from scd_plugin.nnunet.augmentation.device_transforms import OnCPU, leaves, on_device

PATCH = (12, 16, 14)
CROP = (18, 22, 20)
KINDS: dict[str, dict[str, Any]] = {
    "3-D": {},
    "2-D": {"dim": 2},
    "dummy 2-D": {"do_dummy_2d_data_aug": True},
    "deep supervision": {"deep_supervision_scales": [[1, 1, 1], [0.5, 0.5, 0.5]]},
    "regions": {"regions": [(1, 2), 2, (3,)]},
    "regions, ignored label": {"regions": [(1, 2), (2,)], "ignore_label": 3},
    "cascade": {"is_cascaded": True, "foreground_labels": [1, 2, 3]},
    "all": {
        "is_cascaded": True,
        "foreground_labels": [1, 2, 3],
        "use_mask_for_norm": [True, False],
        "regions": [(1, 2), (2,)],
        "deep_supervision_scales": [[1, 1, 1], [0.5, 0.5, 0.5]],
        "do_dummy_2d_data_aug": True,
    },
}


def stock(*, always: bool = True, dim: int = 3, **settings: Any) -> BasicTransform:
    """nnU-Net's own; `always` for all of it at every sample. Without the timing that decides about FFT."""
    wanted = {"deep_supervision_scales": None, "do_dummy_2d_data_aug": False, **settings}
    tree = nnUNetTrainer.get_training_transforms(PATCH[-dim:], (-0.5, 0.5), mirror_axes=tuple(range(dim)), **wanted)
    for part in tree.transforms:
        if always and isinstance(part, RandomTransform):
            part.apply_probability = 1
        if always and isinstance(part, SpatialTransform):
            part.p_rotation = part.p_scaling = 1
    for leaf in leaves(tree):
        if hasattr(leaf, "benchmark"):
            leaf.benchmark = False
    return tree


def sample(seed: int, *, dim: int = 3, labels: int = 4, channels: int = 1) -> dict[str, Tensor]:
    """Two channels; labels in blocks, beside each other and alone, with -1 at an edge."""
    draw = np.random.default_rng(seed)
    crop = CROP[-dim:]
    segmentation = np.zeros((channels, *crop), np.int16)
    for label in range(1, labels):
        for channel in segmentation:
            start = draw.integers(0, 10, dim)
            channel[tuple(slice(at, at + 8) for at in start)] = label
    if labels > 1:
        segmentation[0, :2] = -1
    image = draw.normal(size=(2, *crop)).astype(np.float32)
    return {"image": torch.from_numpy(image), "segmentation": torch.from_numpy(segmentation)}


def drawn(transform: BasicTransform, data: dict[str, Tensor], seed: int) -> list[Tensor]:
    """Image and targets of a transform."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (nnU-Net draws from it)
    result = transform(**deepcopy(data))
    labels = result["segmentation"]
    return [result["image"], *(labels if isinstance(labels, list) else [labels])]


def same(one: list[Tensor], other: list[Tensor]) -> None:
    assert [(tensor.shape, tensor.dtype) for tensor in one] == [(tensor.shape, tensor.dtype) for tensor in other]
    for expected, found in zip(one, other):
        assert torch.equal(expected, found)


@pytest.mark.parametrize("always", [True, False])
@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
def test_a_sample_is_nnunets_to_the_last_bit(settings: dict[str, Any], always: bool, pretended: torch.device) -> None:
    # some keep what they drew
    tree, ours = (stock(always=always, **settings) for _ in range(2))
    ours = on_device(ours, pretended)
    channels = 2 if "is_cascaded" in settings else 1
    for seed in range(6):
        data = sample(seed, dim=settings.get("dim", 3), channels=channels, labels=1 + seed % 4)
        expected = drawn(tree, data, seed)
        found = drawn(ours, {name: tensor.to(pretended) for name, tensor in data.items()}, seed)
        assert {tensor.device for tensor in found} == {pretended}
        same(expected, [tensor.cpu() for tensor in found])


def test_elastic_deformation_is_drawn_on_the_cpu(pretended: torch.device) -> None:
    spatial = SpatialTransform(PATCH, 0, False, p_elastic_deform=1, p_rotation=1, rotation=(-0.5, 0.5), scaling=(1, 1))
    data = sample(0)
    expected = drawn(spatial, data, 0)
    ours = on_device(spatial, pretended)
    found = drawn(ours, {name: tensor.to(pretended) for name, tensor in data.items()}, 0)
    same(expected, [tensor.cpu() for tensor in found])


class Mine(SpatialTransform):
    """Somebody's own."""


@pytest.mark.parametrize(
    "transform",
    [MedianFilterTransform(3), Mine(PATCH, 0, False, p_rotation=1), ComposeTransforms([MedianFilterTransform(2)])],
    ids=["another of batchgeneratorsv2", "a subclass", "inside of a tree"],
)
def test_any_other_is_done_on_the_cpu_and_back(transform: BasicTransform, pretended: torch.device) -> None:
    data = sample(0)
    expected = drawn(transform, data, 0)
    ours = on_device(transform, pretended)
    assert [type(leaf) for leaf in leaves(ours)] == [OnCPU]
    found = drawn(ours, {name: tensor.to(pretended) for name, tensor in data.items()}, 0)
    assert {tensor.device for tensor in found} == {pretended}
    same(expected, [tensor.cpu() for tensor in found])


def test_what_is_left_to_the_cpu_in_nnunets_own(pretended: torch.device) -> None:
    ours = on_device(stock(**KINDS["all"]), pretended)
    left = [type(leaf.transform) for leaf in leaves(ours) if isinstance(leaf, OnCPU)]
    assert left == [RemoveRandomConnectedComponentFromOneHotEncodingTransform]


def test_probabilities_and_the_tree_that_is_given_stay() -> None:
    tree = stock(always=False, **KINDS["all"])
    before = [type(leaf) for leaf in leaves(tree)]
    ours = on_device(tree, torch.device("cpu"))
    assert [type(leaf) for leaf in leaves(tree)] == before
    chances = [[getattr(part, "apply_probability", None) for part in each.transforms] for each in (tree, ours)]
    assert chances[0] == chances[1]
    assert {0.1, 0.15, 0.2, 0.25, 0.3} <= {chance for chance in chances[0] if chance}


# why it is made ready: a test that fails here says that one can stay as it is
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("SpatialTransform", r"grid_sampler_3d.default mixes devices"),
        ("GaussianBlurTransform", r"convolution.default mixes devices"),
        ("ConvertSegmentationToRegionsTransform", r"eq.Tensor mixes devices"),
        ("MoveSegAsOneHotToDataTransform", r"copy_.default mixes devices"),
        ("ApplyRandomBinaryOperatorTransform", r"mixes devices"),
        ("RemoveRandomConnectedComponentFromOneHotEncodingTransform", r"\.numpy\(\) is not supported"),
    ],
)
def test_nnunets_own_does_not_run_there(name: str, message: str, pretended: torch.device) -> None:
    tree = stock(**{**KINDS["cascade"], "regions": [(2,), (1, 2)]})
    data = {key: tensor.to(pretended) for key, tensor in sample(3, channels=2).items()}
    for leaf in leaves(tree):
        if type(leaf).__name__ == name:
            if hasattr(leaf, "p_per_label"):
                leaf.p_per_label = leaf.p_per_channel = 1
                data["image"] = torch.ones(3, *CROP).to(pretended)
            leaf.p_per_channel = 1
            with pytest.raises(RuntimeError, match=message):
                leaf(**data)
            return
        data = on_device(leaf, pretended)(**data)
    pytest.fail(f"nnU-Net has no {name}")
