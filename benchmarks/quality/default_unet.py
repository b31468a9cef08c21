"""nnU-Net's own default network as a contestant, with the optimizer and the loss that nnU-Net trains it with."""

from __future__ import annotations

from tasks import Task
from torch import Tensor, nn

from scd_plugin.bench.builders import unet


class DefaultUNet(nn.Module):
    """The U-Net that nnU-Net plans for a task's crop.

    In training it returns logits at falling resolutions, of which nnU-Net weighs the coarsest with zero: it is left
    out. `deep_weights` are those of the others.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.image_shape = (1, *task.crop)
        self.out_channels = task.num_classes
        self.unet = unet(
            in_channels=1,
            out_channels=task.num_classes,
            img_size=task.crop,
            residual=False,
            spacing=task.spacing,
            deep_supervision=True,
        )
        halves = [0.5**level for level in range(len(self.unet.decoder.seg_layers) - 1)]
        self.deep_weights = [half / sum(halves) for half in halves]

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Segment a crop (B, 1, *crop)."""
        self.unet.decoder.deep_supervision = self.training
        logits = self.unet(image)
        return logits[:-1] if self.training else logits

    def pruning_stages(self) -> list[int]:
        """Nothing is pruned."""
        return []
