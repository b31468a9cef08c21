"""A file is whole, or the one before."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import BinaryIO

import pytest

from scd_plugin.monai.training.whole_files import write_json, write_whole


class Disk:
    """Fails in the middle of a file."""

    def __init__(self, error: BaseException, within: BaseException | None = None) -> None:
        self.error = error
        self.within = within

    def __call__(self, stream: BinaryIO) -> None:
        stream.write(b"half")
        try:
            if self.within:
                raise self.within
        finally:
            raise self.error


FULL = OSError(errno.ENOSPC, "No space left on device")
POSITIONS = "[enforce fail at inline_container.cc:672] . unexpected pos 768 vs 662"


def test_json_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "best.json"
    write_json(file, {"value": 0.5})
    write_json(file, {"value": 0.25, "metric": "µ"})
    assert file.read_text(encoding="utf-8").endswith("\n}\n")
    assert json.loads(file.read_text(encoding="utf-8")) == {"value": 0.25, "metric": "µ"}
    assert list(tmp_path.iterdir()) == [file]


def test_leftover_of_a_killed_process_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.pt.partial").write_bytes(b"longer than the new one")
    write_whole(tmp_path / "a.pt", lambda stream: stream.write(b"new"))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a.pt": b"new"}


@pytest.mark.parametrize(
    ("disk", "reason"),
    [
        (Disk(FULL), r"No space left on device"),
        # what torch.save raises of a full disk: its own error about positions, while it handles the disk's
        (Disk(RuntimeError(POSITIONS), FULL), r"No space left on device"),
        (Disk(RuntimeError(f"{POSITIONS}\nframe #0: ...")), r"\[enforce fail at .* unexpected pos 768 vs 662"),
    ],
    ids=["system", "torch", "torch alone"],
)
def test_full_disk_leaves_the_one_before(tmp_path: Path, disk: Disk, reason: str) -> None:
    file = tmp_path / "a.pt"
    file.write_bytes(b"before")
    sentence = rf"^{file} can't be written \({reason}\); what was there is kept: .* go on with --resume True$"
    with pytest.raises(OSError, match=sentence):
        write_whole(file, disk)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a.pt": b"before"}


def test_other_errors_are_no_matter_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a.pt", Disk(KeyboardInterrupt()))
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(tmp_path / "a.json", {"value": object()})
    assert list(tmp_path.iterdir()) == []
