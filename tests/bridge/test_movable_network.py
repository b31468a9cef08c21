"""The network that moves: any of SCD's, from any trainer, with all of its arguments."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from scd_plugin import SCDPrimus
from scd_plugin.bridge.movable_network import MovableNetwork, trainers_network
from scd_plugin.bridge.to_monai import to_monai
from scd_plugin.bridge.to_nnunet import bundle_to_nnunet
from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.planning.planned_network import architecture_of, plans_with

TRAINERS = """
from scd_plugin import SCDPrimus
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD, nnUNetTrainerSCDPrimusS, nnUNetTrainerSCD_demo


class nnUNetTrainerSCD_gentle(nnUNetTrainerSCD):
    scd_size, scd_keep_ratio = "tiny-early", 0.5


class nnUNetTrainerSCD_narrow(nnUNetTrainerSCDPrimusS):
    scd_completion, scd_completion_hidden_size = "assembly_to_kept", 66


class nnUNetTrainerSCD_own(nnUNetTrainerSCD_demo):
    @classmethod
    def build_network_architecture(cls, plans_manager, configuration_manager, num_input_channels, num_output_channels,
                                   enable_deep_supervision=True):
        crop = configuration_manager.patch_size
        return SCDPrimus(num_input_channels, num_output_channels, crop, hidden_size=48, num_heads=4, num_layers=4,
                         spatial_dims=len(crop), patch_size=4, prior=None)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainers of the user's, where nnU-Net looks for them."""
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "mine.py").write_text(TRAINERS)
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path / "trainers"))


class TestTrainersNetwork:
    @pytest.mark.usefixtures("mine")
    @pytest.mark.parametrize(
        ("trainer", "kind", "changes"),
        [
            ("nnUNetTrainerSCD_gentle", "SCDUNETR", {"keep_ratio": 0.5, "completion": "assembly_to_kept"}),
            ("nnUNetTrainerSCD_narrow", "SCDPrimus", {"completion_hidden_size": 66, "size": "S"}),
            ("nnUNetTrainerSCD_own", "SCDPrimus", {"hidden_size": 48, "prior": None}),
            ("nnUNetTrainerSCD_deepsupervision", "SCDUNETR", {"deep_supervision": False, "hidden_size": 768}),
        ],
    )
    def test_known_by_its_arguments(
        self,
        plans: dict[str, Any],
        dataset: dict[str, Any],
        trainer: str,
        kind: str,
        changes: dict[str, Any],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        network = trainers_network(trainer, NnunetRecipe(plans, dataset, "3d_fullres"))
        assert network.kind == kind
        assert {name: network.arguments[name] for name in changes} == changes
        assert capsys.readouterr() == ("", "")

    def test_unknown(self, plans: dict[str, Any], dataset: dict[str, Any]) -> None:
        recipe = NnunetRecipe(plans, dataset, "3d_fullres")
        with pytest.raises(ValueError, match=r"trainer nnUNetTrainerSCD_nothing is not found.*nnUNet_extTrainer"):
            trainers_network("nnUNetTrainerSCD_nothing", recipe)

    def test_foreign(self) -> None:
        with pytest.raises(ValueError, match=r"it must be a scd_plugin.SCDUNETR or scd_plugin.SCDPrimus.*a Linear"):
            MovableNetwork(torch.nn.Linear(1, 1), "it")


class TestMustBeOf:
    def recipe(self, plans: dict[str, Any], dataset: dict[str, Any], network: MovableNetwork) -> NnunetRecipe:
        named = plans_with(plans, "3d_fullres", architecture_of(network.kind, network.arguments))
        return NnunetRecipe(named, dataset, "3d_fullres")

    def test_same(self, plans: dict[str, Any], dataset: dict[str, Any]) -> None:
        before = deepcopy(plans)
        network = trainers_network("nnUNetTrainerSCDPrimusS", NnunetRecipe(plans, dataset, "3d_fullres"))
        recipe = self.recipe(plans, dataset, network)
        for trainer in ("nnUNetTrainerSCDPrimusS", "nnUNetTrainerSCD", "nnUNetTrainer"):
            network.must_be_of(trainer, recipe)
        assert plans == before

    @pytest.mark.usefixtures("mine")
    def test_another(self, plans: dict[str, Any], dataset: dict[str, Any]) -> None:
        network = trainers_network("nnUNetTrainerSCD_demo", NnunetRecipe(plans, dataset, "3d_fullres"))
        message = r"trainer nnUNetTrainerSCD_own builds another network .*: network is SCDPrimus, not SCDUNETR"
        with pytest.raises(ValueError, match=message):
            network.must_be_of("nnUNetTrainerSCD_own", self.recipe(plans, dataset, network))


@pytest.mark.slow
@pytest.mark.usefixtures("mine")
def test_primus_there_and_back(
    make_model: Callable[..., Path],
    images: Path,
    predict_by_both: Callable[[Path, Path, Path], Path],
    tmp_path: Path,
) -> None:
    (images / "case_0001.nii.gz").unlink()
    model = make_model(trainer_name="nnUNetTrainerSCD_own")
    network = SCDPrimus(1, 3, 32, hidden_size=48, num_heads=4, num_layers=4, patch_size=4, prior=None)
    file = model / "fold_0" / "checkpoint_final.pth"
    torch.save({**torch.load(file, weights_only=False), "network_weights": network.state_dict()}, file)
    bundle = to_monai(model, tmp_path / "bundle")
    moved = bundle_to_nnunet(bundle)
    assert moved.trainer_name == "nnUNetTrainerSCD_own"
    back = bundle_to_nnunet(bundle, trainer="nnUNetTrainer").write(tmp_path / "back")
    # of nnU-Net's own trainer, which knows nothing but the plans
    written = predict_by_both(back, bundle, images) / "case.nii.gz"
    expected, found = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (written, bundle / "eval" / "case.nii.gz")
    )
    assert np.unique(expected).size > 1
    np.testing.assert_array_equal(found, expected)
