"""The study of Primus: its trainers are what their names say, and what it measures and writes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("nnunetv2")

import primus_hippocampus
import primus_measures
from pruned_agreement import Agreement
from trainers import primus_study

from scd_plugin import SCDPrimus


@pytest.fixture(scope="module")
def study() -> SimpleNamespace:
    """The study's three files as modules."""
    return SimpleNamespace(
        primus_study=primus_study, primus_measures=primus_measures, primus_hippocampus=primus_hippocampus
    )


def build(study: Any, run: str) -> Any:
    configuration = SimpleNamespace(patch_size=[40, 56, 40])
    with torch.device("meta"):
        return study.primus_study.TRAINERS[run].build_network_architecture(None, configuration, 1, 3, False)


class TestTrainers:
    def test_all_have_a_name_for_the_tables(self, study: Any) -> None:
        trainers = study.primus_study.TRAINERS
        assert list(trainers)[:4] == ["Primus", "Keep50", "Keep25", "Mask25"]
        assert all(trainer.__name__ == f"nnUNetTrainerStudy{run}" for run, trainer in trainers.items())
        assert len({trainer.about for trainer in trainers.values()}) == len(trainers) == 17
        assert [run for run, trainer in trainers.items() if not trainer.ablation] == list(trainers)[:4]

    @pytest.mark.parametrize(
        ("run", "stages", "prior", "sampling", "keep", "completion"),
        [
            ("Keep50", [2], "entropy", "topk", 0.5, "assembly"),
            ("Keep25", [2], "entropy", "topk", 0.25, "assembly"),
            ("Mask25", [2], "entropy", "topk", 0.25, "mask_token"),
            ("Narrow25", [2], "entropy", "topk", 0.25, "assembly_to_kept"),
            ("Keep25Long", [2], "entropy", "topk", 0.25, "assembly"),
            ("Prior25", [2], "entropy", "prior", 0.25, "restore"),
            ("ThreeNoise50", [3, 6, 9], "attention", "soft_topk", 0.5, "assembly"),
            ("ThreeNoise25", [3, 6, 9], "attention", "soft_topk", 0.25, "assembly"),
            ("ThreeMask25", [3, 6, 9], "attention", "soft_topk", 0.25, "mask_token"),
            ("ThreeAttention50", [3, 6, 9], "attention", "topk", 0.5, "assembly"),
            ("ThreeAttention25", [3, 6, 9], "attention", "topk", 0.25, "assembly"),
            ("ThreeEntropy50", [3, 6, 9], "entropy", "topk", 0.5, "assembly"),
            ("ThreeEntropy25", [3, 6, 9], "entropy", "topk", 0.25, "assembly"),
        ],
    )
    def test_pruned(
        self, study: Any, run: str, stages: list[int], prior: str, sampling: str, keep: float, completion: str
    ) -> None:
        net = build(study, run)
        assert isinstance(net, SCDPrimus)
        assert [stage.after_block for stage in net.stages] == stages
        assert {stage.keep_ratio for stage in net.stages} == {keep}
        wanted = {"prior": prior, "sampling": sampling, "completion": completion}
        assert {name: net.arguments[name] for name in wanted} == wanted
        assert net.grid_size == [10, 14, 10]

    @pytest.mark.parametrize(("run", "width"), [("Keep25", 192), ("Narrow25", 96)])
    def test_width_of_the_completion(self, study: Any, run: str, width: int) -> None:
        net = build(study, run)
        assert {net.completion.project[i].out_features for i in range(2)} == {width}

    def test_schedules_to_compare_are_equally_long(self, study: Any) -> None:
        trainers = study.primus_study.TRAINERS
        assert trainers["Keep25Long"].scd_num_epochs == trainers["PrimusLong"].scd_num_epochs == 36
        assert trainers["Keep25"].scd_num_epochs == trainers["Primus"].scd_num_epochs == 24

    @pytest.mark.parametrize(
        ("run", "blocks", "epochs"),
        [("Primus", 12, 24), ("PrimusFour", 4, 24), ("PrimusShort", 12, 12), ("PrimusLong", 12, 36)],
    )
    def test_stock(self, study: Any, run: str, blocks: int, epochs: int) -> None:
        net = build(study, run)
        assert type(net).__name__ == "Primus"
        assert len(net.eva.blocks) == blocks
        assert study.primus_study.TRAINERS[run].scd_num_epochs == epochs


def curves(study: Any) -> dict[str, Any]:
    make = study.primus_measures.Curve
    return {
        "Primus": make(running=[0.1, 0.2, 0.3, 0.4], validation=[0.2, 0.3, 0.4, 0.5]),
        "Keep25": make(running=[0.15, 0.25, 0.35, 0.45], validation=[0.3, 0.4, 0.5, 0.6]),
        "PrimusShort": make(running=[0.05], validation=[0.1]),
    }


SECONDS = {"Primus": 2.0, "Keep25": 1.0, "PrimusShort": 2.0}


