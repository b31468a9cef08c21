"""The bundles' files as they are shipped: complete, consistent, and each network can be built."""

from __future__ import annotations

import configparser
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import SaveImaged

from scd_plugin import SCDNetwork, __version__
from scd_plugin.monai import label_values, recorded, trained_on
from scd_plugin.monai.training.record import record
from scd_plugin.networks.guidance import TARGET

BUNDLES = Path(__file__).parents[2] / "bundles"
FOLDERS = sorted(path.parent for path in BUNDLES.glob("*/configs"))
NAMES = [folder.name for folder in FOLDERS]
FILES = (
    "LICENSE",
    "configs/metadata.json",
    "configs/train.json",
    "configs/evaluate.json",
    "configs/inference.json",
    "configs/multi_gpu_train.json",
    "configs/multi_gpu_evaluate.json",
    "configs/logging.conf",
    "docs/README.md",
    "docs/data_license.txt",
)
# of the official schema 20240725
REQUIRED = (
    "schema", "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task",
    "description", "authors", "copyright", "network_data_format",
)  # fmt: skip
TENSOR = ("type", "format", "num_channels", "spatial_shape", "dtype", "value_range")
# what MONAI Label, MONAI Deploy and the model zoo's tests ask for by name
TRAIN_IDS = (
    "bundle_root", "device", "dataset_dir", "network_def", "network", "epochs", "val_interval", "datalist",
    "train#trainer", "train#trainer#max_epochs", "train#dataset", "train#dataset#data", "train#dataset#cache_rate",
    "train#dataloader#num_workers", "train#inferer", "train#handlers", "train#preprocessing", "train#postprocessing",
    "train#key_metric", "train#random_transforms#0#spatial_size", "validate#evaluator", "validate#handlers",
    "validate#dataset", "validate#dataset#data", "validate#inferer", "validate#preprocessing",
    "validate#postprocessing", "validate#key_metric", "initialize", "run",
)  # fmt: skip
INFERENCE_IDS = (
    "bundle_root", "device", "dataset_dir", "dataset", "dataset#data", "evaluator", "network_def", "network",
    "inferer", "inferer#roi_size", "handlers", "handlers#0#load_path", "preprocessing", "postprocessing", "run",
)  # fmt: skip


# channels, and values that labels may hold
KINDS = {
    "scd_unetr_brats_segmentation": (4, list(range(4))),
    "scd_unetr_btcv_segmentation": (1, list(range(14))),
    "scd_unetr_hippocampus": (1, [0, 1, 2]),
    "scd_unetr_segmentation": (1, [0, 1]),
}


def config(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "configs" / f"{name}.json").read_text())
    return content


