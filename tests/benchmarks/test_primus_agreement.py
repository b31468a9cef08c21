from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

pytest.importorskip("nnunetv2")

from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import nnUNet_Primus_S_Trainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from primus_agreement import main, middle_crops, model_agreement, write_agreement
from pruned_agreement import Agreement

from scd_plugin import prune_primus

Pair = tuple[Path, np.ndarray]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A model folder of nnU-Net's own Primus trainer, untrained, with a preprocessed case; and the case's image."""
    root = tmp_path_factory.mktemp("model")
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [32, 32, 32],
        # Primus asks for none of it; without it nnU-Net takes the plans for older ones
        "architecture": {"network_class_name": "none", "arch_kwargs": {}, "_kw_requires_import": []},
    }
    plans = {
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {},
        "label_manager": "LabelManager",
        "configurations": {"3d_fullres": configuration},
    }
    dataset = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1, "b": 2}, "file_ending": ".nii.gz"}
    manager = PlansManager(plans)
    arguments = (manager, manager.get_configuration("3d_fullres"), 1, 3, False)
    torch.manual_seed(0)
    network = nnUNet_Primus_S_Trainer.build_network_architecture(*arguments)
    (root / "fold_0").mkdir()
    (root / "plans.json").write_text(json.dumps(plans))
    (root / "dataset.json").write_text(json.dumps(dataset))
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNet_Primus_S_Trainer",
        "init_args": {"configuration": "3d_fullres"},
    }
    torch.save(checkpoint, root / "fold_0" / "checkpoint_final.pth")
    (root / "cases").mkdir()
    image = np.random.default_rng(0).normal(size=(1, 30, 40, 33)).astype(np.float32)
    label = np.zeros_like(image, np.int8)
    label[0, 29, 4, 31] = 2
    nnUNetDatasetBlosc2.save_case(image, label, {}, str(root / "cases" / "one"))
    return root, image


@pytest.mark.slow
def test_of_a_model_of_nnunets_own_trainer(model: Pair) -> None:
    root, _ = model
    results = model_agreement(root, root / "cases", ["one"], priors=("norm",), keep_ratios=(1, 0.5))
    assert [result.keep_ratio for result in results] == [1, 0.5]
    assert (results[0].voxels, results[0].logit_error) == pytest.approx((1, 0), abs=1e-4)
    assert results[0].operations == 1
    assert 0 < results[1].logit_error < 1
    assert results[1].operations < 1


def test_middle_of_a_case(model: Pair) -> None:
    root, whole = model
    [(image, label)] = middle_crops(root / "cases", ["one"], (32, 32, 32))
    assert (image.shape, label.shape) == ((1, 1, 32, 32, 32), (1, 32, 32, 32))
    # padded by one on the first axis, cropped by four on the second
    assert not image[0, 0, [0, -1]].any()
    assert torch.equal(image[0, 0, 1:-1, :, :5], torch.as_tensor(whole[0, :, 4:-4, :5]))
    assert label.nonzero().tolist() == [[0, 30, 0, 31]]


@pytest.mark.slow
@pytest.mark.parametrize("compiled", ["f", "t"])
def test_predictor_with_its_network_pruned(model: Pair, monkeypatch: pytest.MonkeyPatch, compiled: str) -> None:
    """As docs/explanation/scd-primus.md has it, also where nnU-Net compiles what it loads."""
    root, image = model
    monkeypatch.setenv("nnUNet_compile", compiled)
    predictor = nnUNetPredictor(
        device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False, use_gaussian=False
    )
    predictor.initialize_from_trained_model_folder(str(root), (0,))
    assert hasattr(predictor.network, "_orig_mod") == (compiled == "t")
    predictor.network = prune_primus(predictor.network.eval(), keep_ratio=0.5)
    data = torch.as_tensor(image[:, :, :32, :32])
    pruned = predictor.predict_logits_from_preprocessed_data(data)
    assert pruned.shape == (3, 30, 32, 32)
    alone = torch.nn.functional.pad(data, (0, 0, 0, 0, 1, 1)).unsqueeze(0)
    with torch.no_grad():
        wanted = predictor.network(alone)[0, :, 1:-1]
    # nnU-Net sums up windows in half precision
    torch.testing.assert_close(pruned.float(), wanted, atol=1e-2, rtol=1e-2)
    assert (predictor.network.exit_stages(alone) < 3).any()


def test_table(tmp_path: Path) -> None:
    result = Agreement(
        prior="norm",
        keep_ratio=0.5,
        dice=(0.75, 0.25),
        voxels=0.875,
        logit_error=0.1,
        operations=0.6,
        seconds=0.2,
        dense_seconds=0.3,
    )
    write_agreement([result], tmp_path / "table.csv")
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines == [
        "prior,keep_ratio,voxels,logit_error,operations,seconds,dense_seconds,dice_1,dice_2",
        "norm,0.5,0.875,0.1,0.6,0.2,0.3,0.75,0.25",
    ]


@pytest.mark.slow
def test_command(model: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, _ = model
    table = tmp_path / "table.csv"
    main(root, root / "cases", ["one"], output=table, priors=["norm"])
    assert capsys.readouterr().out.splitlines()[-1] == str(table)
    assert len(table.read_text().splitlines()) == 1 + 4


def test_command_needs_a_case(model: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, _ = model
    with pytest.raises(typer.Exit) as ended:
        main(root, root / "cases", [], output=tmp_path / "table.csv")
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == "error: images must hold at least one batch; got none\n"
