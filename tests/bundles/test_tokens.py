"""What the bundles do with their tokens: ratios that are drawn or changed, scores that labels teach, the audit."""

from __future__ import annotations

import csv
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import load
from typer.testing import CliRunner

from scd_plugin.cli import app
from scd_plugin.monai.audit import audit_bundle
from scd_plugin.monai.training.record import record
from scd_plugin.networks import build_network

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def weights(bundle: Any) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(bundle.root / "models" / "model.pt", weights_only=True)
    return state


def dice(folder: Path) -> float:
    return float((folder / "metrics.csv").read_text().split(",")[1])


@pytest.fixture
def trained_again(trained: Any, tmp_path: Path) -> Any:
    """Trains a copy of the bundle with other options."""

    def train(**options: Any) -> Any:
        root = Path(shutil.copytree(trained.root, tmp_path / "again"))
        again = type(trained)(root, trained.data, trained.overrides)
        shutil.rmtree(root / "models")
        again.run("train", **trained.overrides, **options)
        return again

    return train


def test_drawn_keep_ratios(trained: Any, trained_again: Any) -> None:
    again = trained_again(keep_ratios=[0.25, 1])
    other = weights(again)
    assert any(not torch.equal(other[name], value) for name, value in weights(trained).items())
    # of its own, which validation has
    assert json.loads((again.configs / "inference.json").read_text())["network_def"]["keep_ratio"] == 0.5


def test_labels_teach_the_scores(trained: Any, trained_again: Any) -> None:
    again = trained_again(guide=1.0, guide_target="mixed")
    name = "encoder.stages.0.score.score.weight"
    assert (weights(again)[name] - weights(trained)[name]).abs().max() > 1e-5


def test_another_keep_ratio(trained: Any, tmp_path: Path) -> None:
    """Both settle it after the weights: a network built for 1 would have no place for them."""
    for keep_ratio in (0.1, 1):
        trained.run("inference", keep_ratio=keep_ratio, output_dir=str(tmp_path / str(keep_ratio)))
        trained.run(
            "train",
            "evaluate",
            **{**trained.overrides, "keep_ratio": keep_ratio},
            output_dir=str(tmp_path / "eval"),
        )
        assert 0 <= dice(tmp_path / "eval") < 1
    few, all_kept = (sorted((tmp_path / name).glob("*_seg.nii.gz")) for name in ("0.1", "1"))
    assert [path.name for path in few] == [path.name for path in all_kept]
    assert any(path.read_bytes() != other.read_bytes() for path, other in zip(few, all_kept))


def test_load_with_another_keep_ratio(trained: Any) -> None:
    net = load(trained.root.name, bundle_dir=trained.root.parent, workflow_type="inference",
               net_override={"keep_ratio": 0.25})  # fmt: skip
    assert [stage.keep_ratio for stage in net.encoder.stages] == [0.25] * 3


def test_audit(trained: Any, tmp_path: Path) -> None:
    words = ["audit", str(trained.root), str(trained.data), "--output", str(tmp_path), "--device", "cpu"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    (row,) = csv.DictReader((tmp_path / "token_audit.csv").open())
    validations = list(csv.DictReader((trained.root / "eval" / "token_audit.csv").open()))
    # tokens that two windows share count once
    assert float(row["chance_left_at_1"]) == pytest.approx(0.5, abs=0.1)
    # the best of the two, prepared alike
    assert {**row, "epoch": ""} in [{**other, "epoch": ""} for other in validations]


def test_audit_at_another_ratio(trained: Any, tmp_path: Path) -> None:
    audit = partial(audit_bundle, data=trained.data, device=torch.device("cpu"))
    assert audit(trained.root, keep=0.25).tokens.shares("chance")[0] == pytest.approx(0.75, abs=0.1)
    # as the evaluation's config says, and of a validation that caches nothing
    root = shutil.copytree(trained.root, tmp_path / "bundle")
    evaluate, train = (root / "configs" / f"{name}.json" for name in ("evaluate", "train"))
    evaluate.write_text(evaluate.read_text().replace('"keep_ratio": null', '"keep_ratio": 0.1'))
    config = json.loads(train.read_text())
    config["validate"]["dataset"] = {
        name: value for name, value in config["validate"]["dataset"].items() if name in ("data", "transform")
    } | {"_target_": "Dataset"}
    train.write_text(json.dumps(config))
    assert audit(root).tokens.shares("chance")[0] == pytest.approx(0.9, abs=0.05)


def test_audit_without_labels(trained: Any, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    result = CliRunner().invoke(app, ["audit", str(trained.root), str(tmp_path), "--device", "cpu"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert str(tmp_path) in result.stderr
    assert "Traceback" not in result.stderr


def test_audit_of_a_dense_network(untrained: Any, tmp_path: Path) -> None:
    """It is refused before any data are looked at."""
    bundle = untrained(tmp_path)
    network = build_network("tiny", 1, 2, (16, 16, 16), (4, 4, 4), keep_ratio=1)
    record(bundle.root, network)
    (bundle.root / "models").mkdir()
    torch.save(network.state_dict(), bundle.root / "models" / "model.pt")
    result = CliRunner().invoke(app, ["audit", str(bundle.root), str(tmp_path), "--device", "cpu"])
    assert (result.exit_code, result.stderr) == (
        2,
        "error: the network, SCDUNETR, prunes no tokens, so there is nothing to audit\n",
    )


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("models/model.pt", "there are no weights in .*: train the bundle first, or copy a state dict there"),
        ("configs/train.json", "has no configs/train.json, by which its labelled cases would be read; if it was moved"),
    ],
)
def test_audit_of_half_a_bundle(untrained: Any, tmp_path: Path, gone: str, message: str) -> None:
    bundle = untrained(tmp_path)
    (bundle.root / "models").mkdir()
    torch.save({}, bundle.root / "models" / "model.pt")
    (bundle.root / gone).unlink()
    with pytest.raises(ValueError, match=message):
        audit_bundle(bundle.root, tmp_path, device=torch.device("cpu"))
