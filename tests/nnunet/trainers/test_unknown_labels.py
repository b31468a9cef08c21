from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scd_plugin.nnunet.augmentation.device_batches import CROPPED_TARGET
from scd_plugin.nnunet.trainers.unknown_labels import explain_unknown_labels, unknown_labels


def label_map(*values: float) -> torch.Tensor:
    target = torch.zeros(1, 2, 2, 2)
    target.view(-1)[: len(values)] = torch.tensor(values)
    return target


def manager(ignore: int | None = None, *, regions: bool = False) -> Any:
    return SimpleNamespace(
        has_regions=regions, all_labels=[0, 1, 2], has_ignore_label=ignore is not None, ignore_label=ignore
    )


def test_cases_and_their_values() -> None:
    target = torch.stack([label_map(1, 9, 7), label_map(1, 2), label_map(9, 2), label_map(8)])
    found = unknown_labels(target, ["case_1", "case_2", "case_3", "case_1"], [0, 1, 2])
    assert found == {"case_1": [7, 8, 9], "case_3": [9]}


@pytest.mark.parametrize("deep_supervision", [True, False])
def test_sentence(deep_supervision: bool) -> None:
    target = torch.stack([label_map(1), label_map(9)])
    batch = {"target": [target, target[..., :1]] if deep_supervision else target, "keys": ["case_1", "case_2"]}
    sentence = explain_unknown_labels(batch, manager())
    assert sentence is not None
    assert sentence.startswith("label maps may hold the labels of dataset.json, 0, 1, 2; got case_2: 9. Correct")


class Failed:
    """A target on a CUDA device that has failed, where whatever is asked fails."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("device-side assert triggered")


@pytest.mark.parametrize("several", [True, False])
def test_of_a_batch_augmented_on_a_device(several: bool) -> None:
    """What was cropped is asked: with -1 outside of the case, and behind it the previous stage's labels."""
    cropped = torch.stack([torch.stack([label_map(-1, value), label_map(33)]) for value in (2, 9)]).short()
    batch = {"target": [Failed()] if several else Failed(), CROPPED_TARGET: cropped, "keys": ["case_1", "case_2"]}
    sentence = explain_unknown_labels(batch, manager())
    assert sentence is not None
    assert "0, 1, 2; got case_2: 9. Correct" in sentence
    assert explain_unknown_labels({**batch, CROPPED_TARGET: cropped[:1]}, manager()) is None


@pytest.mark.parametrize(("value", "labels"), [(2, manager()), (3, manager(3)), (9, manager(regions=True))])
def test_nothing_to_say(value: int, labels: Any) -> None:
    assert explain_unknown_labels({"target": label_map(value)[None], "keys": ["case_1"]}, labels) is None
