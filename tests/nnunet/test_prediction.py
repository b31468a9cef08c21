"""What is said about an image that can't be segmented."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("nnunetv2")

from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from scd_plugin import SCDUNETR
from scd_plugin.nnunet.prediction import predict_logits_from_preprocessed_data


@pytest.fixture(scope="module")
def network() -> SCDUNETR:
    return SCDUNETR(
        2, 2, img_size=16, hidden_size=48, mlp_dim=48, num_heads=4, num_layers=4, prune_after=(1,), feature_size=4
    )


def image(value: float) -> torch.Tensor:
    data = torch.zeros(2, 4, 4, 4)
    data[1, 0, 0, 0] = value
    return data


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_says_which_channel(network: SCDUNETR, value: float, capsys: pytest.CaptureFixture[str]) -> None:
    predictor = SimpleNamespace(network=network)
    result = predict_logits_from_preprocessed_data(lambda _, data: data + 1, predictor, image(value))
    assert result[0, 0, 0, 0] == 1
    assert capsys.readouterr().out == (
        "WARNING: channels [1] of this case hold NaN or infinite voxels: its label map means nothing. "
        "Replace these voxels in the image and predict it again\n"
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_missing_channel(network: SCDUNETR, channels: int) -> None:
    data = torch.zeros(channels, 4, 4, 4)
    with pytest.raises(ValueError, match=rf"as many channels as the network takes, 2; got {channels}. .*NAME_0001"):
        predict_logits_from_preprocessed_data(lambda _, data: data, SimpleNamespace(network=network), data)


@pytest.mark.parametrize("ours", [True, False])
def test_nothing_to_say(network: SCDUNETR, ours: bool, capsys: pytest.CaptureFixture[str]) -> None:
    predictor = SimpleNamespace(network=network if ours else torch.nn.Identity())
    predict_logits_from_preprocessed_data(lambda _, data: data, predictor, image(0.0 if ours else float("nan")))
    assert capsys.readouterr().out == ""


def test_in_nnunets_place() -> None:
    method = nnUNetPredictor.predict_logits_from_preprocessed_data
    assert method.__module__ == "nnunetv2.inference.predict_from_raw_data"
    assert "scd_plugin" in method.__code__.co_filename
