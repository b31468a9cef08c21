"""A bundle is exported, described and compared; what can't be done is said in one sentence."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, load_bundle_config
from typer.testing import CliRunner

from scd_plugin import SCDUNETR, SCDNetwork, __version__
from scd_plugin.cli import app
from scd_plugin.folders import EXPORTS
from scd_plugin.monai import from_config
from scd_plugin.monai.export import exporter
from scd_plugin.monai.export.description import describe
from scd_plugin.monai.export.exported_parity import load_exported, parity
from scd_plugin.monai.export.exporter import Exported, export_bundle

NETWORK: dict[str, Any] = {
    "in_channels": 1,
    "out_channels": 3,
    "img_size": [16, 16, 16],
    "feature_size": 4,
    "hidden_size": 24,
    "mlp_dim": 48,
    "num_heads": 2,
    # as bundles record it
    "norm_name": ["instance", {"affine": True}],
    "num_layers": 2,
    "patch_size": 4,
    "prune_after": [1, 2],
    "keep_ratio": 0.5,
}
PRIMUS: dict[str, Any] = {
    "_target_": "scd_plugin.SCDPrimus",
    "in_channels": 1,
    "out_channels": 3,
    "img_size": [16, 16, 16],
    "patch_size": 4,
    "hidden_size": 48,
    "num_layers": 3,
    "num_heads": 4,
    "prune_after": [1, 2],
    "keep_ratio": 0.5,
}
INFERENCE: dict[str, Any] = {
    "imports": ["$import math"],
    "bundle_root": ".",
    "spacing": [1.5, 1.5, 2.0],
    "regions": [],
    "out_channels": "$math.floor(3.5)",
    "network_def": {"_target_": "scd_plugin.SCDUNETR", **NETWORK, "out_channels": "@out_channels"},
    "intensity": {
        "_target_": "Compose",
        "transforms": [
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": -958,
                "a_max": 326,
                "b_min": 0,
                "b_max": 1,
                "clip": True,
            }
        ],
    },
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": "@spacing", "mode": "bilinear"},
            "@intensity",
        ],
    },
    "inferer": {
        "_target_": "SlidingWindowInferer",
        "roi_size": "@network_def#img_size",
        "sw_batch_size": 4,
        "overlap": "$1 / 2",
    },
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {
                "_target_": "Activationsd",
                "keys": "pred",
                "softmax": "$not @regions",
                "sigmoid": "$bool(@regions)",
            },
            {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image"},
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "_disabled_": "$len(@regions) == 0"},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "$@bundle_root + '/eval'"},
        ],
    },
}
METADATA: dict[str, Any] = {
    "name": "throw-away",
    "version": "0.0.1",
    "task": "test",
    "network_data_format": {
        "inputs": {
            "image": {
                "num_channels": 1,
                "spatial_shape": [16, 16, 16],
                "dtype": "float32",
                "channel_def": {"0": "CT"},
            }
        },
        "outputs": {
            "pred": {
                "num_channels": 3,
                "spatial_shape": [16, 16, 16],
                "dtype": "float32",
                "channel_def": {"0": "background", "1": "liver", "2": "tumour"},
            }
        },
    },
}


def write_bundle(root: Path, **changes: Any) -> Path:
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    config = {**INFERENCE, **changes}
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    (root / "configs" / "metadata.json").write_text(json.dumps(METADATA))
    network = from_config({**config["network_def"], "out_channels": 3})
    torch.save(network.state_dict(), root / "models" / "model.pt")
    return root


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small bundle with weights; arguments change its inference config."""
    return lambda **changes: write_bundle(tmp_path / "a bundle", **changes)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A bundle's network as TorchScript, in a folder of its own."""
    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    return export_bundle(write_bundle(folder / "bundle"), format="torchscript", output=folder / "new" / "mine.ts")


