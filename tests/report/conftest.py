"""Folders of predictions, small and drawn by hand, and a reader of the pages that are made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

LABELS = {"background": 0, "one": 1, "two": 2}


class Page(HTMLParser):
    """What a person finds in a page: text, headings, pictures, addresses; and what a browser would run."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(file.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] != "style":
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def pictures(self) -> list[str]:
        """Alternative texts of the pictures of cases."""
        return [str(one["alt"]) for one in self.all("img") if str(one["src"]).startswith("data:image/jpeg")]


@pytest.fixture
def read_page() -> type[Page]:
    return Page


@pytest.fixture
def make_run(tmp_path: Path, volumes: Any) -> Callable[..., Path]:
    """Makes `images`, `truth` and `predictions` of cases a, b, ..., the first one worst; returns the last folder."""

    def make(
        names: Sequence[str] = ("a", "b", "c"), *, labels: dict[str, Any] | None = None, ending: str = ".nii.gz"
    ) -> Path:
        rng = np.random.default_rng(0)
        for number, name in enumerate(names):
            image, truth = volumes.case(rng)
            volumes.write(tmp_path / "images" / f"{name}_0000{ending}", image, spacing=(1, 1, 2))
            volumes.write(tmp_path / "truth" / f"{name}{ending}", truth, spacing=(1, 1, 2))
            predicted = np.roll(truth, len(names) - number, axis=1)
            volumes.write(tmp_path / "predictions" / f"{name}{ending}", predicted, spacing=(1, 1, 2))
        description = {"channel_names": {"0": "MRI"}, "labels": labels or LABELS, "file_ending": ending}
        (tmp_path / "predictions").mkdir(exist_ok=True)
        (tmp_path / "predictions" / "dataset.json").write_text(json.dumps(description))
        return tmp_path / "predictions"

    return make
