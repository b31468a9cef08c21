"""Going on after a stop, stopping early, the best model and what is recorded with it."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from monai.engines import SupervisedTrainer
from monai.handlers import CheckpointLoader, StatsHandler
from torch import nn

from scd_plugin import SCDUNETR
from scd_plugin.monai import (
    BestModel,
    clip_gradients,
    last_checkpoint,
    layer_decay_groups,
    need_weights,
    prepare_training,
    recorded,
)
from scd_plugin.monai.errors import explained

BUNDLE = Path(__file__).parents[3] / "bundles" / "scd_unetr_segmentation"
DESCRIPTION = {
    "channel_names": ["CT"],
    "labels": {"liver": [1], "tumour": [2]},
    "regions_order": [],
    "label_values": [0, 1, 2],
    "in_channels": 1,
    "out_channels": 3,
    "spacing": [1.0, 1.0, 2.0],
    "img_size": [16, 16, 16],
    "patch_size": [4, 4, 4],
    "ct_windows": [[-100.0, 200.0]],
}
NETWORK: dict[str, Any] = {
    "in_channels": 1,
    "out_channels": 3,
    "img_size": (16, 16, 16),
    "patch_size": (4, 4, 4),
    "feature_size": 4,
    "hidden_size": 48,
    "mlp_dim": 48,
    "num_heads": 4,
    "num_layers": 2,
    "prune_after": (1,),
    "keep_ratio": 0.3,
}


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


def validate(handler: BestModel, value: float) -> None:
    engine = validation(value)
    handler.attach(engine)
    engine.run([0], max_epochs=1)


class TestBestModel:
    def test_only_better_ones_are_kept(self, bundle: Path) -> None:
        network = SCDUNETR(**NETWORK)
        handler = BestModel(network, str(bundle), network, DESCRIPTION)
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
        assert json.loads((bundle / "models" / "best.json").read_text())["value"] == 0.6

    def test_not_a_number_is_never_best(self, bundle: Path) -> None:
        network = SCDUNETR(**NETWORK)
        validate(BestModel(network, str(bundle), network), float("nan"))
        assert not (bundle / "models" / "model.pt").exists()

    def test_resumed_training_knows_the_best_so_far(self, bundle: Path) -> None:
        network = SCDUNETR(**NETWORK)
        validate(BestModel(network, str(bundle), network), 0.5)
        (bundle / "models" / "model.pt").unlink()
        validate(BestModel(network, str(bundle), network, resume=True), 0.4)
        assert not (bundle / "models" / "model.pt").exists()
        validate(BestModel(network, str(bundle), network, resume=False), 0.4)
        assert (bundle / "models" / "model.pt").exists()

    def test_configs_then_tell_what_the_weights_are(self, bundle: Path) -> None:
        network = SCDUNETR(**NETWORK)
        validate(BestModel(network, str(bundle), network, DESCRIPTION), 0.5)
        settings = recorded(str(bundle), "network_def")
        assert settings.pop("_target_") == "scd_plugin.SCDUNETR"
        assert settings["keep_ratio"] == 0.3
        SCDUNETR(**settings).load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
        assert recorded(str(bundle), "spacing") == [1.0, 1.0, 2.0]
        assert recorded(str(bundle), "intensity")["a_max"] == 200.0
        assert recorded(str(bundle), "img_size") == [16, 16, 16]
        metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
        assert metadata["dataset"] == DESCRIPTION
        formats = metadata["network_data_format"]
        assert formats["inputs"]["image"]["spatial_shape"] == [16, 16, 16]
        assert formats["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "liver", "2": "tumour"}


def test_clipping_counts_the_norm_of_all() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    clip_gradients(optimizer, 1.0)
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0]), torch.tensor([4.0])
    optimizer.step()
    assert [p.item() for p in parameters] == pytest.approx([-0.6, -0.8], abs=1e-6)


def test_layer_decay(small: Callable[..., SCDUNETR]) -> None:
    network = small()
    groups = layer_decay_groups(network, lr=1.0, layer_decay=0.5, weight_decay=0.05)
    of = {id(p): group for group in groups for p in group["params"]}
    assert len(of) == sum(len(group["params"]) for group in groups) == len(list(network.parameters()))

    def settings(name: str) -> tuple[float, float]:
        group = of[id(network.get_parameter(name))]
        return group["lr"], group["weight_decay"]

    assert settings("encoder.patch_embed.weight") == (0.5**5, 0.05)
    assert settings("encoder.pos_embed") == (0.5**5, 0.0)
    assert settings("encoder.blocks.0.attn.qkv.weight") == (0.5**4, 0.05)
    assert settings("encoder.blocks.3.attn.qkv.bias") == (0.5, 0.0)
    assert settings("decoder.out.conv.conv.weight") == (1.0, 0.05)
    assert settings("completion.layer_embed") == (1.0, 0.0)


def test_resumed_training_has_weights_and_optimizer(tmp_path: Path) -> None:
    """What the first step after a resumption starts from is recorded."""
    seen: list[dict[str, Any]] = []

    def train(epochs: int, seed: int, *, resume: bool) -> nn.Module:
        torch.manual_seed(seed)
        network = nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
        data = [{"image": torch.ones(3), "label": torch.zeros(2)} for _ in range(4)]
        trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=epochs,
            train_data_loader=DataLoader(data, batch_size=2),
            network=network,
            optimizer=optimizer,
            loss_function=nn.MSELoss(),
        )

        @trainer.on(Events.ITERATION_STARTED)
        def _(engine: Engine) -> None:
            state = copy.deepcopy({"weights": network.state_dict(), "optimizer": optimizer.state_dict()["state"]})
            seen.append({"epoch": engine.state.epoch, **state})

        state = {"network": network, "optimizer": optimizer}
        prepare_training(trainer, trainer, state, ckpt_dir=str(tmp_path), resume=resume)
        trainer.run()
        return network

    trained = train(2, 0, resume=False)
    assert len(seen) == 4
    seen.clear()
    train(3, 1, resume=True)
    assert [record["epoch"] for record in seen] == [3, 3]
    for name, value in trained.state_dict().items():
        assert torch.equal(seen[0]["weights"][name], value)
    assert [record["optimizer"][0]["step"].item() for record in seen] == [4, 5]
    assert seen[0]["optimizer"][0]["exp_avg"].abs().max() > 0


def test_weights_are_needed(tmp_path: Path) -> None:
    network = nn.Linear(1, 1)
    handlers = [StatsHandler(), CheckpointLoader(str(tmp_path / "model.pt"), {"model": network})]
    with pytest.raises(ValueError, match=r"there are no weights in .*model.pt: train the bundle first, or copy"):
        need_weights(handlers)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    need_weights(handlers)
    need_weights(handlers[:1])


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no checkpoint to resume from in .*: start without --resume True"):
        last_checkpoint(str(tmp_path))
    (tmp_path / "last_checkpoint_epoch=3.pt").touch()
    assert last_checkpoint(str(tmp_path)).endswith("last_checkpoint_epoch=3.pt")


class TestExplained:
    def test_sentence_below_wrapping_errors(self, tmp_path: Path) -> None:
        def wrapped() -> None:
            try:
                last_checkpoint(str(tmp_path))
            except ValueError as error:
                message = "Failed to evaluate"
                raise RuntimeError(message) from error

        with pytest.raises(RuntimeError, match=r"^Failed to evaluate$") as caught:
            wrapped()
        assert (explained(caught.value) or "").startswith("there is no checkpoint to resume from")

    def test_errors_of_others_are_not_ours_to_explain(self) -> None:
        assert explained(ValueError("x")) is None
        with pytest.raises(ValueError, match="invalid literal") as caught:
            int("x")
        assert explained(caught.value) is None
