"""Windows in batches, and constant windows from memory, against nnU-Net's own loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import Tensor, nn

from scd_plugin import SCDUNETR
from scd_plugin.networks import replay
from scd_plugin.nnunet.model.recipe import NnunetRecipe
from scd_plugin.nnunet.predict.settings import PredictSettings
from scd_plugin.nnunet.predict.windows import MAX_CONSTANTS, WindowPredictor, constant_values, window_logits
from tests.networks.graph_stand_in import StandIn, install

CPU = torch.device("cpu")
# Sums in float16, as nnU-Net has them, round differences in the network's float32 up to one step of float16.
ROUNDING = 2**-8


class Doubler:
    """Stands for a network; remembers the size of each forward pass."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, windows: Tensor) -> Tensor:
        self.batches.append(len(windows))
        return windows * 2


def some_windows(*values: float | None) -> list[Tensor]:
    """A window for each value, constant; noise for None."""
    return [torch.randn(2, 3, 3) if value is None else torch.full((2, 3, 3), value) for value in values]


class TestConstantValues:
    def test_one_value_a_channel(self) -> None:
        constant = torch.tensor([1.5, -2.0])[:, None, None].expand(2, 4, 4)
        assert constant_values([constant, torch.randn(2, 4, 4), constant + 1]) == [(1.5, -2.0), None, (2.5, -1.0)]
        assert constant_values([]) == []

    @pytest.mark.parametrize("odd", [1e-6, float("nan"), float("inf")])
    def test_one_voxel_differs(self, odd: float) -> None:
        window = torch.zeros(2, 4, 4)
        window[1, 2, 3] = odd
        assert constant_values([window, torch.zeros(2, 4, 4)]) == [None, (0.0, 0.0)]

    def test_nan_everywhere_is_not_constant(self) -> None:
        assert constant_values([torch.full((1, 4, 4), float("nan"))]) == [None]


class TestWindowLogits:
    @pytest.mark.parametrize(("batch", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (9, [7])])
    def test_in_batches(self, batch: int, sizes: list[int]) -> None:
        windows, network = some_windows(*[None] * 7), Doubler()
        logits = list(window_logits(windows, network, batch=batch))
        assert network.batches == sizes
        assert [one.shape for one in logits] == [(1, 2, 3, 3)] * 7
        assert torch.equal(torch.cat(logits), torch.stack(windows) * 2)

    def test_constants_are_computed_once(self) -> None:
        windows, network = some_windows(0.0, None, 0.0, 1.0, None, None, 1.0, 0.0), Doubler()
        logits = list(window_logits(windows, network, batch=2, skip_empty=True))
        # each constant alone; then noise in twos, and the last noise alone
        assert network.batches == [1, 1, 2, 1]
        assert torch.equal(torch.cat(logits), torch.stack(windows) * 2)

    def test_nothing_but_constants(self) -> None:
        windows, network = some_windows(*[3.0] * 5), Doubler()
        assert torch.equal(
            torch.cat(list(window_logits(windows, network, batch=4, skip_empty=True))), torch.stack(windows) * 2
        )
        assert network.batches == [1]

    def test_only_so_many_are_kept(self) -> None:
        values = [float(value) for value in range(MAX_CONSTANTS + 2)]
        windows, network = some_windows(*values, *values), Doubler()
        logits = list(window_logits(windows, network, skip_empty=True))
        assert torch.equal(torch.cat(logits), torch.stack(windows) * 2)
        assert sum(network.batches) == MAX_CONSTANTS + 2 * 2

    def test_answers_may_be_changed(self) -> None:
        logits = []
        for one in window_logits(some_windows(1.0, 1.0, 1.0), Doubler(), skip_empty=True):
            logits.append(one.clone())
            one *= 0
        assert torch.equal(torch.cat(logits), torch.full((3, 2, 3, 3), 2.0))

    def test_not_asked_for(self) -> None:
        network = Doubler()
        list(window_logits(some_windows(1.0, 1.0, 1.0), network))
        assert network.batches == [1, 1, 1]


