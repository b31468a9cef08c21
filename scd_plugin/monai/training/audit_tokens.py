"""The audit of tokens at the end of each validation of a bundle's training."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.utils import convert_to_tensor

from scd_plugin.measure.audit_files import draw_audit, write_audit
from scd_plugin.measure.image_audit import ImageAudit
from scd_plugin.networks.family import SCDNetwork

__all__ = ["AuditTokens"]

_METRICS = ("mixed_left_at_1", "foreground_voxels_left_at_1")
"""What TensorBoard shows; there is none of them where nothing was there to count."""
_LOGGER = logging.getLogger(__name__)


class AuditTokens:
    """Handler for a validation engine: which tokens leave where, in a line of the log, a table and a picture.

    The network sees each image once more, in windows side by side: an eighth of the windows that overlap by half. Two
    shares become metrics of the engine, so that TensorBoard shows them. A network that prunes nothing is not audited.

    Args:
        network: without a wrapper, such as that for several processes.
        output_dir: folder of `token_audit.csv` and `token_audit.png`.
        regions: whether labels are regions, which may overlap, instead of class numbers.
        anew: whether a table that is there is of another training, and gives way to the first row.
    """

    def __init__(self, network: SCDNetwork, output_dir: str, *, regions: bool = False, anew: bool = False) -> None:
        self.folder = Path(output_dir)
        self._network = network
        self._regions = regions
        self._anew = anew

    def attach(self, engine: Engine) -> None:
        """Called by ignite."""
        if isinstance(self._network, SCDNetwork) and self._network.pruning_stages():
            images = ImageAudit(self._network, regions=self._regions)
            engine.add_event_handler(Events.STARTED, images.begin)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._add, images)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._end, images)

    def _add(self, engine: Engine, images: ImageAudit) -> None:
        # decollated by now; the labels are as they were before post-processing
        for case in engine.state.batch:
            image, label = (convert_to_tensor(case[key], track_meta=False) for key in ("image", "label"))
            images.add(image[None], label[None])

    def _end(self, engine: Engine, images: ImageAudit) -> None:
        audit = images.audit.of_all_processes()
        row = {name: value for name, value in audit.row().items() if not math.isnan(value)}
        engine.state.metrics |= {name: row[name] for name in _METRICS if name in row}
        if dist.is_available() and dist.is_initialized() and dist.get_rank() > 0:
            return
        _LOGGER.info(audit.in_one_line())
        self.folder.mkdir(parents=True, exist_ok=True)
        write_audit(self.folder, engine.state.epoch, audit, anew=self._anew)
        self._anew = False
        draw_audit(self.folder)
