"""Label maps as NIfTI files that keep all three axes, and that appear whole or not at all."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import NibabelWriter

from scd_plugin.whole_files import moved_into_place

__all__ = ["VolumeWriter"]

_LOGGER = logging.getLogger(__name__)


class VolumeWriter(NibabelWriter):
    """MONAI's writer of NIfTI files, for `SaveImaged(writer=...)`, but for two things.

    MONAI leaves out all last axes of one voxel, so that a volume of one slice comes back flat; here only the channel's
    goes. And a file gets its name once it was read back as it was written.
    """

    data_obj: Any

    def set_data_array(self, data_array: Any, channel_dim: int | None = 0, **options: Any) -> None:
        """Take voxels (1, X, Y, Z), or (C, X, Y, Z), which are written with the channels last."""
        super().set_data_array(data_array, channel_dim, **{**options, "squeeze_end_dims": False})
        if self.data_obj.shape[-1] == 1:
            self.data_obj = self.data_obj[..., 0]

    def write(self, filename: Any, verbose: bool = False, **options: Any) -> None:
        """Write beside, read back, and move into place.

        Raises:
            OSError: as `moved_into_place`.
        """
        with moved_into_place(Path(filename)) as partial:
            super().write(partial, verbose=False, **options)
            if not self._was_written(partial):
                msg = "it could not be read back as it was written; is the disk full?"
                raise OSError(msg)
        if verbose:
            _LOGGER.info("wrote %s", filename)

    def _was_written(self, file: Path) -> bool:
        try:
            # both are images of nibabel's
            written: Any = nib.load(file)
            return np.array_equal(np.asanyarray(written.dataobj), np.asanyarray(self.data_obj.dataobj))
        except Exception:  # noqa: BLE001  (of a broken file nibabel and gzip raise errors of many kinds)
            return False
