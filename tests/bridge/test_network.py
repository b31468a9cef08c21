from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from scd_plugin import SCDUNETR
from scd_plugin.bridge.network import choose_trainer, difference, find_trainer, full_arguments, trainer_arguments
from scd_plugin.nnunet import trainers


class OwnNetwork(trainers.nnUNetTrainerSCD_demo):
    """Builds another network than its settings say."""

    @classmethod
    def build_network_architecture(cls, *args: Any, **kwargs: Any) -> Any:
        return super().build_network_architecture(*args, **kwargs)


class Gentle(trainers.nnUNetTrainerSCD_demo):
    scd_keep_ratio = 0.5


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """nnU-Net finds the trainers of this file as well."""
    find = find_trainer.__globals__["find_any_trainer"]
    own = {"OwnNetwork": OwnNetwork, "Gentle": Gentle}
    monkeypatch.setitem(
        find_trainer.__globals__,
        "find_any_trainer",
        lambda name: own[name] if name in own else find(name),
    )


class TestFindTrainer:
    def test_found(self) -> None:
        assert find_trainer("nnUNetTrainerSCD_small") is trainers.nnUNetTrainerSCD_small

    def test_ones_own_without_a_log_of_the_search(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "mine.py").write_text(
            "from scd_plugin.nnunet.trainers import nnUNetTrainerSCD\n"
            "class nnUNetTrainerSCD_mine(nnUNetTrainerSCD):\n    scd_keep_ratio = 0.1\n"
        )
        monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
        assert find_trainer("nnUNetTrainerSCD_mine").scd_keep_ratio == 0.1
        assert capsys.readouterr() == ("", "")

    def test_unknown(self) -> None:
        with pytest.raises(ValueError, match=r"trainer nnUNetTrainerSCD_nothing is not found.*nnUNet_extTrainer"):
            find_trainer("nnUNetTrainerSCD_nothing")

    def test_foreign(self) -> None:
        with pytest.raises(ValueError, match="trainer nnUNetTrainer is none of SCD's"):
            find_trainer("nnUNetTrainer")

    @pytest.mark.parametrize("name", ["nnUNetTrainerSCDPrimusM", "nnUNetTrainerSCDPrimusV3S"])
    def test_primus(self, name: str) -> None:
        with pytest.raises(
            ValueError,
            match=f"^trainer {name} trains SCD-Primus, which is not moved between nnU-Net and MONAI yet; only models "
            "of nnUNetTrainerSCD and its subclasses can be moved$",
        ):
            find_trainer(name)

    @pytest.mark.usefixtures("found")
    def test_network_of_its_own(self) -> None:
        with pytest.raises(ValueError, match="trainer OwnNetwork has a build_network_architecture of its own"):
            find_trainer("OwnNetwork")


@pytest.mark.parametrize(
    "name", ["nnUNetTrainerSCD_demo", "nnUNetTrainerSCD_deepsupervision", "nnUNetTrainerSCD_dense"]
)
@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_arguments_are_those_of_the_trainer(plans: dict[str, Any], name: str, configuration: str) -> None:
    trainer = find_trainer(name)
    manager = PlansManager(plans)
    settings = manager.get_configuration(configuration)
    with torch.device("meta"):
        built = trainer.build_network_architecture(manager, settings, 2, 3, False)
        ours = SCDUNETR(**trainer_arguments(trainer, settings.configuration, in_channels=2, out_channels=3))
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (built, ours)]
    assert shapes[0] == shapes[1]


def test_same_output_as_the_trainers_network(plans: dict[str, Any]) -> None:
    manager = PlansManager(plans)
    settings = manager.get_configuration("3d_fullres")
    trainer = trainers.nnUNetTrainerSCD_demo
    built = trainer.build_network_architecture(manager, settings, 1, 3, False).eval()
    ours = SCDUNETR(**trainer_arguments(trainer, settings.configuration, in_channels=1, out_channels=3)).eval()
    ours.load_state_dict(built.state_dict())
    image = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(built(image), ours(image))


