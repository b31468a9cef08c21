"""Whole networks, composed of encoder, completion and decoder."""

from scd_plugin.networks.builder import build_network as build_network
from scd_plugin.networks.checkpoints import load_tokensparse_state_dict as load_tokensparse_state_dict
from scd_plugin.networks.encoder import EncodedTokens as EncodedTokens
from scd_plugin.networks.encoder import SparseViT as SparseViT
from scd_plugin.networks.family import ComposedNetwork as ComposedNetwork
from scd_plugin.networks.family import SCDNetwork as SCDNetwork
from scd_plugin.networks.primus_checkpoints import load_primus_state_dict as load_primus_state_dict
from scd_plugin.networks.primus_checkpoints import prune_primus as prune_primus
from scd_plugin.networks.scd_primus import SCDPrimus as SCDPrimus
from scd_plugin.networks.scd_unetr import SCDUNETR as SCDUNETR
