"""What the documentation lists is what there is: trainers, planners, presets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from scd_plugin.networks.presets import PRESETS
from scd_plugin.networks.priors import PRIORS

pytest.importorskip("nnunetv2")

from scd_plugin.nnunet.planning.planner import PLANNERS
from scd_plugin.nnunet.trainers import TRAINERS

REPOSITORY = Path(__file__).parents[1]
PAGES = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("bundles/*/docs/*.md")]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}


def rows(page: str, heading: str) -> str:
    """The table of a page whose first heading is given."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    return text[text.index(f"| {heading} |") :].split("\n\n")[0]


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_no_name_that_there_is_not(page: Path) -> None:
    text = TEXTS[page]
    own = set(re.findall(r"class (\w+)\(", text)) | set(
        re.findall(r"^class (\w+)\(", TEXTS[REPOSITORY / "docs/how-to/own-settings.md"], re.M)
    )
    # a model folder's name has plans and configuration behind two underscores
    named = {name.split("__")[0] for name in re.findall(r"\bnnUNet(?:Trainer|Planner)SCD\w*", text)} - own
    assert named <= {*TRAINERS, *PLANNERS, "nnUNetTrainerSCDPrimus"}


def test_every_trainer_is_in_the_table() -> None:
    table = rows("docs/how-to/train-with-nnunet.md", "Trainer")
    for name in TRAINERS:
        suffix = name.removeprefix("nnUNetTrainerSCD")
        primus = re.fullmatch(r"Primus(V\d)?([SBML])", suffix)
        if primus:
            assert f"Primus{primus[1] or ''}S`" in table
            assert f"`{primus[2]}`" in table or primus[2] == "S"
        elif suffix != "_demo":  # of `make demo` alone
            assert f"`{suffix}`" in table or f"`{name}`" in table, name


def _cheaper_kinds() -> set[str]:
    """What follows a size in the name of a preset."""
    return {name.split("-")[1] for name, preset in PRESETS.items() if preset.network == "SCDUNETR" and "-" in name}


def _cheaper_sizes() -> list[str]:
    return [f"{size}_{kind}" for kind in sorted(_cheaper_kinds()) for size in ("", "_small")]


def test_every_planner_is_in_the_table() -> None:
    table = rows("docs/how-to/plan-for-scd.md", "Planner")
    for size in ("", "_small", "_large", "_tiny", *_cheaper_sizes()):
        assert f"nnUNetPlannerSCD{size}" in PLANNERS
        assert f"`{size}`" in table or f"`nnUNetPlannerSCD{size}`" in table, size


def test_every_preset_is_named_where_a_size_is_asked_for() -> None:
    text = TEXTS[REPOSITORY / "docs/how-to/own-settings.md"]
    sizes = {name.split("-")[0] for name, preset in PRESETS.items() if preset.network == "SCDUNETR"}
    assert sizes == {"tiny", "small", "base", "large"}
    assert all(f'`"{size}"`' in text for size in sizes)
    assert _cheaper_kinds() == {"early", "fast", "subvoxel"}
    assert all(f"`-{kind}`" in text for kind in _cheaper_kinds())


def test_every_setting_of_trainers_is_in_a_table() -> None:
    text = TEXTS[REPOSITORY / "docs/how-to/own-settings.md"]
    settings = {name for trainer in TRAINERS.values() for name in dir(trainer) if name.startswith("scd_")}
    # not for users to set: who wrote a class, what it makes of settings, and what a Primus trainer's name says
    inner = {"scd_settings_are_defaults", "scd_preset", "scd_changes", "scd_geometry", "scd_version"}
    assert settings > inner
    assert [name for name in sorted(settings - inner) if f"| `{name}`" not in text and f", `{name}`" not in text] == []


def test_every_prior_is_in_the_table() -> None:
    table = rows("docs/explanation/scd-primus.md", "`prior`")
    assert [name for name in PRIORS if f"`{name}`" not in table and f'`"{name}"`' not in table] == []


def test_pinned_versions_are_ones_that_the_project_allows() -> None:
    metadata = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    listed = metadata[metadata.index("\ndependencies = [") : metadata.index("[project.optional-dependencies]")]
    wanted = {ask.name.lower(): ask.specifier for ask in map(Requirement, re.findall(r'^ *"([^"]+)",', listed, re.M))}
    assert not wanted["torch"].contains("2.9.1")
    assert wanted["torch"].contains("2.8.0")
    for name in ("constraints.txt", "constraints-lowest.txt"):
        lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
        # one line a version of Python, where versions differ
        pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
        found = [(pin.name.lower(), next(iter(pin.specifier)).version) for pin in pins if pin.name.lower() in wanted]
        assert {package for package, _ in found} == set(wanted), name
        assert [pin for pin in found if not wanted[pin[0]].contains(pin[1])] == [], name
