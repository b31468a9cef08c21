"""A file is whole, or the one before."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import BinaryIO

import pytest

from scd_plugin.folders import PARTIAL, check_room, empty_folder
from scd_plugin.whole_files import moved_into_place, whole_folder, write_json, write_whole


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


class TestWholeFolder:
    def fill(self, folder: Path, error: BaseException | None = None) -> None:
        with whole_folder(folder) as root:
            (root / "models").mkdir()
            (root / "models" / "model.pt").write_bytes(b"weights")
            if error is not None:
                raise error

    @pytest.mark.parametrize("there", [True, False])
    def test_filled(self, tmp_path: Path, there: bool) -> None:
        folder = tmp_path / "deep" / "out"
        if there:
            # as a process that was killed leaves it
            (folder / PARTIAL / "models").mkdir(parents=True)
        self.fill(empty_folder(folder))
        assert sorted(folder.rglob("*")) == [folder / "models", folder / "models" / "model.pt"]
        with pytest.raises(ValueError, match=r"out is there already and not empty; nothing is written over"):
            empty_folder(folder)

    @pytest.mark.parametrize(
        ("error", "sentence"),
        [
            (FULL, r"out can't be written \(No space left on device\); nothing is left there: mend that, and do it"),
            (OSError(errno.EROFS, "Read-only file system"), r"out can't be written \(Read-only file system\); nothing"),
            (RuntimeError(POSITIONS), r"out can't be written \(\[enforce fail at inline_container"),
            (KeyboardInterrupt("told to stop"), "told to stop"),
        ],
        ids=["full", "read-only", "torch", "stopped"],
    )
    @pytest.mark.parametrize("there", [True, False])
    def test_nothing_half_made_is_left(self, tmp_path: Path, there: bool, error: BaseException, sentence: str) -> None:
        folder = tmp_path / "deep" / "out"
        if there:
            folder.mkdir(parents=True)
        with pytest.raises(OSError if isinstance(error, Exception) else KeyboardInterrupt, match=sentence):
            self.fill(folder, error)
        assert list(tmp_path.rglob("*")) == ([folder.parent, folder] if there else [])
        self.fill(empty_folder(folder))

    def test_folder_that_goes_away_meanwhile(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match=r"out can't be written \(No such file or directory\)"):
            self.remove_and_write(tmp_path / "out")
        assert list(tmp_path.iterdir()) == []

    def remove_and_write(self, folder: Path) -> None:
        with whole_folder(folder) as root:
            shutil.rmtree(folder)
            (root / "plans.json").write_text("{}")


class TestMovedIntoPlace:
    def write(self, file: Path, error: BaseException | None = None, room: int = 0) -> None:
        with moved_into_place(file, room=room) as partial:
            assert partial.name == file.name
            partial.write_bytes(b"new")
            partial.with_name("a.json").write_bytes(b"beside")
            if error is not None:
                raise error

    def test_both_files(self, tmp_path: Path) -> None:
        (tmp_path / "a.ts").write_bytes(b"before")
        self.write(tmp_path / "a.ts", room=1000)
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a.ts": b"new", "a.json": b"beside"}

    def test_the_one_before_stays(self, tmp_path: Path) -> None:
        file = tmp_path / "a.ts"
        file.write_bytes(b"before")
        with pytest.raises(OSError, match=rf"^{file} can't be written \(No space left on device\); what was there is"):
            self.write(file, FULL)
        with pytest.raises(ValueError, match="another matter"):
            self.write(file, ValueError("another matter"))
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a.ts": b"before"}

    def test_room_is_asked_for_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[int] = []

        def full(_file: int, _start: int, length: int) -> None:
            asked.append(length)
            raise FULL

        monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
        with pytest.raises(OSError, match=r"a.ts can't be written \(No space left on device\)"):
            self.write(tmp_path / "a.ts", AssertionError("must not be reached"), room=1000)
        assert asked == [1000]
        assert list(tmp_path.iterdir()) == []


def test_room_on_the_disk(tmp_path: Path) -> None:
    check_room(tmp_path / "new" / "out", 1000, "the demo")
    with pytest.raises(ValueError, match=r"^the demo needs about 1000000000000 MB, and on the disk of .* are \d+ MB"):
        check_room(tmp_path / "new" / "out", 1e18, "the demo")
