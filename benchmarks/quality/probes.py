"""The control of guidance: a network that prunes nothing, whose tokens the same labels teach at the same places."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from scd_plugin import SCDUNETR, SCDNetwork
from scd_plugin.blocks.score import ScorePredictor
from scd_plugin.networks.guidance import SeenStage


class TokenProbes(nn.Module):
    """Score predictors that listen to a dense ViT after some of its blocks, in training; nothing comes of the scores.

    They belong to the network as `probes`, so that its optimizer trains them. `take` is that of `StageWatch`.
    """

    def __init__(self, network: SCDNetwork, after_blocks: Sequence[int]) -> None:
        super().__init__()
        unetr = isinstance(network, SCDUNETR)
        blocks = network.encoder.blocks if unetr else network.eva.blocks
        # tokens without a place come first
        self.prefix = 1 if unetr else network.eva.num_prefix_tokens
        self.predictors = nn.ModuleList(ScorePredictor(network.arguments["hidden_size"]) for _ in after_blocks)
        self._seen: list[SeenStage] = []
        for predictor, block in zip(self.predictors, after_blocks):
            blocks[block - 1].register_forward_hook(partial(self._listen, predictor))
        network.probes = self

    def take(self) -> list[SeenStage]:
        """What the last forward pass showed; it is forgotten then."""
        seen, self._seen = self._seen, []
        return seen

    def _listen(self, predictor: nn.Module, _: nn.Module, __: tuple[Tensor, ...], tokens: Tensor) -> None:
        if self.training:
            scores = predictor(tokens[:, self.prefix :])
            places = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
            self._seen.append(SeenStage(scores, places, places[:, :0], places))
