"""What MONAI's bundle commands do with the three bundles, one after the other."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.bundle import ckpt_export, create_workflow, load, load_bundle_config, onnx_export, run, verify_metadata
from monai.bundle.scripts import verify_net_in_out
from scipy.spatial.transform import Rotation

from scd_plugin.monai.errors import explained

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

PARITY = 1e-4
SCHEMA_MD5 = "06954cad2cc5d3784e72077ac76f0fc8"
# where the third would say the same as the first
LABELS_AND_REGIONS = ["scd_unetr_segmentation", "scd_unetr_brats_segmentation"]


def weights(bundle: Any) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(bundle.root / "models" / "model.pt", weights_only=True)
    return state


def network(bundle: Any) -> torch.nn.Module:
    net: torch.nn.Module = load(
        bundle.root.name, bundle_dir=bundle.root.parent, workflow_type="inference", model_file="models/model.pt"
    )
    return net.eval()


def dice(folder: Path) -> float:
    return float((folder / "metrics.csv").read_text().split(",")[1])


def best(root: Path) -> float:
    return float(json.loads((root / "models" / "best.json").read_text())["value"])


def shape(bundle: Any, batch: int) -> list[int]:
    image = json.loads((bundle.configs / "metadata.json").read_text())["network_data_format"]["inputs"]["image"]
    return [batch, image["num_channels"], *image["spatial_shape"]]


class TestTraining:
    def test_writes_model_and_curves(self, trained: Any) -> None:
        state = weights(trained)
        assert all(isinstance(value, torch.Tensor) for value in state.values())
        best = json.loads((trained.root / "models" / "best.json").read_text())
        assert best["metric"] == "val_mean_dice"
        assert 0 < best["value"] < 1
        assert list((trained.root / "eval").glob("events.out.tfevents*"))
        assert len(list((trained.root / "models").glob("last_*.pt"))) == 1
        # a row for each validation
        audits = list(csv.DictReader((trained.root / "eval" / "token_audit.csv").open()))
        assert [row["epoch"] for row in audits] == ["1", "2"]
        # tokens that two windows share count once
        assert float(audits[0]["chance_left_at_1"]) == pytest.approx(0.5, abs=0.1)
        assert sum(float(value) for name, value in audits[0].items() if name.startswith("components")) > 0

    def test_records_what_was_trained(self, trained: Any) -> None:
        settings = json.loads((trained.configs / "inference.json").read_text())["network_def"]
        assert settings["_desc_"].startswith("preset tiny, keep_ratio 0.5 instead of 0.25")
        assert settings["keep_ratio"] == 0.5
        assert settings["hidden_size"] == 96
        assert json.loads((trained.root / "models" / "best.json").read_text())["preset"] == "tiny"

    def test_same_seed_same_model(self, trained: Any, tmp_path: Path) -> None:
        again = type(trained)(Path(shutil.copytree(trained.root, tmp_path / "again")), trained.data, trained.overrides)
        shutil.rmtree(again.root / "models")
        again.run("train", **trained.overrides)
        other = weights(again)
        for name, value in weights(trained).items():
            torch.testing.assert_close(other[name], value, rtol=0, atol=1e-6)

    def test_goes_on_where_it_stopped(self, trained: Any, tmp_path: Path) -> None:
        again = type(trained)(Path(shutil.copytree(trained.root, tmp_path / "again")), trained.data, trained.overrides)
        again.run("train", **{**trained.overrides, "epochs": 3, "resume": True})
        newest = next((again.root / "models").glob("last_*.pt"))
        assert newest.name == "last_checkpoint_epoch=3.pt"
        state = torch.load(newest, weights_only=True)
        assert state["lr_scheduler"]["last_epoch"] == 3
        before = torch.load(next((trained.root / "models").glob("last_*.pt")), weights_only=True)
        steps = [checkpoint["optimizer"]["state"][0]["step"].item() for checkpoint in (before, state)]
        assert steps[1] == steps[0] * 3 / 2 > 0

    def test_stops_early(self, trained: Any, tmp_path: Path) -> None:
        again = type(trained)(Path(shutil.copytree(trained.root, tmp_path / "again")), trained.data, trained.overrides)
        again.run("train", **{**trained.overrides, "epochs": 6, "early_stopping": 1, "learning_rate": 0.0})
        # nothing is learned, so the second validation is no better
        assert next((again.root / "models").glob("last_*.pt")).name == "last_checkpoint_epoch=2.pt"

    @pytest.mark.parametrize("trained", LABELS_AND_REGIONS, indirect=True)
    @pytest.mark.parametrize("which", ["train", "evaluate"])
    def test_two_processes(self, trained: Any, tmp_path: Path, which: str) -> None:
        root = Path(shutil.copytree(trained.root, tmp_path / "bundle"))
        shutil.rmtree(root / "eval")
        names = ["train", "multi_gpu_train"] if which == "train" else ["train", "evaluate", "multi_gpu_evaluate"]
        files = [str(root / "configs" / f"{name}.json") for name in names]
        overrides = {**trained.overrides, "epochs": 3} if which == "train" else trained.overrides
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1", "--nproc_per_node=2",
            "-m", "monai.bundle", "run", "--config_file", str(files), "--bundle_root", str(root),
            "--dataset_dir", str(trained.data),
            *(word for name, value in overrides.items() for word in (f"--{name}", str(value))),
        ]  # fmt: skip
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        if which == "train":
            assert (root / "models" / "last_checkpoint_epoch=3.pt").exists()
            state = torch.load(root / "models" / "model.pt", weights_only=True)
            assert set(state) == set(weights(trained))
            audits = list(csv.DictReader((root / "eval" / "token_audit.csv").open()))
            alone = list(csv.DictReader((trained.root / "eval" / "token_audit.csv").open()))
            # of the cases of both processes
            assert [row["epoch"] for row in audits] == ["1", "2", "3"]
            assert audits[0]["components_513+"] == alone[0]["components_513+"]
        else:
            assert dice(root / "eval") == pytest.approx(best(root), abs=1e-5)


class TestUse:
    def test_evaluate(self, trained: Any, tmp_path: Path) -> None:
        trained.run("train", "evaluate", **trained.overrides, output_dir=str(tmp_path / "eval"))
        assert dice(tmp_path / "eval") == pytest.approx(best(trained.root), abs=1e-6)
        formats = json.loads((trained.root / "configs" / "metadata.json").read_text())["network_data_format"]
        names = [name for name in formats["outputs"]["pred"]["channel_def"].values() if name != "background"]
        head, *rows = (tmp_path / "eval" / "val_mean_dice_raw.csv").read_text().splitlines()
        assert head.split(",") == ["filename", *names, "mean"]
        assert rows

    @pytest.mark.parametrize("spelling", ["{0},{1}", "[{0},{1}]"], ids=["comma", "list"])
    def test_only_the_quoted_list_of_configs_works(self, trained: Any, spelling: str) -> None:
        """As the documents spell it; MONAI takes others for the name of one file."""
        files = spelling.format(*trained.config("train", "evaluate"))
        with pytest.raises((FileNotFoundError, ValueError), match=r"train\.json,"):
            run(config_file=files, bundle_root=str(trained.root), dataset_dir=str(trained.data))

    def test_inference_from_its_own_folder(self, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(trained.root)
        create = create_workflow(
            config_file="configs/inference.json", workflow_type="infer", dataset_dir=str(trained.data)
        )
        create.run()
        images = sorted((trained.data / "images").iterdir())
        for path in images:
            truth = sitk.ReadImage(str(trained.data / "labels" / path.name))
            result = sitk.ReadImage(str(trained.root / "eval" / path.name.replace(".nii.gz", "_seg.nii.gz")))
            assert result.GetSize() == truth.GetSize()
            assert result.GetSpacing() == pytest.approx(truth.GetSpacing())
            assert result.GetDirection() == pytest.approx(truth.GetDirection())
            assert set(np.unique(sitk.GetArrayFromImage(result))) <= set(range(14))

    def test_geometry(self, trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Oblique, with other steps on each axis, far from the origin, a file whose name has a dot; from elsewhere."""
        voxels = np.random.default_rng(0).normal(size=(21, 17, 12, shape(trained, 1)[1])).astype(np.float32)
        affine = np.eye(4)
        turned = Rotation.from_euler("zyx", (20, 10, -30), degrees=True).as_matrix()
        affine[:3, :3] = turned * (0.9, 1.2, 2.5)
        affine[:3, 3] = (-120.5, 33.25, 480.0)
        nib.save(nib.Nifti1Image(voxels.squeeze(), affine), tmp_path / "scan 1.5T.nii.gz")
        monkeypatch.chdir(tmp_path)
        run(
            config_file=trained.config("inference"),
            bundle_root=str(trained.root),
            dataset_dir="scan 1.5T.nii.gz",
            output_dir="out",
        )
        result = nib.load(tmp_path / "out" / "scan 1.5T_seg.nii.gz")
        assert result.shape == (21, 17, 12)
        np.testing.assert_allclose(result.affine, affine, atol=1e-4)
        assert result.get_data_dtype() == np.uint8

    def test_without_weights(self, trained: Any, tmp_path: Path) -> None:
        root = Path(shutil.copytree(trained.root, tmp_path / "bundle", ignore=shutil.ignore_patterns("models")))
        with pytest.raises(RuntimeError) as caught:
            run(config_file=str(root / "configs" / "inference.json"), bundle_root=str(root), dataset_dir="no folder")
        assert explained(caught.value) == (
            f"there are no weights in {root}/models/model.pt: train the bundle first, or copy a state dict there"
        )

    @pytest.mark.parametrize("names", [("train",), ("train", "evaluate"), ("inference",)], ids="+".join)
    def test_properties(self, trained: Any, names: tuple[str, ...]) -> None:
        workflow = create_workflow(
            config_file=trained.config(*names),
            workflow_type="infer" if names == ("inference",) else "train",
            bundle_root=str(trained.root),
            dataset_dir=str(trained.data),
            **({} if names == ("inference",) else trained.overrides),
        )
        workflow.initialize()
        assert workflow.check_properties() == []

    @pytest.mark.parametrize("workflow_type", ["train", "inference"])
    def test_load_from_elsewhere(
        self, trained: Any, workflow_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        override: dict[str, Any] = {}
        if workflow_type == "train":
            # what a training gets on the command line, load() gets here
            settings = json.loads((trained.configs / "inference.json").read_text())["network_def"]
            override = {name: value for name, value in settings.items() if name[0] != "_"}
            # MONAI leaves out what is None, so the preset must not say otherwise
            override["preset"] = trained.overrides["size"]
        net = load(
            trained.root.name, bundle_dir=trained.root.parent, workflow_type=workflow_type, net_override=override
        )
        assert type(net).__name__ == "SCDUNETR"
        state = net.state_dict()
        assert all(torch.equal(state[name], value) for name, value in weights(trained).items())

    def test_metadata(
        self, trained: Any, shared: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        schema = Path(shutil.copy(shared("monai/meta_schema_20240725.json"), tmp_path / "schema.json"))
        file = trained.configs / "metadata.json"
        with caplog.at_level(logging.INFO):
            verify_metadata(meta_file=str(file), filepath=str(schema), hash_val=SCHEMA_MD5)
        assert "metadata is verified with no error." in caplog.text
        broken = tmp_path / "metadata.json"
        broken.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "task"}))
        with pytest.raises(ValueError, match="'task' is a required property"):
            verify_metadata(meta_file=str(broken), filepath=str(schema), hash_val=SCHEMA_MD5)

    def test_config_of_a_folder_and_of_a_zip(self, trained: Any, tmp_path: Path) -> None:
        packed = shutil.make_archive(str(tmp_path / trained.root.name), "zip", trained.root.parent, trained.root.name)
        for place in (trained.root, packed):
            parser = load_bundle_config(str(place), "inference.json")
            assert parser["network_def"]["_target_"] == "scd_plugin.SCDUNETR"
            assert parser["network_def"]["keep_ratio"] == 0.5
            assert parser["_meta_"]["version"] == "0.1.0"

    def test_net_in_out(self, trained: Any) -> None:
        verify_net_in_out(
            net_id="network_def",
            meta_file=str(trained.configs / "metadata.json"),
            config_file=trained.config("inference"),
            device="cpu",
        )