def scd() -> nn.Module:
    return SCDUNETR(
        1, 3, img_size=16, patch_size=4, hidden_size=48, mlp_dim=48, num_heads=4, num_layers=4, prune_after=(1, 2),
        feature_size=4, keep_ratio=0.5,
    )  # fmt: skip


def convolutions(dims: int = 3) -> nn.Module:
    convolution, norm = (nn.Conv3d, nn.InstanceNorm3d) if dims == 3 else (nn.Conv2d, nn.InstanceNorm2d)
    return nn.Sequential(convolution(1, 6, 3, padding=1), norm(6), nn.LeakyReLU(), convolution(6, 3, 1))


def image_with_air() -> Tensor:
    """Constant but for a corner."""
    image = torch.full((1, 20, 40, 36), -1.25)
    image[0, 4:16, 3:18, 5:20] = torch.randn(12, 15, 15)
    return image


def logits_of(network: nn.Module, recipe: NnunetRecipe, image: Tensor, **options: Any) -> tuple[Tensor, int, int]:
    settings = PredictSettings(device="cpu", **options)
    predictor = WindowPredictor(network, recipe, [network.state_dict()], settings, mirror_axes=(1,))
    logits = predictor.predict_logits_from_preprocessed_data(image)
    return logits, predictor.num_windows, predictor.num_computed


def nnunets_logits(network: nn.Module, recipe: NnunetRecipe, image: Tensor) -> Tensor:
    predictor = nnUNetPredictor(device=CPU, allow_tqdm=False)
    predictor.manual_initialization(
        network, recipe.plans, recipe.configuration, [network.state_dict()], recipe.dataset, "", (1,)
    )
    logits: Tensor = predictor.predict_logits_from_preprocessed_data(image)
    return logits


@pytest.fixture
def flat(plans: dict[str, Any], dataset: dict[str, Any]) -> NnunetRecipe:
    return NnunetRecipe(plans, dataset, "2d")


@pytest.mark.parametrize("build", [scd, convolutions])
class TestAgainstNnunet:
    def test_same_logits(self, recipe: NnunetRecipe, build: Callable[[], nn.Module]) -> None:
        network, image = build(), image_with_air()
        ours, num_windows, num_computed = logits_of(network, recipe, image)
        assert torch.equal(ours, nnunets_logits(network, recipe, image))
        assert num_windows == num_computed == 2 * 4 * 4

    def test_same_logits_without_empty_windows(self, recipe: NnunetRecipe, build: Callable[[], nn.Module]) -> None:
        network, image = build(), image_with_air()
        ours, num_windows, num_computed = logits_of(network, recipe, image, skip_empty=True)
        assert torch.equal(ours, nnunets_logits(network, recipe, image))
        assert num_windows == 2 * 4 * 4
        # 2 x 3 x 3 windows touch the corner; one more stands for all others
        assert num_computed == 2 * 3 * 3 + 1

    @pytest.mark.parametrize("skip_empty", [False, True])
    def test_batches_differ_by_rounding(
        self, recipe: NnunetRecipe, build: Callable[[], nn.Module], skip_empty: bool
    ) -> None:
        network, image = build(), image_with_air()
        ours, _, _ = logits_of(network, recipe, image, batch=3, skip_empty=skip_empty)
        expected = nnunets_logits(network, recipe, image)
        torch.testing.assert_close(ours, expected, atol=ROUNDING, rtol=ROUNDING)


def test_slices(flat: NnunetRecipe) -> None:
    network, image = convolutions(2), image_with_air()
    ours, num_windows, num_computed = logits_of(network, flat, image, skip_empty=True)
    assert torch.equal(ours, nnunets_logits(network, flat, image))
    assert num_windows == 20 * 4 * 4
    assert num_computed == 12 * 3 * 3 + 1
    batched, _, _ = logits_of(network, flat, image, batch=5)
    torch.testing.assert_close(batched, ours, atol=ROUNDING, rtol=ROUNDING)


