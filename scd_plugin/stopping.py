"""Ctrl-C, and the signal by which batch systems stop a program: one sentence, clean-up, exit code 130 or 143."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["Stopped", "children_end_with_us", "run_program", "say_when_stopped", "stoppable"]

# what a program that nobody has changed does at these; else it is somebody's wish, as that of nohup
_DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
# of prctl.h
_PR_SET_PDEATHSIG = 1
_GRACE_SECONDS = 10.0


class Stopped(SystemExit):
    """Raised in the main thread, wherever it is, so that files and processes are cleaned up; `code` is 130 or 143."""


def say_when_stopped(go_on: str | Callable[[], str]) -> dict[signal.Signals, object]:
    """From now on end with `Stopped` and a sentence when told to stop; a second signal ends the process at once.

    Does nothing outside of the main thread, and at signals that have a handler already or are ignored.

    Args:
        go_on: what is left and how to go on, or a function that says so.

    Returns:
        The handlers that were there before, of the signals that are handled now.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in _DEFAULTS}
    before = {number: handler for number, handler in before.items() if handler == _DEFAULTS[number]}

    def stop(number: int, _frame: FrameType | None) -> None:
        for one in before:
            signal.signal(one, signal.SIG_DFL)
        text = go_on if isinstance(go_on, str) else go_on()
        # not print, which may be at work just now
        # engines log a stack trace of whatever ends them
        logging.disable()
        os.write(2, f"\nstopped ({signal.Signals(number).name}): {text}\n".encode())
        if _put_off:
            _put_off[-1] = 128 + number
            return
        raise Stopped(128 + number)

    for number in before:
        signal.signal(number, stop)
    # a second call, as before a validation that follows a training, finds our handler and adds none
    if before and hasattr(os, "register_at_fork"):
        if not _ours:
            os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_leave_to_parent)
        _ours.append(stop)
    return dict(before)


# handlers that were made here, and the masks of signals before each fork that is going on
_ours: list[Callable[[int, FrameType | None], None]] = []
_masks: list[set[signal.Signals]] = []


def _hold() -> None:
    """Hold signals back while a process is forked: Python forgets those that reach a child before it runs."""
    _masks.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, _DEFAULTS)))  # type: ignore[arg-type]


def _let_go() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop())


def _leave_to_parent() -> None:
    """In a child, just forked: Ctrl-C in a terminal reaches it as well, and it ends with its parent."""
    for number, own in ((signal.SIGINT, signal.SIG_IGN), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) in _ours:
            signal.signal(number, own)
    _let_go()


@contextmanager
def stoppable(go_on: str | Callable[[], str]) -> Iterator[None]:
    """Do what `say_when_stopped` does for a while."""
    before = say_when_stopped(go_on)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        logging.disable(logging.NOTSET)


# exit codes of signals that came within `_told_later`, 0 where none did
_put_off: list[int] = []


@contextmanager
def _told_later() -> Iterator[None]:
    """Put `Stopped` off to the end of what is done inside, which must be short."""
    _put_off.append(0)
    try:
        yield
    finally:
        code = _put_off.pop()
        if code:
            raise Stopped(code)


def run_program(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a program to its end; where that is not waited for, it ends, and all that it started.

    It has a session of its own: Ctrl-C in a terminal reaches us alone, and none of its processes shows a stack trace.

    Raises:
        subprocess.CalledProcessError: if it fails.
    """
    process: subprocess.Popen[bytes] | None = None
    try:
        # or it would run on where we do not know of it yet
        with _told_later():
            process = subprocess.Popen(words, env=dict(environment), start_new_session=True)  # noqa: S603
        status = process.wait()
    except BaseException:
        if process is not None:
            _end(process)
        raise
    if status:
        raise subprocess.CalledProcessError(status, list(words))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that leads a session: it first, by itself, then what is left of what it started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def children_end_with_us() -> None:
    """Let processes that are forked from now on end with this one, however it ends; on Linux, elsewhere do nothing."""
    if sys.platform.startswith("linux") and not _parents:
        _parents.append(os.getpid())
        os.register_at_fork(before=lambda: _parents.__setitem__(0, os.getpid()), after_in_child=_tie)


# the process that forked last
_parents: list[int] = []


def _tie() -> None:
    """In a child, just forked."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != _parents[0]:
        # it has ended before this was asked for
        os.kill(os.getpid(), signal.SIGKILL)
