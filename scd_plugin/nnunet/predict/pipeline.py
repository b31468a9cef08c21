"""Cases one after the other, with the next one prepared and the one before written while the network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from scd_plugin.nnunet.predict.jobs import Case

if TYPE_CHECKING:
    from scd_plugin.nnunet.predict.steps import Steps

__all__ = ["prepared_ahead", "run_pipeline"]

Coming = tuple[Case, Future[Any]]


@contextmanager
def prepared_ahead(cases: Sequence[Case], prepare: Callable[[Case], Any]) -> Iterator[Iterator[Coming]]:
    """Prepare cases in a thread, the first at once, and each other while the one before is worked on.

    Threads suffice: what takes time is done by NumPy, SciPy, ITK and PyTorch, which let other threads run, and nothing
    has to be copied between processes.

    Yields:
        Each case when it is prepared, or has failed, in their order. At most one more is prepared or waits, so memory
        does not grow with the number of cases.
    """
    with ThreadPoolExecutor(1) as ahead:
        submitted = [ahead.submit(prepare, case) for case in cases[:1]]

        def coming() -> Iterator[Coming]:
            for case, following in zip(cases, [*cases[1:], None]):
                wait(submitted)
                if following is not None:
                    submitted.append(ahead.submit(prepare, following))
                # under no name here, which would hold the image until the next one is there
                yield case, submitted.pop(0)

        yield coming()


def run_pipeline(coming: Iterable[Coming], steps: Steps) -> None:
    """Take every case through the steps; one that fails skips the rest of them, and the others go on.

    The network runs in the thread of the caller, where `steps.done` is called too. Beside it at most one case is
    finished, in another thread.
    """
    with ThreadPoolExecutor(1) as behind:
        finishing: tuple[Case, Future[None]] | None = None
        for case, prepared in coming:
            try:
                predicted = steps.network(case, prepared.result())
            except Exception as error:  # noqa: BLE001
                steps.done(case, error)
                continue
            finally:
                # nor here
                del prepared
            if finishing is not None:
                steps.done(finishing[0], finishing[1].exception())
            finishing = case, behind.submit(steps.finish, case, predicted)
            # or it would stay in memory beside the next one
            del predicted
        if finishing is not None:
            steps.done(finishing[0], finishing[1].exception())
