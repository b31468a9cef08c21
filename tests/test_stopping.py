"""Programs that are told to stop: what they say, their exit code, and that nothing of them is left."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from scd_plugin.stopping import Stopped, run_program, say_when_stopped, stoppable

# stops at its line "ready"; {body} waits, {how} is in force
WAITING = """
import logging, multiprocessing, os, sys, time
from scd_plugin.stopping import children_end_with_us, run_program, say_when_stopped
{before}
try:
    print("ready", *[child.pid for child in multiprocessing.active_children()], flush=True)
    {wait}
except BaseException:
    logging.exception("an engine's trace")
    raise
finally:
    print("cleaned up", flush=True)
"""
SAY = 'say_when_stopped("go on with --c")'
CHILDREN = """
children_end_with_us()
for _ in range(2):
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon={daemon}).start()
"""
STOPS = [pytest.param(signal.SIGINT, 130, id="Ctrl-C"), pytest.param(signal.SIGTERM, 143, id="SIGTERM")]


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Those of a new program, whatever tests before have left."""
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in defaults.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def start(before: str = SAY, wait: str = "time.sleep(60)") -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A program that waits to be stopped, and the children that it named."""
    code = WAITING.format(before=before, wait=wait)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # its own session: what is sent to the tests is not sent to it
    program = subprocess.Popen([sys.executable, "-c", code], text=True, start_new_session=True, **pipes)  # type: ignore[call-overload]
    assert program.stdout is not None
    ready, *children = program.stdout.readline().split()
    assert ready == "ready"
    return program, [psutil.Process(int(child)) for child in children]


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def soon(happens: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not happens() and time.monotonic() < deadline:
        time.sleep(0.05)
    return happens()


@pytest.mark.parametrize(("number", "code"), STOPS)
@pytest.mark.parametrize(
    "wait", ["time.sleep(60)", 'run_program(["sleep", "60"], os.environ)'], ids=["python", "other"]
)
def test_one_sentence(number: signal.Signals, code: int, wait: str) -> None:
    program, _ = start(wait=wait)
    program.send_signal(number)
    out, err = program.communicate(timeout=30)
    assert (program.returncode, out) == (code, "cleaned up\n")
    assert err == f"\nstopped ({number.name}): go on with --c\n"


def test_ignored_signals_stay_ignored() -> None:
    program, _ = start(f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {SAY}", "time.sleep(0.5)")
    program.send_signal(signal.SIGINT)
    assert program.communicate(timeout=30) == ("cleaned up\n", "")
    assert program.returncode == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system must tell children that a parent ended")
@pytest.mark.parametrize("daemon", [True, False])
def test_children_end_with_a_program_that_is_killed(daemon: bool) -> None:
    program, children = start(CHILDREN.format(daemon=daemon) + SAY)
    assert len(children) == 2
    program.kill()
    program.wait(30)
    assert soon(lambda: all(map(gone, children)))


def test_children_leave_ctrl_c_to_their_parent() -> None:
    program, children = start(SAY + CHILDREN.format(daemon=True))
    # as a terminal sends it
    os.killpg(program.pid, signal.SIGINT)
    _, err = program.communicate(timeout=30)
    assert (program.returncode, err) == (130, "\nstopped (SIGINT): go on with --c\n")
    assert soon(lambda: all(map(gone, children)))


def test_a_child_can_be_ended_alone() -> None:
    program, children = start(SAY + CHILDREN.format(daemon=True))
    children[0].terminate()
    assert soon(lambda: gone(children[0]))
    assert program.poll() is None
    program.terminate()
    assert program.communicate(timeout=30)[1] == "\nstopped (SIGTERM): go on with --c\n"


def test_what_a_program_started_ends_with_it(tmp_path: Path) -> None:
    number = tmp_path / "pid"
    words = ["sh", "-c", f"sleep 60 & echo $! > {number}; wait"]
    program, _ = start(wait=f"run_program({words!r}, os.environ)")
    assert soon(lambda: number.is_file() and number.read_text().endswith("\n"))
    sleeping = psutil.Process(int(number.read_text()))
    program.terminate()
    assert program.wait(30) == 143
    assert soon(lambda: gone(sleeping))


def test_failed_program() -> None:
    with pytest.raises(subprocess.CalledProcessError, match="returned non-zero exit status 3"):
        run_program(["sh", "-c", "exit 3"], os.environ)
    run_program(["true"], os.environ)


def test_handlers_and_logging_come_back(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def told_to_stop() -> None:
        with stoppable(lambda: "again"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    with pytest.raises(Stopped, match=r"^143$"):
        told_to_stop()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert logging.getLogger().isEnabledFor(logging.CRITICAL)
    assert capfd.readouterr().err == "\nstopped (SIGTERM): again\n"


def test_handlers_of_others_stay() -> None:
    own: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: own.append(number))
    assert say_when_stopped("") == {}
    os.kill(os.getpid(), signal.SIGTERM)
    assert own == [signal.SIGTERM]
