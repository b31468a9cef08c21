"""What lies in the output already: label maps of other settings, statistics that are missing, other cases."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scd_plugin.nnunet.predict.run import predict
from scd_plugin.nnunet.predict.settings import PredictSettings

MakeModel = Callable[..., Path]


def on_cpu(**settings: Any) -> PredictSettings:
    return PredictSettings(device="cpu", **settings)


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def cases_of_runs(output: Path) -> list[list[str]]:
    runs = json.loads((output / "scd_predict.json").read_text())["runs"]
    return [[one["case"] for one in run["cases"]] for run in runs]


class TestOtherSettings:
    def predicted(self, model: Path, images: Path, output: Path) -> None:
        predict(images, output, model, on_cpu(folds=["0"]))
        (output / "b.nii.gz").unlink()

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"step_size": 0.75}, "step_size 0.5, and now it is 0.75"),
            ({"mirroring": False}, "mirror_axes [012, ]+, and now it is none"),
            ({"folds": ["0", "1"]}, "folds 0, and now it is 0, 1"),
        ],
        ids=["step size", "mirroring", "folds"],
    )
    def test_refused(
        self,
        make_model: MakeModel,
        make_images: Callable[..., Path],
        tmp_path: Path,
        changed: dict[str, Any],
        said: str,
    ) -> None:
        model, images, output = make_model(folds=("0", "1")), make_images(), tmp_path / "ours"
        self.predicted(model, images, output)
        message = f"scd_predict.json says that label maps there were predicted with {said}: take the same, another out"
        with pytest.raises(ValueError, match=message):
            predict(images, output, model, on_cpu(**{"folds": ["0"], "keep_existing": True, **changed}))
        assert not (output / "b.nii.gz").exists()

    def test_another_model(self, make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path) -> None:
        model, images, output = make_model(), make_images(), tmp_path / "ours"
        self.predicted(model, images, output)
        other = shutil.copytree(model, tmp_path / "other" / model.name)
        with pytest.raises(
            ValueError, match=f"predicted with model .*{model.name}, and now it is .*other/{model.name}: "
        ):
            predict(images, output, other, on_cpu(keep_existing=True))

    def test_nothing_stays(self, make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path) -> None:
        model, images, output = make_model(), make_images(["b"]), tmp_path / "ours"
        self.predicted(model, images, output)
        assert len(predict(images, output, model, on_cpu(step_size=1.0, keep_existing=True))) == 1


def test_the_same_model_by_another_path(
    make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, images, output = make_model(), make_images(), tmp_path / "ours"
    monkeypatch.chdir(model.parent)
    predict(images, output, Path(model.name), on_cpu())
    (output / "b.nii.gz").unlink()
    monkeypatch.chdir(tmp_path)
    assert len(predict(images, output, model, on_cpu(keep_existing=True))) == 1


class TestStatistics:
    def test_a_table_that_another_program_wrote(
        self, make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path
    ) -> None:
        model, images, output = make_model(), make_images(["a"]), tmp_path / "ours"
        output.mkdir()
        for content in (b"case;class\nb;liver\n", "case,class\nb,Gef\u00e4\u00df\n".encode("latin-1")):
            (output / "statistics.csv").write_bytes(content)
            predict(images, output, model, on_cpu(statistics=True))
            assert (output / "statistics.csv").read_text().splitlines()[1].startswith("a,")

    def test_a_label_map_on_another_grid(
        self,
        make_model: MakeModel,
        make_images: Callable[..., Path],
        tmp_path: Path,
        write: Callable[[Path, np.ndarray], Path],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        model, images, output = make_model(), make_images(), tmp_path / "ours"
        write(output / "a.nii.gz", np.ones((5, 6, 7), dtype=np.uint8))
        (times,) = predict(images, output, model, on_cpu(statistics=True, keep_existing=True))
        assert (times.case, times.error) == ("b", None)
        assert "note: no statistics of a: " in capsys.readouterr().err

    def test_of_label_maps_that_stay(
        self, make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path
    ) -> None:
        model, images, output = make_model(), make_images(), tmp_path / "ours"
        predict(images, output, model, on_cpu(statistics=True))
        table = (output / "statistics.csv").read_text()
        assert {line.split(",")[0] for line in table.splitlines()[1:]} == {"a", "b"}
        # as where a run was killed
        (output / "statistics.csv").unlink()
        (output / "b.nii.gz").unlink()
        again = on_cpu(statistics=True, keep_existing=True)
        assert [one.case for one in predict(images, output, model, again)] == ["b"]
        assert (output / "statistics.csv").read_text() == table
        # nothing is left to predict
        (output / "statistics.csv").unlink()
        assert predict(images, output, model, again) == []
        assert (output / "statistics.csv").read_text() == table
        assert cases_of_runs(output) == [["a", "b"], ["b"]]

    def test_of_label_maps_that_are_there_no_more(
        self, make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path
    ) -> None:
        model, images, output = make_model(), make_images(), tmp_path / "ours"
        predict(images, output, model, on_cpu(statistics=True))
        header, *rows = (output / "statistics.csv").read_text().splitlines()
        # stopped before anything was overwritten
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("scd_plugin.nnunet.predict.run.run_pipeline", interrupted)
            with pytest.raises(KeyboardInterrupt):
                predict(images, output, model, on_cpu())
        assert (output / "statistics.csv").read_text().splitlines() == [header, *rows]
        # overwritten, and not counted
        predict(images / "a_0000.nii.gz", output, model, on_cpu())
        assert (output / "statistics.csv").read_text().splitlines() == [
            header, *[row for row in rows if row.startswith("b,")]
        ]  # fmt: skip
        predict(images, output, model, on_cpu(statistics=True, keep_existing=True))
        assert (output / "statistics.csv").read_text().splitlines() == [header, *rows]
        # a killed run has left rows of before it
        (output / "statistics.csv").write_text("\n".join([header, *(row.replace(",", ",x", 1) for row in rows)]))
        os.utime(output / "statistics.csv", (0, 0))
        assert predict(images, output, model, on_cpu(statistics=True, keep_existing=True)) == []
        assert (output / "statistics.csv").read_text().splitlines() == [header, *rows]

    def test_a_label_map_that_can_not_be_read(
        self,
        make_model: MakeModel,
        make_images: Callable[..., Path],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        model, images, output = make_model(), make_images(), tmp_path / "ours"
        predict(images, output, model, on_cpu())
        (output / "a.nii.gz").write_bytes(b"mine")
        assert predict(images, output, model, on_cpu(statistics=True, keep_existing=True)) == []
        assert "note: no statistics of a: " in capsys.readouterr().err
        assert {line.split(",")[0] for line in (output / "statistics.csv").read_text().splitlines()[1:]} == {"b"}


def test_other_cases_keep_their_rows_and_times(
    make_model: MakeModel, make_images: Callable[..., Path], tmp_path: Path
) -> None:
    model, images, output = make_model(), make_images(), tmp_path / "ours"
    predict(images, output, model, on_cpu(statistics=True))
    predict(images / "a_0000.nii.gz", output, model, on_cpu(statistics=True))
    rows = (output / "statistics.csv").read_text().splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == {"a", "b"}
    assert cases_of_runs(output) == [["a", "b"], ["a"]]
    # nothing of theirs is left then
    predict(images, output, model, on_cpu())
    assert cases_of_runs(output) == [["a", "b"]]


def test_the_models_own_folder(make_model: MakeModel, make_images: Callable[..., Path]) -> None:
    model = make_model()
    with pytest.raises(ValueError, match=f"output must be another folder than the model's; both are .*{model.name}"):
        predict(make_images(["a"]), model, model, on_cpu())
