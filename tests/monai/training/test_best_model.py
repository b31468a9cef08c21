"""The best model of a training, and weights that must be there."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from ignite.engine import Engine, Events
from monai.transforms import ScaleIntensityd

from scd_plugin import SCDNetwork, build_network
from scd_plugin.monai import BestModel, intensity_config, recorded, trained_on

BUNDLE = Path(__file__).parents[3] / "bundles" / "scd_unetr_segmentation"


@pytest.fixture
def network() -> SCDNetwork:
    return build_network("tiny", 1, 3, 16, 4, hidden_size=48, mlp_dim=48, feature_size=4)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))


def validation(value: float) -> Engine:
    engine = Engine(lambda *_: None)
    engine.state.key_metric_name = "val_mean_dice"

    @engine.on(Events.STARTED)
    def _(engine: Engine) -> None:
        engine.state.metrics["val_mean_dice"] = value

    return engine


def full_disk(_: object, stream: BinaryIO) -> None:
    stream.write(b"half")
    raise OSError(errno.ENOSPC, "No space left on device")


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def cases(*names: str) -> list[dict[str, str]]:
    return [{"image": f"{name}.mha", "label": f"{name}.mha", "case": name} for name in names]


def validate(handler: BestModel, value: float) -> None:
    engine = validation(value)
    handler.attach(engine)
    engine.run([0], max_epochs=1)


class TestBestModel:
    def test_only_better_ones_are_kept(self, bundle: Path, network: SCDNetwork) -> None:
        handler = BestModel(network, str(bundle))
        validate(handler, 0.5)
        weight = network.encoder.norm.weight
        before = weight.detach().clone()
        with torch.no_grad():
            weight.add_(1)
        validate(handler, 0.4)
        saved = torch.load(bundle / "models" / "model.pt", weights_only=True)
        assert torch.equal(saved["encoder.norm.weight"], before)
        validate(handler, 0.6)
        saved = torch.load(bundle / "models" / "model.pt", weights_only=True)
        assert torch.equal(saved["encoder.norm.weight"], before + 1)
        assert json.loads((bundle / "models" / "best.json").read_text()) == {
            "metric": "val_mean_dice",
            "value": 0.6,
            "epoch": 1,
            "preset": "tiny",
        }
        assert recorded(str(bundle), "network_def")["hidden_size"] == 48

    def test_a_training_goes_on_at_its_keep_ratio(
        self, bundle: Path, network: SCDNetwork, caplog: pytest.LogCaptureFixture
    ) -> None:
        network.set_keep_ratio(0.5)
        state = BestModel(network, str(bundle)).state_dict()
        network.set_keep_ratio(0.25)
        BestModel(network, str(bundle)).load_state_dict(state)
        assert [stage.keep_ratio for stage in network.pruning_stages()] == [0.5] * 3
        assert caplog.messages == [
            "the checkpoint was trained with keep_ratio [0.5, 0.5, 0.5], which is [0.25, 0.25, 0.25] in these "
            "settings; it stays at [0.5, 0.5, 0.5]"
        ]
        # of an earlier version
        del state["keep_ratio"]
        network.set_keep_ratio(0.25)
        BestModel(network, str(bundle)).load_state_dict(state)
        assert [stage.keep_ratio for stage in network.pruning_stages()] == [0.25] * 3

    def test_cases_and_spacing_are_recorded(self, bundle: Path, network: SCDNetwork) -> None:
        handler = BestModel(
            network, str(bundle), spacing=[1, 1, 3], training=cases("b", "a"), validation=cases("c"), fold=2, seed=7
        )
        assert not (bundle / "models").exists()
        validate(handler, 0.5)
        assert trained_on(bundle) == {"fold": 2, "seed": 7, "training": ["a", "b"]}
        assert recorded(str(bundle), "spacing") == [1.0, 1.0, 3.0]

    def test_the_normalisation_that_was_trained_with_is_recorded(
        self, bundle: Path, network: SCDNetwork, caplog: pytest.LogCaptureFixture
    ) -> None:
        description = {
            "labels": {"one": [1], "two": [2]},
            "channel_names": ["CT"],
            "ct_windows": [[-10.0, 50.0]],
            "spacing": [1.0, 1.0, 1.0],
            "label_values": [0, 1, 2],
            "regions_order": [],
        }

        def recorded_with(intensity: object) -> object:
            validate(BestModel(network, str(bundle), description, intensity=intensity), 0.5)
            return recorded(str(bundle), "intensity")

        def warnings() -> list[str]:
            return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

        own = {"_target_": "ScaleIntensityd", "keys": "image"}
        assert recorded_with(own) == own
        assert warnings() == []
        # no config can be made of it
        assert recorded_with(ScaleIntensityd("image")) == own
        assert warnings() == ["intensity is a transform of your own: write the same into configs/inference.json"]
        assert recorded_with(None) == intensity_config([[-10.0, 50.0]])

    @pytest.mark.parametrize("name", ["inference.json", "metadata.json"])
    def test_folder_that_is_no_bundle_is_refused_before_the_first_step(
        self, bundle: Path, network: SCDNetwork, name: str
    ) -> None:
        (bundle / "configs" / name).unlink()
        with pytest.raises(ValueError, match=rf"{bundle} has no configs/{name}: give it with --bundle_root$"):
            BestModel(network, str(bundle))

    def test_not_a_number_is_never_best(self, bundle: Path, network: SCDNetwork) -> None:
        validate(BestModel(network, str(bundle)), float("nan"))
        assert not (bundle / "models" / "model.pt").exists()

    def test_full_disk_leaves_the_best_before(
        self, bundle: Path, network: SCDNetwork, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        handler = BestModel(network, str(bundle))
        validate(handler, 0.5)
        before = contents(bundle)
        assert len(before) > 8
        monkeypatch.setattr(torch, "save", full_disk)
        with pytest.raises(
            OSError, match=r"model\.pt can't be written \(No space left on device\); what was there is kept"
        ):
            validate(handler, 0.6)
        assert contents(bundle) == before

    def test_resumed_training_knows_the_best_so_far(self, bundle: Path, network: SCDNetwork) -> None:
        validate(BestModel(network, str(bundle)), 0.5)
        (bundle / "models" / "model.pt").unlink()
        validate(BestModel(network, str(bundle), resume=True), 0.4)
        assert not (bundle / "models" / "model.pt").exists()
        validate(BestModel(network, str(bundle), resume=False), 0.4)
        assert (bundle / "models" / "model.pt").exists()

    def test_best_of_an_earlier_training_is_not_that_of_the_checkpoint(self, bundle: Path, network: SCDNetwork) -> None:
        """A new training that was stopped before its first validation goes on."""
        validate(BestModel(network, str(bundle)), 0.9)
        stopped = BestModel(network, str(bundle))
        resumed = BestModel(network, str(bundle), resume=True)
        resumed.load_state_dict(stopped.state_dict())
        validate(resumed, 0.2)
        assert json.loads((bundle / "models" / "best.json").read_text())["value"] == 0.2

    def test_resumed_training_knows_the_cases_so_far(self, bundle: Path, network: SCDNetwork) -> None:
        """Also of those that are not there any more."""
        before = BestModel(network, str(bundle), training=cases("a", "b"), validation=cases("c"), fold=1)
        resumed = BestModel(network, str(bundle), resume=True, training=cases("b", "d"), validation=cases("c"), fold=1)
        resumed.load_state_dict(before.state_dict())
        validate(resumed, 0.5)
        assert trained_on(bundle) == {"fold": 1, "seed": 0, "training": ["a", "b", "d"]}

    def test_going_on_with_a_split_that_validates_what_it_trains_on(self, bundle: Path, network: SCDNetwork) -> None:
        lists = {"training": cases("a", "b"), "validation": cases("b")}
        resumed = BestModel(network, str(bundle), resume=True, **lists)
        resumed.load_state_dict(BestModel(network, str(bundle), **lists).state_dict())
        assert resumed.trained_on["training"] == ["a", "b"]

    def test_configs_that_do_not_say_the_cases_leave_no_record_of_others(
        self, bundle: Path, network: SCDNetwork
    ) -> None:
        validate(BestModel(network, str(bundle), training=cases("a"), fold=2), 0.5)
        validate(BestModel(network, str(bundle)), 0.6)
        assert not (bundle / "models" / "trained_on.json").exists()
        assert (bundle / "models" / "model.pt").exists()

    def test_going_on_with_another_fold_is_refused(self, bundle: Path, network: SCDNetwork) -> None:
        before = BestModel(network, str(bundle), training=cases("a", "b"), validation=cases("c"), fold=1, seed=3)
        resumed = BestModel(network, str(bundle), resume=True, training=cases("b", "c"), validation=cases("a"))
        sentence = (
            r"^1 of 1 cases to validate were trained on, the first is a, with --fold 1 and --seed 3: go on with these "
            r"and the same data set, or start without --resume True$"
        )
        with pytest.raises(ValueError, match=sentence):
            resumed.load_state_dict(before.state_dict())
