"""Cases that the weights have seen are never validated without a word."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from scd_plugin.monai import trained_on
from scd_plugin.monai.dataset.trained_on import case_names, only_unseen

ENTRIES = [{"image": f"{name}.mha", "label": f"{name}.mha", "case": name} for name in "abc"]


def known(*training: str) -> dict[str, Any]:
    return {"fold": 1, "seed": 7, "training": list(training)}


def test_weights_without_a_record(tmp_path: Path) -> None:
    """As those that are shipped."""
    assert trained_on(tmp_path) == {"fold": 0, "seed": 0, "training": []}
    assert only_unseen(ENTRIES, trained_on(tmp_path), fold=3, seed=0, skip_trained=False) == ENTRIES


def test_record_is_read(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "trained_on.json").write_text(json.dumps(known("x")))
    assert trained_on(str(tmp_path)) == known("x")
    (tmp_path / "models" / "trained_on.json").write_text("[]")
    with pytest.raises(ValueError, match=r"trained_on.json must hold one JSON object; got a list"):
        trained_on(tmp_path)


def test_names() -> None:
    assert case_names(ENTRIES) == ["a", "b", "c"]
    assert case_names([{"image": "x.nii.gz", "label": "labels/final/y.1.nii.gz"}]) == ["y.1"]


def test_another_fold_is_refused() -> None:
    sentence = (
        r"^2 of 3 cases to validate were trained on, the first is b \(models/trained_on.json names them\): give "
        r"--fold 1 and --seed 7 as in the training, or leave such cases out with --skip_trained True\. If they are "
        r"others of the same names, move that file away$"
    )
    with pytest.raises(ValueError, match=sentence):
        only_unseen(ENTRIES, known("b", "c"), fold=0, seed=0, skip_trained=False)
    with pytest.raises(ValueError, match=r"give --fold 1 as in the training, or leave"):
        only_unseen(ENTRIES, known("b", "c"), fold=0, seed=7, skip_trained=False)


def test_same_fold_of_a_changed_data_set(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match=r"the first is b \(.*\): leave such cases out with --skip_trained True\. If"):
        only_unseen(ENTRIES, known("b", "z"), fold=1, seed=7, skip_trained=False)
    with caplog.at_level(logging.WARNING):
        left = only_unseen(ENTRIES, known("b", "z"), fold=1, seed=7, skip_trained=True)
    assert case_names(left) == ["a", "c"]
    assert caplog.messages == ["left out: 1 of 3 cases to validate were trained on, the first is b"]


def test_nothing_left() -> None:
    with pytest.raises(ValueError, match=r"^3 of 3 cases .* names them\): take a data set with other cases\. If they"):
        only_unseen(ENTRIES, known("a", "b", "c"), fold=1, seed=7, skip_trained=True)
    with pytest.raises(ValueError, match=r"give --fold 1 as in the training, or take a data set with"):
        only_unseen(ENTRIES, known("a", "b", "c"), fold=0, seed=7, skip_trained=True)
