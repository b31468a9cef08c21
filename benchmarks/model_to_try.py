"""Make the model to try, `bundles/scd_unetr_hippocampus`, from the Decathlon's hippocampus.

    OMP_NUM_THREADS=1 python benchmarks/model_to_try.py Task04_Hippocampus work

`work` becomes a copy of the general bundle: keep ratios are counted on the labels of the cases to train, the model is
trained with them and evaluated on the bundle's own split, fold 0, and what it was trained with becomes the default of
its train.json. `models/model.pt`, `models/trained_on.json` and `configs` are what is shipped; the words in
metadata.json and docs are written by hand.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser

from scd_plugin.networks.presets import get_preset
from scd_plugin.nnunet.planning.keep_ratios import keep_ratios, share_held, tokens_after
from scd_plugin.ops.grid import token_grid
from scd_plugin.ops.token_labels import token_labels
from scd_plugin.whole_files import write_json

logger = logging.getLogger("model_to_try")

GENERAL = Path(__file__).parents[1] / "bundles" / "scd_unetr_segmentation"
CROPS = 3
"""Crops counted of a case."""
OPTIONS: dict[str, Any] = {
    "size": "tiny-fast",
    "network_def#hidden_size": 120,
    "network_def#mlp_dim": 480,
    "guide": 0.3,
    # as the weights in the repository were trained; `counted_ratios` makes room for these tokens
    "guide_target": "mixed",
    "epochs": 20,
    "val_interval": 4,
    "num_samples": 1,
    "learning_rate": 0.003,
    # no flips but that of left and right: the axes of an image are known, and tell the front from the back
    "train#random_transforms#4#prob": 0.0,
    "train#random_transforms#5#prob": 0.0,
}
"""Of the general bundle's training; the keep ratios come to them."""


def counted_ratios(data: Path) -> list[float]:
    """Keep ratios by the share of tokens that hold more than one class, in the training's own crops."""
    parser = ConfigParser()
    parser.read_config(GENERAL / "configs" / "train.json")
    parser.read_meta(GENERAL / "configs" / "metadata.json")
    parser.update({"dataset_dir": str(data), "num_samples": CROPS})
    # crops, and what makes regions of labels; what follows them moves labels
    parser["train#random_transforms"] = parser["train#random_transforms"][:2]
    transform = parser.get_parsed_content("train#preprocessing").set_random_state(0)
    description = parser.get_parsed_content("description")
    grid = token_grid(description["img_size"], description["patch_size"])
    cases = parser.get_parsed_content("datalist")["training"]
    labels = (crop["label"].long()[None] for case in cases for crop in transform(case))
    shares = np.array([float(token_labels(label, grid).mixed.double().mean()) for label in labels])
    ratios = keep_ratios(share_held(shares), prod(grid), get_preset(OPTIONS["size"]).arguments["keep_ratio"])
    logger.info(
        f"tokens with more than one class, in {len(shares)} crops: median {100 * np.median(shares):.1f} %, in 99 % of "
        f"them at most {100 * share_held(shares):.1f} %; keep ratios {ratios}, by which of {prod(grid)} tokens stay "
        f"{', '.join(map(str, tokens_after(prod(grid), ratios)))}"
    )
    return ratios


def write_defaults(train: Path, options: Mapping[str, Any]) -> None:
    """Write options of the command line into a train.json, as what it does without them."""
    parser = ConfigParser(json.loads(train.read_text(encoding="utf-8")))
    for name, value in options.items():
        parser[name] = value
    write_json(train, parser.get())


def run_bundle(bundle: Path, data: Path, *names: str, **options: Any) -> None:
    """`python -m monai.bundle run` with the bundle's configs of these names, in a process of its own."""
    files = [str(bundle / "configs" / f"{name}.json") for name in names]
    words = ["--config_file", str(files), "--bundle_root", str(bundle), "--dataset_dir", str(data)]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    logger.info("python -m monai.bundle run %s", shlex.join(words))
    subprocess.run([sys.executable, "-m", "monai.bundle", "run", *words], check=True)  # noqa: S603


def main() -> None:
    """Count, copy, train, evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the Decathlon's Task04_Hippocampus")
    parser.add_argument("work", type=Path, help="a folder that is not there yet")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = {**OPTIONS, "keep_ratio": counted_ratios(arguments.data)}
    shutil.copytree(GENERAL, arguments.work)
    run_bundle(arguments.work, arguments.data, "train", **options)
    write_defaults(arguments.work / "configs" / "train.json", options)
    run_bundle(arguments.work, arguments.data, "train", "evaluate")
    logger.info((arguments.work / "eval" / "val_mean_dice_summary.csv").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
