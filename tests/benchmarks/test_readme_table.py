"""The README's one table says what the files of the results say."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from page import read_folder
from results_page import ratio_table

ROOT = Path(__file__).parents[2]
SOURCES = {
    "dense twin (ViT-B)": ("btcv-cpu", "dense", "dense twin, 8 blocks"),
    "SCD as published": ("btcv-cpu", "scd", "published: the scores learn from the segmentation"),
    "dense twin of the fast size": ("btcv-cpu", "dense-light", ""),
    "SCD, fast size": ("btcv-cpu", "fast", ""),
    "MONAI's UNETR, tokens of 16 voxels": ("btcv-cpu", "unetr", ""),
    "nnU-Net's default network": ("btcv-cpu", "nnunet", ""),
    "Primus S": ("btcv-primus-cpu", "primus-s", "Primus, 8 blocks"),
    "SCD-Primus S, 50 % kept, labels teach": (
        "btcv-primus-cpu",
        "scd-primus-s:keep_ratio=0.5",
        "SCD-Primus, a half kept, labels teach: any foreground",
    ),
}
"""Row of the README: file of a benchmark and the network there, and the network of the study of the left atrium."""


def rows_of(text: str) -> dict[str, list[str]]:
    lines = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")]
    return {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in lines}


README = rows_of((ROOT / "README.md").read_text(encoding="utf-8").partition("## How fast, how good")[2])


def test_every_row_has_a_source() -> None:
    assert list(README)[2:] == list(SOURCES)


@pytest.mark.parametrize("row", SOURCES)
def test_speed_and_memory(row: str) -> None:
    file, network, _ = SOURCES[row]
    measured = rows_of(ratio_table(read_folder(ROOT / "docs" / "benchmarks")[file], "dense"))
    expected = measured[network][:4] if network != "dense" else ["1", "1", "100 %", "100 %"]
    assert README[row][:4] == expected


@pytest.mark.parametrize("row", SOURCES)
def test_dice(row: str) -> None:
    study = (ROOT / "docs" / "studies" / "choice-of-tokens.md").read_text(encoding="utf-8")
    atrium = rows_of(study.partition("## Left atrium")[2].partition("\n## ")[0])
    name = SOURCES[row][2]
    assert README[row][5] == (atrium[name][3] if name else "")
