from __future__ import annotations

import sys
from pathlib import Path

import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from scd_plugin.cli import app
from scd_plugin.nnunet import doctor
from scd_plugin.nnunet.findings import Finding

pytest.importorskip("nnunetv2")

from scd_plugin.nnunet import trainers
from scd_plugin.nnunet.predict import threads

OWN = """
from scd_plugin.nnunet.trainers import nnUNetTrainerSCD_demo


class nnUNetTrainer_mine(nnUNetTrainerSCD_demo):
    pass
"""


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in doctor.FOLDERS:
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    return tmp_path


def by_name() -> dict[str, Finding]:
    return {finding.what: finding for found in doctor.examine().values() for finding in found}


def own() -> list[Finding]:
    return [finding for finding in doctor.examine()["nnU-Net"] if finding.what == "nnUNet_extTrainer"]


@pytest.mark.usefixtures("folders")
def test_healthy() -> None:
    findings = by_name()
    assert all(finding.ok for finding in findings.values())
    assert findings["nnunetv2"].detail.startswith("2.8")
    for host in ("nnU-Net", "MONAI's nnU-Net wrapper"):
        trainer = trainers.nnUNetTrainerSCD
        assert findings[f"trainer found by {host}"].detail == f"{trainer.__module__}.nnUNetTrainerSCD"
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert "bad" not in result.stdout
    assert result.stdout.splitlines()[-1] == "the network: ready; nnU-Net: ready; MONAI: ready"


def test_missing_folders_are_named_with_what_to_type(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_raw")
    monkeypatch.setenv("nnUNet_results", str(folders / "gone"))
    findings = by_name()
    assert findings["nnUNet_raw"].remedy.startswith("export nnUNet_raw=")
    assert findings["nnUNet_results"].remedy == f"mkdir -p {folders / 'gone'}"
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "export nnUNet_raw=" in result.stdout
    assert result.stdout.splitlines()[-1] == "the network: ready; nnU-Net: 2 to mend; MONAI: ready"


def test_without_folders_nothing_is_wrong_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in doctor.FOLDERS:
        monkeypatch.delenv(name, raising=False)
    finding = by_name()["nnUNet_raw"]
    assert (finding.mark, finding.detail) == ("note", "not set; only nnU-Net's commands need it")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert [line for line in result.stdout.splitlines() if not line.startswith(" ")] == [
        "the network", "nnU-Net", "MONAI", "the network: ready; nnU-Net: ready, 3 noted; MONAI: ready",
    ]  # fmt: skip


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(
    ("instructions", "detail"),
    [
        ("AMX", "AMX: scd predict --dtype auto, or scd_cpu_dtype in training"),
        (None, "neither AMX nor AVX512-BF16, so float32 is faster"),
    ],
)
def test_bfloat16(monkeypatch: pytest.MonkeyPatch, instructions: str | None, detail: str) -> None:
    monkeypatch.setattr(doctor, "bfloat16_instructions", lambda: instructions)
    finding = by_name()["bfloat16 on the CPU"]
    assert (finding.ok, finding.detail, finding.remedy) == (True, detail, "")


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(
    ("switch", "ok", "detail"),
    [
        ("0", True, "goes back to the system"),
        ("never", False, "SCD_KEEP_FREED_MEMORY must be 1, to keep freed memory on a CPU, or 0"),
    ],
)
def test_freed_memory(monkeypatch: pytest.MonkeyPatch, switch: str, ok: bool, detail: str) -> None:
    monkeypatch.setenv("SCD_KEEP_FREED_MEMORY", switch)
    finding = by_name()["freed memory on the CPU"]
    assert finding.ok == ok
    assert finding.detail.startswith(detail)
    assert finding.remedy == ("" if ok else "unset SCD_KEEP_FREED_MEMORY")


@pytest.mark.usefixtures("folders")
def test_freed_memory_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "can_keep_freed_memory", lambda: True)
    assert by_name()["freed memory on the CPU"].detail.startswith("stays in the process")


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(
    ("switch", "device", "ok", "detail"),
    [
        ("1", True, True, "on: SCD's networks replay"),
        ("0", True, True, "off, as SCD_CUDA_GRAPHS has it"),
        ("1", False, True, "no CUDA device"),
        ("yes", False, False, "SCD_CUDA_GRAPHS must be 1, to replay passes on a GPU as CUDA graphs, or 0, to compute"),
    ],
)
def test_cuda_graphs(monkeypatch: pytest.MonkeyPatch, switch: str, device: bool, ok: bool, detail: str) -> None:
    monkeypatch.setenv("SCD_CUDA_GRAPHS", switch)
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: device)
    monkeypatch.setattr(doctor.torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(doctor.torch.backends.cudnn, "version", lambda: None)
    finding = by_name()["CUDA graphs"]
    assert finding.ok == ok
    assert finding.detail.startswith(detail)
    assert finding.remedy == ("" if ok else "unset SCD_CUDA_GRAPHS")


@pytest.mark.usefixtures("folders")
def test_small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 2)
    assert by_name()["device"].detail == (
        "no CUDA device, 2 CPU cores: use -device cpu; nnUNet_n_proc_DA=1 and nnUNet_def_n_proc=1 for training, -npp 1 "
        "-nps 1 for nnUNetv2_predict"
    )


