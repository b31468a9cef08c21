"""The study of quality: what its tasks, batches, scores, rows and page are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from batches import Batches
from choice_page import STUDIES, read, read_mixed, spread, table, text
from dial import COLUMNS as COLUMNS_OF_DIAL
from evaluation import AUDIT_CROPS, evaluate, leaving, lesions_found, token_kinds
from leads import hopes, in_short, lead
from lesions import lesion_volume
from memories import Memory
from mixed_tokens import COLUMNS, mixed_shares, must_leave
from monai.data import get_track_meta, set_track_meta
from names import NNUNET, PRIMUS, family
from networks import GUIDES, LATE, NETWORKS, SIZES, blocks, build, gmacs
from patient_splits import patient_splits
from plans import EQUAL_TIME, LONG, PLANS, STEPS, Run
from recipes import NNUNET as NNUNETS_RECIPE
from recipes import TRANSFORMER
from results import COLUMNS as COLUMNS_OF_STUDY
from results import append, finished
from study import HERE
from tasks import TASKS, Case, patient, shared_folder, split
from training import train


@pytest.fixture(autouse=True)
def _metadata_as_before() -> Iterator[None]:
    """Batches switch MONAI's metadata off."""
    before = get_track_meta()
    yield
    set_track_meta(before)


DTYPES = ("bfloat16", "float32")
RUN = Run("lesions", "guided", 1, 1000, "small")


def case(name: str) -> Case:
    label = torch.zeros(1, 56, 56, 56)
    label[:, 20:30, 20:30, 20:30] = 1
    return Case(name, torch.randn(1, 56, 56, 56), label)


def test_frames_of_a_patient_stay_together() -> None:
    cases = [case(f"patient{number:03d}_frame{frame:02d}") for number in range(10) for frame in (1, 9)]
    training, validation = split(cases, 0.3)
    assert len(validation) == 6
    patients = [{one.name.partition("_frame")[0] for one in part} for part in (training, validation)]
    assert not patients[0] & patients[1]
    # the same way each time
    assert [one.name for one in split(cases, 0.3)[1]] == [one.name for one in validation]


def test_nnunets_folds_keep_patients_together() -> None:
    names = [f"patient{number:03d}_frame{frame:02d}" for number in range(12) for frame in (1, 9)]
    folds = patient_splits(names)
    assert len(folds) == 5
    assert sorted(name for fold in folds for name in fold["val"]) == names
    for fold in folds:
        assert sorted(fold["train"] + fold["val"]) == names
        assert not {patient(name) for name in fold["train"]} & {patient(name) for name in fold["val"]}
    assert patient_splits(names[::-1]) == folds


def test_batches_follow_from_task_seed_and_step() -> None:
    cases = [case(f"case_{number}") for number in range(3)]
    first, again, other = (Batches(cases, TASKS["lesions"], seed)(4) for seed in (0, 0, 1))
    assert first[0].shape == (2, 1, 48, 48, 32)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert set(first[1].unique().tolist()) <= {0, 1}


def test_lesions_have_the_sizes_that_are_asked_for() -> None:
    image, label = lesion_volume(np.random.default_rng(0))
    sizes, found, false = lesions_found(label > 0, label > 0)
    assert image.shape == label.shape == (56, 56, 56)
    assert 3 <= len(sizes) <= 15
    assert 1 <= sizes.min() <= sizes.max() <= 200
    assert found.all()
    assert false == 0


def test_lesions_found() -> None:
    truth, prediction = np.zeros((2, 20, 20, 20), dtype=bool)
    truth[0, 0, :10] = truth[5, 5, 5] = True
    prediction[0, 0, 0] = prediction[10, 10, 10] = True
    sizes, found, false = lesions_found(prediction, truth)
    assert sizes.tolist() == [10, 1]
    # a tenth of the first, nothing of the second, and one that is none
    assert found.tolist() == [True, False]
    assert false == 1


