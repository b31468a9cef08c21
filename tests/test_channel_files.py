from __future__ import annotations

import pytest

from scd_plugin.channel_files import case_name, channel_files, in_order


class TestChannelFiles:
    def test_channels_of_each_case(self) -> None:
        names = ["b_0001.nii.gz", "a_0000.nii.gz", "b_0000.nii.gz", "notes.txt", "a_0001.nii"]
        assert channel_files(names, ".nii.gz") == {
            "a": ["a_0000.nii.gz"],
            "b": ["b_0000.nii.gz", "b_0001.nii.gz"],
        }

    def test_names_without_numbers(self) -> None:
        assert channel_files(["b.mha", "a.mha", ".mha"], ".mha") == {"a": ["a.mha"], "b": ["b.mha"]}

    def test_beside_numbered_ones_they_are_left_out(self) -> None:
        assert channel_files(["a_0000.mha", "label.mha"], ".mha") == {"a": ["a_0000.mha"]}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["a_0000.mha"], True),
        (["a_0000.mha", "a_0001.mha"], True),
        (["a.mha"], True),
        (["a_0001.mha"], False),
        (["a_0000.mha", "a_0002.mha"], False),
        (["a.mha", "a_0001.mha"], False),
    ],
    ids=str,
)
def test_in_order(files: list[str], expected: bool) -> None:
    assert in_order("a", files, ".mha", len(files)) is expected


@pytest.mark.parametrize(
    ("path", "name"),
    [("/x/a_0000.nii.gz", "a"), ("a.b.nii.gz", "a.b"), ("scan_2020_0001.nii", "scan_2020"), ("scan.dcm", "scan")],
)
def test_case_name(path: str, name: str) -> None:
    assert case_name(path, (".nii", ".nii.gz")) == name
