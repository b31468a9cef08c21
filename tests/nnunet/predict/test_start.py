"""The first case is read while the network is built, and nothing is written before that has gone well."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event
from time import perf_counter
from typing import Any

import pytest

from scd_plugin.nnunet.predict import predictor
from scd_plugin.nnunet.predict.clock import CaseTimes, timed_run
from scd_plugin.nnunet.predict.jobs import Case
from scd_plugin.nnunet.predict.prepare import Preparation
from scd_plugin.nnunet.predict.run import predict
from scd_plugin.nnunet.predict.settings import PredictSettings

WAIT = 60
ON_CPU = PredictSettings(device="cpu")


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Set when a case is prepared."""
    event, prepare = Event(), Preparation.__call__

    def noted(self: Preparation, case: Case) -> Any:
        result = prepare(self, case)
        event.set()
        return result

    monkeypatch.setattr(Preparation, "__call__", noted)
    return event


def test_a_case_is_prepared_before_there_is_a_network(
    make_model: Callable[..., Path],
    make_images: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepared: Event,
) -> None:
    build = predictor.build_network

    def patient(model: Any) -> Any:
        assert prepared.wait(WAIT)
        return build(model)

    monkeypatch.setattr(predictor, "build_network", patient)
    times = predict(make_images(), tmp_path / "ours", make_model(), ON_CPU)
    assert [(one.case, one.error) for one in times] == [("a", None), ("b", None)]
    (run,) = json.loads((tmp_path / "ours" / "scd_predict.json").read_text())["runs"]
    # reading is a part of the run
    assert run["wall_seconds"] > run["cases"][0]["seconds"]["read"] + run["cases"][0]["seconds"]["preprocess"]


def test_a_network_that_can_not_be_built_leaves_nothing(
    make_model: Callable[..., Path],
    make_images: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepared: Event,
) -> None:
    def fails(_: Any) -> Any:
        assert prepared.wait(WAIT)
        raise ValueError("weights do not fit")

    monkeypatch.setattr(predictor, "build_network", fails)
    with pytest.raises(ValueError, match="weights do not fit"):
        predict(make_images(), tmp_path / "ours", make_model(), ON_CPU)
    assert not (tmp_path / "ours").exists()


def test_a_run_is_timed_from_where_it_began(tmp_path: Path) -> None:
    file = tmp_path / "times.json"
    with timed_run(file, {}, ["a"], [CaseTimes("a", ("0",), 1)], perf_counter() - 100):
        pass
    (run,) = json.loads(file.read_text())["runs"]
    assert 100 <= run["wall_seconds"] < 160
