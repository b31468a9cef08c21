"""What PyTorch users do with any module works with SCD's networks too, and gives the plain network's logits."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from scd_plugin import SCDUNETR, ComposedNetwork, SCDNetwork, SCDPrimus
from scd_plugin.blocks import MultiLayerTokenAssembly
from scd_plugin.networks import SparseViT
from tests.conftest import SMALL, SMALL_PRIMUS

# relative, of the whole output; a few roundings of each dtype
TOLERANCES = {torch.float64: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


class Unfold(nn.ConvTranspose3d):
    """A decoder of one's own."""

    def forward(self, image: Tensor, taps: list[Tensor]) -> Tensor:  # type: ignore[override]  # noqa: ARG002
        return super().forward(taps[0])


def composed() -> ComposedNetwork:
    encoder = SparseViT(
        2, (16,) * 3, (4,) * 3, hidden_size=48, mlp_dim=96, num_layers=2, num_heads=4, prune_after=(1, 2),
        keep_ratios=(0.5, 0.5),
    )  # fmt: skip
    completion = MultiLayerTokenAssembly(encoder.grid_size, 3, hidden_size=48, completion_hidden_size=48, num_heads=4)
    return ComposedNetwork(encoder, completion, Unfold(48, 3, kernel_size=4, stride=4), out_channels=3)


def build(kind: type[SCDNetwork], **changes: Any) -> Callable[[], SCDNetwork]:
    tiny = {"img_size": 16, "patch_size": 4, "num_layers": 2, "prune_after": (1, 2)}
    return lambda: kind(**{**(SMALL if kind is SCDUNETR else SMALL_PRIMUS), **tiny, **changes})


BUILD: dict[str, Callable[[], SCDNetwork]] = {
    "unetr": build(SCDUNETR),
    "light-to_kept-pooled": build(SCDUNETR, decoder="light", completion="assembly_to_kept", memory="pooled"),
    "subvoxel": build(SCDUNETR, decoder="subvoxel"),
    "mask_token": build(SCDUNETR, completion="mask_token"),
    "dense": build(SCDUNETR, keep_ratio=1),
    "2d": build(SCDUNETR, spatial_dims=2),
    "2d-light": build(SCDUNETR, spatial_dims=2, decoder="light"),
    "primus": build(SCDPrimus),
    "primus-restore": build(SCDPrimus, completion="restore"),
    "primus-2d": build(SCDPrimus, spatial_dims=2),
    "composed": composed,
}


@pytest.fixture(params=list(BUILD))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def net(name: str) -> SCDNetwork:
    network = BUILD[name]().eval()
    for parameter in network.parameters():
        if not parameter.any():  # what starts at zero would hide what is wrong before it
            nn.init.normal_(parameter, std=0.02)
    return network


@pytest.fixture
def image(net: SCDNetwork) -> Tensor:
    return torch.randn(2, *net.image_shape)


@pytest.fixture
def logits(net: SCDNetwork, image: Tensor) -> Tensor:
    with torch.no_grad():
        return net(image)


def trains(net: SCDNetwork, image: Tensor) -> bool:
    """Every parameter that learns anything gets a finite gradient."""
    net.train()(image).float().square().mean().backward()
    grads = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    return len(grads) > 20 and all(bool(grad.isfinite().all()) for grad in grads)


@torch.no_grad()
def distance(net: nn.Module, image: Tensor, logits: Tensor) -> float:
    return float((net(image).double() - logits).norm() / logits.norm())


def test_channels_last(net: SCDNetwork, image: Tensor, logits: Tensor) -> None:
    memory_format = torch.channels_last_3d if image.ndim == 5 else torch.channels_last
    net.to(memory_format=memory_format)
    maps = [weight for weight in net.parameters() if weight.ndim == image.ndim]
    assert all(weight.is_contiguous(memory_format=memory_format) for weight in maps)
    image = image.contiguous(memory_format=memory_format)
    assert distance(net, image, logits) < 1e-5
    assert trains(net, image)


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
def test_dtypes(net: SCDNetwork, image: Tensor, dtype: torch.dtype) -> None:
    # scores of a new network are so close that rounding changes the choice, and with it the logits
    by_place = copy.deepcopy(net)
    for stage in by_place.pruning_stages():
        stage.score, stage.sampling = None, "random"
    with torch.no_grad():
        logits = by_place(image)
    image = image.to(dtype)
    assert distance(by_place.to(dtype), image, logits) < TOLERANCES[dtype]
    assert net.to(dtype)(image).dtype == dtype
    assert trains(net, image)


@pytest.mark.parametrize("assign", [False, True], ids=["to_empty", "assign"])
def test_built_on_the_meta_device(name: str, net: SCDNetwork, image: Tensor, logits: Tensor, assign: bool) -> None:
    with torch.device("meta"):
        again = BUILD[name]().eval()
    if not assign:
        again.to_empty(device="cpu")
        for values in (*again.parameters(), *again.buffers()):
            values.data.fill_(7)  # what to_empty leaves is anything
    again.load_state_dict(net.state_dict(), assign=assign)
    assert {values.device.type for values in (*again.parameters(), *again.buffers())} == {"cpu"}
    assert distance(again, image, logits) == 0


def test_half_stays_half_when_weights_are_loaded(net: SCDNetwork) -> None:
    net.bfloat16()
    net.load_state_dict(net.state_dict())
    assert {values.dtype for values in net.buffers() if values.is_floating_point()} <= {torch.bfloat16}


def saved(net: SCDNetwork) -> Any:
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),  # noqa: S301
    "torch.save": saved,
}


@pytest.mark.parametrize("how", list(COPIES))
def test_copies(net: SCDNetwork, image: Tensor, logits: Tensor, how: str) -> None:
    again = COPIES[how](net)
    again.load_state_dict(net.state_dict())
    for values in net.parameters():
        values.data.zero_()  # the copy shares nothing with it
    assert distance(again, image, logits) == 0


def test_functional_call(name: str, net: SCDNetwork, image: Tensor, logits: Tensor) -> None:
    other = BUILD[name]().eval()
    assert distance(other, image, logits) > 0
    assert torch.equal(torch.func.functional_call(other, net.state_dict(), (image,)), logits)


def test_frozen(net: SCDNetwork, image: Tensor) -> None:
    net.requires_grad_(requires_grad=False).train()
    assert not net(image).requires_grad
    net(image.requires_grad_()).square().mean().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
    assert image.grad.any()


def test_inference_mode(net: SCDNetwork, image: Tensor, logits: Tensor) -> None:
    with torch.inference_mode():
        assert torch.equal(net(image), logits)
    assert trains(net, image)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda image: image.transpose(-1, -2).contiguous().transpose(-1, -2),
    "strided": lambda image: image.repeat_interleave(2, dim=-1)[..., ::2],
    "channels behind": lambda image: image.movedim(1, -1).contiguous().movedim(-1, 1),
    "MetaTensor": MetaTensor,
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_images_as_they_come(net: SCDNetwork, image: Tensor, logits: Tensor, layout: str) -> None:
    assert distance(net, LAYOUTS[layout](image), logits) < 1e-5
    assert trains(net, LAYOUTS[layout](image))


def test_image_of_another_dtype(net: SCDNetwork, image: Tensor) -> None:
    with pytest.raises(RuntimeError, match=r"Input type \(double\) and bias type \(float\) should be the same"):
        net(image.double())
