"""Whatever a stranger writes into plans.json and dataset.json: none of it arrives in a config of MONAI as code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from scd_plugin.bridge.to_monai import to_monai
from scd_plugin.nnunet.planning.planned_network import architecture_of
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD

CODE = "$open('ran', 'w')"


def places(tree: Any, path: tuple[Any, ...] = (), *, keys: bool) -> Iterator[tuple[Any, ...]]:
    """Ways to every text, with `keys` also to every key, whose last step is a tuple."""
    if isinstance(tree, (dict, list)):
        for step, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            if keys and isinstance(step, str):
                yield (*path, (step,))
            yield from places(value, (*path, step), keys=keys)
    elif isinstance(tree, str):
        yield path


def with_code(tree: Any, path: tuple[Any, ...]) -> Any:
    changed = deepcopy(tree)
    part = changed
    *steps, last = path
    for step in steps:
        part = part[step]
    if isinstance(last, tuple):
        part[CODE] = part.pop(last[0])
    else:
        part[last] = CODE
    return changed


def test_every_text(
    make_model: Callable[..., Path], plans: dict[str, Any], dataset: dict[str, Any], tmp_path: Path
) -> None:
    model, refused, written = make_model(), [], []
    files = {"plans.json": plans, "dataset.json": dataset}
    for name, content in files.items():
        for path in places(content, keys=name == "dataset.json"):
            for other, unchanged in files.items():
                (model / other).write_text(json.dumps(unchanged))
            (model / name).write_text(json.dumps(with_code(content, path)))
            bundle = tmp_path / f"bundle{len(written)}"
            try:
                to_monai(model, bundle)
            except ValueError:
                assert not bundle.exists()
                refused.append(path)
            else:
                configs = [(bundle / "configs" / file).read_text() for file in ("inference.json", "metadata.json")]
                assert not [path for config in configs if "$open(" in config]
                written.append(path)
    assert {("dataset_name",), ("channel_names", "0"), ("channel_names", ("0",)), ("labels", ("liver",))} <= {*refused}
    # of these no config holds anything
    assert {("file_ending",), ("configurations", "3d_fullres", "data_identifier")} <= {*written}
    assert len(refused) > 15


@pytest.mark.parametrize("name", ["qkv_bias", "res_block", "conv_block"])
def test_argument_of_the_network(
    make_model: Callable[..., Path], plans: dict[str, Any], tmp_path: Path, name: str
) -> None:
    # flags, for which the network takes any text that is not empty
    model, checkpoint = make_model(), tmp_path / "nnUNetTrainerSCD_demo__nnUNetPlans__3d_fullres/fold_0"
    sizes = {"hidden_size": 48, "num_heads": 4, "num_layers": 4, "mlp_dim": 96, "feature_size": 8, "prune_after": [2]}
    architecture = architecture_of("SCDUNETR", {"img_size": 32, "patch_size": 8, **sizes})
    plans["configurations"]["3d_fullres"]["architecture"] = architecture
    manager = PlansManager(deepcopy(plans))
    network = nnUNetTrainerSCD.build_network_architecture(manager, manager.get_configuration("3d_fullres"), 1, 3, False)
    entries = {"network_weights": network.state_dict(), "trainer_name": "nnUNetTrainerSCD"}
    torch.save({**entries, "init_args": {"configuration": "3d_fullres"}}, checkpoint / "checkpoint_final.pth")
    (model / "plans.json").write_text(json.dumps(plans))
    assert to_monai(model, tmp_path / "bundle").is_dir()
    architecture["arch_kwargs"][name] = CODE
    (model / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(ValueError, match=r"arch_kwargs of .* holds the name .* would take for code"):
        to_monai(model, tmp_path / "another")


@pytest.mark.parametrize("name", ["dataset_name", "plans_name"])
def test_name_that_is_missing(
    make_model: Callable[..., Path], plans: dict[str, Any], tmp_path: Path, name: str
) -> None:
    model = make_model()
    (model / "plans.json").write_text(json.dumps({key: value for key, value in plans.items() if key != name}))
    with pytest.raises(ValueError, match=rf"plans.json of .* has no {name}; take plans.json of the training"):
        to_monai(model, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
