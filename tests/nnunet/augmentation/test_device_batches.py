"""Batches of crops become nnU-Net's own batches; loaders, processes, the trainers' setting."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("nnunetv2")

from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgeneratorsv2.transforms.noise.median_filter import MedianFilterTransform
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from scd_plugin.nnunet.augmentation.device_batches import CROPPED_TARGET, DeviceAugmenter, augmented
from scd_plugin.nnunet.augmentation.device_loaders import loaders_on_device
from scd_plugin.nnunet.augmentation.device_transforms import leaves
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo, nnUNetTrainerSCDPrimusS

CPU = torch.device("cpu")


class Untimed(nnUNetTrainerSCD_demo):
    """nnU-Net's blur chooses between convolution and FFT by their times, which no seed repeats."""

    scd_deep_supervision = True

    @staticmethod
    def get_training_transforms(*args: Any, **kwargs: Any) -> Any:
        tree = nnUNetTrainerSCD_demo.get_training_transforms(*args, **kwargs)
        for leaf in leaves(tree):
            if hasattr(leaf, "benchmark"):
                leaf.benchmark = False
        return tree


class There(Untimed):
    scd_augment_on = "device"


Cases = Callable[[type], Any]


@pytest.fixture
def trainer_of(make_trainer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Cases:
    """A trainer of a class on three preprocessed cases, without processes of augmentation, a sample a batch."""
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")

    def make(kind: type) -> Any:
        trainer = make_trainer(kind, num_channels=2, initialize=True)
        trainer.batch_size = 1
        write_cases(Path(trainer.preprocessed_dataset_folder))
        return trainer

    return make


def write_cases(folder: Path) -> None:
    """Three cases with two channels and two organs, the last for validation."""
    (folder.parent / "splits_final.json").write_text('[{"train": ["case_0", "case_1"], "val": ["case_2"]}]')
    if (folder / "case_2.b2nd").exists():
        return
    # the fixture's own is empty
    (folder / "case_0.b2nd").unlink()
    draw, shape = np.random.default_rng(0), (40, 36, 34)
    for number in range(3):
        image = draw.normal(size=(2, *shape)).astype(np.float32)
        label = np.zeros((1, *shape), np.int16)
        label[0, 5:20, 8:20, 9:20], label[0, 22:30, 8:20, 9:20] = 1, 2
        places = {value: np.argwhere(label == value) for value in (1, 2)}
        sizes = {"chunks": (1, *shape), "chunks_seg": (1, *shape), "blocks": (1, *shape), "blocks_seg": (1, *shape)}
        nnUNetDatasetBlosc2.save_case(
            image, label, {"class_locations": places}, str(folder / f"case_{number}"), **sizes
        )
        # what a previous stage might have said
        (before := folder.parent / "before").mkdir(exist_ok=True)
        nnUNetDatasetBlosc2.save_seg(np.flip(label[0], 1).copy(), str(before / f"case_{number}"), shape, shape)


def seeded(batches: Any, seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (nnU-Net draws from it)
    return next(batches)


@pytest.mark.parametrize("cascaded", [False, True])
def test_batches_are_nnunets_to_the_last_bit(trainer_of: Cases, cascaded: bool) -> None:
    """Case, crop, oversampling, every transform, the targets of deep supervision, the previous stage's segmentation."""
    made = []
    for kind in (Untimed, There):
        trainer = trainer_of(kind)
        trainer.is_cascaded = cascaded
        if cascaded:
            trainer.folder_with_segs_from_previous_stage = trainer.preprocessed_dataset_folder_base + "/before"
        made.append(trainer.get_dataloaders()[0])
    stock, ours = made
    assert isinstance(ours, DeviceAugmenter)
    for seed in range(25):
        expected, found = seeded(stock, seed), seeded(ours, seed)
        assert list(expected["keys"]) == list(found["keys"])
        assert expected["data"].shape[1] == (4 if cascaded else 2)
        assert torch.equal(expected["data"], found["data"])
        assert len(expected["target"]) == len(found["target"]) > 1
        for one, other in zip(expected["target"], found["target"]):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


def test_validation_is_nnunets(trainer_of: Cases) -> None:
    (_, stock), (_, ours) = (trainer_of(kind).get_dataloaders() for kind in (Untimed, There))
    assert type(ours) is type(stock)
    assert torch.equal(seeded(stock, 0)["data"], seeded(ours, 0)["data"])


def test_a_training_step(trainer_of: Cases) -> None:
    trainer = trainer_of(There)
    train, _ = trainer.get_dataloaders()
    trainer.network.train()
    batch = next(train)
    assert batch["data"].shape == (1, 2, 32, 32, 32)
    assert batch[CROPPED_TARGET].shape[2] > 32
    assert np.isfinite(trainer.train_step(batch)["loss"])


class Short(There):
    scd_num_epochs, scd_iterations_per_epoch, scd_val_iterations_per_epoch = 2, 2, 1
    stops_before = -1

    def on_epoch_start(self) -> None:
        super().on_epoch_start()
        if self.current_epoch == self.stops_before:
            raise KeyboardInterrupt


def test_a_training_that_is_stopped_goes_on(trainer_of: Cases) -> None:
    trainer = trainer_of(Short)
    (Path(trainer.preprocessed_dataset_folder_base) / "dataset_fingerprint.json").write_text("{}")
    trainer.save_every, trainer.stops_before = 1, 1
    with pytest.raises(KeyboardInterrupt):
        trainer.run_training()
    again = trainer_of(Short)
    again.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_latest.pth"))
    assert again.current_epoch == 1
    again.run_training()
    assert again.current_epoch == 2
    assert (Path(again.output_folder) / "checkpoint_final.pth").exists()
    assert len(again.logger.get_checkpoint()["train_losses"]) == 2
    debug = json.loads((Path(again.output_folder) / "debug.json").read_text())
    assert "SpatialOnDevice" in debug["dataloader_train.transform"]


def test_several_samples_and_a_tensor_of_targets() -> None:
    batch = {"data": torch.zeros(3, 2, 4, 4, 4), "target": torch.zeros(3, 1, 4, 4, 4, dtype=torch.int16), "keys": "abc"}
    batch["data"] += torch.arange(3.0).view(3, 1, 1, 1, 1)

    def double(*, image: torch.Tensor, segmentation: torch.Tensor) -> dict[str, Any]:
        assert image.shape == (2, 4, 4, 4)
        return {"image": 2 * image, "segmentation": segmentation + 1}

    found = augmented(batch, double, CPU)
    assert found["data"][:, 0, 0, 0, 0].tolist() == [0, 2, 4]
    assert found["target"].shape == (3, 1, 4, 4, 4)
    assert found["target"].dtype == torch.int16
    assert found["keys"] == "abc"
    scales = augmented(batch, DownsampleSegForDSTransform([[1.0] * 3, [0.5] * 3]), CPU)["target"]
    assert [tuple(scale.shape) for scale in scales] == [(3, 1, 4, 4, 4), (3, 1, 2, 2, 2)]


def test_a_batch_on_another_device(pretended: torch.device) -> None:
    batch = {"data": torch.zeros(2, 1, 4, 4, 4), "target": torch.zeros(2, 1, 4, 4, 4, dtype=torch.int16), "keys": "ab"}
    found = augmented(batch, DownsampleSegForDSTransform([[1.0] * 3, [0.5] * 3]), pretended)
    assert {tensor.device for tensor in (found["data"], *found["target"])} == {pretended}
    assert found[CROPPED_TARGET].device == CPU


def test_processes_crop_and_end_with_the_training(trainer_of: Cases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    trainer = trainer_of(There)
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
    crops = trainer.dataloader_train.crops
    assert isinstance(crops, NonDetMultiThreadedAugmenter)
    assert crops.generator.transforms is None
    (process,) = crops._processes
    assert next(trainer.dataloader_train)["data"].shape == (1, 2, 32, 32, 32)
    assert process.pid != os.getpid()
    monkeypatch.setattr(trainer, "save_checkpoint", lambda _: None)
    trainer.on_train_end()
    assert not process.is_alive()


# nnU-Net's own thread says it, too
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_process_that_dies_is_said(trainer_of: Cases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    train, validation = trainer_of(There).get_dataloaders()
    train.crops._processes[0].kill()
    with pytest.raises(RuntimeError, match="background workers are no longer alive"):
        # those that are made already come first
        [next(train) for _ in range(100)]
    validation._finish()


def test_the_log_says_where_and_what_is_left(trainer_of: Cases, monkeypatch: pytest.MonkeyPatch) -> None:
    class Median(There):
        get_training_transforms = staticmethod(lambda *_, **__: MedianFilterTransform(3))

    trainer = trainer_of(Median)
    said: list[str] = []
    monkeypatch.setattr(trainer, "print_to_log_file", lambda *words, **_: said.append(words[0]))
    trainer.get_dataloaders()
    assert "augmentation on cpu, by the process that trains; on the CPU and back: MedianFilterTransform" in said


@pytest.mark.parametrize("kind", [nnUNetTrainerSCD_demo, nnUNetTrainerSCDPrimusS])
@pytest.mark.parametrize("value", ["gpu", "cuda", "Device", None, 0])
def test_another_place_is_refused(make_trainer: Callable[..., Any], kind: type, value: Any) -> None:
    with pytest.raises(ValueError, match=f'scd_augment_on must be "cpu".* or "device", .*; got {value!r}'):
        make_trainer(type("nnUNetTrainerSCD_mine", (kind,), {"scd_augment_on": value}))


def test_loaders_without_nnunets_transforms_are_refused() -> None:
    trainer = SimpleNamespace(get_training_transforms=None)
    with pytest.raises(ValueError, match=r"of SimpleNamespace ask 0 times\. Set scd_augment_on to \"cpu\""):
        loaders_on_device(trainer, lambda: (None, None))


def test_transforms_are_given_back_when_loaders_fail(trainer_of: Cases) -> None:
    trainer = trainer_of(There)

    def make() -> Any:
        assert trainer.get_training_transforms is not There.get_training_transforms
        raise OSError("no data")

    with pytest.raises(OSError, match="no data"):
        loaders_on_device(trainer, make)
    assert trainer.get_training_transforms is There.get_training_transforms


@pytest.mark.parametrize(("rank", "seed"), [(0, 7), (1, 8), (3, 10)])
def test_processes_of_a_training_draw_apart(rank: int, seed: int) -> None:
    trainer = SimpleNamespace(local_rank=rank, device=CPU, print_to_log_file=lambda _: None)
    trainer.get_training_transforms = lambda: DownsampleSegForDSTransform([])
    torch.manual_seed(7)
    loaders_on_device(trainer, lambda: (trainer.get_training_transforms(), None))
    assert torch.initial_seed() == seed
