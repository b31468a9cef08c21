"""Plans of a stranger: what they name is run only if it is code of nnU-Net, its networks, PyTorch's layers or ours."""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nnunetv2")

from typer.testing import CliRunner

from scd_plugin.cli import app
from scd_plugin.nnunet.model.named_code import check_named_code
from scd_plugin.nnunet.model.recipe import NnunetRecipe, read_recipe
from scd_plugin.nnunet.planning.planned_network import architecture_of

RESAMPLE = "resample_data_or_seg_to_shape"
PLANS: dict[str, Any] = {
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {},
    "configurations": {
        "3d_fullres": {
            "preprocessor_name": "DefaultPreprocessor",
            "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
            "resampling_fn_data": RESAMPLE,
            "resampling_fn_seg": RESAMPLE,
            "resampling_fn_probabilities": "resample_torch_fornnunet",
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {
                    "conv_op": "torch.nn.modules.conv.Conv3d",
                    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                    "dropout_op": None,
                    "nonlin": "torch.nn.LeakyReLU",
                },
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
        }
    },
}
DATASET: dict[str, Any] = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".mha"}
MALICIOUS = "Path(__file__).with_name('ran').touch()"


def changed(path: str, value: Any) -> dict[str, Any]:
    """Plans with another entry, by its keys within the configuration, or within the plans after a slash."""
    plans = deepcopy(PLANS)
    part = plans if path.startswith("/") else plans["configurations"]["3d_fullres"]
    *parents, last = path.removeprefix("/").split("#")
    for parent in parents:
        part = part[parent]
    part[last] = value
    return plans


def check(plans: dict[str, Any]) -> None:
    check_named_code(plans, plans["configurations"]["3d_fullres"])


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mark that an installed package leaves when it is imported."""
    package = tmp_path / "site" / "of_a_stranger"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"from pathlib import Path\n{MALICIOUS}\nfrom torch.nn import Conv3d as Net\n")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.delitem(sys.modules, "of_a_stranger", raising=False)
    return package / "ran"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("architecture", {}),
        ("architecture", architecture_of("SCDUNETR", {"img_size": 32, "patch_size": 8})),
        ("architecture", architecture_of("SCDPrimus", {"img_size": 32, "patch_size": 8})),
        ("architecture#network_class_name", "dynamic_network_architectures.architectures.primus.Primus"),
        # nnU-Net looks for it elsewhere in the package
        ("architecture#network_class_name", "dynamic_network_architectures.architectures.older.PlainConvUNet"),
        ("architecture#arch_kwargs#dropout_op", "torch.nn.modules.dropout.Dropout3d"),
        ("/image_reader_writer", "NibabelIOWithReorient"),
        ("/label_manager", None),
        ("resampling_fn_data", "no_resampling_hack"),
        ("normalization_schemes", ["NoNormalization", "RGBTo01Normalization"]),
    ],
)
def test_what_plans_hold(path: str, value: Any) -> None:
    check(PLANS)
    check(changed(path, value))


NETWORK, LAYER = "architecture#network_class_name", "architecture#arch_kwargs#nonlin"


@pytest.mark.parametrize(
    ("path", "value", "entry"),
    [
        (NETWORK, "of_a_stranger.Net", "network_class_name"),
        (NETWORK, "of_a_stranger", "network_class_name"),
        (NETWORK, "eval", "network_class_name"),
        (NETWORK, "os.system", "network_class_name"),
        # takes any arguments, and runs hubconf.py of a folder or of the internet
        (NETWORK, "torch.hub.load", "network_class_name"),
        # by way of what modules of nnU-Net and PyTorch import
        (NETWORK, "nnunetv2.run.run_training.os.system", "network_class_name"),
        (NETWORK, "dynamic_network_architectures.architectures.unet.torch.hub.load", "network_class_name"),
        (NETWORK, "dynamic_network_architectures.architectures.older.nn", "network_class_name"),
        (NETWORK, "dynamic_network_architectures.of_a_stranger.Net", "network_class_name"),
        (NETWORK, "scd_plugin.nnunet.planning.planned_network.inspect", "network_class_name"),
        (NETWORK, "scd_plugin.monai.dataset.data.from_config", "network_class_name"),
        (NETWORK, "torch.nn.Conv3d", "network_class_name"),
        (NETWORK, " of_a_stranger.Net", "network_class_name"),
        (LAYER, "of_a_stranger.Net", "nonlin of arch_kwargs"),
        (LAYER, "torch.hub.load", "nonlin of arch_kwargs"),
        (LAYER, "torch.nn", "nonlin of arch_kwargs"),
        (LAYER, "torch.nn.modules.module.warnings.warn", "nonlin of arch_kwargs"),
        (LAYER, "torch.nnx.Net", "nonlin of arch_kwargs"),
        ("preprocessor_name", "of_a_stranger.Net", "preprocessor_name"),
        ("preprocessor_name", "multiprocessing", "preprocessor_name"),
        ("preprocessor_name", "Misspelt", "preprocessor_name"),
        ("/image_reader_writer", "sitk", "image_reader_writer"),
        ("/image_reader_writer", "of_a_stranger", "image_reader_writer"),
        ("/label_manager", "of_a_stranger.Net", "label_manager"),
        ("normalization_schemes", ["CTNormalization", "np"], "normalization_schemes"),
        ("resampling_fn_data", "partial", "resampling_fn_data"),
        ("resampling_fn_probabilities", "map_coordinates", "resampling_fn_probabilities"),
    ],
)
def test_what_needs_trust(stranger: Path, path: str, value: Any, entry: str) -> None:
    name = value[-1] if isinstance(value, list) else value
    with pytest.raises(ValueError, match=f"plans.json names {name!r} as {entry}, which is not .* with --trust"):
        check(changed(path, value))
    assert not stranger.exists()


@pytest.mark.parametrize("listed", [[], None, "nonlin", 7, [["conv_op"]]])
def test_import_that_the_plans_hide(stranger: Path, listed: Any) -> None:
    plans = changed("architecture#_kw_requires_import", listed)
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["conv_op"] = "of_a_stranger.Net"
    with pytest.raises(ValueError, match=r"names 'of_a_stranger.Net' as conv_op of arch_kwargs"):
        check(plans)
    assert not stranger.exists()


@pytest.mark.parametrize("path", ["architecture", "architecture#arch_kwargs"])
@pytest.mark.parametrize("value", [None, [], "x", 7])
def test_what_is_no_object_names_nothing(path: str, value: Any) -> None:
    check(changed(path, value))


def test_names_are_text() -> None:
    with pytest.raises(ValueError, match=r"preprocessor_name of plans.json must be a name in quotation marks; got 5"):
        check(changed("preprocessor_name", 5))


def test_trust(stranger: Path, tmp_path: Path) -> None:
    plans = changed(NETWORK, "of_a_stranger.Net")
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    (tmp_path / "dataset.json").write_text(json.dumps(DATASET))
    with pytest.raises(ValueError, match=f"{tmp_path}: plans.json names 'of_a_stranger.Net'"):
        read_recipe(tmp_path, "3d_fullres")
    assert read_recipe(tmp_path, "3d_fullres", trust=True).trust
    assert not NnunetRecipe(PLANS, DATASET, "3d_fullres").trust
    # a recipe builds no network
    assert not stranger.exists()


@pytest.mark.parametrize("command", ["predict", "audit", "bridge to-monai", "bridge to-nnunet"])
def test_commands_have_the_option(command: str) -> None:
    shown = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert "--trust" in shown.output
