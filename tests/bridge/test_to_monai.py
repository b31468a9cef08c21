"""Bundles predict what nnU-Net predicts, to the voxel."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.bundle import ConfigParser, create_workflow
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from scd_plugin.bridge.to_monai import to_monai
from scd_plugin.monai.errors import explained
from scd_plugin.monai.export.description import describe
from scd_plugin.monai.export.exporter import export_bundle


def run_bundle(bundle: Path, images: Path, **overrides: Any) -> Any:
    with warnings.catch_warnings():
        # MONAI warns about each config file
        warnings.simplefilter("ignore", UserWarning)
        workflow = create_workflow(
            config_file=str(bundle / "configs" / "inference.json"),
            workflow_type="infer",
            bundle_root=str(bundle),
            dataset_dir=str(images),
            **overrides,
        )
        workflow.run()
    return workflow


def predict_with_nnunet(model: Path, images: Path, output: Path, folds: tuple[str, ...] = ("0",)) -> None:
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), folds, "checkpoint_final.pth")
    output.mkdir()
    predictor.predict_from_files_sequential(str(images), str(output))


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def one_channel(plans: dict[str, Any], dataset: dict[str, Any], images: Path) -> None:  # noqa: ARG001
    (images / "case_0001.nii.gz").unlink()


def coarse_and_turned(plans: dict[str, Any], dataset: dict[str, Any], images: Path) -> None:
    """Axes in another order, thick slices sampled apart, z-scores inside a mask, two channels, regions."""
    del images
    plans.update(transpose_forward=[1, 0, 2], transpose_backward=[1, 0, 2])
    plans["foreground_intensity_properties_per_channel"]["1"] = {}
    configuration = plans["configurations"]["3d_fullres"]
    configuration.update(
        spacing=[4.4, 1.0, 1.3],
        patch_size=[8, 32, 32],
        normalization_schemes=["ZScoreNormalization", "RescaleTo01Normalization"],
        use_mask_for_norm=[True, False],
    )
    configuration["architecture"]["arch_kwargs"]["strides"] = [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2]]
    dataset["channel_names"] = {"0": "MR", "1": "rescale_to_0_1"}
    dataset["labels"] = {"background": 0, "whole": [1, 2], "core": 2}
    dataset["regions_class_order"] = [1, 2]


def ras_reader(plans: dict[str, Any], dataset: dict[str, Any], images: Path) -> None:
    one_channel(plans, dataset, images)
    plans["image_reader_writer"] = "NibabelIOWithReorient"
    plans["configurations"]["3d_fullres"]["normalization_schemes"] = ["NoNormalization"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "configuration", "folds"),
    [
        (one_channel, "3d_fullres", ("0", "1")),
        (one_channel, "2d", ("all",)),
        (coarse_and_turned, "3d_fullres", ("2",)),
        (ras_reader, "3d_fullres", ("0",)),
    ],
    ids=["two folds", "2d", "anisotropic regions", "turned to RAS"],
)
def test_same_label_maps(
    make_model: Callable[..., Path],
    plans: dict[str, Any],
    dataset: dict[str, Any],
    images: Path,
    tmp_path: Path,
    change: Callable[..., None],
    configuration: str,
    folds: tuple[str, ...],
) -> None:
    change(plans, dataset, images)
    model = make_model(plans, dataset, configuration=configuration, folds=folds)
    bundle = to_monai(model, tmp_path / "bundle")
    workflow = run_bundle(bundle, images)
    assert workflow.check_properties() == []
    predict_with_nnunet(model, images, tmp_path / "nnunet", folds)
    (written,) = (bundle / "eval").iterdir()
    expected = tmp_path / "nnunet" / "case.nii.gz"
    assert written.name == expected.name
    assert len(np.unique(voxels(expected))) > 1
    np.testing.assert_array_equal(voxels(written), voxels(expected))
    assert written.read_bytes() == expected.read_bytes()


@pytest.mark.slow
def test_same_label_map_on_a_real_ct(
    make_model: Callable[..., Path], plans: dict[str, Any], tmp_path: Path, shared: Callable[[str], Path]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "ct_0000.nii.gz").symlink_to(shared("data/totalsegmentator/example_ct_sm.nii.gz"))
    # from 3 mm in the file, so that both ways are resampled
    plans["configurations"]["3d_fullres"]["spacing"] = [4.0, 5.0, 5.0]
    # weights drawn at random are the hardest case: every other voxel is a near tie
    model = make_model(plans)
    bundle = to_monai(model, tmp_path / "bundle")
    run_bundle(bundle, images)
    predict_with_nnunet(model, images, tmp_path / "nnunet")
    expected = tmp_path / "nnunet" / "ct.nii.gz"
    assert len(np.unique(voxels(expected))) == 3
    assert (bundle / "eval" / "ct.nii.gz").read_bytes() == expected.read_bytes()


class TestBundle:
    def test_files(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        bundle = to_monai(make_model(folds=("0", "3")), tmp_path / "bundle")
        assert sorted(str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()) == [
            "LICENSE",
            "configs/inference.json",
            "configs/logging.conf",
            "configs/metadata.json",
            "configs/nnunet/dataset.json",
            "configs/nnunet/model.json",
            "configs/nnunet/plans.json",
            "docs/README.md",
            "models/model.pt",
            "models/model_fold_3.pt",
        ]
        weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
        assert all(isinstance(value, torch.Tensor) for value in weights.values())
        network = json.loads((bundle / "configs" / "inference.json").read_text())["network_def"]
        assert network["_target_"] == "scd_plugin.SCDUNETR"
        assert network["img_size"] == [32, 32, 32]

    def test_metadata(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        bundle = to_monai(make_model(), tmp_path / "bundle")
        metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
        assert metadata["version"] in metadata["changelog"]
        assert metadata["required_packages_version"].keys() == {"scd-plugin", "nnunetv2"}
        tensors = metadata["network_data_format"]
        assert tensors["inputs"]["image"]["channel_def"] == {"0": "CT"}
        assert tensors["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "liver", "2": "spleen"}
        required = {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"}
        assert required <= tensors["inputs"]["image"].keys()
        assert required <= tensors["outputs"]["pred"].keys()
        assert "nnUNetTrainerSCD_demo, nnUNetPlans, 3d_fullres, fold 0" in metadata["changelog"]["0.1.0"]

    def test_metadata_fits_monais_schema(
        self, make_model: Callable[..., Path], tmp_path: Path, shared: Callable[[str], Path]
    ) -> None:
        import jsonschema

        bundle = to_monai(make_model(), tmp_path / "bundle")
        schema = json.loads(shared("monai/meta_schema_20240725.json").read_text())
        jsonschema.validate(json.loads((bundle / "configs" / "metadata.json").read_text()), schema)

    def test_network_comes_back_as_monai_load_gives_it(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        from monai.bundle import load

        bundle = to_monai(make_model(), tmp_path / "bundle")
        network = load("bundle", bundle_dir=str(bundle.parent), workflow_type="inference")
        weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
        assert network.state_dict().keys() == weights.keys()
        assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


class TestRefused:
    def test_foreign_trainer(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        with pytest.raises(
            ValueError, match=r"network of trainer nnUNet_Primus_S_Trainer must be a scd_plugin.SCDUNETR or"
        ):
            to_monai(make_model(trainer_name="nnUNet_Primus_S_Trainer"), tmp_path / "bundle")
        assert not (tmp_path / "bundle").exists()

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("number", [0, 1])
    def test_weights_that_were_cut_off(
        self, make_model: Callable[..., Path], plans: Any, dataset: Any, images: Path, tmp_path: Path, number: int
    ) -> None:
        one_channel(plans, dataset, images)
        bundle = to_monai(make_model(plans, dataset, folds=("0", "1")), tmp_path / "bundle")
        file = sorted((bundle / "models").iterdir())[number]
        file.write_bytes(file.read_bytes()[:1000])
        with pytest.raises((ValueError, RuntimeError)) as caught:
            run_bundle(bundle, images)
        said = explained(caught.value)
        assert said == (
            f"the weights in {file} can't be read: the file, of 1000 bytes, was cut off or is no state dict; copy or "
            "download it again, or train the bundle anew"
        )
        assert not list(bundle.glob("eval/*.nii.gz"))

    def test_cascade(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"3d_cascade_fullres is the second stage of a cascade.*3d_lowres"):
            to_monai(make_model(configuration="3d_cascade_fullres"), tmp_path / "bundle")

    @pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
    def test_no_model_folder(self, make_model: Callable[..., Path], tmp_path: Path, name: str) -> None:
        model = make_model()
        (model / name).unlink()
        with pytest.raises(ValueError, match=f"is no model folder of nnU-Net: it has no {name}"):
            to_monai(model, tmp_path / "bundle")

    @pytest.mark.parametrize("fold", ["0'+open('ran','w')+'", "0_old", "all 1", "\N{SUPERSCRIPT TWO}"])
    def test_folders_that_are_no_folds(self, make_model: Callable[..., Path], tmp_path: Path, fold: str) -> None:
        # a fold's name goes into an expression of the config
        model = make_model(folds=("0", fold))
        bundle = to_monai(model, tmp_path / "bundle")
        assert [file.name for file in (bundle / "models").iterdir()] == ["model.pt"]
        (model / "fold_0" / "checkpoint_final.pth").unlink()
        with pytest.raises(ValueError, match="no fold has a checkpoint"):
            to_monai(model, tmp_path / "another")

    def test_trust_goes_with_the_bundle(
        self, make_model: Callable[..., Path], plans: dict[str, Any], tmp_path: Path
    ) -> None:
        plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["conv_op"] = "json.dumps"
        model = make_model(plans)
        with pytest.raises(ValueError, match=r"plans.json names 'json.dumps' as conv_op of arch_kwargs"):
            to_monai(model, tmp_path / "bundle")
        config = to_monai(model, tmp_path / "trusted", trust=True) / "configs" / "inference.json"
        assert json.loads(config.read_text())["recipe"]["trust"] is True

    def test_no_such_fold(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"fold 4 has no checkpoint; folds with one: 0 \(checkpoint_final.pth\)"):
            to_monai(make_model(), tmp_path / "bundle", ["4"])

    def test_no_such_checkpoint(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"no fold has a checkpoint \(checkpoint_best.pth\)"):
            to_monai(make_model(), tmp_path / "bundle", checkpoint="checkpoint_best.pth")

    def test_damaged_plans(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        model = make_model()
        (model / "plans.json").write_text('{"configurations": ')
        with pytest.raises(ValueError, match=r"plans.json is no JSON"):
            to_monai(model, tmp_path / "bundle")

    def test_checkpoint_that_runs_code(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        model = make_model()
        file = model / "fold_0" / "checkpoint_final.pth"
        torch.save({"network_weights": {}, "init_args": re.compile("x"), "trainer_name": Path("x")}, file)
        reason = (
            r"holds more than tensors and numbers, which is not unpickled: Unsupported global: GLOBAL re\._compile$"
        )
        with pytest.raises(ValueError, match=reason):
            to_monai(model, tmp_path / "bundle")

    @pytest.mark.parametrize(
        ("key", "names", "entry"),
        [
            ("channel_names", {"0": "$import antigravity"}, "channel_names"),
            ("channel_names", {"_target_": "os.getcwd"}, "channel_names"),
            ("labels", {"background": 0, "%/etc/a.json": 1, "spleen": 2}, "labels"),
            ("labels", {"background": 0, "@out": 1, "spleen": 2}, "labels"),
            ("dataset_name", "CT@##version", "dataset_name"),
            ("plans_name", "$plans", "plans_name"),
            ("configuration", "$open('ran', 'w')", "configuration"),
        ],
    )
    def test_names_that_are_code_to_monai(
        self,
        make_model: Callable[..., Path],
        plans: dict[str, Any],
        dataset: dict[str, Any],
        tmp_path: Path,
        key: str,
        names: Any,
        entry: str,
    ) -> None:
        configuration = "3d_fullres"
        if key == "configuration":
            configuration = names
            plans["configurations"][names] = plans["configurations"]["3d_fullres"]
        (dataset if key in dataset else plans)[key] = names
        model = make_model(plans, dataset, configuration=configuration)
        with pytest.raises(ValueError, match=rf"{entry} of .* holds the name .* would take for code.* rename it"):
            to_monai(model, tmp_path / "bundle")
        assert not (tmp_path / "bundle").exists()

    def test_weights_of_another_size(
        self, make_model: Callable[..., Path], plans: dict[str, Any], tmp_path: Path
    ) -> None:
        model = make_model()
        plans["configurations"]["3d_fullres"]["patch_size"] = [64, 64, 64]
        (model / "plans.json").write_text(json.dumps(plans))
        with pytest.raises(ValueError, match=r"weights of fold 0 in .* do not fit what nnUNetTrainerSCD_demo builds"):
            to_monai(model, tmp_path / "bundle")

    def test_folder_in_use(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        (tmp_path / "bundle").mkdir()
        (tmp_path / "bundle" / "mine.txt").touch()
        with pytest.raises(ValueError, match="bundle is there already and not empty"):
            to_monai(make_model(), tmp_path / "bundle")


class TestExport:
    """What `scd export` says of a bundle that came from nnU-Net."""

    @staticmethod
    def described(bundle: Path) -> dict[str, Any]:
        parser = ConfigParser()
        parser.read_config(bundle / "configs" / "inference.json")
        metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
        parser["bundle_root"] = str(bundle)
        return describe(parser, parser.get_parsed_content("network_def"), metadata)

    def test_classes(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        description = self.described(to_monai(make_model(), tmp_path / "bundle"))
        assert (description["axes"], description["spacing"]) == (["z", "y", "x"], [2.4, 1.0, 1.0])
        assert (description["orientation"], description["activation"]) == (None, "softmax")
        numbers = {"mean": 40.0, "std": 60.0, "percentile_00_5": -80.0, "percentile_99_5": 160.0}
        assert description["intensity"] == [
            {"channel": "CT", "scheme": "CTNormalization", "use_mask": False, **numbers}
        ]
        assert description["dataset"] == {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "liver": 1, "spleen": 2},
            "regions_class_order": [],
        }
        assert description["sliding_window"] == {
            "_target_": "scd_plugin.bridge.NnunetInferer",
            "mirror_axes": [1],
            "step_size": 0.5,
            "roi_size": [32, 32, 32],
            "mode": "gaussian",
        }
        assert [step["_target_"].rpartition(".")[2] for step in description["postprocessing"]] == ["NnunetRestored"]
        # neither references to what is not there nor folders of this computer
        text = json.dumps(description)
        assert "@" not in text
        assert str(tmp_path) not in text

    def test_a_single_region(self, make_model: Callable[..., Path], dataset: dict[str, Any], tmp_path: Path) -> None:
        dataset |= {"labels": {"background": 0, "whole": [1, 2]}, "regions_class_order": [1]}
        description = self.described(to_monai(make_model(dataset=dataset), tmp_path / "bundle"))
        assert description["activation"] == description["outputs"]["pred"]["activation"] == "sigmoid"

    def test_regions(
        self, make_model: Callable[..., Path], plans: dict[str, Any], dataset: dict[str, Any], tmp_path: Path
    ) -> None:
        coarse_and_turned(plans, dataset, tmp_path)
        plans["image_reader_writer"] = "NibabelIOWithReorient"
        description = self.described(to_monai(make_model(plans, dataset), tmp_path / "bundle"))
        assert description["axes"] == ["y", "z", "x"]
        assert (description["orientation"], description["activation"]) == ("RAS", "sigmoid")
        assert description["intensity"] == [
            {"channel": "MR", "scheme": "ZScoreNormalization", "use_mask": True},
            {"channel": "rescale_to_0_1", "scheme": "RescaleTo01Normalization", "use_mask": False},
        ]
        assert description["dataset"]["regions_class_order"] == dataset["regions_class_order"]
        assert description["nnunet"]["transpose_backward"] == [1, 0, 2]
        assert description["nnunet"]["resampling_fn_data"][0] == "resample_data_or_seg_to_shape"

    def test_2d(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        description = self.described(to_monai(make_model(configuration="2d"), tmp_path / "bundle"))
        assert (description["axes"], description["spacing"]) == (["y", "x"], [1.0, 1.0])
        assert description["sliding_window"]["roi_size"] == [32, 32]

    def test_several_folds(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        bundle = to_monai(make_model(folds=("0", "1")), tmp_path / "bundle")
        with pytest.raises(ValueError, match=r"averages 2 folds, and an exported file holds one network: .*--fold 0"):
            export_bundle(bundle, format="torchscript")
        assert not (bundle / "models" / "model.ts").exists()
