"""A trained model at another keep ratio."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scd_plugin import SCDNetwork
from scd_plugin.nnunet.predict import predictor
from scd_plugin.nnunet.predict.run import predict
from scd_plugin.nnunet.predict.settings import PredictSettings

MakeModel = Callable[..., Path]


def at(keep: float | None, **settings: Any) -> PredictSettings:
    return PredictSettings(device="cpu", mirroring=False, keep=keep, **settings)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[SCDNetwork]:
    """Networks in the order in which predictions build them."""
    networks: list[SCDNetwork] = []
    build = predictor.build_network
    monkeypatch.setattr(predictor, "build_network", lambda model: networks.append(build(model)) or networks[-1])
    return networks


def test_every_fold_keeps_so_many_tokens(
    make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path, built: list[SCDNetwork]
) -> None:
    model, images = make_model(trainer="nnUNetTrainerSCD_demo", folds=("0", "1")), make_images(["a"])
    seen: dict[float | None, set[float]] = {}
    for keep in (None, 0.75, 1.0):
        hooked: list[float] = []
        hook = torch.nn.modules.module.register_module_forward_hook(
            lambda module, *_, hooked=hooked: (
                hooked.append(module.keep_ratio) if hasattr(module, "keep_ratio") else None
            )
        )
        (one,) = predict(images, tmp_path / str(keep), model, at(keep))
        hook.remove()
        assert one.error is None
        seen[keep] = set(hooked)
        # three stages, six windows, two folds
        assert len(hooked) == 3 * 6 * 2
    assert seen == {None: {0.25}, 0.75: {0.75}, 1.0: {1.0}}
    assert [net.arguments["keep_ratio"] for net in built] == [0.25, 0.75, 1.0]
    (written,) = json.loads((tmp_path / "0.75" / "scd_predict.json").read_text())["runs"]
    assert written["settings"]["keep"] == 0.75


@pytest.mark.parametrize("trainer", ["nnUNetTrainer", "nnUNetTrainerSCD_dense"])
def test_networks_that_prune_nothing(
    make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path, trainer: str
) -> None:
    message = f"keep is for networks that prune tokens, and that of {trainer} prunes none; leave it out"
    with pytest.raises(ValueError, match=message):
        predict(make_images(["a"]), tmp_path / "ours", make_model(trainer=trainer), at(0.5))
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("keep", [0.0, 1.5, float("nan")])
def test_refused(keep: float) -> None:
    with pytest.raises(ValueError, match=r"keep must be in \(0, 1\], the share of tokens kept at each stage; got "):
        at(keep)


def test_what_stays_was_predicted_with_the_same(
    make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path
) -> None:
    model, images, output = make_model(trainer="nnUNetTrainerSCD_demo"), make_images(), tmp_path / "ours"
    predict(images, output, model, at(0.5))
    (output / "b.nii.gz").unlink()
    message = (
        r"scd_predict.json says that label maps there were predicted with keep 0.5, and now it is the model's own: "
        "take the same, another output, or --overwrite"
    )
    with pytest.raises(ValueError, match=message):
        predict(images, output, model, at(None, keep_existing=True))
    assert [one.case for one in predict(images, output, model, at(0.5, keep_existing=True))] == ["b"]
    # a file from before the option, and a run in which nothing was written
    runs = json.loads((output / "scd_predict.json").read_text())["runs"]
    del runs[0]["settings"]["keep"]
    runs[1]["cases"][0]["error"] = "read: no image"
    (output / "scd_predict.json").write_text(json.dumps({"runs": runs}))
    assert predict(images, output, model, at(None, keep_existing=True)) == []
    assert len(predict(images, output, model, at(0.25))) == 2
