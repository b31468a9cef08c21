"""A planner that counts on the labels how many tokens there must be a place for, and plans keep ratios by that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from math import prod
from typing import Any, cast

import numpy as np
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from scd_plugin.measure.cost import multiply_accumulates
from scd_plugin.networks.builder import NETWORKS
from scd_plugin.networks.presets import get_preset
from scd_plugin.nnunet.planning.counted_labels import LabelMap, View, count_shares, read_label_maps, some_of
from scd_plugin.nnunet.planning.keep_ratios import keep_ratios, keep_report, share_held
from scd_plugin.nnunet.planning.planned_network import planned_network

__all__ = ["CountingPlanner"]

# most data sets settle in the second or third, since crops change in steps
MAX_DRAFTS = 4


class CountingPlanner(ExperimentPlanner):
    """Plans networks of a preset, with keep ratios that are counted unless they are set."""

    scd_size = "base"
    """A preset, see `scd_plugin.networks.presets`; `PLANNERS` has a planner for each of them."""
    scd_keep_ratio: float | Sequence[float] | str | None = None
    """Share of the tokens kept at each pruning stage; None to count it on the labels, "preset" for the preset's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if isinstance(self.scd_keep_ratio, str) and self.scd_keep_ratio != "preset":
            msg = f"scd_keep_ratio must be None to count, 'preset', or numbers in (0, 1]; got {self.scd_keep_ratio!r}"
            raise ValueError(msg)
        super().__init__(*args, **kwargs)
        self._counted: dict[str, list[float]] = {}
        self._shares: dict[View, np.ndarray] = {}
        self._maps: list[LabelMap] = []
        self._estimates: dict[str, dict[str, float]] = {}
        self._drafting = False

    def plan_experiment(self) -> dict[str, Any]:
        """Plan as nnU-Net does, once keep ratios are settled; say what was counted."""
        if self.scd_keep_ratio is None and not self._drafting:
            self._settle()
        plans = super().plan_experiment()
        if self._counted and not self._drafting:
            # nnU-Net keeps configurations of the user's in the file
            own = {name: one for name, one in plans["configurations"].items() if name in self._counted}
            for name, view in self._views({**plans, "configurations": own}).items():
                print(f"{name}: {self._report(view, own[name])}")  # noqa: T201  (as nnU-Net's planners)
        return plans

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Write the plans, unless they are a draft."""
        if not self._drafting:
            super().save_plans(plans)

    def planned_ratio(self, data_identifier: str) -> float | Sequence[float] | None:
        """Keep ratio of the configuration that has these data, None for the preset's."""
        if self.scd_keep_ratio is not None:
            return None if isinstance(self.scd_keep_ratio, str) else self.scd_keep_ratio
        ratios = next((ratios for name, ratios in self._counted.items() if data_identifier.endswith(name)), None)
        return ratios[0] if ratios and len(set(ratios)) == 1 else ratios

    def _settle(self) -> None:
        """Draft plans and count on their crops until both fit; else the larger ratios of the last two drafts hold."""
        for _ in range(MAX_DRAFTS):
            before = self._counted
            self._drafting = True
            with redirect_stdout(StringIO()):
                plans = self.plan_experiment()
            self._drafting = False
            self._counted = {
                name: keep_ratios(share_held(self._shares[view]), view.num_tokens, self._preset_ratios())
                for name, view in self._views(plans).items()
            }
            if self._counted == before:
                return
        larger = {name: np.maximum(new, before.get(name, new)).tolist() for name, new in self._counted.items()}
        self._counted = {**before, **larger}

    def _preset_ratios(self) -> list[float]:
        arguments = get_preset(self.scd_size).arguments
        # where no block is named there is one stage
        return np.broadcast_to(arguments["keep_ratio"], len(arguments["prune_after"] or (None,))).tolist()

    def _views(self, plans: dict[str, Any]) -> dict[str, View]:
        """What each configuration sees; views that are new are counted."""
        # those that inherit from another have that one's network
        planned = {name: one for name, one in plans["configurations"].items() if "patch_size" in one}
        views = {name: View.of(configuration) for name, configuration in planned.items()}
        for view in set(views.values()) - self._shares.keys():
            manager = PlansManager(plans)
            self._maps = self._maps or self._read_some(manager)
            self._shares[view] = count_shares(self._maps, view, manager.get_label_manager(self.dataset_json))
        return views

    def _read_some(self, manager: PlansManager) -> list[LabelMap]:
        voxels = np.mean([prod(shape) for shape in self.dataset_fingerprint["shapes_after_crop"]])
        files = some_of([case["label"] for case in self.dataset.values()], float(voxels))
        print(f"Counting tokens that hold foreground, on {len(files)} label maps")  # noqa: T201
        return read_label_maps(files, manager, self.dataset_json)

    def _report(self, view: View, configuration: Mapping[str, Any]) -> str:
        kind, arguments = cast("tuple[str, dict[str, Any]]", planned_network(configuration))
        preset = self._preset_ratios()
        ratios = np.broadcast_to(arguments["keep_ratio"], len(preset)).tolist()
        names = self.dataset_json.get("channel_names") or self.dataset_json["modality"]
        labels = LabelManager(self.dataset_json["labels"], self.dataset_json.get("regions_class_order"))
        channels, classes = len(names), labels.num_segmentation_heads
        operations, arguments = {}, {**arguments, "in_channels": channels, "out_channels": classes}
        image = torch.empty(1, channels, *view.crop, device="meta")
        wanted = {"with these ratios": ratios, "with the preset's": preset, "dense": 1}
        for what, keep_ratio in wanted.items():
            with torch.device("meta"):
                network = NETWORKS[kind](**{**arguments, "keep_ratio": keep_ratio})
            operations[what] = multiply_accumulates(network, image)
        return keep_report(self._shares[view], view.num_tokens, ratios, preset, operations)
