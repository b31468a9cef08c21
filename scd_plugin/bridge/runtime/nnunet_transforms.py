"""nnU-Net's reading, preprocessing, restoring and writing as MONAI transforms.

Between them an image is a `MetaTensor` as MONAI's own `LoadImaged` gives it: axes x, y, z and an affine in millimetres.
So MONAI's `LoadImaged`, or a host that brings images of its own, can stand in for the reading.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SaveImaged
from monai.utils import ImageMetaKey

from scd_plugin.bridge.runtime.affines import affine_of, preprocessed_affine, spacing_of
from scd_plugin.channel_files import case_name
from scd_plugin.nnunet.model.recipe import NnunetRecipe

__all__ = ["NnunetLoadImaged", "NnunetPreprocessd", "NnunetRestored", "NnunetSaveImaged"]

# Entries in the meta of a MetaTensor. They are JSON, since a batch keeps strings as they are and takes lists apart.
READ = "nnunet_read"
PREPROCESSED = "nnunet_preprocessed"

Data = Mapping[Hashable, Any]


class _WithRecipe(MapTransform):
    """A transform of the entries `keys` that follows plans and data set."""

    def __init__(self, keys: KeysCollection, recipe: NnunetRecipe, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.recipe = recipe


class NnunetLoadImaged(_WithRecipe):
    """Reads images as nnU-Net does: a path, or one for each channel, becomes a `MetaTensor` (C, X, Y, Z)."""

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Replace paths by images."""
        result = dict(data)
        for key in self.key_iterator(result):
            given = result[key]
            files = [str(given)] if isinstance(given, (str, Path)) else [str(path) for path in given]
            image, properties = self.recipe.read(files)
            meta = {ImageMetaKey.FILENAME_OR_OBJ: files[0], READ: _to_json(properties)}
            voxels = torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 2, 1)))
            result[key] = MetaTensor(voxels, affine=torch.from_numpy(affine_of(properties)), meta=meta)
        return result


class NnunetPreprocessd(_WithRecipe):
    """Transposes, crops, normalises and resamples as nnU-Net does.

    A `MetaTensor` (C, X, Y, Z) becomes (C, *size) in the axis order of the plans.
    """

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Preprocess the images."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self._preprocessed(result[key])
        return result

    def _preprocessed(self, image: MetaTensor) -> MetaTensor:
        affine = image.affine.numpy()
        read = image.meta.get(READ)
        properties = json.loads(read) if read is not None else {"spacing": spacing_of(affine)}
        voxels = image.as_tensor().cpu().numpy().transpose(0, 3, 2, 1)
        data, known = self.recipe.preprocess(voxels, properties)
        after = preprocessed_affine(
            affine,
            self.recipe.plans.transpose_forward,
            known["bbox_used_for_cropping"],
            known["shape_after_cropping_and_before_resampling"],
            data.shape[1:],
        )
        meta = {
            ImageMetaKey.FILENAME_OR_OBJ: image.meta.get(ImageMetaKey.FILENAME_OR_OBJ, ""),
            PREPROCESSED: _to_json({"properties": known, "affine": affine, "read_here": read is not None}),
        }
        return MetaTensor(torch.from_numpy(data), affine=torch.from_numpy(after), meta=meta)


class NnunetRestored(_WithRecipe):
    """Turns logits into a label map on the grid of the image as read.

    Logits (classes or regions, *size) become a `MetaTensor` (1, X, Y, Z) of whole numbers. The preprocessed image, at
    `image_key`, knows the grid.
    """

    def __init__(
        self, keys: KeysCollection, recipe: NnunetRecipe, image_key: str = "image", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, recipe, allow_missing_keys)
        self.image_key = image_key

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Replace logits by label maps."""
        result = dict(data)
        image = result[self.image_key]
        known = json.loads(image.meta[PREPROCESSED])
        for key in self.key_iterator(result):
            logits = torch.as_tensor(result[key]).detach().cpu()
            logits = logits.as_tensor() if isinstance(logits, MetaTensor) else logits
            segmentation = self.recipe.restore(logits.numpy(), known["properties"])
            voxels = np.ascontiguousarray(segmentation.transpose(2, 1, 0)[None])
            # PyTorch can do little with uint16
            kind = torch.uint8 if voxels.dtype == np.uint8 else torch.int32
            meta = {ImageMetaKey.FILENAME_OR_OBJ: image.meta.get(ImageMetaKey.FILENAME_OR_OBJ, "")}
            if known["read_here"]:
                meta[READ] = _to_json(known["properties"])
            affine = torch.tensor(known["affine"], dtype=torch.float64)
            result[key] = MetaTensor(torch.from_numpy(voxels.astype(np.int32)).to(kind), affine=affine, meta=meta)
        return result


class NnunetSaveImaged(SaveImaged):
    """Writes label maps of `NnunetRestored` with nnU-Net's writer: CASE and the file ending of the data set.

    The folder `output_dir` is made if need be. Hosts that write label maps themselves, as MONAI Label does, leave out
    whatever is a `SaveImaged`.
    """

    def __init__(
        self, keys: KeysCollection, recipe: NnunetRecipe, output_dir: str | Path, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, output_dir=output_dir, allow_missing_keys=allow_missing_keys)
        self.recipe = recipe
        self.output_dir = Path(output_dir)

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Write the label maps; the data stays as it is."""
        result = dict(data)
        endings: Sequence[str] = self.recipe.plans.image_reader_writer_class.supported_file_endings
        for key in self.key_iterator(result):
            label = result[key]
            source = str(label.meta[ImageMetaKey.FILENAME_OR_OBJ])
            if READ not in label.meta:
                msg = (
                    f"NnunetSaveImaged can't write the label map of {source or 'this image'}: it was not read by "
                    "NnunetLoadImaged, so nnU-Net's writer does not know its geometry. Use MONAI's SaveImaged"
                )
                raise ValueError(msg)
            self.output_dir.mkdir(parents=True, exist_ok=True)
            name = case_name(source, endings) + self.recipe.file_ending
            voxels = label.as_tensor().cpu().numpy()[0].transpose(2, 1, 0)
            self.recipe.write(voxels, str(self.output_dir / name), json.loads(label.meta[READ]))
        return result


def _to_json(value: Any) -> str:
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    """Turn NumPy's numbers and arrays into Python's; JSON writes and reads every float64 exactly."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    msg = f"a reader's property can't be kept: it is of type {type(value).__name__}"
    raise TypeError(msg)
