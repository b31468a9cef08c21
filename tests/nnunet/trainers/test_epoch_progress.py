import io

import pytest

from scd_plugin.nnunet.trainers.epoch_progress import EpochProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(progress: EpochProgress) -> None:
    progress.start("epoch 3 train", 2)
    progress.step(loss=0.25)
    progress.step(loss=0.125)
    progress.close()


def test_shows_label_count_and_values_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    run(EpochProgress(enabled=True))
    written = terminal.getvalue()
    assert "epoch 3 train" in written
    assert "0/2" in written
    assert written.index("loss=0.250") < written.index("loss=0.125")


@pytest.mark.parametrize("enabled", [True, False])
def test_silent_elsewhere(monkeypatch: pytest.MonkeyPatch, enabled: bool) -> None:
    monkeypatch.setattr("sys.stderr", stream := io.StringIO() if enabled else Terminal())
    run(EpochProgress(enabled=enabled))
    assert stream.getvalue() == ""
