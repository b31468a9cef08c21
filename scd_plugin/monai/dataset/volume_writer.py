"""Label maps as NIfTI files that keep all three axes, and that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import NibabelWriter

__all__ = ["VolumeWriter"]


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
        """Write to a hidden file beside, read it back, and rename it.

        Raises:
            OSError: if it could not be written whole; nothing is left of it then, and a file of this name stays.
        """
        path = Path(filename)
        beside = path.with_name(f".partial_{path.name}")
        try:
            super().write(beside, verbose, **options)
            # both are images of nibabel's
            written: Any = nib.load(beside)
            if not np.array_equal(np.asanyarray(written.dataobj), np.asanyarray(self.data_obj.dataobj)):
                msg = "it could not be read back as it was written"
                raise OSError(msg)
            beside.replace(path)
        except Exception as error:  # noqa: BLE001  (nibabel raises errors of its own)
            beside.unlink(missing_ok=True)
            reason = getattr(error, "strerror", None) or error
            msg = f"the label map {path} could not be written ({reason}): is the disk full, or the folder read-only?"
            raise OSError(msg) from None
