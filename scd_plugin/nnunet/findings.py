"""What `scd doctor` reports, and its look at data. Light to import."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Finding", "examine_data", "summary"]


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    detail: str
    remedy: str = ""
    """What to type; empty where nothing is wrong."""
    ok: bool = True
    """False only where training or prediction could not run."""

    @property
    def mark(self) -> str:
        """The finding in a word: ok, note where something could be better, or bad."""
        return "bad" if not self.ok else "note" if self.remedy else "ok"


def summary(findings: Mapping[str, Sequence[Finding]]) -> str:
    """Say in one line what is ready, and how much is to be mended for what is not."""
    said = []
    for use, found in findings.items():
        marks = Counter(finding.mark for finding in found)
        state = f"{marks['bad']} to mend" if marks["bad"] else "ready"
        noted = f", {marks['note']} noted" if marks["note"] else ""
        said.append(f"{use}: {state}{noted}")
    return "; ".join(said)


def examine_data(folder: Path) -> list[Finding]:
    """Look for image files that were cut off or hold NaN, anywhere in a folder; nnU-Net would read both as 0.

    Raises:
        ValueError: if there is no such folder, or it holds no file.
    """
    if not folder.is_dir():
        msg = f"the data must be a folder of images, such as a data set in nnUNet_raw; there is no folder {folder}"
        raise ValueError(msg)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        msg = f"the data must be a folder of images, such as a data set in nnUNet_raw; {folder} holds no file"
        raise ValueError(msg)
    from scd_plugin.voxel_values import unusable_files

    problems = unusable_files(files)
    whole = Finding("files", f"{len(files)} in {folder}, {len(problems) or 'none'} of them unusable", ok=not problems)
    return [*(Finding("file", problem, ok=False) for problem in problems), whole]
