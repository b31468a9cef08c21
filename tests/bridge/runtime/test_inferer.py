"""Further folds of a bundle from nnU-Net: read by way of the network, and kept apart from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytest.importorskip("nnunetv2")

from scd_plugin.bridge.runtime.inferer import NnunetInferer
from scd_plugin.nnunet.model.recipe import read_recipe
from scd_plugin.nnunet.model.trained_network import network_of


def test_a_fold_that_can_not_be_read_leaves_the_network_as_it_was(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = read_recipe(make_model(), "3d_fullres")
    network = network_of("nnUNetTrainerSCD_demo", recipe)
    own = {name: value.clone() for name, value in network.state_dict().items()}
    files = [str(tmp_path / name) for name in ("one.pt", "two.pt")]
    torch.save({name: value + 1 for name, value in own.items()}, files[0])
    Path(files[1]).write_bytes(b"cut off")
    inferer = NnunetInferer(recipe, more_weights=files)
    image = torch.zeros(1, *network.image_shape)
    with pytest.raises(ValueError, match=r"the weights in .*two.pt can't be read"):
        inferer(image, network)
    for name, value in network.state_dict().items():
        assert torch.equal(value, own[name]), name

    torch.save(own, files[1])
    network.eval()
    with torch.no_grad():
        averaged = inferer(image, network).float()
    for name, value in network.state_dict().items():
        assert torch.equal(value, own[name]), name
    assert inferer._folds is not None
    first = next(iter(own))
    assert torch.equal(inferer._folds[0][first], own[first] + 1)
    alone = NnunetInferer(recipe)(image, network).float()
    assert averaged.shape == alone.shape
    assert not torch.equal(averaged, alone)
