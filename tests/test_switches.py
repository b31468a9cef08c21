from __future__ import annotations

import pytest

from scd_plugin.switches import switched_on


@pytest.mark.parametrize(("value", "wanted"), [(None, True), ("1", True), ("0", False)])
def test_on_by_default(monkeypatch: pytest.MonkeyPatch, value: str | None, wanted: bool) -> None:
    monkeypatch.delenv("SCD_TEST", raising=False)
    if value is not None:
        monkeypatch.setenv("SCD_TEST", value)
    assert switched_on("SCD_TEST", on="run", off="rest") == wanted


@pytest.mark.parametrize("value", ["", "true", "2", " 1"])
def test_other_values(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SCD_TEST", value)
    with pytest.raises(ValueError, match=rf"SCD_TEST must be 1, to run, or 0, to rest; got '{value}'"):
        switched_on("SCD_TEST", on="run", off="rest")
