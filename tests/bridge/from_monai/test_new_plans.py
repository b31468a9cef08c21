from __future__ import annotations

import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from scd_plugin import SCDUNETR
from scd_plugin.bridge.from_monai.new_plans import CONFIGURATION, build_dataset, build_plans
from scd_plugin.bridge.from_monai.preprocessing import Intensity, Preprocessing
from scd_plugin.bridge.movable_network import MovableNetwork

with torch.device("meta"):
    PUBLISHED = MovableNetwork(SCDUNETR(1, 14, 96, keep_ratio=0.1), "it")


class TestBuildPlans:
    def test_read_by_nnunet(self) -> None:
        intensity = [Intensity("CTNormalization", False, -958.0, 326.0, -958.0, 1284.0)]
        plans = build_plans(PUBLISHED, Preprocessing([1.5, 1.5, 2.0], 1, True, intensity), name="scd_unetr_btcv")
        manager = PlansManager(plans)
        configuration = manager.get_configuration(CONFIGURATION)
        assert manager.image_reader_writer_class.__name__ == "NibabelIOWithReorient"
        assert manager.transpose_forward == manager.transpose_backward == [2, 1, 0]
        assert configuration.spacing == [1.5, 1.5, 2.0]
        assert configuration.patch_size == [96, 96, 96]
        assert configuration.network_arch_class_name == "scd_plugin.nnunet.planning.planned_network.scd_unetr"
        assert configuration.network_arch_init_kwargs["keep_ratio"] == 0.1
        assert configuration.pool_op_kernel_sizes == [[1, 1, 1], *[[2, 2, 2]] * 4]
        assert configuration.resampling_fn_data.keywords == {
            "is_seg": False,
            "order": 1,
            "order_z": 0,
            "force_separate_z": False,
        }
        assert manager.foreground_intensity_properties_per_channel["0"] == {
            "mean": -958.0,
            "std": 1284.0,
            "percentile_00_5": -958.0,
            "percentile_99_5": 326.0,
        }

    def test_images_left_as_they_are(self) -> None:
        plans = build_plans(PUBLISHED, Preprocessing(intensity=[Intensity()]), name="x")
        configuration = PlansManager(plans).get_configuration(CONFIGURATION)
        assert plans["image_reader_writer"] == "SimpleITKIO"
        data = object()
        assert configuration.resampling_fn_data(data, (1, 1, 1), (1, 1, 1), (2, 2, 2)) is data


class TestBuildDataset:
    def test_labels(self) -> None:
        dataset = build_dataset({"0": "CT"}, {"1": "spleen", "0": "nothing", "2": "liver"})
        assert dataset["labels"] == {"background": 0, "spleen": 1, "liver": 2}
        assert dataset["channel_names"] == {"0": "CT"}

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            ({"0": "a", "2": "b"}, "must be 0, 1, 2, ...; got 0, 2"),
            ({"0": "a", "1": "b", "2": "b"}, "names of their own"),
        ],
    )
    def test_refused(self, names: dict[str, str], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            build_dataset({"0": "CT"}, names)
