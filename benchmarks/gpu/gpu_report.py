"""The page of a GPU run, made of its rows.

`gpu_run.py` writes it, and

    python benchmarks/gpu/gpu_report.py gpu.json

makes it anew beside the file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

CASE_COLUMNS = (
    "Command",
    "Trainer",
    "command to file, s",
    "preprocess",
    "network",
    "resample",
    "GPU memory, GB",
    "load",
)

# whom all are compared with
OTHERS = ("dense", "nnunet")
# and the twin that differs in pruning alone
TWINS = {
    "scd": "dense", "early": "dense", "scd-plain": "dense-plain", "fast": "dense-light", "subvoxel": "dense-subvoxel",
    "scd-primus-m": "primus-m",
}  # fmt: skip
COLUMNS = (
    "Network", "graph replay, ms", "a second", "host, ms", "load", "GB", "times as fast as `dense`", "as nnU-Net's",
    "as its twin", "memory, % of `dense`",
)  # fmt: skip


def markdown(results: dict[str, Any]) -> str:
    """The page: what it ran on, a table for each setting, and what was skipped or failed."""
    where = results["machine"]
    chip = where["gpu"] or where["processor"]
    about = ", ".join(f"{name} {version}" for name, version in results["versions"].items() if version)
    parts = [f"# GPU: {chip}", f"Measured on {results['created']} by `make gpu`. {about}."]
    if results["dry"]:
        parts.append("**A rehearsal on a CPU with small networks: the numbers mean nothing.**")
    parts.append(
        "Times are replays of a captured graph between CUDA events, so the host does not matter. What an eager call "
        "takes with its host, and the machine's load then, stand in columns of their own and are in no ratio."
    )
    rows = results["rows"]
    parts += [_facts(row) for row in rows if "what" in row]
    timed = [row for row in rows if "mode" in row and "seconds" in row]
    for setting in dict.fromkeys(_setting(row) for row in timed):
        mine = [row for row in timed if _setting(row) == setting]
        _, mode, crop, batch, dtype, compiled = setting
        how = "compiled" if compiled else "eager"
        parts += [f"## {mode.capitalize()}, {crop}³, batch {batch}, {dtype}, {how}", _table(mine)]
    parts += _cases([row for row in rows if "command" in row])
    parts += _kernels([row for row in rows if "dearest" in row])
    if missing := [row for row in rows if "skipped" in row or "error" in row]:
        parts += ["## Skipped or failed", "\n".join(f"- {_missing(row)}" for row in missing)]
    return "\n\n".join(parts) + "\n"


def _setting(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("step", "mode", "crop", "batch", "dtype", "compiled"))


def _table(rows: Sequence[Row]) -> str:
    of = {_kind(row): row for row in rows}
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for row in rows:
        seconds = row["seconds"]
        # steps a second in training, windows in inference
        done = 1 if row["mode"] == "training" else row["batch"]
        peak = f"{row['peak_bytes'] / 1e9:.2f}" if row["peak_bytes"] else "-"
        cells = [f"`{row['contestant']}`", f"{1000 * seconds:.2f}", f"{done / seconds:.1f}"]
        cells += [f"{1000 * row['host_seconds']:.2f}", f"{row['load']:.1f}", peak]
        for other in (*OTHERS, TWINS.get(_kind(row))):
            cells.append(f"{of[other]['seconds'] / seconds:.2f}" if other in of else "-")
        dense = of.get("dense", {}).get("peak_bytes")
        cells.append(f"{100 * row['peak_bytes'] / dense:.0f}" if dense and row["peak_bytes"] else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _kind(row: Row) -> str:
    return str(row["contestant"].partition(":")[0])


def _facts(row: Row) -> str:
    values = [
        f"{name.replace('_', ' ')} {_short(value)}" for name, value in row.items() if name not in ("step", "what")
    ]
    return f"- {row['what']}: {', '.join(values)}"


def _cases(rows: Sequence[Row]) -> list[str]:
    done = [row for row in rows if "seconds" in row]
    if not done:
        return []
    lines = [f"| {' | '.join(CASE_COLUMNS)} |", "|---" * len(CASE_COLUMNS) + "|"]
    for row in done:
        stages = row.get("stages", {})
        own = [f"{stages[name]:.1f}" if name in stages else "-" for name in ("preprocess", "network", "resample")]
        cells = [f"`{row['command']}`", f"`{row['trainer']}`", f"{row['seconds']:.1f}", *own]
        lines.append("| " + " | ".join([*cells, f"{row['gpu_bytes'] / 1e9:.2f}", f"{row['load']:.1f}"]) + " |")
    return ["## A whole case", "\n".join(lines)]


def _kernels(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    parts = ["## Kernels of a pass"]
    for row in rows:
        dearest = "\n".join(f"| {name} | {count} | {1000 * seconds:.3f} |" for name, count, seconds in row["dearest"])
        parts.append(f"`{row['contestant']}`, {row['of']}: {row['count']} kernels, {1000 * row['seconds']:.2f} ms")
        parts.append(f"| Kernel | calls | ms |\n|---|---|---|\n{dearest}")
    return parts


def _missing(row: Row) -> str:
    known = [str(row[name]) for name in ("step", "contestant", "command", "trainer") if name in row]
    if "compiled" in row:
        known.append("compiled" if row["compiled"] else "eager")
    return f"{', '.join(known)}: {row.get('error') or row['skipped']}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.with_suffix(".md").write_text(markdown(json.loads(file.read_text(encoding="utf-8"))), encoding="utf-8")