class TestMeasures:
    def test_equal_time_is_that_of_the_fastest_main_run(self, study: Any) -> None:
        minutes, dice = study.primus_measures.at_equal_time(curves(study), SECONDS)
        # 4 epochs of 30 steps of a second
        assert minutes == 2.0
        assert dice == {"Primus": 0.2, "Keep25": 0.45, "PrimusShort": 0.05}

    def test_boundary_tokens(self, study: Any) -> None:
        label = torch.zeros(4, 8, 6, dtype=torch.int64)
        label[:, 4:] = 1
        label[1, 1, 5] = 2
        label[2:, 4:, 3] = 2
        found = study.primus_measures.boundary_tokens(label, [2, 2, 2])
        assert found.nonzero().tolist() == [[0, 0, 1], [1, 1, 1]]

    def test_share_of_boundary_tokens_that_leaves(self, study: Any) -> None:
        stages = torch.tensor([[[[0, 1], [2, 0]]], [[[2, 2], [1, 0]]]])
        network = SimpleNamespace(
            grid_size=[1, 2, 2], stages=[None, None], exit_stages=lambda image: stages[int(image)].unsqueeze(0)
        )
        labels = torch.zeros(2, 1, 1, 4, 4, dtype=torch.int64)
        # two mixed tokens in the first crop, one in the second; what has no label is background
        labels[0, ..., 0, 0], labels[0, ..., 2, 1], labels[1, ..., 3, 3] = 1, 2, 1
        labels[1, ..., 0, 0] = -1
        crops = [(torch.tensor(float(i)), label) for i, label in enumerate(labels)]
        found = study.primus_measures.boundary_leaving(network, crops)
        assert found.per_crop == 1.5
        assert found.leaving == pytest.approx((2 / 3, 0))
        assert found.chance == 5 / 8

    def test_of_a_network(self, study: Any, small_primus: Any) -> None:
        net = small_primus(prune_after=(1, 2)).eval()
        label = torch.randint(0, 3, (1, 32, 32, 32))
        found = study.primus_measures.boundary_leaving(net, [(torch.randn(1, 2, 32, 32, 32), label)])
        # all are mixed, and half of them leaves at each stage
        assert (found.per_crop, found.leaving, found.chance) == (64, (0.5, 0.25), 0.75)

    def test_tables_as_csv(self, study: Any, tmp_path: Path) -> None:
        measures = study.primus_measures
        measures.write_curves(tmp_path / "curves.csv", curves(study), SECONDS)
        lines = (tmp_path / "curves.csv").read_text().splitlines()
        assert lines[:3] == [
            "network,epoch,seconds,running_dice,validation_dice",
            "Primus,1,60.0,0.1,0.2",
            "Primus,2,120.0,0.2,0.3",
        ]
        assert lines[5] == "Keep25,1,30.0,0.15,0.3"
        assert len(lines) == 10
        measures.write_quality(tmp_path / "quality.csv", {"Primus": {"1": 0.7, "2": 0.5, "mean": 0.6}})
        assert (tmp_path / "quality.csv").read_text().splitlines() == [
            "network,dice_1,dice_2,dice_mean",
            "Primus,0.7,0.5,0.6",
        ]

    def test_only_what_was_validated_counts(self, study: Any, tmp_path: Path) -> None:
        for run, file in (("ThreeNoise25", "summary.json"), ("Primus", "summary.json"), ("Keep50", "half")):
            folder = tmp_path / f"nnUNetTrainerStudy{run}__nnUNetPlans__3d_fullres" / "fold_0" / "validation"
            folder.mkdir(parents=True)
            (folder / file).touch()
        assert list(study.primus_measures.finished(tmp_path)) == ["Primus", "ThreeNoise25"]


class TestPage:
    def test_lists_what_has_results(self, study: Any) -> None:
        quality = {run: {"1": 0.8, "2": 0.6, "mean": 0.7} for run in curves(study)}
        seconds = {"train": SECONDS, "forward": SECONDS}
        page = study.primus_hippocampus._trained_side_by_side(quality, seconds, curves(study), 39)
        assert "4 epochs of\n30 steps" in page
        assert "| SCD-Primus, keep 0.25 | 0.800 | 0.600 | 0.700 | 1.00 | 1.00 | 2.00 x | 2.00 x |" in page
        assert "| stock Primus, schedule of 12 epochs | 0.050 | 0.050 |" in page
        assert "after 2.0 minutes of steps" in page
        assert "mask tokens" not in page

    def test_boundary_tokens(self, study: Any) -> None:
        found = {"ThreeNoise25": study.primus_measures.Boundary(per_crop=116.4, leaving=(0.1, 0.05), chance=0.94)}
        page = study.primus_hippocampus._boundaries(found)
        assert "have 116 of them each" in page
        assert "| three stages, attention with noise, keep 0.25 | 15 % | 94 % | 10 %, 5 % |" in page
        assert study.primus_hippocampus._boundaries({}) == ""

    def test_speed_beside_agreement(self, study: Any) -> None:
        results = [
            Agreement(
                prior=prior,
                keep_ratio=keep,
                dice=(0.9, 0.7),
                voxels=1.0,
                logit_error=0.1,
                operations=keep,
                seconds=keep,
                dense_seconds=1.0,
            )
            for prior in study.primus_hippocampus.PRIORS
            for keep in study.primus_hippocampus.KEEP
        ]
        page = study.primus_hippocampus._without_training(results)
        assert "| entropy | 0.800 | 0.800 | 0.800 | 0.800 |" in page
        assert "| norm | 90 %, 1.11 x | 75 %, 1.33 x | 50 %, 2.00 x | 25 %, 4.00 x |" in page
