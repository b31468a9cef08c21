"""What the networks, tasks and decoders of the study are called on its pages, and the numbers of its rows."""

from __future__ import annotations

import re
from collections.abc import Mapping

UNETR, LIGHT, SUBVOXEL, PRIMUS = "UNETR decoder", "Light decoder", "Sub-voxel decoder", "Primus's decoder"
NNUNET = "nnU-Net's default network"
FAMILIES = {
    NNUNET: "as it plans it for the crop, with its optimizer, learning rate and deep supervision",
    UNETR: "which convolves the image at full resolution beside the tokens",
    LIGHT: "that of the fast sizes, with a single convolution at full resolution",
    SUBVOXEL: "which sees the image at half the resolution",
    PRIMUS: "which sees nothing but tokens, so that all depends on the transformer",
}
"""Decoders, and what they see; a table each."""
TITLES = {
    "left_atrium": "Left atrium",
    "acdc": "Cardiac MR (ACDC)",
    "hippocampus": "Hippocampus",
    "lesions": "Small lesions, synthetic",
    "demo": "The demo's synthetic CT",
}
NAMES = {
    "dense": "dense twin, 8 blocks",
    "shallow": "dense, fewer blocks",
    "published": "published: the scores learn from the segmentation",
    "guided": "SCD-UNETR, labels teach",
    "dense-taught": "dense twin that the same labels teach, at the same blocks",
    "shallow-taught": "dense, fewer blocks, that the same labels teach",
    "guided-foreground": "labels teach: any foreground",
    "guided-heavy": "labels teach with a weight of 1",
    "guided-one": "labels teach, one stage",
    "dense-stem": "dense twin, convolutional stem",
    "shallow-stem": "dense, fewer blocks, convolutional stem",
    "guided-stem": "labels teach, convolutional stem",
    "random": "chance chooses",
    "mask_token": "published, mask tokens in place of MTA",
    "nnunet": "nnU-Net's default network (resolutions in place of blocks)",
    "primus": "Primus, 8 blocks",
    "primus-taught": "Primus that the same labels teach",
    "primus-shallow": "Primus, as many blocks as a quarter costs",
    "primus-pruned": "SCD-Primus, a quarter kept, by entropy and what it learns",
    "primus-guided": "SCD-Primus, a quarter kept, labels teach",
    "primus-pruned-half": "SCD-Primus, a half kept, by entropy and what it learns",
    "primus-shallow-half": "Primus, as many blocks as a half costs",
    "primus-guided-half": "SCD-Primus, a half kept, labels teach",
    "primus-guided-half-deep-foreground": "SCD-Primus, a half kept, more blocks at the cost of Primus, "
    "labels teach: any foreground",
    "primus-guided-half-late": "SCD-Primus, a half kept from 40 % of the training on, labels teach",
    "primus-guided-half-again": "SCD-Primus, a half kept, labels teach, the first seed trained again",
    "primus-guided-half-foreground": "SCD-Primus, a half kept, labels teach: any foreground",
    "primus-guided-half-graded": "SCD-Primus, a half kept, labels teach: more than one class 1, other foreground 0.5",
    "primus-guided-foreground": "SCD-Primus, a quarter kept, labels teach: any foreground",
    "primus-guided-half-heavy": "SCD-Primus, a half kept, labels teach with a weight of 1",
    "primus-guided-half-fading": "SCD-Primus, a half kept, labels teach with a weight that falls to 0",
    "primus-guided-half-mask": "SCD-Primus, a half kept, labels teach, mask tokens in place of MTA",
    "primus-guided-half-memory": "SCD-Primus, a half kept that goes on seeing what left, labels teach",
    "primus-guided-larger": "SCD-Primus, as much kept as that memory costs, labels teach",
    "primus-random-half": "SCD-Primus, a half kept, chance chooses",
    "primus-guided-drawn": "SCD-Primus, ratios drawn, here with a half kept, labels teach",
    "primus-shallow-gradual": "Primus, as many blocks as the three stages cost",
    "primus-guided-gradual": "SCD-Primus, a quarter kept in three stages, labels teach",
    "primus-guided-gradual-foreground": "SCD-Primus, a quarter kept in three stages, labels teach: any foreground",
    **{
        f"{network}{kind}": f"{network.replace('subvoxel', 'sub-voxel')} decoder, {what}"
        for network in ("light", "subvoxel")
        for kind, what in (
            ("-dense", "dense, 8 blocks"),
            ("-shallow", "dense, fewer blocks"),
            ("", "published"),
            ("-guided", "labels teach"),
        )
    },
}
FORMER, FORMERLY = "-behind", "MTA behind the last LayerNorm"
"""SCD-Primus as it was until November 2026; there is no builder for it any more."""
_FORMER = ("primus-pruned", *(f"primus-guided{share}" for share in ("", "-half", "-drawn", "-gradual")))
NAMES |= {f"{name}{FORMER}": f"{NAMES[name]}, {FORMERLY}" for name in _FORMER}
Row = Mapping[str, str]


def numbers(row: Row, column: str) -> list[float]:
    """A column that holds several numbers."""
    return [float(part) for part in row[column].split()]


def family(network: str) -> str:
    """Name the decoder of a network."""
    starts = {"primus": PRIMUS, "subvoxel": SUBVOXEL, "light": LIGHT, "nnunet": NNUNET}
    return starts.get(re.split("[- ]", network)[0], UNETR)


def words(network: str) -> str:
    """Say what a network is, and for how many steps it was trained where others had more."""
    name, within, steps = network.partition(" in ")
    return NAMES.get(name, name) + (within and f", {steps}")
