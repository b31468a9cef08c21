"""What SimpleITK says of a file that it can't read, in one sentence with a remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

__all__ = ["reading_error"]

# what stands before the reason: names of the library, of a class and its address
_PREFIX = re.compile(r"^(?:sitk::ERROR:|ITK ERROR:|\w+\(0x[0-9a-f]+\):|\s)+")
_REMEDIES = {
    "orthonormal": "its axes are not at right angles (a sheared affine): resample it to a straight grid",
    "ImageIO reader": "it is damaged, or of another format than its name says: write or download it again",
    "not recognized": "it is damaged, or of another format than its name says: write or download it again",
}


def reading_error(files: Sequence[str | Path], error: Exception) -> str:
    """Say in one sentence what is wrong with files that SimpleITK or nibabel could not read."""
    reason = _PREFIX.sub("", str(error).strip().rpartition("\n")[2]).strip()
    remedy = next((text for word, text in _REMEDIES.items() if word in reason), "")
    return f"{', '.join(map(str, files))} can't be read as an image: {remedy or reason}"
