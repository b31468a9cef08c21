"""Exported networks answer as the network itself does: the same numbers and the same tokens, on images new to them.

The wrapper returns the exit stage of every token beside the logits, so that the choice itself is compared in the
exported graph.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from scd_plugin import SCDUNETR
from scd_plugin.ops import exit_stages

TOLERANCE = 1e-4
# ONNX Runtime alone, on an image flat all over: its instance norm takes the mean of a flat channel with rounding errors
# and divides them by next to nothing. 2e-3 was seen; PyTorch stays within 1e-5 of its own result in float64.
FLAT_TOLERANCE = 1e-2
TINY: dict[str, Any] = {
    "img_size": 16,
    "patch_size": 4,
    "hidden_size": 24,
    "mlp_dim": 48,
    "num_heads": 2,
    "num_layers": 2,
    "prune_after": (1, 2),
}
VARIANTS: dict[str, dict[str, Any]] = {
    "soft_topk": {},
    "topk": {"sampling": "topk"},
    "random": {"sampling": "random"},
    "mask_token": {"completion": "mask_token"},
    "to_kept": {"completion": "assembly_to_kept"},
    "tokens": {"memory": "tokens"},
    "pooled": {"memory": "pooled", "img_size": (12, 16, 20)},
    "2d-pooled": {"spatial_dims": 2, "memory": "pooled"},
    "dense": {"keep_ratio": 1},
    "2d": {"spatial_dims": 2},
    "2d-random-mask_token": {"spatial_dims": 2, "sampling": "random", "completion": "mask_token"},
    "2d-dense": {"spatial_dims": 2, "keep_ratio": 1},
    "anisotropic": {"img_size": (8, 16, 24), "patch_size": (2, 4, 4)},
    "supervised": {"deep_supervision": True},
    "light": {"decoder": "light"},
    "subvoxel-anisotropic": {"decoder": "subvoxel", "img_size": (8, 16, 24), "patch_size": (2, 4, 4)},
    "2d-subvoxel-supervised": {"spatial_dims": 2, "decoder": "subvoxel", "deep_supervision": True},
    "2d-light-supervised": {"spatial_dims": 2, "decoder": "light", "deep_supervision": True},
}
# every part in at least one of them, for exporters that take up to half a minute
COVERING = (
    "soft_topk",
    "to_kept",
    "tokens",
    "pooled",
    "2d-random-mask_token",
    "subvoxel-anisotropic",
    "2d-light-supervised",
    "dense",
)
Run = Callable[[Tensor], tuple[Tensor, Tensor]]
Exporter = Callable[[nn.Module, Tensor, Path], Run]


class WithStages(nn.Module):
    """Logits, and the stage at which each token leaves."""

    def __init__(self, net: SCDUNETR) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.net(image)
        # for TorchScript, which can't know that deep supervision is off
        assert isinstance(logits, Tensor)
        return logits, exit_stages(self.net.encoder(image).grid_idx)


def by_script(model: nn.Module, _: Tensor, folder: Path) -> Run:
    torch.jit.script(model).save(folder / "model.ts")
    return torch.jit.load(folder / "model.ts")


def by_trace(model: nn.Module, example: Tensor, folder: Path) -> Run:
    torch.jit.trace(model, example).save(folder / "model.ts")
    return torch.jit.load(folder / "model.ts")


def by_torch_export(model: nn.Module, example: Tensor, folder: Path) -> Run:
    program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, folder / "model.pt2")
    return torch.export.load(folder / "model.pt2").module()


def by_onnx(model: nn.Module, example: Tensor, folder: Path) -> Run:
    path = folder / "model.onnx"
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    torch.onnx.export(model, (example,), path, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False)
    return onnx_runner(path)


def by_onnx_legacy(model: nn.Module, example: Tensor, folder: Path) -> Run:
    path, names = folder / "model.onnx", ["image", "pred", "stages"]
    axes = {name: {0: "batch"} for name in names}
    torch.onnx.export(
        model, (example,), path, dynamo=False, input_names=names[:1], output_names=names[1:], dynamic_axes=axes
    )
    return onnx_runner(path)


def onnx_runner(path: Path) -> Run:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> tuple[Tensor, Tensor]:
        logits, stages = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        return torch.from_numpy(logits), torch.from_numpy(stages)

    return run


EXPORTERS: dict[str, Exporter] = {
    "script": by_script,
    "trace": by_trace,
    "torch-export": by_torch_export,
    "onnx": by_onnx,
    "onnx-legacy": by_onnx_legacy,
}


def flat_tolerance(exporter: Exporter) -> float:
    return FLAT_TOLERANCE if exporter in (by_onnx, by_onnx_legacy) else TOLERANCE


CASES = [
    pytest.param(
        exporter,
        changes,
        id=f"{name}-{variant}",
    )
    for name, exporter in EXPORTERS.items()
    for variant, changes in VARIANTS.items()
    if variant in COVERING or exporter not in (by_torch_export, by_onnx)
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]


def random_image(net: SCDUNETR, batch: int) -> Tensor:
    return torch.randn(batch, *net.image_shape)


@pytest.fixture
def build(small: Callable[..., SCDUNETR]) -> Callable[..., SCDUNETR]:
    def build(**changes: Any) -> SCDUNETR:
        net = small(**{**TINY, **changes}).eval()
        net.decoder.deep_supervision = False
        return net

    return build


def flat_background(net: SCDUNETR, batch: int) -> Tensor:
    """Noise in a box, and one value around it."""
    image = torch.full((batch, *net.image_shape), -0.7)
    box = (..., *[slice(size // 4, size - size // 4) for size in net.image_shape[1:]])
    image[box] += torch.randn(image[box].shape)
    return image


def assert_same(run: Run, net: SCDUNETR, image: Tensor, tolerance: float = TOLERANCE) -> None:
    with torch.no_grad():
        logits, stages = run(image)
        expected = net(image)
    assert torch.equal(stages, net.exit_stages(image).flatten(1))
    torch.testing.assert_close(logits, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("exporter", "changes"), CASES)
def test_parity(build: Callable[..., SCDUNETR], tmp_path: Path, exporter: Exporter, changes: dict[str, Any]) -> None:
    net = build(**changes)
    run = exporter(WithStages(net).eval(), random_image(net, 2), tmp_path)
    for batch in (1, 3, 4):
        assert_same(run, net, random_image(net, batch))
    assert_same(run, net, flat_background(net, 3))
    assert_same(run, net, torch.zeros(3, *net.image_shape))
    assert_same(run, net, torch.ones(3, *net.image_shape), flat_tolerance(exporter))
    image = random_image(net, 2)
    torch.manual_seed(1)
    first = run(image)[0]
    torch.manual_seed(2)
    assert torch.equal(first, run(image)[0])


@pytest.mark.parametrize("exporter", EXPORTERS.values(), ids=EXPORTERS)
@pytest.mark.parametrize("bias", [12.0, -30.0])
def test_ties(build: Callable[..., SCDUNETR], tmp_path: Path, exporter: Exporter, bias: float) -> None:
    """Without positions all tokens of a flat image tie; scores far from zero don't, though their probabilities do."""
    net = build()
    with torch.no_grad():
        net.encoder.pos_embed.zero_()
        for stage in net.encoder.stages:
            stage.score.score.weight.normal_()
            stage.score.score.bias.fill_(bias)
    run = exporter(WithStages(net).eval(), random_image(net, 2), tmp_path)
    assert_same(run, net, random_image(net, 3))
    assert_same(run, net, flat_background(net, 3))
    for value, tolerance in ((0.0, TOLERANCE), (-0.7, flat_tolerance(exporter))):
        image = torch.full((3, *net.image_shape), value)
        assert_same(run, net, image, tolerance)
        # 64 tokens: the first half stays, and of that the first half again
        assert run(image)[1].tolist() == [[2] * 16 + [1] * 16 + [0] * 32] * len(image)