@pytest.mark.usefixtures("folders")
def test_idle_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(threads, "default_num_processes", 1)
    monkeypatch.setattr(threads, "usable_cores", lambda: 4)
    finding = by_name()["prediction on the CPU"]
    assert finding.ok
    assert finding.detail == "the network computes on 1 of 4 cores, the number in nnUNet_def_n_proc (8 by default)"
    assert finding.remedy == "export nnUNet_def_n_proc=4 for nnUNetv2_predict, or scd predict --threads 4"
    monkeypatch.setattr(threads, "usable_cores", lambda: 1)
    assert "prediction on the CPU" not in by_name()
    monkeypatch.setattr(threads, "usable_cores", lambda: 4)
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(doctor.torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(doctor.torch.backends.cudnn, "version", lambda: None)
    assert "prediction on the CPU" not in by_name()


@pytest.mark.parametrize(
    ("cuda", "version", "named"),
    [
        (True, 90701, ""),
        (True, 90800, "9.8.0"),
        (True, 91002, "9.10.2"),
        (True, 91499, "9.14.99"),
        (True, 91500, ""),
        (True, None, ""),
        (False, 91002, ""),
    ],
)
def test_cudnn_that_pytorch_bypasses(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, version: int | None, named: str
) -> None:
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(doctor.torch.backends.cudnn, "version", lambda: version)
    monkeypatch.setattr(doctor.torch.version, "cuda", "13.0")
    found = doctor._cudnn()
    assert len(found) == bool(named)
    for finding in found:
        assert (finding.mark, finding.remedy) == ("note", "pip install 'nvidia-cudnn-cu13>=9.15'")
        assert finding.detail.startswith(f"{named}: PyTorch from 2.9 on does not use cuDNN 9.8 to 9.14 for 3-D")


def test_cudnn_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def version() -> int:
        msg = "cuDNN version incompatibility: PyTorch was compiled against (9, 24, 0)\nbut found (9, 1, 0)"
        raise RuntimeError(msg)

    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(doctor.torch.backends.cudnn, "version", version)
    (finding,) = doctor._cudnn()
    assert not finding.ok
    assert finding.detail.startswith("RuntimeError: cuDNN version incompatibility: PyTorch was compiled against")


@pytest.mark.parametrize("value", ["abc", "0"])
def test_number_that_is_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setenv("nnUNet_def_n_proc", value)
    found = by_name()
    assert found["nnUNet_def_n_proc"].detail == f"must be a whole number from 1; it is {value!r}"
    assert "nnUNet_n_proc_DA" not in found
    trainer = found["trainer found by nnU-Net"]
    assert (trainer.ok, trainer.remedy) == (False, "unset nnUNet_def_n_proc")


def test_own_trainers_where_nnunet_cannot_be_imported(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", str(folders))
    monkeypatch.setitem(sys.modules, "nnunetv2.utilities.find_class_by_name", None)
    (found,) = own()
    assert not found.ok
    assert found.detail.startswith("not looked at, since nnU-Net can't be imported: ModuleNotFoundError: import of nn")


@pytest.mark.usefixtures("folders")
def test_trainer_that_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TRAINER", "nnUNetTrainerOfNobody")
    findings = by_name()
    assert not findings["trainer found by nnU-Net"].ok
    assert (
        "Could not find requested nnunet trainer nnUNetTrainerOfNobody" in findings["trainer found by nnU-Net"].detail
    )
    assert findings["trainer found by MONAI's nnU-Net wrapper"].detail == "nnUNetTrainerOfNobody not found"


@pytest.mark.usefixtures("folders")
def test_versions_out_of_range_and_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "monai":
            raise doctor.PackageNotFoundError
        return {"nnunetv2": "2.5.1"}.get(name, "99.0")

    monkeypatch.setattr(doctor, "version", version)
    findings = by_name()
    assert findings["nnunetv2"].detail.startswith("2.5.1, needs nnunetv2")
    assert findings["nnunetv2"].remedy.startswith("pip install 'nnunetv2")
    assert findings["monai"].remedy == "pip install monai"


def test_own_trainers(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folders / "mine.py").write_text(OWN)
    (folders / "more" / "deep").mkdir(parents=True)
    for package in ("more", "more/deep"):
        (folders / package / "__init__.py").touch()
    (folders / "more" / "deep" / "other.py").write_text(OWN.replace("mine", "other"))
    (folders / "empty").mkdir()
    monkeypatch.setenv("nnUNet_extTrainer", f"{folders}:{folders / 'absent'}:{folders / 'empty'}")
    found = own()
    assert found[0].detail == f"{folders}: nnUNetTrainerSCD_demo, nnUNetTrainer_mine, nnUNetTrainer_other"
    assert "is not a folder" in found[1].detail
    assert found[1].ok
    assert found[2].detail == f"{folders / 'empty'}: no trainers"
    assert not {"mine", "more.deep.other"} & set(sys.modules)
    assert str(folders) not in sys.path


def test_own_trainers_that_raise(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folders / "mine.py").write_text(OWN)
    (folders / "missing.py").write_text("import no_such_package")
    (folders / "typo.py").write_text("class nnUNetTrainer_typo(nnUNetTrainer):\n    pass\n")
    monkeypatch.setenv("nnUNet_extTrainer", str(folders))
    found = own()
    assert [finding.ok for finding in found] == [True, False, False]
    assert "nnUNetTrainer_mine" in found[0].detail
    assert found[1].detail == (
        f"{folders / 'missing.py'} can't be imported: ModuleNotFoundError: No module named 'no_such_package'"
    )
    assert found[2].detail == (
        f"{folders / 'typo.py'} can't be imported: NameError: name 'nnUNetTrainer' is not defined"
    )
    assert found[2].remedy.startswith(f"correct {folders / 'typo.py'}, or move it out")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "NameError" in result.stdout


@pytest.mark.usefixtures("folders")
def test_folder_that_re_exports_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(__file__).parents[2] / "nnunet_trainers"
    monkeypatch.setenv("nnUNet_extTrainer", str(folder))
    found = own()
    assert [finding.ok for finding in found] == [True]
    assert found[0].detail.removeprefix(f"{folder}: ").split(", ") == sorted(trainers.__all__)


def test_files_that_were_cut_off(tmp_path: Path) -> None:
    for number in range(3):
        file = tmp_path / "imagesTr" / f"case_{number}_0000.nii.gz"
        file.parent.mkdir(exist_ok=True)
        sitk.WriteImage(sitk.Image([8, 8, 8], sitk.sitkInt16), str(file))
    assert (
        CliRunner().invoke(app, ["doctor", str(tmp_path)]).stdout
        == f"ok   files: 3 in {tmp_path}, none of them unusable\n"
    )
    file.write_bytes(file.read_bytes()[:60])
    result = CliRunner().invoke(app, ["doctor", str(tmp_path)])
    assert result.exit_code == 1
    first, second = result.stdout.splitlines()
    assert first.startswith(f"bad  file: {file} is cut off")
    assert second == f"bad  files: 3 in {tmp_path}, 1 of them unusable"
    empty = CliRunner().invoke(app, ["doctor", str(tmp_path / "labelsTr")])
    assert (empty.exit_code, empty.stderr) == (
        2,
        "error: the data must be a folder of images, such as a data set in nnUNet_raw; "
        f"there is no folder {tmp_path / 'labelsTr'}\n",
    )
