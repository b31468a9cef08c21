"""The control of guidance: a network that prunes nothing, whose tokens the same labels teach at the same places."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from scd_plugin import SCDUNETR
from scd_plugin.blocks.score import ScorePredictor
from scd_plugin.networks.guidance import SeenStage


class TokenProbes(nn.Module):
    """Score predictors that listen to a dense ViT after some of its blocks, in training; nothing comes of the scores.

    They belong to the network as `probes`, so that its optimizer trains them. `take` is that of `StageWatch`.
    """

    def __init__(self, network: SCDUNETR, after_blocks: Sequence[int]) -> None:
        super().__init__()
        hidden_size = network.encoder.cls_token.shape[-1]
        self.predictors = nn.ModuleList(ScorePredictor(hidden_size) for _ in after_blocks)
        self._seen: list[SeenStage] = []
        for predictor, block in zip(self.predictors, after_blocks):
            network.encoder.blocks[block - 1].register_forward_hook(partial(self._listen, predictor))
        network.probes = self

    def take(self) -> list[SeenStage]:
        """What the last forward pass showed; it is forgotten then."""
        seen, self._seen = self._seen, []
        return seen

    def _listen(self, predictor: nn.Module, _: nn.Module, __: tuple[Tensor, ...], tokens: Tensor) -> None:
        if self.training:
            # without CLS
            scores = predictor(tokens[:, 1:])
            places = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
            self._seen.append(SeenStage(scores, places, places[:, :0], places))
