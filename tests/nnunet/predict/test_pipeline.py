"""Steps overlap, failures stay with their case, and no more is held than one case ahead and one behind."""

from __future__ import annotations

from threading import Event, current_thread, main_thread
from time import monotonic, sleep
from weakref import ReferenceType, ref

import pytest

from scd_plugin.nnunet.predict.pipeline import prepared_ahead, run_pipeline

WAIT = 60


class Recorder:
    """Steps that write down what they do; those in `fails` raise."""

    def __init__(self, *fails: str) -> None:
        self.fails = fails
        self.log: list[str] = []
        self.results: dict[str, str | None] = {}

    def step(self, name: str, case: str) -> str:
        self.log.append(f"{name} {case}")
        if f"{name} {case}" in self.fails:
            raise ValueError(f"{name} {case} failed")
        return f"{name} {case}"

    def prepare(self, case: str) -> str:
        return self.step("prepare", case)

    def network(self, case: str, prepared: str) -> str:
        assert current_thread() is main_thread()
        assert prepared == f"prepare {case}"
        return self.step("network", case)

    def finish(self, case: str, predicted: str) -> str:
        assert predicted == f"network {case}"
        return self.step("finish", case)

    def done(self, case: str, error: Exception | None) -> None:
        assert case not in self.results
        self.results[case] = None if error is None else str(error)

    def run(self, cases: str) -> None:
        with prepared_ahead(cases, self.prepare) as coming:
            run_pipeline(coming, self)


@pytest.mark.parametrize("cases", ["", "a", "abcde"])
def test_every_case_takes_every_step(cases: str) -> None:
    recorder = Recorder()
    recorder.run(cases)
    assert recorder.results == dict.fromkeys(cases)
    for case in cases:
        own = [entry.split()[0] for entry in recorder.log if entry.endswith(case)]
        assert own == ["prepare", "network", "finish"]


def test_a_failure_stays_with_its_case() -> None:
    recorder = Recorder("prepare a", "network c", "finish d", "prepare f", "finish g")
    recorder.run("abcdefg")
    assert recorder.results == {
        "a": "prepare a failed",
        "b": None,
        "c": "network c failed",
        "d": "finish d failed",
        "e": None,
        "f": "prepare f failed",
        "g": "finish g failed",
    }
    assert "network a" not in recorder.log
    assert "finish c" not in recorder.log


class Waiting(Recorder):
    """The network on b does not end before c is prepared and a is written."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared_c, self.finished_a, self.network_b = Event(), Event(), Event()

    def prepare(self, case: str) -> str:
        if case == "c":
            assert self.network_b.wait(WAIT)
            self.prepared_c.set()
        return super().prepare(case)

    def network(self, case: str, prepared: str) -> str:
        if case == "b":
            self.network_b.set()
            assert self.prepared_c.wait(WAIT)
            assert self.finished_a.wait(WAIT)
            assert "prepare d" not in self.log
        return super().network(case, prepared)

    def finish(self, case: str, predicted: str) -> str:
        if case == "a":
            assert self.network_b.wait(WAIT)
            self.finished_a.set()
        return super().finish(case, predicted)


def test_before_and_after_run_beside_the_network() -> None:
    recorder = Waiting()
    recorder.run("abcd")
    assert recorder.results == dict.fromkeys("abcd")


class Slow(Recorder):
    """Writing a does not end before the network has b's result."""

    def __init__(self) -> None:
        super().__init__()
        self.network_b = Event()

    def network(self, case: str, prepared: str) -> str:
        if case == "c":
            assert "finish a" in self.log
        result = super().network(case, prepared)
        if case == "b":
            self.network_b.set()
        return result

    def finish(self, case: str, predicted: str) -> str:
        if case == "a":
            assert self.network_b.wait(WAIT)
        return super().finish(case, predicted)


def test_one_case_is_written_at_a_time() -> None:
    recorder = Slow()
    recorder.run("abc")
    assert recorder.results == dict.fromkeys("abc")


def test_an_interrupt_is_no_failed_case() -> None:
    class Interrupted(Recorder):
        def network(self, *_: str) -> str:
            raise KeyboardInterrupt

    recorder = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        recorder.run("ab")
    assert recorder.results == {}


def test_the_first_case_is_prepared_at_once() -> None:
    prepared = Event()

    def prepare(case: str) -> str:
        prepared.set()
        return f"prepare {case}"

    steps = Recorder()
    with prepared_ahead("ab", prepare) as coming:
        assert prepared.wait(WAIT)
        assert steps.log == []
        run_pipeline(coming, steps)
    assert steps.results == {"a": None, "b": None}


def test_what_fails_beside_the_first_case_ends_the_run() -> None:
    steps = Recorder()
    with pytest.raises(ValueError, match="weights do not fit"), prepared_ahead("ab", steps.prepare):
        raise ValueError("weights do not fit")
    assert steps.log == ["prepare a"]


def test_an_image_is_let_go_when_the_network_has_seen_it() -> None:
    class Image:
        """Something that can be looked for."""

    images: dict[str, ReferenceType[Image]] = {}

    def prepare(case: str) -> Image:
        deadline = monotonic() + WAIT
        while case == "b" and images["a"]() is not None:
            assert monotonic() < deadline
            sleep(0.01)
        image = Image()
        images[case] = ref(image)
        return image

    class Seeing(Recorder):
        def network(self, case: str, prepared: object) -> str:
            assert isinstance(prepared, Image)
            return self.step("network", case)

    steps = Seeing()
    with prepared_ahead("ab", prepare) as coming:
        run_pipeline(coming, steps)
    assert steps.results == {"a": None, "b": None}
