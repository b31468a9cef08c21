"""A bundle trains a decoder of one's own, as docs/how-to/own-decoder.md says, and infers with it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "own-decoder.md"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trains_and_infers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volumes: Any, untrained: Callable[[Path], Any]
) -> None:
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)[0]
    own = tmp_path / "my_code"
    own.mkdir()
    (own / "my_file.py").write_text(code[: code.index("\nnetwork = ")], encoding="utf-8")
    monkeypatch.syspath_prepend(str(own))
    # what MONAI imports from there is forgotten with the test
    monkeypatch.setitem(sys.modules, "my_file", None)
    monkeypatch.delitem(sys.modules, "my_file")
    data = tmp_path / "data"
    volumes.plain(data, num_cases=6)
    bundle = untrained(data)
    config = json.loads((bundle.configs / "train.json").read_text())
    config["network_def"]["_target_"] = "my_file.MyNetwork"
    for name in ("preset", "keep_ratio", "regions"):
        del config["network_def"][name]
    (bundle.configs / "train.json").write_text(json.dumps(config))

    bundle.run("train", epochs=1, val_interval=1, num_workers=0)
    recorded = json.loads((bundle.configs / "inference.json").read_text())["network_def"]
    assert recorded["_target_"] == "my_file.MyNetwork"
    assert set(recorded) == {"_target_", "in_channels", "out_channels", "img_size", "patch_size"}

    bundle.data = data / "images"
    bundle.run("inference", keep_map=True)
    for image in sorted(bundle.data.iterdir()):
        name = image.name.removesuffix(".nii.gz")
        for written in (f"{name}_seg.nii.gz", f"keep_maps/{name}.nii.gz"):
            assert sitk.ReadImage(str(bundle.root / "eval" / written)).GetSize() == sitk.ReadImage(str(image)).GetSize()
