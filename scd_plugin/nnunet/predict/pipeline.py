"""Cases one after the other, with the next one prepared and the one before written while the network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["run_pipeline"]

C = TypeVar("C")
P = TypeVar("P")
L = TypeVar("L")


def run_pipeline(
    cases: Sequence[C],
    *,
    prepare: Callable[[C], P],
    network: Callable[[C, P], L],
    finish: Callable[[C, L], Any],
    done: Callable[[C, Exception | None], None],
) -> None:
    """Take every case through three steps.

    `network` runs in the thread of the caller. Beside it at most one case is prepared or waits for the network, and at
    most one is finished, so memory does not grow with the number of cases. Threads suffice: what takes time is done by
    NumPy, SciPy, ITK and PyTorch, which let other threads run, and nothing has to be copied between processes.

    Args:
        cases: in their order.
        prepare: gives what the network needs.
        network: gives what is to be finished.
        finish: the last step.
        done: called for each case, in the thread of the caller, with what went wrong or None. A case that fails skips
            the rest of its steps, and the others go on.
    """
    with ThreadPoolExecutor(1) as behind:
        finishing: tuple[C, Future[Any]] | None = None
        for case, prepared in _prepared_ahead(cases, prepare):
            try:
                result = network(case, prepared.result())
            except Exception as error:  # noqa: BLE001
                done(case, error)
                continue
            if finishing is not None:
                done(finishing[0], _failure(finishing[1]))
            finishing = (case, behind.submit(finish, case, result))
            # or it would stay in memory beside the next one
            del result
        if finishing is not None:
            done(finishing[0], _failure(finishing[1]))


def _prepared_ahead(cases: Sequence[C], prepare: Callable[[C], P]) -> Iterator[tuple[C, Future[P]]]:
    """Each case with its preparation; that of the next one starts when a case's own has ended."""
    with ThreadPoolExecutor(1) as ahead:
        coming = [ahead.submit(prepare, case) for case in cases[:1]]
        for case, following in zip(cases, [*cases[1:], None]):
            prepared = coming.pop()
            prepared.exception()
            if following is not None:
                coming.append(ahead.submit(prepare, following))
            yield case, prepared


def _failure(future: Future[Any]) -> Exception | None:
    error = future.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    return error
