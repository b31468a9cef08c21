"""A page in a real browser, where there is one: nothing in its console, nothing asked of anyone."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scd_plugin.report.write import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (apt-get install chromium)")
NAME = "<script>console.error('ran')</script>"


def browse(page: Path, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Open a page in a window of a laptop; on stderr is the console."""
    quiet = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [str(BROWSER), *quiet, "--enable-logging=stderr", "--window-size=1280,900", *words, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


def console(run: subprocess.CompletedProcess[str]) -> list[str]:
    return re.findall(r":CONSOLE.*?\] (.*)", run.stderr)


@pytest.fixture
def page(make_run: Callable[..., Path], tmp_path: Path) -> Path:
    folder = make_run(
        [NAME.replace("/", "_"), "a-name-" + "that-is-long-" * 12, "c"], labels={"background": 0, NAME: 1, "b": 2}
    )
    return write_report(folder, images=tmp_path / "images", truth=tmp_path / "truth").path


def test_the_console_stays_empty(page: Path, tmp_path: Path) -> None:
    run = browse(page, tmp_path, f"--screenshot={tmp_path / 'page.png'}")
    assert console(run) == []
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_what_a_page_must_not_do_would_be_seen(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    foreign = '<img src="https://example.org/a.png" alt=""><script>console.error("ran")</script></body>'
    page.write_text(text.replace("</body>", foreign), encoding="utf-8")
    said = " ".join(console(browse(page, tmp_path, f"--screenshot={tmp_path / 'page.png'}")))
    assert "https://example.org/a.png" in said
    assert "violates the following Content Security Policy" in said
    assert "ran" not in said.split()


def test_nothing_is_wider_than_the_window(page: Path, tmp_path: Path) -> None:
    # a script of the test's own, which the page's policy would not let run
    text = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text(encoding="utf-8"))
    ask = "<script>document.title = `${document.documentElement.scrollWidth} ${innerWidth}`</script></body>"
    page.write_text(text.replace("</body>", ask), encoding="utf-8")
    found = re.search(r"<title>(\d+) (\d+)</title>", browse(page, tmp_path, "--dump-dom").stdout)
    assert found is not None
    assert int(found[1]) <= int(found[2])
