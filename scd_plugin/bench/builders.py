"""Networks of contestants, built as their own libraries build them. Imports wait until a network is built."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from scd_plugin.bench.unets import unet_architecture

if TYPE_CHECKING:
    from torch import nn

__all__ = ["dense", "ours", "primus", "scd_primus", "swinunetr", "unet", "unetr"]


def ours(
    class_name: str,
    in_channels: int,
    out_channels: int,
    img_size: Sequence[int],
    *,
    size: str | None = None,
    **arguments: Any,
) -> nn.Module:
    """A network of `scd_plugin.networks`; its defaults are the base size.

    Args:
        class_name: for instance "SCDUNETR".
        in_channels: image channels.
        out_channels: classes.
        img_size: the crop.
        size: another size, a key of `scd_plugin.networks.presets.SIZES`.
        **arguments: of the class; stochastic depth is that of our nnU-Net trainers unless it is among them.
    """
    from scd_plugin import networks
    from scd_plugin.networks.presets import size_arguments

    sizes = size_arguments(size) if size else {}
    built: nn.Module = getattr(networks, class_name)(
        in_channels, out_channels, img_size, **{"drop_path_rate": 0.1, **sizes, **arguments}
    )
    return built


def dense(class_name: str, in_channels: int, out_channels: int, img_size: Sequence[int], **arguments: Any) -> nn.Module:
    """The dense twin of one of our networks."""
    return ours(class_name, in_channels, out_channels, img_size, keep_ratio=1, **arguments)


def unetr(in_channels: int, out_channels: int, img_size: Sequence[int], **arguments: Any) -> nn.Module:
    """MONAI's UNETR, with its defaults."""
    from monai.networks.nets import UNETR

    _must_divide("unetr", img_size, 16)
    built: nn.Module = UNETR(in_channels, out_channels, tuple(img_size), **arguments)
    return built


def swinunetr(
    in_channels: int, out_channels: int, img_size: Sequence[int], *, feature_size: int = 48, **arguments: Any
) -> nn.Module:
    """MONAI's SwinUNETR, with the width of its published BTCV and brain tumour models."""
    from monai.networks.nets import SwinUNETR

    _must_divide("swinunetr", img_size, 32)
    built: nn.Module = SwinUNETR(in_channels, out_channels, feature_size=feature_size, **arguments)
    return built


def primus(trainer: str, in_channels: int, out_channels: int, img_size: Sequence[int]) -> nn.Module:
    """A Primus, built by nnU-Net's own trainer of that name."""
    from nnunetv2.training.nnUNetTrainer.primus import primus_trainers

    _must_divide(trainer.removesuffix("_Trainer"), img_size, 8)
    # of plans and configuration it reads the crop alone
    built: nn.Module = getattr(primus_trainers, trainer).build_network_architecture(
        None, SimpleNamespace(patch_size=tuple(img_size)), in_channels, out_channels, False
    )
    return built


def scd_primus(in_channels: int, out_channels: int, img_size: Sequence[int], **arguments: Any) -> nn.Module:
    """Primus with pruning; stochastic depth is that of its trainers."""
    from scd_plugin.networks import SCDPrimus

    return SCDPrimus(in_channels, out_channels, img_size, **{"drop_path_rate": 0.2, **arguments})


def unet(
    in_channels: int,
    out_channels: int,
    img_size: Sequence[int],
    *,
    residual: bool,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    deep_supervision: bool = False,
) -> nn.Module:
    """nnU-Net's own U-Net, as it plans it for this crop.

    Args:
        in_channels: image channels.
        out_channels: classes.
        img_size: the crop.
        residual: ResEnc-L instead of the default.
        spacing: voxel edges, which decide what axes are pooled.
        deep_supervision: coarser outputs in training, as nnU-Net's default trainer has them.
    """
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    class_name, arguments, to_import = unet_architecture(img_size, spacing, residual=residual)
    built: nn.Module = get_network_from_plans(
        class_name, arguments, to_import, in_channels, out_channels, deep_supervision=deep_supervision
    )
    return built


def _must_divide(name: str, img_size: Sequence[int], multiple: int) -> None:
    if any(size % multiple for size in img_size):
        nearest = "x".join(str(max(1, round(size / multiple)) * multiple) for size in img_size)
        given = "x".join(map(str, img_size))
        msg = f"{name} needs a crop of multiples of {multiple} voxels; got {given}, the nearest is {nearest}"
        raise ValueError(msg)
