"""A path that can't be used is answered before anything is imported that takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SLOW_TO_LOAD = ("torch", "nnunetv2", "monai", "timm", "batchgenerators")
# runs all commands in one interpreter, which has nothing loaded at first, and says after each what is
PROGRAM = f"""
import json, sys
from typer.testing import CliRunner
from scd_plugin.cli import app
for command in json.load(sys.stdin):
    result = CliRunner().invoke(app, command)
    loaded = [name for name in {SLOW_TO_LOAD} if name in sys.modules]
    print(json.dumps([result.exit_code, result.output, loaded]))
"""
NO_MODEL = "is no model folder of nnU-Net: it has no plans.json"

# words of the command, exit code, part of what is said; {is_bundle} and the like are folders made below
CASES: dict[str, tuple[str, int, str]] = {
    "help": ("--help", 0, "--help Show this message and exit."),
    "help of a command": ("demo --help", 0, "--help Show this message and exit."),
    "help of bench": ("bench --help", 0, "--quick "),
    "version": ("--version", 0, "scd-plugin "),
    "no such command": ("predikt", 2, "No such command 'predikt'"),
    "no such option": ("demo --date x", 2, "No such option: --date"),
    "predict, no model": ("predict -i images -o out -m absent", 2, f"error: absent {NO_MODEL}"),
    "predict, dataset folder for model": ("predict -i images -o out -m raw", 2, f"error: raw {NO_MODEL}"),
    "predict, no images": ("predict -i absent -o out -m model", 2, "error: input must be a folder of images or an"),
    "predict, no image": ("predict -i empty -o out -m model", 2, "error: empty holds no image: names must end in .nii"),
    "predict, other file": ("predict -i note.txt -o out -m model", 2, "error: input note.txt must end in .nii.gz"),
    "predict, no fold": ("predict -i images -o out -m model -f 3", 2, "fold 3 has no checkpoint; folds with one: 0"),
    "predict, no checkpoint": (
        "predict -i images -o out -m model --checkpoint a.pth",
        2,
        "no fold has a checkpoint",
    ),
    "predict, output below a file": ("predict -i images -o note.txt/out -m model", 2, "note.txt is no folder"),
    "predict, times": ("predict -i images -o out -m model --json empty", 2, "the file for the times must be a file"),
    "audit, no model": ("audit absent raw", 2, f"error: absent {NO_MODEL}"),
    "audit, no data": ("audit model absent", 2, "error: there is no folder absent; name one of labelled cases, with"),
    "audit, no labels": ("audit model empty", 2, "error: there is no folder empty/imagesTr; name one of labelled"),
    "audit, bundle without weights": ("audit bundle raw", 2, "error: there are no weights in bundle/models/model.pt"),
    "audit, fold": ("audit model raw --fold 1", 2, "fold 1 has no checkpoint"),
    "demo, no data": ("demo --data absent --output out", 2, "error: the data must be a Medical Segmentation Decathlon"),
    "demo, inside": ("demo --data raw --output raw/out", 2, "error: data and output must lie apart"),
    "demo, output": ("demo --output images", 2, "error: output must be a new folder, an empty one, or one of an"),
    "demo, file": ("demo --output note.txt/out", 2, "note.txt is no folder; name another place"),
    "train, no data": ("train absent", 2, "error: the data must be a Medical Segmentation Decathlon"),
    "train, inside": ("train raw --output raw/out", 2, "error: data and output must lie apart"),
    "train, output": ("train raw --output images", 2, "error: output must be a new or empty folder, or one of an"),
    "train, epochs": ("train raw --epochs 0", 2, "error: epochs must be at least 1; got 0"),
    "doctor": ("doctor absent", 2, "there is no folder absent"),
    "doctor, empty": ("doctor empty", 2, "empty holds no file"),
    "report": ("report absent", 2, "error: absent is missing; name a folder of predictions, a fold of a training"),
    "report, nothing": ("report empty", 2, "error: empty holds nothing to report: no label maps, no training log"),
    "report, model": ("report model", 2, "error: model is a model folder; name one of its folds, fold_0"),
    "report, images": ("report images --images absent", 2, "error: images must be a folder; there is no absent"),
    "report, truth": ("report images --truth note.txt", 2, "error: truth must be a folder; there is no note.txt"),
    "report, output": ("report images --output empty", 2, "error: the report must be a file; empty is a folder"),
    "report, pictures": ("report images --pictures -1", 2, "error: pictures must be at least 0, the cases that are"),
    "predict, report": (
        "predict -i images/a_0000.nii.gz -o a.nii.gz -m model --report",
        2,
        "error: report is made of a folder of label maps, and output a.nii.gz is a file; name a folder, or leave",
    ),
    "export": ("export absent", 2, "error: absent has no configs/inference.json; is it a bundle?"),
    "export, no weights": ("export bundle", 2, "error: bundle has no models/model.pt; train the bundle first"),
    "export, format": ("export bundle --format coreml", 2, "error: format must be one of torchscript, torchscript-tr"),
    "export, suffix": ("export bundle --output a.onnx", 2, "error: output must be a file name that ends with .ts for"),
    "to-monai": ("bridge to-monai absent out", 2, f"error: absent {NO_MODEL}"),
    "to-monai, full": ("bridge to-monai model images", 2, "error: images is there already and not empty"),
    "to-monai, file": ("bridge to-monai model note.txt", 2, "error: note.txt is there already and not empty"),
    "to-nnunet": ("bridge to-nnunet absent out", 2, "error: absent is missing; name a MONAI bundle or a file of"),
    "to-nnunet, no bundle": ("bridge to-nnunet empty out", 2, "error: empty is no MONAI bundle: it has no configs"),
    "to-nnunet, no JSON": ("bridge to-nnunet bundle out --dataset-json note.txt", 2, "error: note.txt is no JSON"),
    "to-nnunet, full": ("bridge to-nnunet bundle images", 2, "error: images is there already and not empty"),
    "bench": ("bench --output note.txt/a.json", 2, "error: output must be a file that can be written and ends in"),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, list[str]]]:
    """Exit code, output and what was loaded by then, for each of `CASES`."""
    place = tmp_path_factory.mktemp("start")
    for folder in ("empty", "images", "model/fold_0", "raw/imagesTr", "raw/labelsTr", "bundle/configs"):
        (place / folder).mkdir(parents=True)
    for file in ("images/a_0000.nii.gz", "model/fold_0/checkpoint_final.pth", "model/plans.json"):
        (place / file).touch()
    (place / "note.txt").write_text("mine")
    (place / "model" / "dataset.json").write_text(json.dumps({"labels": {}, "file_ending": ".nii.gz"}))
    for name in ("inference", "metadata", "train", "evaluate"):
        (place / "bundle" / "configs" / f"{name}.json").write_text("{}")
    before = sorted(place.rglob("*"))
    words = json.dumps([command.split() for command, _, _ in CASES.values()])
    environment = {**os.environ, "COLUMNS": "100"}
    run: Any = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=words,
        cwd=place,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    # nothing is made for a command that can't run
    assert sorted(place.rglob("*")) == before
    return dict(zip(CASES, map(json.loads, run.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_answer_before_anything_is_loaded(answers: dict[str, tuple[int, str, list[str]]], name: str) -> None:
    _, exit_code, sentence = CASES[name]
    code, said, loaded = answers[name]
    assert (code, loaded) == (exit_code, [])
    # columns of a help are as wide as its longest option
    assert " ".join(sentence.split()) in " ".join(said.split())
    assert "Traceback" not in said
    assert "<bool>" not in said


def test_what_is_slow_to_load_would_be_seen() -> None:
    code = "import scd_plugin.nnunet.model.recipe, sys; print('torch' in sys.modules, 'nnunetv2' in sys.modules)"
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout == "True True\n"


def test_no_folder_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scd_plugin.folders import check_output

    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match=rf"out can't be written to: {tmp_path} is read-only; name another place"):
        check_output(tmp_path / "deep" / "out")
