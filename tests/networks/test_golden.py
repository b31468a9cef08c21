"""Fidelity: same weights, same input, same noise as the paper authors' network give the same numbers.

The checkpoint and the tensors lie outside the repository (see conftest); what they proved is also held by
`test_fingerprint.py`, which runs everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from scd_plugin import SCDUNETR, load_tokensparse_state_dict
from scd_plugin.blocks import pruning
from scd_plugin.networks.checkpoints import _split_layer_embed, tokensparse_name

# float32 on another machine and another release of PyTorch
RELATIVE = 1e-4


def assert_near(actual: Tensor, expected: Tensor) -> None:
    difference = (actual - expected).abs().max() / expected.abs().max().clamp_min(1e-12)
    assert difference.item() < RELATIVE


def load(path: Path) -> dict[str, Tensor]:
    with np.load(path) as file:
        return {name: torch.from_numpy(np.asarray(file[name])) for name in file.files}


@pytest.fixture(scope="module")
def golden(shared: Callable[[str], Path]) -> dict[str, Tensor]:
    return load(shared("reference/golden/patch8.npz"))


@pytest.fixture
def net(shared: Callable[[str], Path]) -> SCDUNETR:
    settings = json.loads(shared("reference/golden/patch8.json").read_text())["kw"]
    net = SCDUNETR(
        in_channels=settings["inch"],
        out_channels=settings["ncls"],
        img_size=settings["roi"],
        feature_size=4,
        hidden_size=settings["dim"],
        mlp_dim=4 * settings["dim"],
        num_heads=settings["heads"],
        num_layers=settings["depth"],
        patch_size=settings["ps"],
        # theirs count blocks from 0
        prune_after=[int(block) + 1 for block in settings["loc"].split("-")],
        keep_ratio=1 - settings["ratio"],
        completion_hidden_size=settings["cdim"],
    )
    load_tokensparse_state_dict(net, load(shared("reference/golden/patch8.weights.npz")))
    return net


def test_evaluation(net: SCDUNETR, golden: Mapping[str, Tensor]) -> None:
    net.eval()
    encoded = net.encoder(golden["input"])
    num_sets = len(encoded.token_sets)
    assert num_sets == 4
    for i in range(num_sets):
        tokens, idx = encoded.token_sets[i], encoded.grid_idx[i]
        policy = torch.zeros(idx.shape[0], 65, dtype=torch.bool).scatter(1, idx + 1, value=True)
        if i == num_sets - 1:
            policy[:, 0] = True
            tokens = torch.cat((encoded.prefix, tokens), dim=1)
        assert torch.equal(policy, golden[f"eval_policy_{i}"])
        assert_near(tokens, golden[f"eval_tokens_{i}"])
    assert net.completion is not None
    assert_near(net.completion(encoded.prefix, encoded.token_sets, encoded.grid_idx), golden["eval_completed"])
    assert_near(net(golden["input"]), golden["eval_logits"])


def test_training(net: SCDUNETR, golden: Mapping[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    noise = iter([golden[f"train_noise_{i}"] for i in range(3)])
    monkeypatch.setattr(pruning, "gumbel_noise_like", lambda _: next(noise))
    image = golden["input"].clone().requires_grad_()
    logits = net.train()(image)
    assert_near(logits, golden["train_logits"])

    weights = torch.linspace(-1, 1, logits.numel()).reshape(logits.shape)
    loss = (logits * weights).sum() / 1000
    loss.backward()
    assert loss.item() == pytest.approx(golden["train_loss"].item(), rel=RELATIVE)
    assert image.grad is not None
    assert_near(image.grad, golden["train_grad_input"])

    recorded = {name.removeprefix("train_grad/") for name in golden if name.startswith("train_grad/")}
    gradients = _split_layer_embed({name: parameter.grad for name, parameter in net.named_parameters()})
    ours = {tokensparse_name(name, num_ups=len(net.decoder.ups)): grad for name, grad in gradients.items()}
    assert len(recorded) == 42
    for name in recorded:
        assert_near(ours[name], golden[f"train_grad/{name}"])