def test_scores_fit_the_tables(tmp_path: Path) -> None:
    task = replace(TASKS["lesions"], crop=(16, 16, 16))
    network = build("primus-guided-half", task, "small")
    label = torch.zeros(1, 20, 20, 20)
    label[:, 2, 2, 2] = label[:, 8:12, 8:12, 8:12] = 1
    scores = evaluate(network, [Case("a", torch.randn(1, 20, 20, 20), label)], task)
    assert scores["lesions_by_size"] == [1, 0, 1, 0]
    assert scores["recall_by_size"][1] == 0
    for columns in (COLUMNS_OF_STUDY, COLUMNS_OF_DIAL):
        append(tmp_path / "rows.csv", scores, columns)


def test_token_kinds() -> None:
    label = torch.zeros(1, 1, 4, 4, 8)
    label[..., :6] = 1
    kinds = token_kinds(label, (4, 4, 4))
    assert kinds["mixed"].tolist() == [[[[False, True]]]]
    assert kinds["foreground"].tolist() == [[[[True, True]]]]
    assert kinds["voxels"].tolist() == [[[[1, 0.5]]]]


def test_what_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a grid of two tokens the left one leaves at once: it holds a third of the foreground."""
    task = replace(TASKS["lesions"], crop=(4, 4, 8), patch=(4, 4, 4))
    label = torch.zeros(1, 4, 4, 8)
    label[..., 2:8] = 1
    monkeypatch.setattr("evaluation.crops", lambda *_, **__: lambda _: [{"image": label, "label": label}])
    network = torch.nn.Linear(1, 1)
    network.pruning_stages = lambda: [None]
    network.exit_stages = lambda _: torch.tensor([[[[0, 1]]]])
    assert leaving(network, [case("a")], task) == {
        "left_mixed": [1, 0],
        "left_foreground": [0.5, 0.5],
        "left_background": [0, 0],
        "left_voxels": [pytest.approx(1 / 3), pytest.approx(2 / 3)],
    }


def test_what_a_perfect_choice_loses() -> None:
    # of 8 tokens one is mixed in the first case, and in the second all 8 are
    cases = [case("a"), case("b")]
    cases[0].label.zero_()[..., :1] = 1
    cases[1].label.zero_()[..., ::2] = 1
    task = replace(TASKS["lesions"], crop=(56, 56, 56), patch=(56, 56, 7))
    shares = mixed_shares(cases, task)
    assert shares.tolist() == [1 / 8] * AUDIT_CROPS + [1] * AUDIT_CROPS
    assert must_leave(shares, 0.25) == pytest.approx(0.75 / 1.125)
    assert must_leave(np.array([0.1, 0.2]), 0.25) == 0


@pytest.mark.parametrize(("name", "stages"), [("dense-taught", 3), ("primus-taught", 1)])
def test_labels_teach_networks_that_prune_nothing(name: str, stages: int) -> None:
    task = replace(TASKS["lesions"], crop=(16, 16, 16))
    network = build(name, task, "small")
    image = torch.zeros(2, 1, *task.crop)
    network(image)
    seen = network.probes.take()
    assert len(seen) == stages
    # all tokens of the grid and nothing else: no CLS
    assert all(stage.scores.shape == (2, 4**3) and stage.left_idx.numel() == 0 for stage in seen)
    network.eval()(image)
    assert network.probes.take() == []


def test_learning_rate() -> None:
    rates = [TRANSFORMER.learning_rate(step, 100) for step in range(100)]
    assert rates[4] == max(rates) == pytest.approx(TRANSFORMER.rate)
    assert rates[0] == pytest.approx(TRANSFORMER.rate / 5)
    assert rates[-1] < 0.05 * TRANSFORMER.rate
    # as nnU-Net's schedule has it
    assert NNUNETS_RECIPE.learning_rate(50, 100) == pytest.approx(0.01 * 0.5**0.9)


def test_nnunets_network() -> None:
    network = build("nnunet", TASKS["hippocampus"], "small")
    assert network.deep_weights == pytest.approx([2 / 3, 1 / 3])
    assert blocks(network) == 4
    # weights are there after counting, too
    assert gmacs(network) == pytest.approx(19.1, abs=0.1)
    image = torch.randn(1, *network.image_shape)
    assert [tuple(one.shape) for one in network(image)] == [(1, 3, 40, 56, 40), (1, 3, 20, 28, 20)]
    with torch.inference_mode():
        assert network.eval()(image).shape == (1, 3, 40, 56, 40)
    assert leaving(network, [], TASKS["hippocampus"]) == {}


def test_the_shallow_network_costs_what_the_published_one_does() -> None:
    task = TASKS["left_atrium"]
    dense, shallow, published = (build(name, task, "small") for name in ("dense", "shallow", "published"))
    assert len(shallow.encoder.blocks) < len(dense.encoder.blocks)
    assert gmacs(shallow) == pytest.approx(gmacs(published), rel=0.15)
    assert gmacs(published) < 0.75 * gmacs(dense)


@pytest.mark.parametrize(
    ("name", "kind"), [("published", "UNETRDecoder"), ("light", "LightDecoder"), ("subvoxel", "SubvoxelDecoder")]
)
def test_networks_of_the_plan_on_decoders_differ_in_the_decoder_alone(name: str, kind: str) -> None:
    with torch.device("meta"):
        network, published = (build(one, TASKS["hippocampus"], "small") for one in (name, "published"))
    assert type(network.decoder).__name__ == kind
    assert {**network.arguments, "decoder": "unetr"} == published.arguments
    runs = [run for run in PLANS["decoders"]() if run.network == name]
    assert {(run.task, run.seed) for run in runs} == {
        (t, s) for t in ("hippocampus", "left_atrium", "demo") for s in range(3)
    }


def test_every_plan_names_networks_that_can_be_built() -> None:
    # contestants that are built alike, once
    tasks = {NETWORKS[run.network]: TASKS[run.task] for plan in PLANS.values() for run in plan()}
    # it counts on real weights how many blocks it may have
    del tasks[NETWORKS["shallow"]]
    with torch.device("meta"):
        assert all(make(task, SIZES["small"]).out_channels == task.num_classes for make, task in tasks.items())
        large = {name: build(name, TASKS["acdc"], "base") for name in ("published", "primus-guided-half")}
    assert {name: (blocks(network), gmacs(network) > 60) for name, network in large.items()} == {
        "published": (12, True),
        "primus-guided-half": (12, True),
    }


def test_late(tmp_path: Path) -> None:
    """All tokens stay in the first steps, and only there."""
    network = build("primus-guided-half-late", TASKS["lesions"], "small")
    (stage,) = network.pruning_stages()
    kept: list[float] = []
    stage.register_forward_hook(lambda *_: kept.append(stage.keep_ratio))
    draw = Batches([case("a")], replace(TASKS["lesions"], batch=1), 0)
    settings = {"checkpoint": tmp_path / "one.checkpoint", "dtype": torch.float32}
    train(network, draw, steps=5, late=LATE["primus-guided-half-late"], **settings)
    assert kept == [1.0, 1.0, 0.5, 0.5, 0.5]


def test_what_labels_teach() -> None:
    kinds = ("", "-heavy", "-foreground", "-graded", "-fading")
    guides = {kind: GUIDES[f"primus-guided-half{kind}"] for kind in kinds}
    assert [guide.target for guide in guides.values()] == ["mixed", "mixed", "foreground", "graded", "mixed"]
    assert [guide.at(0) for guide in guides.values()] == [0.3, 1.0, 0.3, 0.3, 0.3]
    assert [guide.at(0.9) for guide in guides.values()] == pytest.approx([0.3, 1.0, 0.3, 0.3, 0.03])
    assert "primus-random-half" not in GUIDES


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that stay see what left; where nothing is remembered, the network is what it is without."""
    task = TASKS["lesions"]
    plain, remembering = (build(f"primus-guided-half{kind}", task, "small").eval() for kind in ("", "-memory"))
    plain.load_state_dict({name.replace(".block.", "."): value for name, value in remembering.state_dict().items()})
    image = torch.randn(1, *plain.image_shape)
    with torch.inference_mode():
        assert not torch.allclose(remembering(image), plain(image), atol=1e-3)
        keep = Memory.keep
        nothing = {name: torch.zeros(1, 0, 192) for name in ("left", "left_raw")}
        nothing["left_idx"] = torch.zeros(1, 0, dtype=torch.int64)
        monkeypatch.setattr(Memory, "keep", lambda self, pruned: keep(self, pruned._replace(**nothing)))
        torch.testing.assert_close(remembering(image), plain(image))


