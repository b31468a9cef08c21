"""Write nnU-Net's five folds so that all frames of a patient stay in one of them.

    python benchmarks/quality/patient_splits.py nnUNet_raw/Dataset027_ACDC nnUNet_preprocessed/Dataset027_ACDC

nnU-Net takes `splits_final.json` of the second folder, and would part patientNNN_frameMM by its frames.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from sklearn.model_selection import GroupKFold
from tasks import patient

FOLDS = 5
# nnU-Net's own
SEED = 12345


def patient_splits(names: Sequence[str]) -> list[dict[str, list[str]]]:
    """Part cases into five folds by patient, the same way each time."""
    ordered = sorted(names)
    folds = GroupKFold(FOLDS, shuffle=True, random_state=SEED).split(ordered, groups=[patient(one) for one in ordered])
    return [
        {part: [ordered[index] for index in indices] for part, indices in zip(("train", "val"), fold)} for fold in folds
    ]


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", type=Path)
    parser.add_argument("preprocessed", type=Path)
    arguments = parser.parse_args()
    ending = json.loads((arguments.raw / "dataset.json").read_text(encoding="utf-8"))["file_ending"]
    names = [path.name.removesuffix(ending) for path in (arguments.raw / "labelsTr").glob(f"*{ending}")]
    (arguments.preprocessed / "splits_final.json").write_text(json.dumps(patient_splits(names), indent=2))


if __name__ == "__main__":
    main()