def test_all_four_were_found() -> None:
    assert NAMES == [
        "scd_unetr_brats_segmentation", "scd_unetr_btcv_segmentation", "scd_unetr_hippocampus", "scd_unetr_segmentation"
    ]  # fmt: skip


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
class TestBundle:
    def test_files(self, folder: Path) -> None:
        assert [name for name in FILES if not (folder / name).is_file()] == []
        weights = ["models/model.pt"] if folder.name == "scd_unetr_hippocampus" else []
        assert [str(path.relative_to(folder)) for path in folder.rglob("*.pt")] == weights, (
            "trained here, and no others"
        )

    def test_metadata(self, folder: Path) -> None:
        metadata = config(folder, "metadata")
        assert [key for key in REQUIRED if key not in metadata] == []
        assert metadata["version"] in metadata["changelog"]
        assert isinstance(metadata["supported_apps"], dict)
        assert metadata["required_packages_version"]["scd-plugin"] == __version__
        for tensor in (
            metadata["network_data_format"]["inputs"]["image"],
            metadata["network_data_format"]["outputs"]["pred"],
        ):
            assert [key for key in TENSOR if key not in tensor] == []
            assert len(tensor["channel_def"]) == tensor["num_channels"]

    def test_ids(self, folder: Path) -> None:
        train, inference = ConfigParser(config(folder, "train")), ConfigParser(config(folder, "inference"))
        assert [name for name in TRAIN_IDS if name not in train] == []
        assert [name for name in INFERENCE_IDS if name not in inference] == []
        assert isinstance(train.get("train#handlers"), list)
        # the last two are for the first process alone
        last = [handler["_target_"] for handler in train.get("train#handlers")[-2:]]
        assert last == ["StatsHandler", "TensorBoardStatsHandler"]
        # the first is for all processes
        assert train.get("validate#handlers")[0]["_target_"] == "scd_plugin.monai.AuditTokens"
        assert inference["handlers"][0]["_target_"] == "CheckpointLoader"

    def test_overrides_name_what_there_is(self, folder: Path) -> None:
        train = ConfigParser(config(folder, "train"))
        for name in ("evaluate", "multi_gpu_train", "multi_gpu_evaluate"):
            for key in config(folder, name):
                parent = key.rsplit("#", 1)[0] if "#" in key else None
                assert parent is None or parent in train, f"{name}.json overrides {key}"

    def test_network_and_metadata_agree(self, folder: Path) -> None:
        settings = config(folder, "inference")["network_def"]
        small = {"hidden_size": 48, "mlp_dim": 48, "num_heads": 4, "feature_size": 4}
        network = ConfigParser({"network_def": {**settings, **small}}).get_parsed_content("network_def")
        assert isinstance(network, SCDNetwork)
        formats = config(folder, "metadata")["network_data_format"]
        assert network.image_shape == [
            formats["inputs"]["image"]["num_channels"], *formats["inputs"]["image"]["spatial_shape"]
        ]  # fmt: skip
        assert settings["out_channels"] == formats["outputs"]["pred"]["num_channels"]
        assert settings["img_size"] == config(folder, "inference")["img_size"]

    def test_labels_teach_what_they_teach_elsewhere(self, folder: Path) -> None:
        # the weights of one were trained before that changed
        former = folder.name == "scd_unetr_hippocampus"
        assert config(folder, "train")["guide_target"] == ("mixed" if former else TARGET)

    def test_default_training_changes_no_file(
        self, folder: Path, tmp_path: Path, network_of_training: Callable[..., SCDNetwork]
    ) -> None:
        copy = Path(shutil.copytree(folder, tmp_path / folder.name))
        record(copy, network_of_training(folder.name), config(folder, "metadata").get("dataset"))
        for name in ("inference", "metadata"):
            assert (copy / "configs" / f"{name}.json").read_text() == (
                folder / "configs" / f"{name}.json"
            ).read_text(), name

    @pytest.mark.parametrize("device", ["cpu", "cuda:1"])
    def test_device_may_be_a_name(self, folder: Path, device: str) -> None:
        """MONAI Label gives it so."""
        for name, engine in (("train", "train#trainer"), ("train", "validate#evaluator"), ("inference", "evaluator")):
            parser = ConfigParser({**config(folder, name), "device": device})
            assert parser.get_parsed_content(f"{engine}#amp") is (device != "cpu")

    def test_paths_do_not_stay_beside_the_image(self, folder: Path) -> None:
        """MONAI Label adds `image_path`, which Spacingd takes for an image."""
        for transforms in (
            config(folder, "train")["train"]["deterministic_transforms"],
            config(folder, "inference")["preprocessing"]["transforms"],
        ):
            assert transforms[0]["_target_"] == "LoadImaged"
            assert transforms[1] == {"_target_": "DeleteItemsd", "keys": ["image_path"]}

    def test_results_are_named_as_their_images(self, folder: Path, tmp_path: Path) -> None:
        """By a lambda: MONAI Deploy builds `SaveImaged` before it leaves it out, maybe where there is no scd-plugin."""
        inference = ConfigParser({**config(folder, "inference"), "imports": [], "output_dir": str(tmp_path)})
        save = f"postprocessing#transforms#{len(inference['postprocessing']['transforms']) - 1}"
        assert isinstance(inference.get_parsed_content(save), SaveImaged)
        inference = ConfigParser({**config(folder, "inference"), "output_dir": str(tmp_path)})
        pred = MetaTensor(torch.zeros(1, 4, 4, 4), meta={"filename_or_obj": str(tmp_path / "a.1.mha")})
        inference.get_parsed_content(save)({"pred": pred})
        assert [path.name for path in tmp_path.iterdir()] == ["a.1_seg.nii.gz"]

    @pytest.mark.parametrize(
        ("names", "part"),
        [
            (["inference"], ""),
            (["train", "evaluate"], "validate#"),
            (["train", "evaluate", "multi_gpu_evaluate"], "validate#"),
        ],
        ids=["inference", "evaluate", "multi_gpu_evaluate"],
    )
    def test_weights_are_asked_for_first(self, folder: Path, tmp_path: Path, names: list[str], part: str) -> None:
        """Not in `initialize`, which `monai.bundle.load` runs from any folder."""
        parser = ConfigParser()
        parser.read_config([str(folder / "configs" / f"{name}.json") for name in names])
        parser["bundle_root"] = str(tmp_path)
        parser["network"] = {"_target_": "torch.nn.Identity"}
        handlers = f"{part}handlers"
        # what is left needs several processes
        parser[handlers] = parser[handlers][:1]
        assert parser["run"][0] == f"$scd.need_weights(@{handlers})"
        with pytest.raises(RuntimeError) as caught:
            parser.get_parsed_content("run#0")
        assert str(caught.value.__cause__) == (
            f"there are no weights in {tmp_path}/models/model.pt: train the bundle first, or copy a state dict there"
        )
        (tmp_path / "models").mkdir()
        torch.save({}, tmp_path / "models" / "model.pt")
        assert parser.get_parsed_content("run#0") is None

    def test_evaluation_takes_what_the_training_recorded(
        self, folder: Path, tmp_path: Path, network_of_training: Callable[..., SCDNetwork]
    ) -> None:
        copy = Path(shutil.copytree(folder, tmp_path / folder.name))
        record(copy, network_of_training(folder.name), config(folder, "metadata").get("dataset"), spacing=(3, 3, 4))
        (copy / "models").mkdir(exist_ok=True)
        (copy / "models" / "trained_on.json").write_text(json.dumps({"fold": 3, "seed": 7, "training": ["a"]}))
        parser = ConfigParser()
        parser.read_config([str(copy / "configs" / f"{name}.json") for name in ("train", "evaluate")])
        parser.read_meta(str(copy / "configs" / "metadata.json"))
        asked: list[dict[str, Any]] = []
        parser.update({"bundle_root": str(copy), "imports": [], "ckpt_dir": "elsewhere"})
        parser.globals["scd"] = SimpleNamespace(
            recorded=recorded,
            trained_on=trained_on,
            label_values=label_values,
            data_lists=lambda _, **options: asked.append(options),
        )
        assert parser.get_parsed_content("spacing") == [3.0, 3.0, 4.0]
        assert parser.get_parsed_content("validate#handlers#0#load_path") == f"{copy}/models/model.pt"
        parser.get_parsed_content("datalist")
        (given,) = asked
        assert (given["fold"], given["seed"]) == (3, 7)
        assert given["trained_on"] == {"fold": 3, "seed": 7, "training": ["a"]}
        assert (given["channels"], list(given["labels"])) == KINDS[folder.name]

    @pytest.mark.parametrize(
        "names", [["train"], ["train", "multi_gpu_train"], ["train", "evaluate"], ["inference"]], ids="-".join
    )
    def test_freed_memory_is_kept(self, folder: Path, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """Not in `initialize`, since whoever loads a bundle into a program of theirs decides for that program."""
        asked: list[torch.device] = []
        monkeypatch.setattr("scd_plugin.monai.keep_freed_memory", asked.append)
        parser = ConfigParser()
        parser.read_config([str(folder / "configs" / f"{name}.json") for name in names])
        parser["device"] = "$torch.device('cpu')"
        number = parser["run"].index("$scd.keep_freed_memory(@device)")
        parser.get_parsed_content(f"run#{number}")
        assert asked == [torch.device("cpu")]

    @pytest.mark.parametrize(
        "names", [["inference"], ["train", "evaluate"], ["train", "evaluate", "multi_gpu_evaluate"]], ids="-".join
    )
    def test_another_keep_ratio(self, folder: Path, names: list[str], small: Callable[..., SCDNetwork]) -> None:
        """For the weights that are there; the training's option does not decide about it."""
        net = small()
        parser = ConfigParser(globals={"net": net})
        parser.read_config([str(folder / "configs" / f"{name}.json") for name in names])
        parser["network_def"] = "$net"
        parser["imports"] = []
        number = next(i for i, line in enumerate(parser["run"]) if "set_keep_ratio" in line)
        assert parser["run"][number + 1].endswith("evaluator.run()")
        for given, expected in ((None, 0.5), (0.25, 0.25)):
            if given is not None:
                parser["keep_ratio"] = given
            parser.parse(reset=True)
            parser.get_parsed_content(f"run#{number}")
            assert {stage.keep_ratio for stage in net.pruning_stages()} == {expected}

    def test_logging(self, folder: Path) -> None:
        parser = configparser.RawConfigParser()
        parser.read(folder / "configs" / "logging.conf")
        assert parser.get("handler_consoleHandler", "class") == "StreamHandler"


class TestRegions:
    """Of the general bundle, which knows them only when it has seen the data."""

    DESCRIPTION: ClassVar[dict[str, Any]] = {
        "labels": {"one": [1], "two": [2, 3]},
        "regions_order": [1, 2],
        "label_values": [],
        "in_channels": 1,
        "out_channels": 2,
        "spacing": [1.0, 1.0, 1.0],
        "img_size": [8, 8, 8],
        "patch_size": [4, 4, 4],
        "ct_windows": [None],
    }

    def preprocessed(self, volumes: Any, folder: Path, part: str) -> Any:
        """A volume with a small block of the first region and none of the second."""
        label = np.zeros((32, 32, 32), np.uint8)
        label[6:10, 6:10, 6:10] = 1
        data = {name: str(volumes.write(folder / f"{name}.nii.gz", label)) for name in ("image", "label")}
        parser = ConfigParser(
            {
                **config(BUNDLES / "scd_unetr_segmentation", "train"),
                "description": self.DESCRIPTION,
                "num_samples": 60,
                "device": "cpu",
            }
        )
        # ITK takes seconds to load
        parser["train#deterministic_transforms#0#reader"] = "NibabelReader"
        transform = parser.get_parsed_content(f"{part}#preprocessing")
        transform.set_random_state(0)
        return transform(data)

    def test_crops_find_every_region(self, volumes: Any, tmp_path: Path) -> None:
        labels = [crop["label"] for crop in self.preprocessed(volumes, tmp_path, "train")]
        assert {tuple(label.shape) for label in labels} == {(2, 8, 8, 8)}
        assert not any(label[1].any() for label in labels)
        share = sum(bool(label[0].any()) for label in labels) / len(labels)
        # two of three crops have a labelled voxel in their middle
        assert 0.55 < share < 0.8

    @pytest.mark.parametrize(("order", "regions"), [([1, 2], True), ([], False)])
    def test_the_network_knows(self, order: list[int], regions: bool) -> None:
        description = {**self.DESCRIPTION, "regions_order": order, "img_size": [16, 16, 16]}
        values = {"description": description, "size": "primus-s", "device": "cpu"}
        parser = ConfigParser({**config(BUNDLES / "scd_unetr_segmentation", "train"), **values})
        with torch.device("meta"):
            assert parser.get_parsed_content("network_def").regions is regions

    def test_validation_sees_regions(self, volumes: Any, tmp_path: Path) -> None:
        label = self.preprocessed(volumes, tmp_path, "validate")["label"]
        assert label.shape == (2, 32, 32, 32)
        assert label.sum(dim=(1, 2, 3)).tolist() == [64, 0]


class TestPublishedSettings:
    @pytest.mark.parametrize(
        ("bundle", "crops"), [("scd_unetr_btcv_segmentation", 4), ("scd_unetr_brats_segmentation", 2)], ids=str
    )
    def test_optimizer(self, bundle: str, crops: int) -> None:
        train = config(BUNDLES / bundle, "train")
        assert (train["batch_size"], train["num_samples"]) == (1, crops)
        assert ConfigParser(train).get_parsed_content("learning_rate") == pytest.approx(1.72e-2 * crops / 256)
        more = {**train, "batch_size": 3, "num_samples": 5}
        assert ConfigParser(more).get_parsed_content("learning_rate") == pytest.approx(1.72e-2 * 15 / 256)
        assert train["optimizer"] == {
            "_target_": "torch.optim.AdamW",
            "params": "$scd.layer_decay_groups(@network_def, lr=@learning_rate, layer_decay=0.75, weight_decay=0.05)",
            "lr": "@learning_rate",
            "betas": [0.9, 0.95],
        }

    def test_btcv(self) -> None:
        train = config(BUNDLES / "scd_unetr_btcv_segmentation", "train")
        network = config(BUNDLES / "scd_unetr_btcv_segmentation", "inference")["network_def"]
        assert (train["spacing"], train["img_size"], train["patch_size"]) == ([1.5, 1.5, 2.0], [96] * 3, [8] * 3)
        assert (train["epochs"], train["lr_scheduler"]["warmup_steps"]) == (5000, "$max(1, @epochs // 100)")
        assert train["loss"] == {
            "_target_": "DiceCELoss", "to_onehot_y": True, "softmax": True, "squared_pred": True
        }  # fmt: skip
        assert (network["keep_ratio"], network["drop_path_rate"], network["out_channels"]) == (0.1, 0.1, 14)
        intensity = next(t for t in train["train"]["deterministic_transforms"] if "a_min" in t)
        assert (intensity["a_min"], intensity["a_max"], intensity["b_min"], intensity["b_max"]) == (-958, 326, -1, 1)

    def test_brats(self) -> None:
        train = config(BUNDLES / "scd_unetr_brats_segmentation", "train")
        network = config(BUNDLES / "scd_unetr_brats_segmentation", "inference")["network_def"]
        assert (train["spacing"], train["img_size"], train["patch_size"]) == ([1.0] * 3, [128] * 3, [8] * 3)
        assert (train["epochs"], train["lr_scheduler"]["warmup_steps"]) == (533, "$max(1, @epochs // 40)")
        assert (network["keep_ratio"], network["drop_path_rate"], network["in_channels"]) == (0.25, 0.0, 4)
        assert train["regions"] == [[2, 3], [1, 2, 3], [3]]
        assert train["loss"] == {"_target_": "DiceLoss", "sigmoid": True, "squared_pred": True}
        inference = config(BUNDLES / "scd_unetr_brats_segmentation", "inference")
        zscore = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True}
        assert zscore in train["train"]["deterministic_transforms"]
        assert zscore in inference["preprocessing"]["transforms"]
        painted = next(t for t in inference["postprocessing"]["transforms"] if "values" in t)
        # core, whole and enhancing tumour; the whole is painted first, the enhancing part last
        assert (painted["values"], painted["painting"]) == ([2, 1, 3], [1, 0, 2])