@pytest.mark.parametrize("trained", LABELS_AND_REGIONS, indirect=True)
class TestExport:
    def compare(self, trained: Any, exported: Callable[[torch.Tensor], torch.Tensor]) -> None:
        eager = network(trained)
        for batch in (1, 3, 4):
            image = torch.rand(shape(trained, batch), generator=torch.Generator().manual_seed(batch))
            with torch.no_grad():
                assert (exported(image) - eager(image)).abs().max() < PARITY

    @pytest.mark.parametrize("trace", [False, True], ids=["script", "trace"])
    def test_torchscript(self, trained: Any, trace: bool) -> None:
        file = trained.root / "models" / ("traced.ts" if trace else "model.ts")
        ckpt_export(
            net_id="network_def",
            filepath=str(file),
            ckpt_file=str(trained.root / "models" / "model.pt"),
            meta_file=str(trained.configs / "metadata.json"),
            config_file=trained.config("inference"),
            use_trace=trace,
            input_shape=shape(trained, 2),
            converter_kwargs={"verify": True},
        )
        self.compare(trained, torch.jit.load(file))
        parser = load_bundle_config(str(file), "inference.json")
        assert parser["network_def"]["_target_"] == "scd_plugin.SCDUNETR"
        module, metadata, files = load(
            trained.root.name,
            bundle_dir=trained.root.parent,
            model_file=f"models/{file.name}",
            load_ts_module=True,
            config_files=("inference.json",),
        )
        self.compare(trained, module)
        assert metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] == shape(trained, 1)[2:]
        assert json.loads(files["inference.json"])["network_def"] == parser["network_def"]

    def test_onnx(self, trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        runtime = pytest.importorskip("onnxruntime")
        # MONAI's command leaves all weights behind in the folder for temporary files
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(scratch))
        file = trained.root / "models" / "model.onnx"
        onnx_export(
            net_id="network_def",
            filepath=str(file),
            ckpt_file=str(trained.root / "models" / "model.pt"),
            meta_file=str(trained.configs / "metadata.json"),
            config_file=trained.config("inference"),
            use_trace=True,
            input_shape=shape(trained, 2),
            converter_kwargs={
                "input_names": ["image"],
                "output_names": ["pred"],
                "dynamic_axes": {"image": {0: "b"}, "pred": {0: "b"}},
                "verify": True,
                "use_ort": True,
                "rtol": 1e-3,
                "atol": PARITY,
            },
        )
        shutil.rmtree(scratch)
        session = runtime.InferenceSession(str(file))
        self.compare(trained, lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0]))

    def test_torch_export(self, trained: Any) -> None:
        image = torch.rand(shape(trained, 2))
        program = torch.export.export(network(trained), (image,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        file = trained.root / "models" / "model.pt2"
        torch.export.save(program, file)
        self.compare(trained, torch.export.load(file).module())


@pytest.mark.parametrize("trained", LABELS_AND_REGIONS[:1], indirect=True)
class TestCommandLine:
    """A few commands as a user types them; each loads for ten seconds and more."""

    def command(self, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "monai.bundle", *words], cwd=cwd, capture_output=True, text=True, check=False
        )

    def test_inference(self, trained: Any, tmp_path: Path) -> None:
        root = Path(shutil.copytree(trained.root, tmp_path / "bundle"))
        shutil.rmtree(root / "eval")
        done = self.command(
            "run", "--config_file", "configs/inference.json", "--dataset_dir", str(trained.data), cwd=root
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert len(list((root / "eval").glob("*_seg.nii.gz"))) == 6

    def test_damaged_data_is_one_sentence(self, trained: Any, tmp_path: Path) -> None:
        data = Path(shutil.copytree(trained.data, tmp_path / "data"))
        (data / "labels" / "case_2.nii.gz").unlink()
        config = str(trained.configs / "train.json")
        done = self.command(
            "run", "--config_file", config, "--bundle_root", str(trained.root), "--dataset_dir", str(data), cwd=tmp_path
        )
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert last == (
            f"error: image {data / 'images' / 'case_2.nii.gz'} has no label in {data / 'labels'}: a label bears the "
            "image's name, without the number of the channel. Mend the files, or leave such cases out with --skip_bad "
            "True"
        )
        assert "Traceback" not in done.stderr
