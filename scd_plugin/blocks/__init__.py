"""Modules built from the pure functions in `scd_plugin.ops` and from MONAI's and timm's layers."""

from scd_plugin.blocks.assembly import MaskTokenCompletion as MaskTokenCompletion
from scd_plugin.blocks.assembly import MultiLayerTokenAssembly as MultiLayerTokenAssembly
from scd_plugin.blocks.decoders import UNETRDecoder as UNETRDecoder
from scd_plugin.blocks.light_decoder import LightDecoder as LightDecoder
from scd_plugin.blocks.pruning import PrunedTokens as PrunedTokens
from scd_plugin.blocks.pruning import SoftTopKPruning as SoftTopKPruning
from scd_plugin.blocks.score import ScorePredictor as ScorePredictor
from scd_plugin.blocks.subvoxel_decoder import SubvoxelDecoder as SubvoxelDecoder
from scd_plugin.blocks.transformer import transformer_blocks as transformer_blocks
