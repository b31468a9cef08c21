"""Cases one after the other, with the next one prepared and the one before written while the network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

from scd_plugin.nnunet.predict.jobs import Case
from scd_plugin.nnunet.predict.steps import Steps

__all__ = ["run_pipeline"]


@contextmanager
def _nothing_more(pool: ThreadPoolExecutor) -> Iterator[None]:
    """Do not begin what waits in a pool once the work is given up, as when the program is stopped."""
    try:
        yield
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def run_pipeline(cases: Sequence[Case], steps: Steps, get_ready: Callable[[], None] = lambda: None) -> None:
    """Take every case through the steps; one that fails skips the rest of them, and the others go on.

    The network runs in the thread of the caller, where `steps.done` is called too. Beside it at most one case is
    prepared or waits for the network, and at most one is finished, so memory does not grow with the number of cases.
    Threads suffice: what takes time is done by NumPy, SciPy, ITK and PyTorch, which let other threads run, and nothing
    has to be copied between processes. `get_ready` is called once, while the first case is prepared; what it raises
    ends the run.
    """
    with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(1) as behind, _nothing_more(ahead):
        coming = [ahead.submit(steps.prepare, case) for case in cases[:1]]
        get_ready()
        finishing: tuple[Case, Future[None]] | None = None
        for case, following in zip(cases, [*cases[1:], None]):
            prepared = coming.pop()
            wait([prepared])
            if following is not None:
                coming.append(ahead.submit(steps.prepare, following))
            try:
                predicted = steps.network(case, prepared.result())
            except Exception as error:  # noqa: BLE001
                steps.done(case, error)
                continue
            if finishing is not None:
                steps.done(finishing[0], finishing[1].exception())
            finishing = case, behind.submit(steps.finish, case, predicted)
            # or it would stay in memory beside the next one
            del predicted
        if finishing is not None:
            steps.done(finishing[0], finishing[1].exception())