def test_rows(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    assert finished(file) == set()
    append(file, {**RUN._asdict(), "dice": 0.71239, "left_mixed": [0.25, 0.5, 0.25]})
    append(file, {**RUN._replace(seed=2)._asdict(), "error": "loss is nan at step 3"})
    assert finished(file) == {RUN, RUN._replace(seed=2)}
    assert "0.7124,,0.25 0.5 0.25" in file.read_text()


def test_page() -> None:
    rows = [
        {"task": "lesions", "network": "guided", "steps": "1000", "layers": "8", "gmacs": "4.767", "dice": dice,
         "left_mixed": "0.1 0.2 0.7", "left_foreground": "0.05 0.2 0.75", "left_voxels": "",
         "recall_by_size": "0.1 0.2 0.3 0.4", "lesions_by_size": "30 10 20 5", "false_lesions_a_case": "1.5"}
        for dice in ("0.5", "0.52")
    ]  # fmt: skip
    rows = [{**row, "seed": str(seed), "dtype": dtype} for seed, (row, dtype) in enumerate(zip(rows, DTYPES))]
    line = table(rows).splitlines()[2]
    assert line.startswith("| SCD-UNETR, labels teach | 8 | 4.8 | 2, 1 in float32 | 51.0 ± 1.0 | 10.0 ± 0.0 % |")
    # 3 + 2 + 6 of 60: not the mean of three shares
    assert line.endswith("| 18.3 ± 0.0 % | 1.5 ± 0.0 |")
    counted = dict(zip(COLUMNS, ("lesions", "80", "0.0249", "0.0513", "0.0123", "0")))
    facts = (
        "Crops of 48 x 48 x 32 voxels, tokens of 4 x 4 x 4, 2000 steps of 2 crops. Of a crop's tokens 2 % are mixed, "
    )
    facts += (
        "in 99 of 100 crops at most 5 %: the best choice takes 1.2 % of them at a stage where a quarter stays, 0.0 % "
    )
    facts += "where a half does."
    assert facts in text(rows, {"lesions": counted})
    assert spread([0.5]) == "0.5"


def test_the_page_is_that_of_the_rows() -> None:
    rows = read(HERE / "results.csv")
    assert (STUDIES / "choice-of-tokens.md").read_text() == text(rows, read_mixed())


def test_leads() -> None:
    dice = {
        ("primus", "0"): "0.80",
        ("primus", "1"): "0.81",
        ("primus-shallow", "0"): "0.77",
        ("primus-shallow", "1"): "0.79",
    }
    rows = [{"task": "acdc", "network": name, "seed": seed, "dice": value} for (name, seed), value in dice.items()]
    assert lead(rows, "primus-guided", "primus") == ""
    assert lead(rows, "primus", "primus-shallow") == "+2.5 (+2.0 to +3.0)"
    # no row of a network that prunes, no line
    assert len(in_short(rows).splitlines()) == 2
    pruned = {"1": "0.80", "2": "0.9"}
    rows += [{**rows[0], "network": "primus-guided", "seed": seed, "dice": value} for seed, value in pruned.items()]
    assert in_short(rows).splitlines()[2] == (
        "| Cardiac MR (ACDC) | Primus's | SCD-Primus, a quarter kept, labels teach | -1.0 (one seed) | - | - | "
        "+1.0 (one seed) | - | +2.5 (+2.0 to +3.0) |"
    )


def test_hopes() -> None:
    """The mean of the data sets, each the mean of its seeds."""
    none = {"left_mixed": "", "left_voxels": "", "recall_by_size": "", "lesions_by_size": "10 10 10 10"}
    rows = [
        {**none, "task": task, "network": network, "seed": seed, "dice": str(dice), "left_mixed": left}
        for task, network, seed, dice, left in (
            ("acdc", "primus", "0", 0.80, ""),
            ("acdc", "primus-guided", "0", 0.79, "0.1 0.9"),
            ("lesions", "primus", "0", 0.50, ""),
            ("lesions", "primus", "1", 0.52, ""),
            ("lesions", "primus-guided", "0", 0.53, "0.3 0.7"),
            ("lesions", "primus-guided", "1", 0.53, "0.4 0.6"),
        )
    ]
    for row, recall in zip(rows[2:], ("0.1 0.2 0.3 0.9", "0.1 0.2 0.3 0.9", "0.1 0.2 0.6 0.9", "0.1 0.2 0.3 0.9")):
        row["recall_by_size"] = recall
    said = dict(line.strip("| ").split(" | ") for line in hopes(rows).splitlines() if "---" not in line)
    assert said["Hoped for"] == "SCD-Primus, a quarter kept, labels teach"
    assert said["points against all blocks: -0.3 or more"] == "+0.5 (2)"
    assert said["the same in equal time: more than 0"] == "-"
    assert said["mixed tokens that leave at stage 1: 2 % or less"] == "22.5 (2)"
    assert said["the same at any stage"] == "22.5 (2)"
    assert said["foreground voxels that leave at stage 1: 1 % or less"] == "-"
    assert said["points of small lesions found, against all blocks: -1 or more"] == "+5.0 (1)"


def test_rows_of_equal_time(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    task, steps = "acdc", EQUAL_TIME["acdc", "primus"]
    runs = {("primus", steps): 0.61, ("primus-guided-half", STEPS[task]): 0.66, ("primus", STEPS[task]): 0.64}
    for (network, trained), dice in runs.items():
        append(file, {**Run(task, network, 0, trained, "small")._asdict(), "layers": 8, "gmacs": 8.26, "dice": dice})
    rows = read(file)
    assert [row["network"] for row in rows] == [f"primus in {steps} steps", "primus-guided-half", "primus"]
    assert family(rows[0]["network"]) == PRIMUS
    assert family("nnunet in 400 steps") == NNUNET
    assert f"| Primus, 8 blocks, {steps} steps | 8 | 8.3 | 1 | 61.0 |" in table(rows)
    assert "a half kept, labels teach | +2.0 (one seed) | - | +5.0 (one seed) | - | - | - |" in in_short(rows)
    assert "a half kept, labels teach | +2.0 (one seed) | - | - | - | - | - |" in in_short(rows[1:])


def test_rows_of_longer_trainings(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    dices = {"primus-guided-half-foreground": 0.86, "primus": 0.84, "primus-shallow-half": 0.81}
    for network, dice in dices.items():
        append(file, {**Run("left_atrium", network, 0, LONG, "small")._asdict(), "dice": dice})
    said = in_short(read(file)).splitlines()[-1]
    assert "labels teach: any foreground, 3000 steps | +2.0 (one seed) | - | - | +5.0 (one seed) | - |" in said


def test_data_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCD_SHARED", str(tmp_path))
    assert shared_folder() == tmp_path
    with pytest.raises(FileNotFoundError, match=r"no labels in .*Dataset010_LeftAtrium.*; name the data's folder with"):
        TASKS["left_atrium"].load(tmp_path)
