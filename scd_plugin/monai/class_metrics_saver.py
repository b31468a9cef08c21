"""MONAI's files of metrics, with the names of classes."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ignite import distributed as idist
from ignite.engine import Engine
from monai.handlers import MetricsSaver

__all__ = ["ClassMetricsSaver"]


class ClassMetricsSaver(MetricsSaver):
    """Writes what MONAI's handler writes, where `class0`, `class1`, ... have their names.

    Args:
        class_names: in the order of the metrics' channels, without background if that is left out there.
        settings: of MONAI's handler; files are CSV.
    """

    def __init__(self, class_names: Sequence[str], **settings: Any) -> None:
        super().__init__(**settings)
        self._class_names = list(class_names)

    def __call__(self, engine: Engine) -> None:
        """Called at the end of an epoch."""
        super().__call__(engine)
        if idist.get_rank() != self.save_rank:
            return
        for name in self.metric_details or ():
            for kind in ("raw", "summary"):
                file = Path(self.save_dir) / f"{name}_{kind}.csv"
                # no summary without operations
                if file.is_file():
                    file.write_text(self._named(file.read_text(encoding="utf-8")), encoding="utf-8")

    def _named(self, text: str) -> str:
        head, *rows = text.splitlines()
        titles = head.split(self.deli)
        names = {f"class{number}": self._quoted(name) for number, name in enumerate(self._class_names)}
        lines = [self.deli.join(names.get(title, title) for title in titles)]
        # the classes of a summary stand in its first column, the images of the other file may be called anything
        summary = titles[0] == "class"
        for row in rows:
            first, *rest = row.split(self.deli)
            lines.append(self.deli.join([names.get(first, first) if summary else first, *rest]))
        return "\n".join(lines) + "\n"

    def _quoted(self, name: str) -> str:
        written = io.StringIO()
        csv.writer(written, delimiter=self.deli, lineterminator="").writerow([name])
        return written.getvalue()
