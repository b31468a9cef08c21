"""The numbers of a network with weights from a formula, recorded when `test_golden.py` passed.

So fidelity is held on machines without the golden files too. After a change that is meant to alter the numbers, pass
`test_golden.py` first, then record these again with `python tests/networks/test_fingerprint.py`.
"""

from __future__ import annotations

import pytest
import torch

from scd_plugin import SCDUNETR
from scd_plugin.blocks import pruning

# tokens that leave at each stage, a few logits in evaluation and in training, and gradients of the training loss
COUNTS = [32, 16, 8, 8]
EVAL_LOGITS = [-0.261520, 0.475117, 0.321541, 0.253639]
TRAIN_LOSS = 2.351826
SCORE_GRADIENTS = [1.051857e-4, 9.677645e-5, 7.112054e-5]


def network() -> tuple[SCDUNETR, torch.Tensor]:
    net = SCDUNETR(2, 3, 32, 4, 48, 96, 4, num_layers=4, prune_after=(1, 2, 3), keep_ratio=0.5)
    with torch.no_grad():
        for number, (name, parameter) in enumerate(net.named_parameters()):
            steps = torch.arange(parameter.numel(), dtype=torch.float64)
            values = torch.sin(steps * steps * 0.7 + number).reshape(parameter.shape)
            if parameter.ndim > 1:
                parameter.copy_(values / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.1 * values + name.endswith("weight"))
    steps = torch.arange(2 * 32**3, dtype=torch.float64)
    return net, torch.sin(steps * 0.37 + torch.cos(steps * 0.011)).float().reshape(1, 2, 32, 32, 32)


def fixed_noise(scores: torch.Tensor) -> torch.Tensor:
    steps = torch.arange(scores.numel(), dtype=torch.float64)
    return torch.cos(steps * 2.3).float().reshape(scores.shape)


def evaluate() -> tuple[list[int], list[float]]:
    net, image = network()
    net.eval()
    with torch.no_grad():
        counts = torch.bincount(net.exit_stages(image).flatten()).tolist()
        return counts, net(image)[0, 1, 7, 11, [0, 9, 18, 27]].tolist()


def train(monkeypatch: pytest.MonkeyPatch) -> tuple[float, list[float]]:
    monkeypatch.setattr(pruning, "gumbel_noise_like", fixed_noise)
    net, image = network()
    logits = net(image)
    loss = (logits * torch.linspace(-1, 1, logits.numel()).reshape(logits.shape)).sum() / 1000
    loss.backward()
    return loss.item(), [stage.score.project.weight.grad.norm().item() for stage in net.encoder.stages]


def test_evaluation() -> None:
    counts, logits = evaluate()
    assert counts == COUNTS
    assert logits == pytest.approx(EVAL_LOGITS, rel=1e-3, abs=1e-4)


def test_training(monkeypatch: pytest.MonkeyPatch) -> None:
    loss, gradients = train(monkeypatch)
    assert loss == pytest.approx(TRAIN_LOSS, rel=1e-3)
    assert gradients == pytest.approx(SCORE_GRADIENTS, rel=1e-2)


if __name__ == "__main__":
    print(evaluate(), train(pytest.MonkeyPatch()))  # noqa: T201