def test_result_does_not_depend_on_the_random_state(build: Callable[..., SCDUNETR]) -> None:
    net = build()
    image = random_image(net, 2)
    torch.manual_seed(1)
    first = net(image)
    torch.manual_seed(2)
    assert torch.equal(first, net(image))


def test_script_can_be_trained(build: Callable[..., SCDUNETR]) -> None:
    net = build(deep_supervision=True)
    scripted = torch.jit.script(net).train()
    scripted.decoder.deep_supervision = True
    outputs = scripted(random_image(net, 2))
    assert [list(output.shape[1:]) for output in outputs] == [[3, 16, 16, 16], [3, 8, 8, 8], [3, 4, 4, 4]]
    sum(output.square().mean() for output in outputs).backward()
    assert all(parameter.grad is not None for parameter in scripted.parameters())


class TestMetaTensor:
    @pytest.mark.parametrize("training", [False, True])
    def test_network_takes_it_as_any_image(self, build: Callable[..., SCDUNETR], training: bool) -> None:
        net = build().train(training)
        image = random_image(net, 2)
        torch.manual_seed(1)
        expected = net(image)
        torch.manual_seed(1)
        result = net(MetaTensor(image, affine=torch.diag(torch.tensor([2.0, 1.5, 1.5, 1.0]))))
        assert isinstance(result, MetaTensor)
        assert result.affine.diagonal().tolist() == [2.0, 1.5, 1.5, 1.0]
        assert torch.equal(result.as_tensor(), expected)
        result.square().mean().backward()
        assert all(parameter.grad is not None for parameter in net.parameters()) == training

    @pytest.mark.parametrize("exporter", [by_script, by_trace], ids=["script", "trace"])
    def test_torchscript_behind_a_sliding_window(
        self, build: Callable[..., SCDUNETR], tmp_path: Path, exporter: Exporter
    ) -> None:
        net = build()
        run = exporter(net, random_image(net, 2), tmp_path)
        image = torch.randn(1, 2, 20, 16, 24)
        expected = sliding_window_inference(image, (16, 16, 16), 2, net)
        result = sliding_window_inference(MetaTensor(image), (16, 16, 16), 2, run)
        assert isinstance(result, MetaTensor)
        torch.testing.assert_close(result.as_tensor(), expected, atol=TOLERANCE, rtol=0)
