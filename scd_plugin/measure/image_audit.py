"""The audit of whole images: a network sees them in windows, side by side."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.data.utils import dense_patch_slices
from monai.networks.utils import eval_mode
from torch import Tensor

from scd_plugin.measure.audit import Audit
from scd_plugin.networks.family import SCDNetwork
from scd_plugin.networks.guidance import StageWatch

__all__ = ["ImageAudit"]

SLICES_AT_ONCE = 8


class ImageAudit:
    """Counts what `Audit` counts, in images of any size.

    Args:
        network: that prunes, without wrappers; not compiled, or not run yet.
        regions: whether its outputs are regions, which may overlap, instead of classes.

    Raises:
        ValueError: if the network prunes nothing.
    """

    def __init__(self, network: SCDNetwork, *, regions: bool = False) -> None:
        # bundles may have any network
        if not isinstance(network, SCDNetwork) or not network.pruning_stages():
            msg = f"the network, {type(network).__name__}, prunes no tokens, so there is nothing to audit"
            raise ValueError(msg)
        self._network, self._regions = network, regions
        self._watch = StageWatch(network)
        self.begin()

    def begin(self) -> None:
        """Begin to count anew."""
        self.audit = Audit(self._network, regions=self._regions)

    @torch.no_grad()
    def add(self, image: Tensor, label: Tensor, *, known: Tensor | None = None) -> None:
        """Count an image; it is moved to the network's device window by window.

        Args:
            image: (1, in_channels, *size), as the network is to see it; with a third axis, which comes first, a network
                in 2-D sees the slices.
            label: (1, 1, *size) class numbers, or (1, R, *size), 0 or 1 for each region.
            known: (1, 1, *size), bool, voxels whose label counts; None for all.
        """
        known = torch.ones_like(label[:, :1], dtype=torch.bool) if known is None else known
        crop, dims = self._network.image_shape[1:], image.ndim - 2
        if dims > len(crop):
            image, label, known = (part[0].transpose(0, 1) for part in (image, label, known))
        # as sliding windows pad; what is added has no label
        missing = [max(0, want - there) for want, there in zip(crop, image.shape[2:])]
        padding = [edge for axis in reversed(missing) for edge in (axis // 2, axis - axis // 2)]
        image, label, known = (F.pad(part, padding) for part in (image, label, known))
        prediction, to_count = torch.zeros_like(label, dtype=torch.long), known.clone()
        device = next(self._network.parameters()).device
        with eval_mode(self._network):
            for window in dense_patch_slices(image.shape[2:], crop, crop):
                chosen = (slice(None), slice(None), *window)
                # clones: windows at the end reach back into others, whose voxels count once
                parts = [torch.split(part[chosen].clone(), SLICES_AT_ONCE) for part in (image, label, to_count)]
                to_count[chosen] = False
                prediction[chosen] = torch.cat(
                    [self._add_part(*(part.to(device) for part in one)) for one in zip(*parts)]
                )
        if len(crop) < dims:
            prediction, label, known = (part.transpose(0, 1)[None] for part in (prediction, label, known))
        self.audit.segmentation.add_components(prediction, label.long(), known)
        self.audit.images += 1

    def _add_part(self, image: Tensor, label: Tensor, known: Tensor) -> Tensor:
        logits = self._network(image)
        # a list under deep supervision, the full resolution first
        full = logits[0] if isinstance(logits, list) else logits
        return self.audit.add_part(self._watch.take(), full, label, known).cpu()
