"""The checkpoint to go on from: the last of a training, written whole before the one before it is deleted."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.handlers import Checkpoint

from scd_plugin.monai.weights import is_readable
from scd_plugin.whole_files import write_whole

_LOGGER = logging.getLogger(__name__)


def last_checkpoint_saver(state: Mapping[str, Any], ckpt_dir: str) -> Checkpoint:
    """Make a handler that writes `last_checkpoint_epoch=N.pt`, then deletes those of other epochs.

    MONAI's `CheckpointSaver` and ignite's own handlers delete the one before first.

    Args:
        state: what is saved, by name.
        ckpt_dir: the folder; made if it is not there.
    """
    folder = Path(ckpt_dir)
    folder.mkdir(parents=True, exist_ok=True)

    def save(checkpoint: Mapping[str, Any], filename: str, _metadata: Mapping[str, Any] | None = None) -> None:
        write_whole(folder / filename, lambda stream: torch.save(checkpoint, stream))
        for other in (*checkpoints_by_epoch(ckpt_dir), *folder.glob("last_checkpoint_epoch=*.pt.partial")):
            if other.name != filename:
                other.unlink(missing_ok=True)

    # n_saved=None: ignite deletes nothing
    return Checkpoint(state, save, "last", score_function=lambda e: e.state.epoch, score_name="epoch", n_saved=None)


def checkpoints_by_epoch(ckpt_dir: str) -> list[Path]:
    """List the checkpoints of a folder, the latest epoch first."""
    names = ((re.fullmatch(r"last_checkpoint_epoch=(\d+)\.pt", file.name), file) for file in Path(ckpt_dir).glob("*"))
    return [file for _, file in sorted(((int(name[1]), file) for name, file in names if name), reverse=True)]


def last_checkpoint(ckpt_dir: str) -> str:
    """Find the checkpoint of the latest epoch that can be read; one that can't is named in the log.

    Args:
        ckpt_dir: folder of `last_checkpoint_saver`'s files.

    Raises:
        ValueError: if there is none.
    """
    files = checkpoints_by_epoch(ckpt_dir)
    for file in files:
        if is_readable(file):
            return str(file)
        _LOGGER.warning("%s can't be read and is left out: it is truncated, or no checkpoint", file)
    found = f"none of {', '.join(file.name for file in files)} can be read" if files else "there is no checkpoint"
    msg = f"{found} to resume from in {ckpt_dir}: start without --resume True"
    raise ValueError(msg)
