"""The demo's first picture: a bundle that has weights and example images, used as its own page says."""

from __future__ import annotations

import shutil
from pathlib import Path

from scd_plugin.demo.session import Session
from scd_plugin.folders import bundle_config

__all__ = ["EXAMPLE", "check_model_to_try", "first_look"]

EXAMPLE = "example"
"""Folder of a bundle's images to try it on."""


def check_model_to_try(bundle: Path) -> None:
    """Raise ValueError, a sentence, for a folder that is no bundle with weights and example images."""
    bundle_config(bundle)
    if lacks := [name for name in ("models/model.pt", EXAMPLE) if not (bundle / name).exists()]:
        msg = f"model-to-try must be a bundle with models/model.pt and a folder {EXAMPLE}; {bundle} has no {lacks[0]}"
        raise ValueError(msg)


def first_look(session: Session, bundle: Path) -> None:
    """Predict a bundle's example images, and write a page of label maps and keep maps.

    The bundle is copied into the session's folder, so that nothing is written into the user's own.

    Args:
        session: runs the commands.
        bundle: see `check_model_to_try`.

    Raises:
        subprocess.CalledProcessError: if the bundle's command fails.
    """
    copy = session.output / bundle.resolve().name
    # what it predicted before would stand on the page, too
    shutil.copytree(bundle, copy, ignore=shutil.ignore_patterns("eval"))
    root, images = str(copy), str(copy / EXAMPLE)
    run = ("python", "-m", "monai.bundle", "run", "--config_file", str(bundle_config(copy)), "--bundle_root", root)
    session.command(*run, "--dataset_dir", images, "--keep_map", "True")
    session.command("scd", "report", root, "--images", images)
