"""`scd audit` of a bundle: its network on labelled cases, loaded and prepared as for its evaluation."""

from __future__ import annotations

from pathlib import Path

import torch
from monai.bundle import ConfigParser
from monai.utils import convert_to_tensor
from tqdm import tqdm

from scd_plugin.folders import check_auditable
from scd_plugin.measure.audit import Audit
from scd_plugin.measure.image_audit import ImageAudit
from scd_plugin.monai.bundle_configs import check_readable
from scd_plugin.monai.errors import built
from scd_plugin.monai.weights import load_weights

__all__ = ["audit_bundle"]


def audit_bundle(
    folder: Path, data: Path, *, device: torch.device, fold: str | None = None, keep: float | None = None
) -> Audit:
    """Count which tokens leave where in the validation cases of a fold, by default that of the training.

    At the evaluation's keep ratio; with `keep` that share of the tokens stays at each stage.

    Raises:
        ValueError: if the bundle has no weights, none that fit, or no config for training, as bundles moved
            from nnU-Net; if the data do not fit or were trained on; if the network prunes nothing.
    """
    root = folder.resolve()
    configs, weights = check_auditable(root, fold)
    check_readable(*configs, root / "configs" / "metadata.json")
    parser = ConfigParser()
    parser.read_config([str(file) for file in configs])
    parser.read_meta(str(root / "configs" / "metadata.json"))
    parser.update({"bundle_root": str(root), "dataset_dir": str(data.resolve()), "device": device})
    if fold is not None:
        parser["fold"] = int(fold)
    # where cases were added since, those that were trained on are left out, with a warning
    parser["skip_trained"] = True
    # nothing is looked at twice
    if "validate#dataset#cache_rate" in parser:
        parser["validate#dataset#cache_rate"] = 0.0
    network = built(parser, "network_def")
    load_weights(network, weights)
    images = ImageAudit(network.to(device), regions=parser.get_parsed_content("guided_loss#regions", default=False))
    own = parser.get_parsed_content("keep_ratio") if "keep_ratio" in ConfigParser.load_config_file(configs[1]) else None
    if (ratio := own if keep is None else keep) is not None:
        network.set_keep_ratio(ratio)
    for batch in tqdm(built(parser, "validate#dataloader"), desc="cases", leave=False):
        image, label = (convert_to_tensor(batch[key], track_meta=False) for key in ("image", "label"))
        images.add(image, label)
    return images.audit
