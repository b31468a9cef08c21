from __future__ import annotations

from pathlib import Path

import pytest

from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.predict.jobs import Case, check_cascade, find_cases, left_to_do

ENDINGS = (".nii.gz", ".nrrd", ".mha")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("b_0000.mha", "b_0001.mha", "a_0000.mha", "a_0001.mha", "notes.txt"):
        (images / name).touch()
    return images


class TestFindCases:
    def test_folder(self, folder: Path, tmp_path: Path) -> None:
        a, b = find_cases(folder, tmp_path / "out", ".mha", previous_stage=tmp_path / "before")
        assert (a.name, b.name) == ("a", "b")
        assert b.images == (folder / "b_0000.mha", folder / "b_0001.mha")
        assert b.output == tmp_path / "out" / "b.mha"
        assert b.probabilities == tmp_path / "out" / "b.npz"
        assert b.previous == tmp_path / "before" / "b.mha"

    def test_one_file_brings_its_other_channels(self, folder: Path, tmp_path: Path) -> None:
        (case,) = find_cases(folder / "b_0001.mha", tmp_path / "out", ".mha")
        assert case.images == (folder / "b_0000.mha", folder / "b_0001.mha")
        assert case.output == tmp_path / "out" / "b.mha"
        assert case.previous is None

    def test_file_without_a_number_beside_numbered_ones(self, folder: Path, tmp_path: Path) -> None:
        (folder / "scan.mha").touch()
        (case,) = find_cases(folder / "scan.mha", tmp_path / "out.mha", ".mha")
        assert (case.name, case.images, case.output) == ("scan", (folder / "scan.mha",), tmp_path / "out.mha")
        assert case.probabilities == tmp_path / "out.npz"

    def test_a_folder_may_look_like_a_file(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "out.mha").mkdir()
        (case,) = find_cases(folder / "a_0000.mha", tmp_path / "out.mha", ".mha")
        assert case.output == tmp_path / "out.mha" / "a.mha"

    @pytest.mark.parametrize(
        ("images", "output", "message"),
        [
            ("absent", "out", "input must be a folder of images or an image; there is no .*absent"),
            ("images/notes.txt", "out", r"input .*notes.txt must end in .mha, as in the data set of the training"),
            ("images", "out.mha", r"output .*out.mha is a file, so input must be one too; .*images is a folder"),
            ("images/a_0000.mha", "out.nrrd", r"output .*out.nrrd must end in .mha"),
            ("images", "images/notes.txt", r"output .*notes.txt is a file that is no image; name a folder"),
            ("images/a_0000.mha", "images/a_0001.mha", r"would be written over the image .*a_0001.mha; name another"),
        ],
    )
    def test_refused(self, folder: Path, tmp_path: Path, images: str, output: str, message: str) -> None:
        assert folder == tmp_path / "images"
        with pytest.raises(ValueError, match=message):
            find_cases(tmp_path / images, tmp_path / output, ".mha", endings=ENDINGS)

    def test_nothing_there(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"images holds no image: names must end in .nii.gz.*NAME_0000.nii.gz"):
            find_cases(folder, tmp_path / "out", ".nii.gz")

    def test_images_stay(self, tmp_path: Path) -> None:
        (tmp_path / "a.mha").touch()
        with pytest.raises(ValueError, match=r"would be written over the image .*a.mha"):
            find_cases(tmp_path, tmp_path, ".mha")

    def test_label_maps_of_the_previous_stage_stay(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"would be written over the image .*a.mha"):
            find_cases(folder, tmp_path / "before", ".mha", previous_stage=tmp_path / "before")


def case(folder: Path, *files: str, previous: Path | None = None) -> Case:
    return Case("a", tuple(folder / name for name in files), folder / "a.mha", ".mha", previous)


class TestCheckFiles:
    @pytest.mark.parametrize("files", [["a_0000.mha"], ["a_0000.mha", "a_0001.mha"], ["a.mha"]])
    def test_complete(self, tmp_path: Path, files: list[str]) -> None:
        case(tmp_path, *files).check_files()

    @pytest.mark.parametrize("files", [["a_0001.mha"], ["a_0000.mha", "a_0002.mha"]])
    def test_a_channel_is_missing(self, tmp_path: Path, files: list[str]) -> None:
        with pytest.raises(ValueError, match=rf"channels must be the files a_0000.mha, _0001, ...; .*{files[-1]}"):
            case(tmp_path, *files).check_files()

    def test_no_label_map_before(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"the previous stage has no label map of it: .*b.mha is missing"):
            case(tmp_path, "a_0000.mha", previous=tmp_path / "b.mha").check_files()


def test_left_to_do(folder: Path, tmp_path: Path) -> None:
    cases = find_cases(folder, tmp_path / "out", ".mha")
    assert left_to_do(cases, save_probabilities=False) == cases
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.mha").touch()
    assert left_to_do(cases, save_probabilities=False) == cases[1:]
    assert left_to_do(cases, save_probabilities=True) == cases
    (tmp_path / "out" / "a.npz").touch()
    assert left_to_do(cases, save_probabilities=True) == cases[1:]
    assert left_to_do(cases, save_probabilities=False, beside=["maps"]) == cases
    (tmp_path / "out" / "maps").mkdir()
    (tmp_path / "out" / "maps" / "a.mha").touch()
    assert left_to_do(cases, save_probabilities=False, beside=["maps"]) == cases[1:]


class TestCascade:
    @pytest.fixture
    def second(self, plans: dict, dataset: dict) -> NnunetRecipe:  # type: ignore[type-arg]
        return NnunetRecipe(plans, dataset, "3d_cascade_fullres")

    def test_fits(self, recipe: NnunetRecipe, second: NnunetRecipe, tmp_path: Path) -> None:
        check_cascade(recipe, "3d_fullres", None)
        check_cascade(second, "3d_cascade_fullres", tmp_path)

    def test_not_given(self, second: NnunetRecipe) -> None:
        with pytest.raises(
            ValueError, match=r"3d_cascade_fullres is the second stage of a cascade: predict .* with 3d_lowres first"
        ):
            check_cascade(second, "3d_cascade_fullres", None)

    def test_not_needed(self, recipe: NnunetRecipe, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="3d_fullres is no second stage of a cascade; leave out"):
            check_cascade(recipe, "3d_fullres", tmp_path)

    def test_no_folder(self, second: NnunetRecipe, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"must be a folder of label maps; there is no .*absent"):
            check_cascade(second, "3d_cascade_fullres", tmp_path / "absent")
