"""Keep maps of a bundle's inference: where the network looked, in each image's own geometry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from monai.transforms import Invertd, SaveImage
from monai.utils import convert_to_tensor
from torch import Tensor, nn

from scd_plugin.measure.heard_stages import HeardStages
from scd_plugin.measure.stage_colours import FOLDER, SHARES, write_colours
from scd_plugin.monai.dataset.images import output_name
from scd_plugin.monai.dataset.volume_writer import VolumeWriter

__all__ = ["KeepMaps"]


class KeepMaps:
    """Handler for an inference engine: writes at which pruning stage the token of each voxel left.

    The maps are NIfTI files, uint8, beside the label maps: in `keep_maps` 1 for the first stage, 2 for the second, ...,
    and the number of stages plus 1 for tokens that stayed to the end, with their colours for 3D Slicer; where windows
    overlap, the latest stage counts. In `keep_shares` per cent of the windows in which the token stayed to the end,
    weighted as their logits are. The windows are those of the prediction: no pass is added.

    Args:
        network: of the engine.
        preprocessing: of the images, which is taken back.
        output_dir: folder of the label maps.
        shares: whether `keep_shares` are written, too.

    Raises:
        ValueError: if the network prunes nothing.
    """

    def __init__(
        self, network: nn.Module, preprocessing: Callable[[Any], Any], output_dir: str, *, shares: bool = False
    ) -> None:
        self._heard = HeardStages(network)
        self._folders = [Path(output_dir) / name for name in ([FOLDER, SHARES] if shares else [FOLDER])]
        self._to_image = Invertd(
            keys="map", transform=preprocessing, orig_keys="image", nearest_interp=True, to_tensor=True
        )
        self._writers = [_writer(folder) for folder in self._folders]

    def attach(self, engine: Engine) -> None:
        """Called by ignite."""
        engine.add_event_handler(Events.STARTED, self._listen)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)
        engine.add_event_handler(Events.COMPLETED, lambda _: write_colours(self._folders[0], self._heard.num_stages))

    def _listen(self, engine: Engine) -> None:
        # not before: MONAI attaches handlers first
        self._listening = _Listening(engine.inferer, self._heard)
        engine.inferer = self._listening

    def _write(self, engine: Engine) -> None:
        # decollated by now: one shares tensor a case, (stages + 1, *size)
        for case, shares in zip(engine.state.output, self._listening.shares):
            for values, writer in zip((latest(shares), kept_percent(shares)), self._writers):
                with_meta = convert_to_tensor(values, track_meta=True)
                writer(self._to_image({"image": case["image"], "map": with_meta})["map"])


def latest(shares: Tensor) -> Tensor:
    """Latest stage in any window, from 1: (stages + 1, *size), shares of windows, to (1, *size)."""
    stages = torch.arange(1, len(shares) + 1, device=shares.device).reshape(-1, *[1] * (shares.ndim - 1))
    return ((shares > 0) * stages).amax(0, keepdim=True).float()


def kept_percent(shares: Tensor) -> Tensor:
    """Per cent of the windows in which tokens stayed to the end: (stages + 1, *size) to (1, *size)."""
    return (100 * shares[-1:]).round()


class _Listening(Inferer):
    """An inferer that keeps, beside what it returns, the share of windows in which tokens left at each stage."""

    def __init__(self, inferer: Inferer, heard: HeardStages) -> None:
        super().__init__()
        self.shares: Tensor = torch.empty(0)
        """(B, stages + 1, *size), of the last images"""
        self._inferer = inferer
        self._heard = heard

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Any:
        def both(windows: Tensor, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
            self._heard.forget()
            logits = network(windows, *args, **kwargs)
            stages = self._heard.take()
            if stages is None:
                msg = "the network ran without its pruning stages, so there is nothing to map; leave keep_map out"
                raise RuntimeError(msg)
            of_each = F.one_hot(stages.long() - 1, self._heard.num_stages + 1).movedim(-1, 1)
            return {"logits": logits, "shares": of_each.to(inputs.dtype)}

        found = self._inferer(inputs, both, *args, **kwargs)
        self.shares = found["shares"]
        return found["logits"]


def _writer(folder: Path) -> SaveImage:
    return SaveImage(
        output_dir=folder,
        output_postfix="",
        output_ext=".nii.gz",
        output_dtype="uint8",
        separate_folder=False,
        print_log=False,
        writer=VolumeWriter,
        output_name_formatter=output_name,
    )
