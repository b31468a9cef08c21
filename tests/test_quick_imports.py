"""The collector is off while modules are imported, and only then."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator

import pytest

from scd_plugin.quick_imports import freeze_at_exit, quick_imports


@pytest.fixture(autouse=True)
def _on_again() -> Iterator[None]:
    yield
    gc.enable()


def test_off_meanwhile() -> None:
    with quick_imports():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_on_again_where_an_import_fails() -> None:
    with pytest.raises(ImportError, match="no such module"), quick_imports():
        raise ImportError("no such module")
    assert gc.isenabled()


def test_who_has_it_off_keeps_it_off() -> None:
    gc.disable()
    with quick_imports():
        assert not gc.isenabled()
    assert not gc.isenabled()


def test_nothing_is_looked_through_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    at_exit: list[object] = []
    monkeypatch.setattr(atexit, "register", at_exit.append)
    freeze_at_exit()
    assert at_exit == [gc.freeze]