def test_each_fold_has_its_own_answers(recipe: NnunetRecipe) -> None:
    """And an image smaller than a window is padded."""
    networks = convolutions(), convolutions()
    weights = [{name: value.clone() for name, value in network.state_dict().items()} for network in networks]
    settings = PredictSettings(device="cpu", skip_empty=True, batch=2)
    predictor = WindowPredictor(networks[0], recipe, weights, settings)
    seen: list[int | str] = []
    predictor.on_windows, predictor.on_window = seen.append, lambda: seen.append("window")
    image = torch.zeros(1, 9, 30, 8)
    ours = predictor.predict_logits_from_preprocessed_data(image)
    own = nnUNetPredictor(device=CPU, use_mirroring=False, allow_tqdm=False)
    own.manual_initialization(networks[1], recipe.plans, recipe.configuration, weights, recipe.dataset, "", None)
    assert torch.equal(ours, own.predict_logits_from_preprocessed_data(image))
    assert ours.shape == (3, 9, 30, 8)
    assert seen == [3, *["window"] * 3, 3, *["window"] * 3]
    assert predictor.num_computed == 1


@pytest.mark.parametrize("on_device", [True, False])
def test_a_case_is_moved_once(recipe: NnunetRecipe, monkeypatch: pytest.MonkeyPatch, on_device: bool) -> None:
    """Windows are then cut on the device; where nnU-Net finds too little memory there, it stays on the CPU."""
    handed_over = []

    def loop(_: Any, data: Tensor, slicers: Any, do_on_device: bool) -> Tensor:
        handed_over.append((data.device.type, len(slicers), do_on_device))
        assert on_device or next(predictor._answers).device.type == "meta"
        return data

    monkeypatch.setattr(nnUNetPredictor, "_internal_predict_sliding_window_return_logits", loop)
    settings = PredictSettings(device="cpu", batch=2)
    predictor = WindowPredictor(convolutions(), recipe, [], settings, device=torch.device("meta"))
    where = [(slice(None), slice(0, 4))] * 3
    predictor._internal_predict_sliding_window_return_logits(torch.zeros(1, 8, 8, 8), where, on_device)
    assert handed_over == [("meta" if on_device else "cpu", 3, on_device)]
    # nothing of the image stays on the device
    assert list(predictor._answers) == []


def test_windows_are_replayed(recipe: NnunetRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folds, mirroring, batches: the logits are those of a network that computes every pass."""
    network, image = scd(), torch.randn(1, 16, 16, 48)
    weights = [{name: w + torch.randn_like(w) / 9 for name, w in network.state_dict().items()} for _ in range(2)]

    def predicted(batch: int) -> Tensor:
        settings = PredictSettings(device="cpu", batch=batch)
        predictor = WindowPredictor(network, recipe, weights, settings, mirror_axes=(0,))
        logits: Tensor = predictor.predict_logits_from_preprocessed_data(image)
        return logits

    own = nnUNetPredictor(device=CPU, allow_tqdm=False)
    own.manual_initialization(network, recipe.plans, recipe.configuration, weights, recipe.dataset, "", (0,))
    expected = {batch: predicted(batch) for batch in (1, 4)}
    install(monkeypatch)
    for batch, logits in expected.items():
        assert torch.equal(predicted(batch), logits)
    # five windows, twice, and twice for each fold; in fours there are two passes of each size a fold
    assert [len(graph.image) for graph in StandIn.recorded] == [1, 4]
    assert StandIn.replays == (20 - replay.WARM_UP) + (4 - replay.WARM_UP) + 4
    assert torch.equal(own.predict_logits_from_preprocessed_data(image), expected[1])
    assert StandIn.replays == (20 - replay.WARM_UP) + (4 - replay.WARM_UP) + 4 + 20