TINY: dict[str, Any] = {
    "in_channels": 1,
    "out_channels": 3,
    "img_size": [32, 32, 32],
    "patch_size": 4,
    "hidden_size": 96,
    "mlp_dim": 384,
    "num_heads": 3,
    "num_layers": 8,
    "prune_after": [2, 4, 6],
    "feature_size": 8,
    "norm_name": ["instance", {"affine": True}],
    "pool_stride": [2, 2, 2],
}


class TestFullArguments:
    @pytest.mark.parametrize(
        "changes",
        [
            {"img_size": 32},
            {"patch_size": (4, 4, 4), "strides": [(2, 2, 2), (2, 2, 2)]},
            {"keep_ratio": [0.25, 0.25, 0.25]},
            {"norm_name": "instance"},
            {"norm_name": ("INSTANCE", {"affine": False})},
            {"completion_hidden_size": 96, "completion_num_heads": 3},
            {"drop_path_rate": 0.3, "tau": 2.0, "sampling": "topk", "deep_supervision": True},
        ],
        ids=str,
    )
    def test_same_network(self, changes: dict[str, Any]) -> None:
        assert difference(full_arguments({**TINY, **changes}), full_arguments(TINY)) == []

    @pytest.mark.parametrize(
        ("changes", "names"),
        [
            ({"keep_ratio": 0.1}, ["keep_ratio"]),
            ({"feature_size": 12}, ["feature_size"]),
            ({"patch_size": 8}, ["patch_size", "strides"]),
            ({"norm_name": "batch"}, ["norm_name"]),
            ({"sampling": "random"}, ["sampling"]),
            ({"qkv_bias": False}, ["qkv_bias"]),
        ],
        ids=str,
    )
    def test_another_network(self, changes: dict[str, Any], names: list[str]) -> None:
        assert difference(full_arguments({**TINY, **changes}), full_arguments(TINY)) == names

    def test_pruning_means_nothing_to_the_dense_twin(self) -> None:
        dense = {**TINY, "keep_ratio": 1}
        assert (
            difference(full_arguments({**dense, "prune_after": [1], "sampling": "random"}), full_arguments(dense)) == []
        )

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [({**TINY, "depth": 3}, "network_def does not fit SCDUNETR.*depth"), ({"in_channels": 1}, "out_channels")],
    )
    def test_foreign_arguments(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            full_arguments(arguments)


class TestChooseTrainer:
    def test_fits(self, plans: dict[str, Any]) -> None:
        name, arguments = choose_trainer(full_arguments(TINY), plans["configurations"]["3d_fullres"], None)
        assert name == "nnUNetTrainerSCD_demo"
        assert arguments["norm_name"] == ("instance", {"affine": True})

    @pytest.mark.usefixtures("found")
    def test_own_trainer(self, plans: dict[str, Any]) -> None:
        network = full_arguments({**TINY, "keep_ratio": 0.5})
        configuration = plans["configurations"]["3d_fullres"]
        assert choose_trainer(network, configuration, "Gentle")[0] == "Gentle"
        message = (
            r"no trainer builds this network: compared with nnUNetTrainerSCD_demo, keep_ratio is \(0.5, 0.5, 0.5\), "
            r"not \(0.25, 0.25, 0.25\). Write a trainer of your own .* --trainer"
        )
        with pytest.raises(ValueError, match=message):
            choose_trainer(network, configuration, None)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"feature_size": 12}, "nnUNetTrainerSCD_demo, feature_size is 12, not 8"),
            ({"patch_size": 8}, r"patch_size is \(8, 8, 8\), not \(4, 4, 4\)"),
            ({"norm_name": "batch"}, "norm_name is .'batch'"),
        ],
        ids=str,
    )
    def test_refused(self, plans: dict[str, Any], changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            choose_trainer(full_arguments({**TINY, **changes}), plans["configurations"]["3d_fullres"], None)