def network_of(root: Path) -> SCDNetwork:
    config = json.loads((root / "configs" / "inference.json").read_text())["network_def"]
    net: SCDNetwork = from_config({**config, "out_channels": 3}).eval()
    net.load_state_dict(torch.load(root / "models" / "model.pt", weights_only=True))
    return net


@pytest.mark.slow
@pytest.mark.parametrize("network", [INFERENCE["network_def"], PRIMUS], ids=["SCDUNETR", "SCDPrimus"])
@pytest.mark.parametrize("name", ["torchscript-trace", "onnx", "onnx-legacy", "torch-export"])
def test_written_file_answers_as_the_network(
    make_bundle: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    network: dict[str, Any],
) -> None:
    root, scratch = make_bundle(network_def=network), tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    done = export_bundle(root, format=name)
    assert done.path.parent == root.resolve() / "models"
    assert 0 <= done.difference < 1e-4
    assert not list(scratch.iterdir())
    assert json.loads(done.deployment.read_text())["keep_ratio"] == {"1": 0.5, "2": 0.5}
    image = torch.randn(4, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(load_exported(done.path)(image), network_of(root)(image), atol=1e-4, rtol=0)


class TestTorchScript:
    def test_answers_as_the_network(self, exported: Exported) -> None:
        image = torch.randn(4, 1, 16, 16, 16)
        with torch.no_grad():
            expected = network_of(exported.path.parents[1] / "bundle")(image)
            torch.testing.assert_close(load_exported(exported.path)(image), expected, atol=1e-4, rtol=0)

    def test_goes_where_asked(self, exported: Exported) -> None:
        assert exported.path.parts[-2:] == ("new", "mine.ts")
        assert exported.deployment == exported.path.with_name("mine.ts.deploy.json")
        assert exported.deployment.is_file()

    def test_holds_the_configs(self, exported: Exported) -> None:
        parser = load_bundle_config(str(exported.path), "inference.json")
        assert parser["network_def"]["_target_"] == "scd_plugin.SCDUNETR"

    @pytest.mark.slow
    def test_leaves_deep_supervision_to_training(self, make_bundle: Callable[..., Path]) -> None:
        root = make_bundle(network_def={**INFERENCE["network_def"], "deep_supervision": True})
        done = export_bundle(root, format="torchscript")
        assert load_exported(done.path)(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 3, 16, 16, 16)


class TestDeployment:
    @pytest.fixture
    def deployment(self, exported: Exported) -> dict[str, Any]:
        return json.loads(exported.deployment.read_text())

    def test_says_what_comes_in(self, deployment: dict[str, Any]) -> None:
        image = deployment["inputs"]["image"]
        assert (image["num_channels"], image["spatial_shape"]) == (1, [16, 16, 16])
        assert image["channel_def"] == {"0": "CT"}
        assert deployment["img_size"] == [16, 16, 16]
        assert deployment["spacing"] == [1.5, 1.5, 2.0]
        assert deployment["orientation"] == "RAS"
        assert deployment["intensity"] == [INFERENCE["intensity"]["transforms"][0]]
        assert [step["_target_"] for step in deployment["preprocessing"]] == [
            "LoadImaged",
            "Orientationd",
            "Spacingd",
            "ScaleIntensityRanged",
        ]

    def test_says_what_comes_out(self, deployment: dict[str, Any]) -> None:
        assert deployment["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "liver", "2": "tumour"}
        assert deployment["activation"] == "softmax"
        assert deployment["sliding_window"] == {
            "_target_": "SlidingWindowInferer",
            "roi_size": [16, 16, 16],
            "sw_batch_size": 4,
            "overlap": 0.5,
        }
        # neither the disabled step nor the one that saves
        assert [step["_target_"] for step in deployment["postprocessing"]] == ["Activationsd", "Invertd", "AsDiscreted"]
        assert deployment["postprocessing"][1]["transform"] == "@preprocessing"

    def test_says_which_network_it_is(self, deployment: dict[str, Any], exported: Exported) -> None:
        weights = exported.path.parents[1] / "bundle" / "models" / "model.pt"
        assert deployment["keep_ratio"] == {"1": 0.5, "2": 0.5}
        assert deployment["network"]["out_channels"] == 3
        assert deployment["weights"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
        assert deployment["file"]["sha256"] == hashlib.sha256(exported.path.read_bytes()).hexdigest()
        assert deployment["versions"]["scd-plugin"] == __version__
        assert deployment["versions"]["torch"] == torch.__version__
        assert deployment["parity"]["largest_difference"] < deployment["parity"]["allowed"]


def test_regions_and_stale_names() -> None:
    metadata = copy.deepcopy(METADATA)
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = {"0": "background", "1": "liver"}
    parser = ConfigParser({**INFERENCE, "regions": [1, 2]})
    deployment = describe(parser, SCDUNETR(**NETWORK), metadata)
    assert deployment["activation"] == "sigmoid"
    assert deployment["outputs"]["pred"]["num_channels"] == 3
    assert deployment["outputs"]["pred"]["channel_def"] == {}
    assert "KeepLargestConnectedComponentd" in [step["_target_"] for step in deployment["postprocessing"]]


def test_names_stay_as_they_are() -> None:
    names = {"0": "background", "1": "lesion #1", "2": "lesion #2"}
    metadata = {"network_data_format": {"outputs": {"pred": {"channel_def": names}}}}
    parser = ConfigParser({**INFERENCE, "_meta_": copy.deepcopy(metadata)})
    deployment = describe(parser, SCDUNETR(**NETWORK), metadata)
    assert deployment["outputs"]["pred"]["channel_def"] == names


def test_config_without_preprocessing() -> None:
    parser = ConfigParser({key: value for key, value in INFERENCE.items() if key != "preprocessing"})
    with pytest.raises(
        ValueError, match=r"inference\.json must have the id 'preprocessing'; it has imports, bundle_root"
    ):
        describe(parser, SCDUNETR(**NETWORK), METADATA)


def test_page_lists_the_formats() -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "export.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z-]+)` \| `model", page, flags=re.MULTILINE)
    assert listed == list(EXPORTS) == list(exporter._FORMATS)


def test_keep_ratio_of_the_config(make_bundle: Callable[..., Path]) -> None:
    root = make_bundle(keep_ratio=0.25)
    done = export_bundle(root, format="torch-export")
    assert json.loads(done.deployment.read_text())["keep_ratio"] == {"1": 0.25, "2": 0.25}
    network = network_of(root)
    network.set_keep_ratio(0.25)
    image = torch.randn(2, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(load_exported(done.path)(image), network(image), atol=1e-5, rtol=0)


class TestRefusals:
    def test_unknown_format(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"format must be one of torchscript, .*, tensorrt; got 'coreml'"):
            export_bundle(tmp_path, format="coreml")

    @pytest.mark.parametrize("name", ["configs/inference.json", "configs/metadata.json", "models/model.pt"])
    def test_missing_file(self, make_bundle: Callable[..., Path], name: str) -> None:
        root = make_bundle()
        (root / name).unlink()
        with pytest.raises(ValueError, match=f"a bundle has no {name}"):
            export_bundle(root, format="torchscript")

    def test_no_gpu(self, make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(ValueError, match="format 'tensorrt' needs an NVIDIA GPU"):
            export_bundle(make_bundle(), format="tensorrt")

    def test_missing_packages(self, make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(exporter, "find_spec", lambda name: None if name.startswith("onnx") else object())
        with pytest.raises(
            ValueError, match=r"'onnx' needs the packages onnx, onnxscript, onnxruntime: pip install \"scd-plugin\[exp"
        ):
            export_bundle(make_bundle(), format="onnx")

    def test_network_that_the_format_does_not_hold(self, make_bundle: Callable[..., Path]) -> None:
        """SCD-Primus can be traced by TorchScript, not compiled."""
        with pytest.raises(
            ValueError, match=r"^format 'torchscript' does not work for this SCDPrimus, try another: [^\n]{10,300}$"
        ):
            export_bundle(make_bundle(network_def=PRIMUS), format="torchscript")

    def test_wrong_suffix(self, make_bundle: Callable[..., Path], tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"output must be a file name that ends with \.ts .*got .*model\.onnx"):
            export_bundle(make_bundle(), format="torchscript", output=tmp_path / "model.onnx")

    def test_weights_of_another_network(self, make_bundle: Callable[..., Path]) -> None:
        root = make_bundle()
        torch.save({"model": {}}, root / "models" / "model.pt")
        with pytest.raises(ValueError, match=r"model\.pt must be a state dict that fits network_def .*Missing key"):
            export_bundle(root, format="torchscript")

    def test_damaged_weights(self, make_bundle: Callable[..., Path]) -> None:
        root = make_bundle()
        (root / "models" / "model.pt").write_bytes(b"nothing")
        said = r"model\.pt can't be read: the file, of 7 bytes, was cut off or is no state"
        with pytest.raises(ValueError, match=said):
            export_bundle(root, format="torchscript")

    def test_another_network(self, make_bundle: Callable[..., Path]) -> None:
        root = make_bundle()
        config = {**INFERENCE, "network_def": {"_target_": "torch.nn.Identity"}}
        (root / "configs" / "inference.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=r"network_def must be or hold a network of SCD, .*; got Identity"):
            export_bundle(root, format="torchscript")

    def test_expression_that_fails(self, make_bundle: Callable[..., Path]) -> None:
        root = make_bundle(spacing="$1 / 0")
        with pytest.raises(ValueError, match=r"pixdim of configs/inference\.json can't be evaluated: "):
            export_bundle(root, format="torchscript")


class TestParity:
    @pytest.mark.parametrize(
        "wrong", [lambda image: image[:1], lambda image: image / 0], ids=["batch fixed", "not finite"]
    )
    def test_wrong_shapes_and_numbers_are_infinitely_far(self, wrong: Callable[[torch.Tensor], torch.Tensor]) -> None:
        assert parity(torch.nn.Identity(), wrong, (1, 4, 4))[0] == float("inf")

    def test_difference_and_scale(self) -> None:
        difference, scale = parity(torch.nn.Identity(), lambda image: image * 1.5, (2, 4, 4))
        assert difference == pytest.approx(scale / 2)
        assert 1 < scale < 10


class TestCommand:
    @pytest.mark.filterwarnings("error")
    def test_done_names_file_and_difference(self, make_bundle: Callable[..., Path]) -> None:
        root = make_bundle()
        result = CliRunner().invoke(app, ["export", str(root), "--format", "onnx-legacy"])
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith(f"done: {root.resolve() / 'models' / 'model.onnx'}, its logits differ")
        assert result.output.count("\n") == 1

    def test_error_is_one_sentence(self, tmp_path: Path) -> None:
        result = CliRunner().invoke(app, ["export", str(tmp_path)])
        assert result.exit_code == 2
        assert result.stderr == f"error: {tmp_path} has no configs/inference.json; is it a bundle?\n"

    def test_file_that_answers_differently_is_a_failure(
        self, make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def shifted(path: Path, *, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
            run = load_exported(path, device=device)
            return lambda image: run(image) + 0.002

        monkeypatch.setattr(exporter, "load_exported", shifted)
        root = make_bundle()
        (root / "models" / "model.onnx").write_text("that of last year")
        result = CliRunner().invoke(app, ["export", str(root), "--format", "onnx-legacy", "--tolerance", "0.0001"])
        assert result.exit_code == 1
        assert "model.onnx was not written, for it would answer differently from" in result.stderr
        assert "differ by up to 2.0e-03" in result.stderr
        assert (root / "models" / "model.onnx").read_text() == "that of last year"
        assert {path.name for path in (root / "models").iterdir()} == {"model.onnx", "model.pt"}
