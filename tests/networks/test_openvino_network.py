"""OpenVINO answers as PyTorch does, and reports nothing to anybody."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scd_plugin.networks.openvino_network import OpenVINONetwork

pytest.importorskip("openvino", reason="openvino is not installed; pip install 'scd-plugin[openvino]'")

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "published": ("small", {}),
    "fast": ("small", {"decoder": "light", "completion": "assembly_to_kept", "completion_hidden_size": 24}),
    "sub-voxel": ("small", {"decoder": "subvoxel"}),
    "2-D": ("small", {"spatial_dims": 2}),
    "primus": ("small_primus", {"version": 3, "num_register_tokens": 2}),
}


def answers(network: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(images)


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_logits(request: pytest.FixtureRequest, variant: str) -> None:
    fixture, changes = VARIANTS[variant]
    net: Any = request.getfixturevalue(fixture)(**changes).eval()
    images = torch.randn(2, *net.image_shape)
    expected = answers(net, images)
    torch.testing.assert_close(answers(OpenVINONetwork(net), images), expected, rtol=1e-3, atol=1e-4)


def test_another_keep_ratio_is_another_program(small: Callable[..., Any]) -> None:
    net = small().eval()
    images, openvino = torch.randn(1, *net.image_shape), OpenVINONetwork(net)
    before = answers(openvino, images)
    net.set_keep_ratio(1.0)
    torch.testing.assert_close(answers(openvino, images), answers(net, images), rtol=1e-3, atol=1e-4)
    assert (answers(openvino, images) - before).abs().max() > 1e-2


def test_bfloat16_rounds(small: Callable[..., Any]) -> None:
    net = small(keep_ratio=1).eval()
    images = torch.randn(1, *net.image_shape)
    expected, rounded = answers(net, images), answers(OpenVINONetwork(net, "bfloat16"), images)
    assert rounded.dtype == torch.float32
    assert (rounded - expected).abs().max() < 0.1 * expected.abs().max()


def test_each_fold_is_compiled_once(small: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from scd_plugin.networks import openvino_network

    compiled: list[torch.Size] = []
    really = openvino_network._compiled

    def counted(network: nn.Module, images: Tensor, *how: Any) -> Any:
        compiled.append(images.shape)
        return really(network, images, *how)

    monkeypatch.setattr(openvino_network, "_compiled", counted)
    folds = [small().state_dict(), small().state_dict()]
    plain, fast = small().eval(), OpenVINONetwork(small())
    images = torch.randn(2, *plain.image_shape)
    for _ in range(2):
        for weights in folds:
            plain.load_state_dict(weights)
            fast.load_state_dict(weights)
            torch.testing.assert_close(answers(fast, images), answers(plain, images), rtol=1e-3, atol=1e-4)
    answers(fast, images[:1])
    assert compiled == [images.shape, images.shape, images[:1].shape]


def test_a_signal_finds_its_handler() -> None:
    """Networks that end in the order in which they came leave no stack for signals that is gone."""
    code = """
import faulthandler, os, signal
import torch
from torch import nn
from scd_plugin.networks.openvino_network import OpenVINONetwork
faulthandler.enable()
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
networks = [OpenVINONetwork(nn.Conv2d(1, 1, 3)) for _ in range(3)]
for network in networks:
    network(torch.zeros(1, 1, 8, 8))
while networks:
    del networks[0], network
    os.kill(os.getpid(), signal.SIGTERM)
    network = None
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "handled\n" * 3), done.stderr


def test_nothing_is_reported(small: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    openvino_telemetry = pytest.importorskip("openvino_telemetry")
    sent: list[Any] = []
    monkeypatch.setattr(openvino_telemetry.Telemetry, "send_event", lambda _, *event: sent.append(event))
    net = small()
    answers(OpenVINONetwork(net), torch.zeros(1, *net.image_shape))
    assert sent == []


class _Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.i1e(x)


def test_an_operator_that_it_lacks_has_a_sentence() -> None:
    network = OpenVINONetwork(_Unknown())
    with pytest.raises(ValueError, match=r"OpenVINO can't run the network _Unknown \(.*i1e.*\); take the engine torch"):
        network(torch.zeros(1, 1, 4))
