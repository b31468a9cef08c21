"""Tokens counted on label maps so small that shares can be worked out by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("nnunetv2")

from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from scd_plugin.nnunet.planning.counted_labels import (
    CROPS,
    View,
    count_shares,
    crop_labels,
    foreground_share,
    read_label_maps,
    some_of,
)

LABELS = LabelManager({"background": 0, "a": 1, "b": 2}, None)
WHOLE = View((16, 16, 16), (4, 4, 4), (1.0, 1.0, 1.0))


def cube(size: Any, corner: Any, edge: int) -> np.ndarray:
    label = np.zeros(size, dtype=np.uint8)
    label[tuple(slice(first, first + edge) for first in corner)] = 1
    return label


def counted(
    volumes: Any, folder: Path, labels: list[np.ndarray], view: View, *, transpose: Any = (0, 1, 2), **how: Any
) -> np.ndarray:
    """Shares (cases, crops) of label maps that are written to files first."""
    manager = how.pop("manager", LABELS)
    files = [str(volumes.write(folder / f"{number}.nii.gz", label, **how)) for number, label in enumerate(labels)]
    plans: Any = SimpleNamespace(
        image_reader_writer_class=SimpleITKIO, get_label_manager=lambda _: manager, transpose_forward=transpose
    )
    return count_shares(read_label_maps(files, plans, {}), view, manager)


class TestCrop:
    LABEL = np.arange(4 * 6, dtype=np.int16).reshape(1, 4, 6)

    def test_of_the_same_spacing(self) -> None:
        crop = crop_labels(self.LABEL, (0, 1, 2), (1, 2, 3), (1, 4, 6))
        assert crop.tolist() == [[[8, 9, 10], [14, 15, 16]]]

    def test_outside_is_background(self) -> None:
        crop = crop_labels(self.LABEL, (0, -1, 4), (1, 3, 4), (1, 4, 6))
        assert crop.tolist() == [[[0, 0, 0, 0], [4, 5, 0, 0], [10, 11, 0, 0]]]

    def test_as_if_resampled(self) -> None:
        finer = crop_labels(self.LABEL, (0, 0, 0), (1, 2, 12), (1, 8, 12))
        assert finer.tolist() == [[[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]] * 2]
        coarser = crop_labels(self.LABEL, (0, 0, 0), (1, 2, 2), (1, 2, 2))
        assert coarser.tolist() == [[[7, 10], [19, 22]]]


class TestForegroundTokens:
    def test_by_hand(self) -> None:
        # the corners of 8 of 64 tokens, a token that is full, and nothing
        assert foreground_share(cube((16, 16, 16), (2, 2, 2), 4), (4, 4, 4), LABELS) == 8 / 64
        assert foreground_share(cube((16, 16, 16), (4, 4, 4), 4), (4, 4, 4), LABELS) == 1 / 64
        assert foreground_share(np.zeros((16, 16, 16), np.uint8), (4, 4, 4), LABELS) == 0
        assert foreground_share(cube((8, 8), (0, 3), 5), (4, 4), LABELS) == 4 / 4

    def test_regions(self) -> None:
        label = cube((8, 8), (0, 0), 4)
        label[:4, 2:4] = 2
        label[6, 6] = 1
        # a region leaves out what is no part of any
        core = LabelManager({"background": 0, "core": [2, 3]}, [1])
        whole = LabelManager({"background": 0, "whole": [1, 2]}, [1])
        nested = LabelManager({"background": 0, "whole": [1, 2], "core": 2}, [1, 2])
        managers = (LABELS, whole, nested, core)
        assert [foreground_share(label, (4, 4), manager) for manager in managers] == [0.5, 0.5, 0.5, 0.25]

    def test_ignored_voxels_are_no_class(self) -> None:
        label = cube((8, 8), (2, 2), 2) * 3
        ignored = LabelManager({"background": 0, "a": 1, "b": 2, "ignore": 3}, None)
        regions = LabelManager({"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, [1, 2])
        assert foreground_share(label, (4, 4), ignored) == foreground_share(label, (4, 4), regions) == 0
        label[0, 0] = 1
        assert foreground_share(label, (4, 4), ignored) == foreground_share(label, (4, 4), regions) == 0.25


class TestCount:
    def test_crop_of_the_whole_image(self, volumes: Any, tmp_path: Path) -> None:
        shares = counted(volumes, tmp_path, [cube((16, 16, 16), (2, 2, 2), 4), np.zeros((16, 16, 16), np.uint8)], WHOLE)
        assert shares.tolist() == [[8 / 64] * (CROPS // 2), [0] * (CROPS // 2)]

    def test_at_the_plans_spacing(self, volumes: Any, tmp_path: Path) -> None:
        label = cube((8, 8, 8), (1, 1, 1), 2)
        assert (counted(volumes, tmp_path, [label], WHOLE, spacing=(2.0, 2.0, 2.0)) == 8 / 64).all()

    def test_in_the_plans_order_of_axes(self, volumes: Any, tmp_path: Path) -> None:
        # 2 x 2 x 1 tokens of (4, 4, 8) hold foreground, of 4 x 4 x 1
        label = cube((16, 8, 16), (2, 0, 2), 4)
        label[2:6, :, 2:6] = 1
        view = View((8, 16, 16), (8, 4, 4), (0.5, 1.0, 2.0))
        shares = counted(volumes, tmp_path, [label], view, transpose=(1, 0, 2), spacing=(2.0, 0.5, 1.0))
        assert (shares == 4 / 16).all()

    def test_half_of_the_crops_are_forced_to_hold_foreground(self, volumes: Any, tmp_path: Path) -> None:
        view = View((8, 8, 8), (4, 4, 4), (1.0, 1.0, 1.0))
        shares = counted(volumes, tmp_path, [cube((32, 32, 32), (10, 10, 10), 1)], view)
        assert (shares[0, 1::2] == 1 / 8).all()
        # 8 of 25 places on each axis
        assert 0 < (shares[0, ::2] > 0).mean() < 0.1

    def test_slices(self, volumes: Any, tmp_path: Path) -> None:
        # slices are 3 mm apart and stay so
        label = cube((4, 8, 8), (1, 1, 1), 2)
        shares = counted(volumes, tmp_path, [label], View((16, 16), (4, 4), (1.0, 1.0)), spacing=(2.0, 2.0, 3.0))
        assert set(shares[0, 1::2]) == {4 / 16}
        assert set(shares[0, ::2]) == {0, 4 / 16}

    def test_with_an_ignore_label_crops_lie_where_something_is_annotated(self, volumes: Any, tmp_path: Path) -> None:
        label = np.full((32, 32, 32), 3, np.uint8)
        label[10:12, 10, 10] = [0, 1]
        manager = LabelManager({"background": 0, "a": 1, "b": 2, "ignore": 3}, None)
        view = View((8, 8, 8), (8, 8, 8), (1.0, 1.0, 1.0))
        assert (counted(volumes, tmp_path, [label], view, manager=manager) == 1).all()

    def test_regions_are_forced(self, volumes: Any, tmp_path: Path) -> None:
        manager = LabelManager({"background": 0, "whole": [1, 2], "core": 2}, [1, 2])
        view = View((8, 8, 8), (4, 4, 4), (1.0, 1.0, 1.0))
        label = cube((32, 32, 32), (10, 10, 10), 1) * 2
        assert (counted(volumes, tmp_path, [label], view, manager=manager)[0, 1::2] == 1 / 8).all()

    def test_the_same_every_time_and_random_numbers_go_on(self, volumes: Any, tmp_path: Path) -> None:
        view = View((8, 8, 8), (4, 4, 4), (1.0, 1.0, 1.0))
        label = cube((32, 32, 32), (10, 10, 10), 9)
        np.random.seed(5)  # noqa: NPY002
        expected = np.random.rand()  # noqa: NPY002
        np.random.seed(5)  # noqa: NPY002
        first = counted(volumes, tmp_path, [label], view)
        assert np.random.rand() == expected  # noqa: NPY002
        assert np.array_equal(first, counted(volumes, tmp_path, [label], view))
        assert len(set(first[0])) > 2

    def test_a_damaged_label_map(self, tmp_path: Path) -> None:
        file = tmp_path / "case_7.nii.gz"
        file.write_bytes(b"no image")
        plans: Any = SimpleNamespace(
            image_reader_writer_class=SimpleITKIO, get_label_manager=lambda _: LABELS, transpose_forward=(0, 1, 2)
        )
        with pytest.raises(ValueError, match=r"label map .*case_7.nii.gz could not be read to count") as error:
            read_label_maps([str(file)], plans, {})
        assert "\n" not in str(error.value)

    def test_labels_of_any_size(self, volumes: Any, tmp_path: Path) -> None:
        """They are held in small numbers, and none becomes another."""
        label = cube((16, 16, 16), (2, 2, 2), 4).astype(np.int32)
        expected = counted(volumes, tmp_path, [label], WHOLE)
        for number in (300, 65537):
            found = counted(volumes, tmp_path, [label * number], WHOLE)
            assert np.array_equal(found, expected)
        # nnU-Net takes them for background
        assert (counted(volumes, tmp_path, [-label], WHOLE) == 0).all()


@pytest.mark.parametrize(
    ("files", "voxels", "expected"),
    [(7, 1e6, 7), (1000, 1e6, 200), (1000, 1e7, 100), (1000, 1e9, 10), (5, 1e9, 5), (1, 1e3, 1)],
)
def test_no_more_cases_than_a_minute_allows(files: int, voxels: float, expected: int) -> None:
    names = [str(number) for number in range(files)]
    chosen = some_of(names, voxels)
    assert len(set(chosen)) == len(chosen) == expected
    assert (chosen[0], chosen[-1]) == (names[0], names[-1])
