"""Instance norms in ONNX Runtime: as exact as PyTorch's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from scd_plugin import SCDPrimus
from scd_plugin.monai.export.exact_norm import exact_instance_norm
from scd_plugin.monai.export.exported_parity import load_exported, parity


def image_like_ct(edge: int) -> Tensor:
    """Air around a body, far from zero mean."""
    torch.manual_seed(0)
    image = torch.full((1, 2, edge, edge, edge), -3.0)
    image[..., edge // 4 : -edge // 4, edge // 4 : -edge // 4, :] = torch.randn(edge // 2, edge // 2, edge) / 10
    return image


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.InstanceNorm3d(3, affine=True), (2, 3, 6, 5, 4)),
        (nn.InstanceNorm3d(3), (2, 3, 6, 5, 4)),
        (nn.InstanceNorm2d(3, affine=True), (2, 3, 6, 5)),
        (nn.InstanceNorm3d(3, track_running_stats=True).eval(), (2, 3, 6, 5, 4)),
    ],
    ids=["affine", "plain", "flat", "running statistics"],
)
def test_same_numbers(norm: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    images = 5 + torch.randn(shape)
    expected = norm(images)
    with exact_instance_norm():
        torch.testing.assert_close(norm(images), expected, atol=1e-5, rtol=0)
    assert torch.equal(norm(images), expected)


def test_in_onnx_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    norm, image = nn.InstanceNorm3d(2), image_like_ct(64)
    exact = norm(image.double()).float()
    errors = []
    for name in ("as it is", "exact"):
        file = tmp_path / f"{name}.onnx"
        if name == "exact":
            with exact_instance_norm():
                torch.onnx.export(norm, (image,), file, dynamo=False)
        else:
            torch.onnx.export(norm, (image,), file, dynamo=False)
        errors.append((load_exported(file)(image) - exact).abs().max().item())
    assert errors[1] < 2e-6
    assert errors[1] < errors[0]


@pytest.mark.filterwarnings("ignore")  # tracing warns of checks of the image's shape, which hold
def test_convolutional_stems_of_primus_on_flat_images(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network = SCDPrimus(1, 3, 32, version=2, hidden_size=96, num_layers=4, num_heads=4, keep_ratio=0.5).eval()
    axes = {"image": {0: "batch"}, "pred": {0: "batch"}}
    names = {"input_names": ["image"], "output_names": ["pred"], "dynamic_axes": axes}
    with exact_instance_norm():
        torch.onnx.export(network, (torch.rand(2, 1, 32, 32, 32),), tmp_path / "p.onnx", dynamo=False, **names)
    difference, scale = parity(network, load_exported(tmp_path / "p.onnx"), network.image_shape)
    # 0.06 with ONNX Runtime's own norms
    assert difference < 1e-3
    assert scale > 1
