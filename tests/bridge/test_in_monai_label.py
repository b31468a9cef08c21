"""A bundle as MONAI Label's server runs it: its parts one by one, a case with entries of its own, no writing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.bundle import ConfigParser
from monai.transforms import SaveImaged
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from scd_plugin.bridge.to_monai import to_monai


class LabelServer:
    """What `BundleInferTask` of MONAI Label 0.8.5 does with a bundle and one image."""

    def __init__(self, bundle: Path) -> None:
        self.bundle = bundle
        self.config = ConfigParser()
        self.config.read_config(str(bundle / "configs" / "inference.json"))
        self.config.config.update(bundle_root=str(bundle), use_click=False)
        formats = json.loads((bundle / "configs" / "metadata.json").read_text())["network_data_format"]
        self.key, self.pred = next(iter(formats["inputs"])), next(iter(formats["outputs"]))
        names = formats["outputs"][self.pred]["channel_def"].items()
        self.labels = {name.lower(): int(value) for value, name in names if name.lower() != "background"}
        self.network = self.config.get_parsed_content("network_def", instantiate=True)

    def infer(self, image: Path) -> Any:
        weights = torch.load(self.bundle / "models" / "model.pt", map_location="cpu")
        self.network.load_state_dict(weights.get("model", weights), strict=False)
        # what comes from the request and from the server lies beside the image
        files = [path.name for path in (self.bundle / "models").glob("*.pt")]
        data = {"device": "cpu", "model_filename": files, "model": "my_model", "result_extension": ".nrrd"}
        data |= {self.key: str(image), "image_path": str(image), "description": "", "latencies": {}}
        for transform in self._without_writing("preprocessing"):
            data = transform(data)
        inferer = self.config.get_parsed_content("inferer", instantiate=True)
        with torch.no_grad():
            data[self.pred] = inferer(data[self.key][None], self.network.eval())[0]
        for transform in self._without_writing("postprocessing"):
            data = transform(data)
        return data[self.pred]

    def _without_writing(self, name: str) -> Sequence[Callable[[Any], Any]]:
        steps = self.config.get_parsed_content(name, instantiate=True).transforms
        return [step for step in steps if not isinstance(step, SaveImaged)]


@pytest.mark.filterwarnings("ignore:parsing config_file")
def test_label_map_is_that_of_nnunet(make_model: Callable[..., Path], images: Path, tmp_path: Path) -> None:
    (images / "case_0001.nii.gz").unlink()
    folds = ("0", "1")
    model = make_model(folds=folds, mirror_axes=None)
    server = LabelServer(to_monai(model, tmp_path / "bundle"))
    assert server.labels == {"liver": 1, "spleen": 2}
    # an image may come under any name, as from a viewer
    image = (images / "case_0000.nii.gz").rename(images / "tmp6f2_q.nii.gz")
    label = server.infer(image)

    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), folds, "checkpoint_final.pth")
    predictor.predict_from_files_sequential([[str(image)]], [str(tmp_path / "nnunet")])
    expected = sitk.ReadImage(str(tmp_path / "nnunet.nii.gz"))
    voxels = sitk.GetArrayFromImage(expected).transpose(2, 1, 0)
    assert len(np.unique(voxels)) > 1
    np.testing.assert_array_equal(label[0].numpy(), voxels)
    corner = label.affine.numpy() @ [*np.array(voxels.shape) - 1, 1]
    # ITK's axes point to the left and back
    point = expected.TransformIndexToPhysicalPoint([edge - 1 for edge in voxels.shape])
    np.testing.assert_allclose(corner[:3], np.array(point) * [-1, -1, 1], atol=1e-4)
    assert not (server.bundle / "eval").exists()
